"""Listings: what a day's source shows, file by file, taken in whole or not at all; and what came of each file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from db import days, events, faults
from db.connect import Connection, translated
from db.sql import load

SQL = load("listings.sql")
PAGE = 5_000  # rows of one round trip; a listing may have a million
GATING = ("archive", "loose")  # what a day cannot be worked without
COMPANIONS = ("metadata", "subtitles", "comments")


@dataclass(frozen=True, slots=True)
class Listed:
    """A file as its source lists it now."""

    path: bytes  # below the day's folder
    kind: str  # archive, metadata, subtitles, comments, loose
    slot: str | None
    size: int  # bytes
    algorithm: str | None = None
    checksum: str | None = None
    modified: datetime | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """What a listing changed."""

    listed: int  # files it shows
    new: int  # of them, never seen before
    revision: int
    changed: tuple[bytes, ...]  # archives that are other now than when they arrived
    gone: tuple[bytes, ...]  # files that earlier listings showed
    doubles: tuple[bytes, ...]  # files in whose slot another stands
    empty_for: float | None  # seconds since its source first showed nothing for it


@translated()
def take(
    connection: Connection, day_id: int, files: Iterable[Listed], *, staged: str, at_hand: bool, actor: str
) -> Taken:
    """Take in a listing that was read to its end; a second time it changes only what changed. A listing that grew
    raises the day's revision. `at_hand`: what is listed is where it is worked, else it is to be moved there."""
    with connection.transaction():
        begun = connection.execute(SQL["begin"], {"day_id": day_id}).fetchone()
        if begun is None:
            raise days.NoSuchDay
        here = {"day_id": day_id, "number": begun["listings"]}
        _put(connection, files, here)
        gone = connection.execute(SQL["gone"], here | {"at_hand": at_hand}).fetchall()
        connection.execute(SQL["gone_since"], here)
        doubles = _paths(connection.execute(SQL["doubles"], here))
        grew = connection.execute(SQL["grew"], here).fetchone()
        assert grew is not None
        changed = _paths(connection.execute(SQL["changed"], here))
        connection.execute(SQL["fetch_again"], here)
        if at_hand:
            connection.execute(SQL["at_hand"], here)
        revision = begun["revision"] + bool(grew["new"] and grew["known"])
        values = {"day_id": day_id, "revision": revision, "staged": staged, "empty": not grew["listed"]}
        told = connection.execute(SQL["listed"], values).fetchone()
        faults.point("listing.intx")
        left = tuple(row["path"] for row in gone if not row["here"])
        for what, names in (("listing.changed", changed), ("listing.gone", left), ("listing.doubles", doubles)):
            _tell(connection, day_id, what, names, actor=actor)
    faults.point("days.listed")
    empty_for = told["empty_for"] if told else None
    return Taken(grew["listed"], grew["new"], revision, changed, left, doubles, empty_for)


def _put(connection: Connection, files: Iterable[Listed], here: dict[str, Any]) -> None:
    """A page at a time: a listing is never in memory whole."""
    rows = iter(files)
    with connection.cursor() as cursor:
        while page := list(islice(rows, PAGE)):
            cursor.executemany(
                SQL["put"], [here | {name: getattr(file, name) for name in Listed.__slots__} for file in page]
            )


def _paths(rows: Iterable[dict[str, Any]]) -> tuple[bytes, ...]:
    return tuple(row["path"] for row in rows)


def _tell(connection: Connection, day_id: int, what: str, paths: Sequence[bytes], *, actor: str) -> None:
    """Once for each set of names: a finding that a listing repeats is no news."""
    if not paths:
        return
    names = [path.decode("utf-8", "backslashreplace") for path in paths[:20]]
    detail: dict[str, Any] = {"count": len(paths), "files": names}
    earlier = [row["detail"] for row in events.of_day(connection, day_id, limit=50) if row["what"] == what]
    if not earlier or earlier[0] != detail:
        events.add(connection, what, actor=actor, day_id=day_id, **detail)


@translated()
def slot_files(connection: Connection, day_id: int) -> list[dict[str, Any]]:
    """The files that stand for slots, with what became of each."""
    return connection.execute(SQL["slots"], {"day_id": day_id}).fetchall()


@translated()
def to_open(connection: Connection, day_id: int, kind: str, *, limit: int) -> list[dict[str, Any]]:
    """Archives or loose files that arrived and belong to no shard yet."""
    return connection.execute(SQL["to_open"], {"day_id": day_id, "kind": kind, "limit": limit}).fetchall()


