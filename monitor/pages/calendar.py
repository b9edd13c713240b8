"""The first page: a year of days for each site, a cell a day, each with its state."""

from __future__ import annotations

from calendar import month_abbr, monthrange

from flask import Response

from monitor import asked
from monitor.documents import calendar
from monitor.named import site_asked
from monitor.pages.base import pages, show
from monitor.store import ledger


@pages.get("/")
def index() -> Response:
    """All sites, or one; the latest year, or the one asked for."""
    asked.known("site", "year")
    site, year = site_asked(), asked.number("year", 0, low=0, high=9999) or None
    found = calendar.year(ledger(), site, year)
    months = [(month_abbr[month], month, monthrange(found["year"], month)[1]) for month in range(1, 13)]
    by_date = {
        one["site"]: {(day["date"].month, day["date"].day): day for day in one["days"]} for one in found["sites"]
    }
    return show("calendar.html", live=True, calendar=found, months=months, by_date=by_date, site=site)
