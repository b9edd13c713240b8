"""The calendar: a year's days of every site with their states, and what their summaries add up to."""

from __future__ import annotations

from collections import Counter
from datetime import date
from itertools import groupby
from typing import Any

from db import calendar
from db.connect import Connection

SUMS = ("recordings", "transcribed", "no_speech", "quarantined", "audio_seconds", "engine_seconds")


def year(connection: Connection, site: str | None, wanted: int | None) -> dict[str, Any]:
    """The days of a year (the latest that has any, unless one is wanted), by site; and which years there are."""
    years = calendar.years(connection, site)
    shown = wanted or (years[0]["year"] if years else date.today().year)
    rows = calendar.days(connection, date(shown, 1, 1), date(shown, 12, 31), site)
    sites = [_site(name, list(found)) for name, found in groupby(rows, lambda row: row["site"])]
    return {"year": shown, "years": years, "sites": sites}


def _site(name: str, days: list[dict[str, Any]]) -> dict[str, Any]:
    totals = {key: sum(day[key] or 0 for day in days) for key in SUMS}
    told = [{key: value for key, value in day.items() if key != "site"} for day in days]
    return {"site": name, "states": dict(Counter(day["state"] for day in days)), "totals": totals, "days": told}