@translated()
def unworked(connection: Connection, day_id: int, after: bytes, *, limit: int) -> list[bytes]:
    """The next paths of audio that arrived and is not worked yet."""
    rows = connection.execute(SQL["unworked"], {"day_id": day_id, "after": after, "limit": limit})
    return [row["path"] for row in rows]


@translated()
def lost(connection: Connection, day_id: int, paths: Sequence[bytes]) -> int:
    """These are here no more, and have to come again; how many of them had arrived."""
    return connection.execute(SQL["lost"], {"day_id": day_id, "paths": list(paths)}).rowcount


@translated()
def purged(connection: Connection, day_id: int, paths: Sequence[bytes]) -> None:
    """These were worked and are here no more, though nobody let them go."""
    connection.execute(SQL["purged"], {"day_id": day_id, "paths": list(paths)})


@translated()
def opened(connection: Connection, day_id: int, paths: Sequence[bytes], shard: str) -> None:
    """These files belong to this shard."""
    connection.execute(SQL["opened"], {"day_id": day_id, "paths": list(paths), "shard": shard})


@translated()
def to_join(connection: Connection, day_id: int) -> list[dict[str, Any]]:
    """Files of metadata and captions that arrived and are not in the ledger yet."""
    return connection.execute(SQL["to_join"], {"day_id": day_id}).fetchall()


@translated()
def joined(connection: Connection, day_id: int, path: bytes) -> None:
    """The rows of this file are in the ledger, or never will be."""
    connection.execute(SQL["joined"], {"day_id": day_id, "path": path})


@translated()
def gaps(connection: Connection, day_id: int) -> list[dict[str, Any]]:
    """By kind: expected, arrived, verified, missing, bytes."""
    return connection.execute(SQL["gaps"], {"day_id": day_id}).fetchall()


@translated()
def amiss(connection: Connection, day_id: int, *, limit: int = 100) -> list[dict[str, Any]]:
    """The files that should have come and did not, each with its reason."""
    return connection.execute(SQL["amiss"], {"day_id": day_id, "limit": limit}).fetchall()


@translated()
def look_again(
    connection: Connection, day_id: int, wait: timedelta, *, failed: bool = False, message: str | None = None
) -> None:
    """A tick lists the day's source again after `wait`; `failed`: because it could not now."""
    values = {"day_id": day_id, "wait": wait, "failed": int(failed), "message": message}
    connection.execute(SQL["look_again"], values)


@translated()
def look_soon(connection: Connection, day_id: int, wait: timedelta, *, message: str | None = None) -> None:
    """A tick lists the day's source again after `wait`, or sooner if it would anyway."""
    connection.execute(SQL["look_soon"], {"day_id": day_id, "wait": wait, "message": message})


@translated()
def look_at(connection: Connection, day_id: int) -> datetime | None:
    """When a tick lists the day's source the next time."""
    row = connection.execute(SQL["look_at"], {"day_id": day_id}).fetchone()
    return None if row is None else row["look_at"]


@translated()
def look_later(connection: Connection, day_id: int, due: datetime | None, wait: timedelta | None) -> None:
    """It was `due` and was listed: a tick lists it again after `wait`, or never by itself; unless somebody has asked
    for another time since."""
    connection.execute(SQL["look_later"], {"day_id": day_id, "due": due, "wait": wait})


@translated()
def due(connection: Connection, *, blocked: Sequence[str] = (), limit: int = 1_000) -> list[dict[str, Any]]:
    """Days whose source is to be listed now, of the sites whose files have to be moved, but for those `blocked`."""
    return connection.execute(SQL["due"], {"blocked": list(blocked), "limit": limit}).fetchall()


@translated()
def adopt(connection: Connection, day_id: int) -> None:
    """Loose files that a shard of the day has already are its own."""
    connection.execute(SQL["adopt"], {"day_id": day_id})


@translated()
def pending_at_hand(connection: Connection, *, limit: int) -> list[dict[str, Any]]:
    """Days that are only known by their date, of the sites whose files are at hand."""
    return connection.execute(SQL["pending_at_hand"], {"limit": limit}).fetchall()


@translated()
def tries(connection: Connection, day_id: int) -> int:
    """How often in a row the day's source could not be listed."""
    row = connection.execute(SQL["tries"], {"day_id": day_id}).fetchone()
    return 0 if row is None else int(row["look_tries"])
