"""Days: add them, find them, move them by compare-and-set, and close them with their summary."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from psycopg.types.json import Jsonb

from db import events
from db.connect import Connection, translated
from db.errors import BadData, IllegalMove
from db.sql import load
from db.states import FINISHED, MOVES, OPEN, DayState, sources_of

SQL = load("days.sql")


class NoSuchDay(BadData):
    """The ledger has no such day."""


@dataclass(frozen=True, slots=True)
class Day:
    """A (site, date) with its state."""

    id: int
    site: str
    date: date
    state: DayState
    revision: int
    staged: str | None
    message: str | None
    summary: dict[str, Any] | None
    started: datetime | None
    finished: datetime | None


@dataclass(frozen=True, slots=True)
class SlotFinding:
    """What is known of one file that a slot should have."""

    slot: str
    kind: str
    finding: str
    name: str | None = None
    size: int | None = None
    begins: datetime | None = None  # the instant; None: a time that the site's clock never shows


def _day(row: dict[str, Any]) -> Day:
    return Day(**{name: row[name] for name in Day.__slots__} | {"state": DayState(row["state"])})


@translated()
def add(connection: Connection, site_id: int, dates: Iterable[date]) -> int:
    """Add days of a site; returns how many were new."""
    return connection.execute(SQL["add"], {"site_id": site_id, "dates": list(dates)}).rowcount


@translated()
def get(connection: Connection, site: str, on: date) -> Day:
    """The day; NoSuchDay with the command that adds it."""
    row = connection.execute(SQL["get"], {"site": site, "date": on}).fetchone()
    if row is None:
        raise NoSuchDay(f"{site} has no {on} in the ledger; add it: dayscribe days add {on} --site {site}")
    return _day(row)


@translated()
def by_id(connection: Connection, day_id: int) -> Day:
    """The day of that id."""
    row = connection.execute(SQL["get_by_id"], {"id": day_id}).fetchone()
    if row is None:
        raise NoSuchDay
    return _day(row)


@translated()
def find(
    connection: Connection,
    *,
    site: str | None = None,
    state: str | None = None,
    start: date | None = None,
    stop: date | None = None,
    limit: int = 500,
) -> list[dict[str, Any]]:
    """Days by site, state and range of dates, oldest first."""
    wanted = {"site": site, "state": state, "start": start, "stop": stop, "limit": limit}
    return connection.execute(SQL["list"], wanted).fetchall()


@translated()
def move(
    connection: Connection,
    day_id: int,
    to: DayState,
    *,
    actor: str,
    message: str | None = None,
    summary: dict[str, Any] | None = None,
    only_from: DayState | None = None,
) -> bool:
    """Move the day if its present state allows it (and is `only_from`, the one that the caller goes by); False when it
    does not. One event tells of it."""
    values = {
        "id": day_id,
        "to": to.value,
        "message": message,
        "summary": None if summary is None else Jsonb(summary),
        "from": [state for state in sources_of(to) if only_from in (None, state)],
    }
    with connection.transaction():
        moved = connection.execute(SQL["move"], values).rowcount == 1
        if moved:
            events.add(connection, f"day.{to.value}", actor=actor, day_id=day_id, message=message)
    return moved


def move_or_refuse(connection: Connection, day: Day, to: DayState, *, actor: str) -> None:
    """Move the day, or raise IllegalMove naming where it is and where it may go."""
    if not move(connection, day.id, to, actor=actor):
        now = by_id(connection, day.id).state
        if now is DayState.HELD:
            raise IllegalMove(f"{day.site} {day.date} is held; end that first: dayscribe days release")
        allowed = ", ".join(sorted(MOVES[now]))
        raise IllegalMove(f"{day.site} {day.date} is {now} and cannot become {to}; from here it may become: {allowed}")


@translated()
def hold(connection: Connection, day: Day, *, actor: str, message: str) -> None:
    """A person's pause: no shard of the day is claimed until it is released."""
    with connection.transaction():
        if connection.execute(SQL["hold"], {"id": day.id, "message": message}).rowcount != 1:
            raise IllegalMove(f"{day.site} {day.date} is held already")
        events.add(connection, "day.held", actor=actor, day_id=day.id, message=message)


@translated()
def release(connection: Connection, day: Day, *, actor: str) -> None:
    """The end of a hold: back to the state it was held in; a day whose last shard settled meanwhile is closed."""
    with connection.transaction():
        if connection.execute(SQL["release"], {"id": day.id}).rowcount != 1:
            raise IllegalMove(f"{day.site} {day.date} is not held")
        events.add(connection, "day.released", actor=actor, day_id=day.id)
        if by_id(connection, day.id).state in OPEN:
            close_if_done(connection, day.id, actor=actor)


