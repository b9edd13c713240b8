"""Shards: claimed under a fencing epoch, renewed, failed, given back; what closes one checks the epoch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from db import days, events, faults, listings, transfers
from db.connect import Connection, translated
from db.errors import LeaseLost
from db.sql import load
from db.states import FINISHED, OPEN, DayState

SQL = load("shards.sql")


@dataclass(frozen=True, slots=True)
class NewShard:
    """A shard as a listing shows it."""

    name: str
    paths: tuple[bytes, ...]  # relative to the day's staged folder
    size: int  # bytes
    slot: str | None = None
    loose: bool = False


@dataclass(frozen=True, slots=True)
class Leased:
    """A shard in this worker's hands, under `epoch`."""

    id: int
    day_id: int
    site: str
    date: date
    name: str
    slot: str | None
    loose: bool
    paths: tuple[bytes, ...]
    staged: str
    epoch: int
    known: Mapping[int, bytes]  # ordinal → sha256 of recordings that need not be made
    plan_id: int | None = None  # leased for a plan, under an epoch of the plan's own
    wanted: frozenset[int] | None = None  # of `known`, what is made all the same; None: nothing of it
    said: Mapping[int, Mapping[str, Any]] | None = None  # of `wanted`, the texts of which only words are timed anew


@translated()
def add(connection: Connection, day_id: int, shards: Iterable[NewShard], *, revision: int, max_attempts: int) -> int:
    """Register shards; those that are there already stay. New ones open a finished day again. Returns how many were
    new."""
    rows = [
        {
            "day_id": day_id,
            "name": shard.name,
            "slot": shard.slot,
            "loose": shard.loose,
            "paths": list(shard.paths),
            "size": shard.size,
            "revision": revision,
            "max_attempts": max_attempts,
        }
        for shard in shards
    ]
    with connection.transaction(), connection.cursor() as cursor:
        state = days.lock(connection, day_id)  # else a settler that has counted already closes the day over them
        cursor.executemany(SQL["add"], rows)
        new = max(cursor.rowcount, 0)
        if new and state in FINISHED:
            days.move(connection, day_id, DayState.READY_TO_PROCESS, actor="listing", message=f"{new} more shards")
    return new


@translated()
def of_day(connection: Connection, day_id: int) -> list[dict[str, Any]]:
    """All shards of a day in order."""
    return connection.execute(SQL["of_day"], {"day_id": day_id}).fetchall()


@translated()
def identity(connection: Connection, shard_id: int) -> tuple[str, date, str] | None:
    """The site, date and name of a shard; None when the ledger has none of this id."""
    row = connection.execute(SQL["identity"], {"id": shard_id}).fetchone()
    return None if row is None else (row["site"], row["date"], row["name"])


@translated()
def waits(connection: Connection, *, day_id: int | None = None) -> bool:
    """Whether a claim would find something now, or something to give up. Nothing is leased, no epoch raised."""
    row = connection.execute(SQL["waits"], {"day_id": day_id}).fetchone()
    return row is not None and bool(row["so"])


@translated()
def claim(
    connection: Connection, *, owner: str, count: int, lease: timedelta, day_id: int | None = None
) -> list[Leased]:
    """Lease up to `count` shards, fresh or lapsed, oldest day first. Each claim raises the shard's epoch by one."""
    faults.point("claim.before")
    wanted = {"owner": owner, "count": count, "lease": lease, "day_id": day_id}
    rows = connection.execute(SQL["claim"], wanted).fetchall()
    if len(rows) < count:
        give_up_exhausted(connection, actor=owner)
    # Not in the claim's transaction: that holds shards, and whoever settles takes the day first and the shard second.
    for waiting in {row["day_id"] for row in rows if row["day_state"] == DayState.READY_TO_PROCESS}:
        days.move(connection, waiting, DayState.PROCESSING, actor=owner)
    faults.point("claim.committed")
    return [_leased(connection, row) for row in sorted(rows, key=lambda row: (row["date"], row["id"]))]


def _leased(connection: Connection, row: dict[str, Any]) -> Leased:
    earlier: Iterable[Any] = connection.execute(SQL["known"], {"id": row["id"]}) if row["epoch"] > 1 else ()
    known = {recording["ordinal"]: recording["sha256"] for recording in earlier}
    values = {name: row[name] for name in Leased.__slots__ if name in row and name != "paths"}
    return Leased(**values, paths=tuple(row["paths"]), known=known)


