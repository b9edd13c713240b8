"""Runs: the receipts, what is of each of them in the ledger, and recordings with the versions of two of them."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Sequence
from typing import Any

from db.connect import Connection, translated
from db.errors import BadData
from db.sql import load
from db.transcripts import Scope

SQL = load("runs.sql")
PAGE = 200  # recordings read at once: memory does not follow the length of a day
SHORTEST = 6  # hexadecimal digits of a key that may stand for it
_LONGEST_ID = 18  # digits that a bigint always holds
_PREFIX = re.compile(f"[0-9a-f]{{{SHORTEST},32}}")


class NoSuchRun(BadData):
    """The ledger has no such run."""


class AmbiguousRun(BadData):
    """Several keys begin so."""


@translated()
def find(connection: Connection, which: str) -> list[dict[str, Any]]:
    """The receipt of that id, or all receipts of the one key that begins so; an id goes before a key like it."""
    if which.isascii() and which.isdigit() and len(which) <= _LONGEST_ID:
        row = connection.execute(SQL["by_id"], {"id": int(which)}).fetchone()
        if row is not None:
            return [row]
    if not _PREFIX.fullmatch(which.lower()):
        raise NoSuchRun(
            f"No run is called {which!r}: give its id, or at least {SHORTEST} digits of its key; `dayscribe runs list`"
            " shows them."
        )
    rows = connection.execute(SQL["by_key"], {"prefix": which.lower()}).fetchall()
    if not rows:
        raise NoSuchRun(f"No run has an id or a key {which!r}; `dayscribe runs list` shows those there are.")
    if len(keys := sorted({row["key"].hex() for row in rows})) > 1:
        raise AmbiguousRun(f"{len(keys)} keys begin with {which!r}: {', '.join(keys[:5])}. Give more of it.")
    return rows


@translated()
def used(connection: Connection, scope: Scope) -> list[dict[str, Any]]:
    """The receipts, newest first, each with its transcripts in the scope: `current`, in all, and the days they are of.
    With a scope those without any are left out."""
    return connection.execute(SQL["used"], scope.values()).fetchall()


@translated()
def days(connection: Connection, scope: Scope, runs: Sequence[int] | None = None) -> list[dict[str, Any]]:
    """The days of the scope by date; with `runs` only those that have a part of one of these receipts."""
    wanted = scope.values() | {"runs": None if runs is None else list(runs)}
    return connection.execute(SQL["days"], wanted).fetchall()


@translated()
def recordings(connection: Connection, day_id: int) -> array[int]:
    """The ids of a day's visible recordings, in order; eight bytes each."""
    return array("q", (row["id"] for row in connection.execute(SQL["recordings"], {"day_id": day_id})))


def pairs(
    connection: Connection, ids: Sequence[int], one: Sequence[int], other: Sequence[int]
) -> Iterator[list[dict[str, Any]]]:
    """Of these recordings, page by page, those with a sealed version by the receipts `one` (a_…) or `other` (b_…)."""
    for start in range(0, len(ids), PAGE):
        yield _pairs(connection, ids[start : start + PAGE], one, other)


@translated()
def _pairs(
    connection: Connection, ids: Sequence[int], one: Sequence[int], other: Sequence[int]
) -> list[dict[str, Any]]:
    wanted = {"ids": list(ids), "a": list(one), "b": list(other)}
    return connection.execute(SQL["pairs"], wanted).fetchall()
