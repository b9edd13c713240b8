"""The calendar: every day of every site, with its state and what it holds."""

from __future__ import annotations

from datetime import date
from typing import Any

from db import days
from db.connect import Connection


def calendar(connection: Connection, site: str | None, start: date, stop: date) -> dict[str, Any]:
    """The days of a range."""
    return {"from": start, "to": stop, "days": days.find(connection, site=site, start=start, stop=stop, limit=500)}