@translated()
def give_up_exhausted(connection: Connection, *, actor: str) -> int:
    """Fail the shards whose last allowed worker vanished, and close their days; returns how many there were."""
    given_up = 0
    reason = "every worker that took this shard ended before it could record anything"
    for row in connection.execute(SQL["exhausted"]).fetchall():
        with connection.transaction():
            days.lock(connection, row["day_id"])
            values = {"id": row["id"], "epoch": row["epoch"]}
            failure = {"failure_class": "attempts_exhausted", "failure_reason": reason}
            if connection.execute(SQL["give_up"], values | failure).rowcount == 1:
                events.add(connection, "shard.failed", actor=actor, shard_id=row["id"], day_id=row["day_id"], **failure)
                days.close_if_done(connection, row["day_id"], actor=actor)
                given_up += 1
    return given_up


@translated()
def renew(connection: Connection, held: Sequence[tuple[int, int]], *, lease: timedelta) -> set[int]:
    """Renew the leases of (shard id, epoch) pairs; returns the ids that are still ours."""
    values = {"ids": [i for i, _ in held], "epochs": [e for _, e in held], "lease": lease}
    ours = {row["id"] for row in connection.execute(SQL["renew"], values)}
    faults.point("renew.committed")
    return ours


@translated()
def renew_owned(connection: Connection, owner: str, *, lease: timedelta) -> int:
    """Renew all leases of an owner that cannot do it itself: a job whose tasks reach no ledger."""
    return connection.execute(SQL["renew_owned"], {"owner": owner, "lease": lease}).rowcount


@translated()
def owned(connection: Connection, owner: str) -> list[dict[str, Any]]:
    """id and epoch of the shards that this owner holds."""
    return connection.execute(SQL["owned"], {"owner": owner}).fetchall()


@translated()
def next_lapse(connection: Connection, day_id: int | None = None) -> float | None:
    """Seconds until an open shard can next be claimed; None when none is open."""
    row = connection.execute(SQL["next_lapse"], {"day_id": day_id}).fetchone()
    return None if row is None or not row["open"] else float(row["seconds"])


@translated()
def fail(
    connection: Connection, shard_id: int, epoch: int, *, failure: tuple[str, str], actor: str, discard: bool
) -> None:
    """Fail the shard for good (class, reason) and close its day if it was the last; LeaseLost under another epoch.

    `discard` throws away its provisional results: the archive is damaged, so nothing of it may become visible."""
    kind, reason = failure
    with connection.transaction():
        day_id = days.lock_of_shard(connection, shard_id)
        values = {"id": shard_id, "epoch": epoch, "failure_class": kind, "failure_reason": reason}
        gone = 0
        if discard:
            row = connection.execute(SQL["discard"], values).fetchone()
            gone = int(row["gone"]) if row else 0
        if connection.execute(SQL["fail"], values).rowcount != 1:
            raise LeaseLost
        detail = {"failure_class": kind, "failure_reason": reason, "discarded": gone}
        events.add(connection, "shard.failed", actor=actor, day_id=day_id, shard_id=shard_id, **detail)
        faults.point("fail.intx")
        days.close_if_done(connection, day_id, actor=actor)
    faults.point("fail.committed")


@translated()
def put_back(
    connection: Connection, shard_id: int, epoch: int, *, failure: tuple[str, str], wait: timedelta, actor: str
) -> None:
    """Return the shard for a later try; when its attempts are used up it fails instead."""
    kind, reason = failure
    values = {"id": shard_id, "epoch": epoch, "failure_class": kind, "failure_reason": reason, "wait": wait}
    if connection.execute(SQL["put_back"], values).rowcount != 1:
        fail(connection, shard_id, epoch, failure=failure, actor=actor, discard=False)


@translated()
def release(connection: Connection, shard_id: int, epoch: int) -> None:
    """Give the shard back untouched, after a stop on request; LeaseLost under another epoch."""
    if connection.execute(SQL["release"], {"id": shard_id, "epoch": epoch}).rowcount != 1:
        raise LeaseLost


@translated()
def retry(connection: Connection, day: days.Day, *, actor: str) -> int:
    """Make the failed shards of a day ready again and reopen it; returns how many there were."""
    with connection.transaction():
        state = days.lock(connection, day.id)
        count = connection.execute(SQL["retry"], {"day_id": day.id}).rowcount
        forgiven = transfers.forgive(connection, day.id)
        if forgiven:
            listings.look_again(connection, day.id, timedelta(0))
        if count or state in (DayState.PROCESSING_FAILED, DayState.TRANSFER_FAILED):
            to = DayState.PENDING if state == DayState.TRANSFER_FAILED else DayState.READY_TO_PROCESS
            if state not in OPEN:
                days.move_or_refuse(connection, day, to, actor=actor)
            listings.look_again(connection, day.id, timedelta(0))
            events.add(connection, "day.retried", actor=actor, day_id=day.id, shards=count)
    return count
