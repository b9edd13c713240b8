"""What the world may see of transcripts: how many there are and are not, a day's recordings, one recording whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

from db import formats
from db.connect import Connection, translated
from db.sql import load

SQL = load("transcripts.sql")


@dataclass(frozen=True, slots=True)
class Scope:
    """Where to look: a site, a range of dates; None means everywhere."""

    site: str | None = None
    start: date | None = None
    stop: date | None = None

    def values(self) -> dict[str, object]:
        return {"site": self.site, "start": self.start, "stop": self.stop}


@translated()
def denominator(connection: Connection, scope: Scope) -> dict[str, int]:
    """How many recordings of the scope a search can find, and how many it cannot, by why; and how many archives there
    should be, and are not to be had."""
    counts = connection.execute(SQL["denominator"], scope.values()).fetchone()
    assert counts is not None
    return dict(counts)


@translated()
def open_days(connection: Connection, scope: Scope) -> list[dict[str, Any]]:
    """Days of the scope that are not finished, at most 50."""
    return connection.execute(SQL["open_days"], scope.values()).fetchall()


@translated()
def find(
    connection: Connection, which: str, *, site: str | None = None, on: date | None = None
) -> list[dict[str, Any]]:
    """Recordings by their ledger id or their meta_id, with their current transcript as `segments` and `chunks`."""
    number = int(which) if which.isascii() and which.isdigit() and len(which) < 19 else -1
    values = {"meta_id": which, "id": number, "site": site, "date": on}
    return [formats.opened(row) for row in connection.execute(SQL["find"], values)]


@translated()
def page(
    connection: Connection, day_id: int, *, state: str | None = None, after: int = 0, limit: int = 500
) -> list[dict[str, Any]]:
    """One page of a day's visible recordings after the id `after`, with their segments and chunks."""
    values = {"day_id": day_id, "state": state, "after": after, "limit": limit}
    return [formats.opened(row) for row in connection.execute(SQL["recordings"], values)]


def of_day(
    connection: Connection, day_id: int, *, state: str | None = None, size: int = 500
) -> Iterator[dict[str, Any]]:
    """All visible recordings of a day, page by page, so that memory stays flat."""
    after = 0
    while rows := page(connection, day_id, state=state, after=after, limit=size):
        yield from rows
        after = rows[-1]["id"]
