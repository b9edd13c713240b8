"""Deliveries: which day goes to which target, what of it is there, and under which attempt it is being sent."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from db import events
from db.connect import Connection, translated
from db.days import NoSuchDay
from db.errors import LeaseLost
from db.sql import load
from db.states import FINISHED, DayState, DeliveryState

SQL = load("deliveries.sql")
REST = timedelta(minutes=10)  # without a sign of life, what a job began is taken on by the next job


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the ledger knows of a day that a delivery of it shows; another digest means that there is more to send."""

    revision: int
    finished: bool
    digest: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """A day on its way to a target, or there."""

    id: int
    day_id: int
    site: str
    date: date
    target: str
    state: DeliveryState
    parts: bool  # asked for
    audio: bool
    partial: bool
    again: bool
    attempt: int
    owner: str
    revision: int | None
    stamp: str | None
    sent_parts: bool  # there, of this stamp
    sent_audio: bool
    step: str | None
    submission_id: UUID | None
    task_id: UUID | None
    polled: datetime | None
    files: int | None
    bytes: int | None
    message: str | None
    verified: datetime | None

    def holds(self, stamp: Stamp, *, parts: bool, audio: bool) -> bool:
        """Whether the target has all of this already. Of an unfinished day nobody can say so."""
        same = stamp.finished and self.state is DeliveryState.VERIFIED and self.stamp == stamp.digest
        return same and self.sent_parts >= parts and self.sent_audio >= audio


@dataclass(frozen=True, slots=True)
class Ticket:
    """The right to say how a delivery ends: only of the latest attempt."""

    id: int
    attempt: int


def _delivery(row: dict[str, Any]) -> Delivery:
    return Delivery(**{name: row[name] for name in Delivery.__slots__} | {"state": DeliveryState(row["state"])})


@translated()
def want(
    connection: Connection,
    day_id: int,
    target: str,
    *,
    parts: bool,
    audio: bool,
    partial: bool,
    again: bool,
    owner: str,
) -> int:
    """Write the wish; a job fulfils it."""
    values = {"day_id": day_id, "target": target, "parts": parts, "audio": audio, "partial": partial, "again": again}
    with connection.transaction():
        row = connection.execute(SQL["want"], values | {"owner": owner}).fetchone()
        assert row is not None
        events.add(connection, "delivery.wanted", actor=owner, day_id=day_id, target=target, audio=audio)
    return int(row["id"])


@translated()
def get(connection: Connection, day_id: int, target: str) -> Delivery | None:
    """What is known of this day at this target."""
    row = connection.execute(SQL["get"], {"day_id": day_id, "target": target}).fetchone()
    return None if row is None else _delivery(row)


@translated()
def latest(
    connection: Connection, *, site: str | None = None, day_id: int | None = None, limit: int = 100
) -> list[Delivery]:
    """Deliveries, the last changed first."""
    values = {"site": site, "day_id": day_id, "limit": limit}
    return [_delivery(row) for row in connection.execute(SQL["latest"], values)]


@translated()
def of_days(
    connection: Connection, *, site: str | None = None, start: date | None = None, stop: date | None = None
) -> list[Delivery]:
    """What was ever delivered of these days, or is to be, the oldest day first."""
    values = {"site": site, "start": start, "stop": stop}
    return [_delivery(row) for row in connection.execute(SQL["of_days"], values)]


@translated()
def never(
    connection: Connection, *, site: str | None = None, start: date | None = None, stop: date | None = None
) -> int:
    """How many of these days were never delivered to anywhere."""
    row = connection.execute(SQL["never"], {"site": site, "start": start, "stop": stop}).fetchone()
    assert row is not None
    return int(row["days"])


@translated()
def due(connection: Connection, owner: str, *, rest: timedelta = REST, limit: int = 1000) -> list[Delivery]:
    """What a job has to do for this user: what is wanted, and what gave no sign of life for `rest`."""
    values = {"owner": owner, "rest": rest, "limit": limit}
    return [_delivery(row) for row in connection.execute(SQL["due"], values)]


