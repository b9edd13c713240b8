"""What the world may see of transcripts: search with its denominator, a day's recordings, one recording whole."""

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


@dataclass(frozen=True, slots=True)
class Found:
    """Hits, and what was looked through to find them."""

    hits: list[dict[str, Any]]
    denominator: dict[str, int]  # transcribed, no_speech, quarantined, unsealed
    open_days: list[dict[str, Any]]  # days in the scope that are not finished (at most 50)


@translated()
def search(
    connection: Connection, query: str, *, scope: Scope, language: str = "en", only: str | None = None, limit: int = 20
) -> Found:
    """Search the current transcripts, websearch syntax; `language` is the query's own, `only` the text's."""
    clean = query.replace("\0", " ")
    values = scope.values() | {"query": clean, "language": language, "only_language": only, "limit": limit}
    hits = connection.execute(SQL["search"], values).fetchall()
    counts = connection.execute(SQL["denominator"], scope.values()).fetchone()
    assert counts is not None
    return Found(hits, dict(counts), connection.execute(SQL["open_days"], scope.values()).fetchall())


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
