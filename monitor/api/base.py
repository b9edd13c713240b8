"""What the routes share: their two blueprints, and what a path or a parameter names in the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flask import Blueprint, url_for
from werkzeug.exceptions import NotFound

from db import days, reports, sites
from db.days import Day, NoSuchDay
from db.sites import UnknownSite
from monitor import asked
from monitor.store import ledger

root = Blueprint("root", __name__)
v1 = Blueprint("v1", __name__)
ID = f"int(max={asked.LAST_ID})"  # of a number in a path


def site_named(name: str) -> str:
    """The name, if a site can have it."""
    if not sites.NAME.fullmatch(name):
        raise UnknownSite("No site has such a name.")
    return name


def site_asked() -> str | None:
    """The site that the parameter `site` names, which must be there; None when it is left out."""
    name = asked.text("site")
    if name is not None:
        sites.get(ledger(), site_named(name))
    return name


def the_day(site: str, text: str) -> Day:
    """The day that a path names."""
    on = asked.date_in_path(text)
    try:
        return days.get(ledger(), site_named(site), on)
    except NoSuchDay:
        raise NoSuchDay(f"The ledger has no {on} of {site}.") from None


def the_recording(recording_id: int) -> dict[str, Any]:
    """The recording that a path names."""
    row = reports.recording(ledger(), recording_id)
    if row is None:
        raise NotFound(f"The ledger has no recording {recording_id}.")
    return row


def following(route: str, found: Sequence[Mapping[str, Any]], limit: int, **place: Any) -> str | None:
    """Where the next page of recordings is; None after the last."""
    return url_for(route, **place, limit=limit, after=found[-1]["id"]) if len(found) == limit else None


def all_flags(row: Mapping[str, Any]) -> list[str]:
    """What was marked of a recording while it was decoded and transcribed."""
    return [*row["flags"], *(row["transcript_flags"] or ())]