@translated()
def begin(
    connection: Connection,
    day_id: int,
    target: str,
    stamp: Stamp,
    *,
    parts: bool,
    audio: bool,
    partial: bool,
    owner: str,
    by_job: bool,
) -> Ticket:
    """Take the delivery on: older attempts can no longer end it."""
    asked: dict[str, Any] = {
        "day_id": day_id,
        "target": target,
        "parts": parts,
        "audio": audio,
        "partial": partial,
        "owner": owner,
    }
    asked["by_job"] = by_job
    row = connection.execute(SQL["begin"], asked | {"revision": stamp.revision, "stamp": stamp.digest}).fetchone()
    assert row is not None
    return Ticket(row["id"], row["attempt"])


@translated()
def noted(connection: Connection, ticket: Ticket, step: str, submission: UUID | None, task: UUID | None) -> None:
    """What the mover is asked, before it is asked; and then its answer."""
    values = {"id": ticket.id, "attempt": ticket.attempt, "step": step, "submission": submission, "task": task}
    _one(connection.execute(SQL["noted"], values).rowcount)


@translated()
def polled(connection: Connection, ticket: Ticket) -> None:
    """Its mover was asked how it stands."""
    connection.execute(SQL["polled"], {"id": ticket.id, "attempt": ticket.attempt})


@translated()
def put_back(connection: Connection, ticket: Ticket) -> None:
    """A job was stopped before it was through; the next takes it on."""
    connection.execute(SQL["put_back"], {"id": ticket.id, "attempt": ticket.attempt})


@translated()
def verified(
    connection: Connection, ticket: Ticket, *, files: int, size: int, message: str, actor: str, day_id: int
) -> None:
    """All of it is there, whole."""
    values = {"id": ticket.id, "attempt": ticket.attempt, "files": files, "bytes": size, "message": message}
    with connection.transaction():
        _one(connection.execute(SQL["verified"], values).rowcount)
        detail: dict[str, Any] = {"delivery": ticket.id, "files": files, "bytes": size, "message": message}
        events.add(connection, "delivery.verified", actor=actor, day_id=day_id, **detail)


@translated()
def failed(connection: Connection, ticket: Ticket, message: str, *, actor: str, day_id: int) -> bool:
    """This attempt came to nothing. False when another one is under way."""
    with connection.transaction():
        values = {"id": ticket.id, "attempt": ticket.attempt, "message": message}
        done = connection.execute(SQL["failed"], values).rowcount == 1
        if done:
            events.add(connection, "delivery.failed", actor=actor, day_id=day_id, delivery=ticket.id, message=message)
    return done


@translated()
def refused(connection: Connection, delivery_id: int, message: str) -> None:
    """What was wanted could not begin."""
    connection.execute(SQL["refused"], {"id": delivery_id, "message": message})


@translated()
def neighbours(connection: Connection, day_id: int, target: str) -> list[str]:
    """The sites whose audio of the same date lies at this target."""
    return [row["name"] for row in connection.execute(SQL["neighbours"], {"day_id": day_id, "target": target})]


@translated()
def stamp(connection: Connection, day_id: int) -> Stamp:
    """What the ledger knows of the day now."""
    row = connection.execute(SQL["stamp"], {"day_id": day_id}).fetchone()
    if row is None:
        raise NoSuchDay
    digest = hashlib.sha256(repr(sorted(row.items())).encode()).hexdigest()[:32]
    return Stamp(row["revision"], DayState(row["state"]) in FINISHED, digest)


@translated()
def parts_of(connection: Connection, day_id: int) -> list[dict[str, Any]]:
    """name, sha256, size and plan_id of the day's sealed parts."""
    return connection.execute(SQL["parts"], {"day_id": day_id}).fetchall()


@translated()
def shards_of(connection: Connection, day_id: int) -> list[dict[str, Any]]:
    """The shards that were read to their end, slot by slot."""
    return connection.execute(SQL["shards"], {"day_id": day_id}).fetchall()


@translated()
def recordings_of(connection: Connection, shards: list[int]) -> list[dict[str, Any]]:
    """Their recordings in order."""
    return connection.execute(SQL["recordings"], {"shards": shards}).fetchall()


def _one(rows: int) -> None:
    if rows != 1:
        raise LeaseLost("This delivery was begun again elsewhere; that one goes on.")