@translated()
def listed(connection: Connection, day_id: int, *, staged: str, revision: int) -> None:
    """Note where the day's files are, and its revision."""
    connection.execute(SQL["listed"], {"id": day_id, "staged": staged, "revision": revision})


@translated()
def put_slots(connection: Connection, day_id: int, *, revision: int, slots: Sequence[SlotFinding]) -> None:
    """Write what a listing shows of each slot; findings that did not change keep their revision."""
    columns = {name: [getattr(slot, name) for slot in slots] for name in SlotFinding.__slots__}
    connection.execute(SQL["put_slots"], {"day_id": day_id, "revision": revision} | columns)


@translated()
def slots(connection: Connection, day_id: int) -> list[dict[str, Any]]:
    """The gap map: every slot and kind with its finding and its shard's state."""
    return connection.execute(SQL["slots"], {"id": day_id}).fetchall()


@translated()
def tally(connection: Connection, day_id: int) -> dict[str, Any]:
    """Counts of a day: shards, files that never came, recordings by state, failures by class, seconds."""
    shards = connection.execute(SQL["open_shards"], {"id": day_id}).fetchone()
    assert shards is not None
    states = {row["state"]: row for row in connection.execute(SQL["count"], {"id": day_id})}
    engine = connection.execute(SQL["engine_seconds"], {"id": day_id}).fetchone()
    missing = connection.execute(SQL["missing_files"], {"id": day_id}).fetchone()
    assert engine is not None and missing is not None
    visible = ("transcribed", "no_speech", "quarantined")
    return {
        "shards": shards["shards"],
        "open_shards": shards["open"],
        "failed_shards": shards["failed"],
        "missing_files": missing["files"],
        "recordings": sum(states[s]["recordings"] for s in visible if s in states),
        "unsealed": states["provisional"]["recordings"] if "provisional" in states else 0,
        **{state: states[state]["recordings"] if state in states else 0 for state in visible},
        "audio_seconds": round(sum(states[s]["seconds"] for s in visible if s in states), 3),
        "engine_seconds": round(engine["seconds"], 3),
        "failures": connection.execute(SQL["failures"], {"id": day_id}).fetchall(),
        "failed": connection.execute(SQL["failed_shards"], {"id": day_id}).fetchall(),
    }


def close_if_done(connection: Connection, day_id: int, *, actor: str) -> bool:
    """Close the day when no shard is open. The caller is in a transaction that holds the day's row (law 6)."""
    counts = tally(connection, day_id)
    if counts["open_shards"] or not counts["shards"]:
        return False
    whole = not counts["failed_shards"] and not counts["quarantined"]
    to = DayState.COMPLETED if whole else DayState.COMPLETED_WITH_ERRORS
    move(connection, day_id, DayState.PROCESSING, actor=actor)  # a claim that died before it could say so
    return move(connection, day_id, to, actor=actor, summary=counts)


def count_again(connection: Connection, day_id: int) -> None:
    """Write a finished day's summary anew, after a plan changed what readers see of it. The caller holds the day's row,
    and the day stays in its state: plans never move one."""
    if by_id(connection, day_id).summary is not None:
        connection.execute(SQL["put_summary"], {"id": day_id, "summary": Jsonb(tally(connection, day_id))})


@translated()
def lock(connection: Connection, day_id: int) -> DayState:
    """Hold the day's row until the transaction ends; before anything of the day is counted to close it, or added."""
    row = connection.execute(SQL["lock"], {"id": day_id}).fetchone()
    if row is None:
        raise NoSuchDay
    return DayState(row["state"])


@translated()
def lock_of_shard(connection: Connection, shard_id: int) -> int:
    """Hold the row of a shard's day; returns the day's id."""
    row = connection.execute(SQL["lock_of_shard"], {"shard_id": shard_id}).fetchone()
    if row is None:
        raise BadData(f"the ledger has no shard {shard_id}")
    return int(row["id"])


@translated()
def status(connection: Connection) -> list[dict[str, Any]]:
    """Days by state with the oldest and newest date: the reference pipeline's status summary."""
    return connection.execute(SQL["status"]).fetchall()


@translated()
def recent(connection: Connection) -> list[dict[str, Any]]:
    """The last ten finished days."""
    return connection.execute(SQL["recent"]).fetchall()


def is_finished(day: Day) -> bool:
    """Whether nothing of the day is left to do."""
    return day.state in FINISHED
