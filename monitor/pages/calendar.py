"""The first page: a calendar of years of days, each with its state."""

from __future__ import annotations

from datetime import date

from flask import Response

from monitor import asked
from monitor.documents import calendar
from monitor.pages.base import pages, show
from monitor.store import ledger


@pages.get("/")
def index() -> Response:
    """All days of all sites."""
    asked.known()
    found = calendar.calendar(ledger(), None, date(1970, 1, 1), date(9999, 12, 31))
    return show("calendar.html", live=True, calendar=found)
