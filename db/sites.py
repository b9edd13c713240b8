"""Sites: the collections of audio that one ledger holds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from psycopg.types.json import Jsonb

from db.connect import Connection, translated
from db.errors import BadData
from db.sql import load

SQL = load("sites.sql")
NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")


class UnknownSite(BadData):
    """The ledger has no such site."""


@dataclass(frozen=True, slots=True)
class Site:
    """A collection with its own source, place, time zone and slot clock."""

    id: int
    name: str
    source: str
    location: str
    time_zone: str
    slot_minutes: int | None  # None: no grid
    slot_clock: str = "local"  # or "utc": the clock that dates and slots in names are read from
    layout: Mapping[str, Any] = field(default_factory=dict)  # as hpc/layout.py takes it
    route: Mapping[str, Any] = field(default_factory=dict)  # as hpc/route.py takes it; empty: its files are at hand


@translated()
def put(
    connection: Connection,
    name: str,
    *,
    location: str,
    source: str = "local",
    time_zone: str = "UTC",
    slot_minutes: int | None = 10,
    slot_clock: str = "local",
    layout: Mapping[str, Any] | None = None,
    route: Mapping[str, Any] | None = None,
) -> Site:
    """Make the site, or change where its audio lies."""
    if not NAME.fullmatch(name):
        raise BadData(f"a site's name is lower-case letters, digits, '-' and '_', starting with a letter; not {name!r}")
    row = connection.execute(
        SQL["put"],
        {
            "name": name,
            "source": source,
            "location": location,
            "time_zone": time_zone,
            "slot_minutes": slot_minutes,
            "slot_clock": slot_clock,
            "layout": Jsonb(dict(layout or {})),
            "route": Jsonb(dict(route or {})),
        },
    ).fetchone()
    assert row is not None
    return Site(**row)


@translated()
def get(connection: Connection, name: str) -> Site:
    """The site of that name; UnknownSite names those there are."""
    row = connection.execute(SQL["get"], {"name": name}).fetchone()
    if row is None:
        known = ", ".join(site.name for site in every(connection)) or "none yet"
        raise UnknownSite(f"no site is called {name!r}; known: {known}")
    return Site(**row)


@translated()
def discovering(connection: Connection, site_id: int, *, every: timedelta) -> bool:
    """Whether it is time to ask the site's source which days it has, and nobody else does."""
    return connection.execute(SQL["discovering"], {"id": site_id, "every": every}).rowcount == 1


@translated()
def every(connection: Connection) -> list[Site]:
    """All sites by name."""
    return [Site(**row) for row in connection.execute(SQL["all"])]
