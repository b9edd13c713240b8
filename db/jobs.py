"""Jobs: orders written before the scheduler is asked, what it says of them, how they ended, and what waits for one."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from psycopg.types.json import Jsonb

from db import days, events, plans
from db.connect import Connection, translated
from db.errors import BadData
from db.sql import load
from db.states import FINISHED, OPEN, JobState, TaskEnd

SQL = load("jobs.sql")
TOKEN_BYTES = 6


class NoSuchJob(BadData):
    """The ledger has no such job."""


@dataclass(frozen=True, slots=True)
class Job:
    """A live order as a tick sees it."""

    id: int
    token: str  # in the job's name: what an order is found by when its answer was lost
    day_id: int | None
    kind: str  # process, stage, ingest
    state: JobState
    owner: str  # the system's user
    mode: str  # ledger, plan
    scheduler_id: str | None
    tasks: int
    settings: Mapping[str, Any]
    asked: datetime | None
    refusals: int
    message: str | None
    scheduler_says: str | None
    ready: bool  # a blocked order may be tried again
    site: str | None
    date: date | None
    asked_ago: float  # seconds
    missing_for: float | None  # seconds that successful looks have not found it
    age: float  # seconds since it was ordered
    plan_id: int | None = None  # of an order to make recordings of its day again


@dataclass(frozen=True, slots=True)
class Waiting:
    """A day with work to do and no live order for it."""

    id: int
    site_id: int
    site: str
    date: date
    state: str
    shards: int  # that can be claimed now
    bytes: int
    fruitless: int  # orders in a row that ended with nothing recorded
    last_ago: float | None  # seconds since the last of them
    reason: str | None
    plan_id: int | None = None  # the work is a plan's


@dataclass(frozen=True, slots=True)
class TaskStart:
    """One start of one task: what the scheduler and the task itself say of it."""

    task: int
    restart: int
    node: str | None = None
    says: str | None = None
    exit_code: int | None = None
    ended_as: TaskEnd | None = None
    record: Mapping[str, Any] | None = None
    began: datetime | None = None
    ended: datetime | None = None


def new_token() -> str:
    """A name of our own for an order; says nothing to whoever reads the queue."""
    return secrets.token_hex(TOKEN_BYTES)


@translated()
def intend(
    connection: Connection,
    *,
    token: str,
    kind: str,
    owner: str,
    tasks: int,
    settings: Mapping[str, Any],
    code: str,
    mode: str = "ledger",
    day_id: int | None = None,
    plan_id: int | None = None,
) -> int | None:
    """Write an order; its id. None when there is a live one already, or when nothing is left of the day to do.

    The day's row is held meanwhile: of many ticks at once exactly one gets the order.
    """
    values = {
        "token": token,
        "kind": kind,
        "owner": owner,
        "tasks": tasks,
        "settings": Jsonb(settings),
        "code": code,
        "mode": mode,
        "day_id": day_id,
        "plan_id": plan_id,
    }
    with connection.transaction():
        if day_id is not None:
            state = days.lock(connection, day_id)
            query = SQL["claimable"] if plan_id is None else plans.SQL["claimable"]
            left = connection.execute(query, {"day_id": day_id, "plan_id": plan_id}).fetchone()
            if left is None or not left["shards"] or (plan_id is None and state not in OPEN):
                return None
        row = connection.execute(SQL["intend"], values).fetchone()
        if row is None:
            return None
        events.add(connection, "job.ordered", actor=owner, day_id=day_id, token=token, kind=kind, tasks=tasks)
        return int(row["id"])


@translated()
def asking(connection: Connection, job: Job, *, tasks: int, settings: Mapping[str, Any]) -> bool:
    """Say that the scheduler is being asked; False when another tick is asking already, or the order is over."""
    values = {"id": job.id, "tasks": tasks, "settings": Jsonb(settings), "asked": job.asked}
    return connection.execute(SQL["asking"], values).rowcount == 1


@translated()
def submitted(connection: Connection, job_id: int, scheduler_id: str, *, tasks: int | None = None) -> bool:
    """The scheduler has it, under this id; False when it is known already."""
    values = {"id": job_id, "scheduler_id": scheduler_id, "tasks": tasks}
    return connection.execute(SQL["submitted"], values).rowcount == 1


@translated()
def blocked(connection: Connection, job: Job, message: str, *, wait: timedelta) -> None:
    """The scheduler refuses it; it is tried again after `wait`."""
    connection.execute(SQL["blocked"], {"id": job.id, "message": message, "wait": wait})
    if job.message != message:
        events.add(connection, "job.blocked", actor=job.owner, day_id=job.day_id, token=job.token, reason=message)


@translated()
def unanswered(connection: Connection, job_id: int, message: str) -> None:
    """The scheduler did not answer: the order may be with it or not, the next looks will tell."""
    connection.execute(SQL["unanswered"], {"id": job_id, "message": message})


@translated()
def seen(
    connection: Connection, job_id: int, *, state: JobState, says: str | None, message: str | None, missing: bool
) -> None:
    """What a look shows of a live job; `missing`: the look succeeded and did not find it."""
    values = {"id": job_id, "state": state.value, "says": says, "message": message, "missing": missing}
    connection.execute(SQL["seen"], values)


@translated()
def withdraw(connection: Connection, job: Job, message: str) -> bool:
    """Note that its pending tasks are being taken back; the day may have another order from now on."""
    with connection.transaction():
        done = connection.execute(SQL["withdraw"], {"id": job.id, "message": message}).rowcount == 1
        if done:
            events.add(connection, "job.withdrawn", actor=job.owner, day_id=job.day_id, token=job.token, reason=message)
    return done


@translated()
def close(
    connection: Connection,
    job: Job,
    state: JobState,
    message: str,
    *,
    says: str | None = None,
    witnesses: Mapping[str, Any] | None = None,
) -> bool:
    """The job is over. False when another tick said so first."""
    with connection.transaction():
        ledger = ledger_says(connection, job)
        values = {
            "id": job.id,
            "state": state.value,
            "message": message,
            "says": says,
            "fruitful": ledger["fruitful"],
            "witnesses": None if witnesses is None else Jsonb(witnesses),
        }
        done = connection.execute(SQL["close"], values).rowcount == 1
        if done:
            what, whose = f"job.{state.value}", job.owner
            events.add(
                connection, what, actor=whose, day_id=job.day_id, token=job.token, kind=job.kind, message=message
            )
    return done


@translated()
def ledger_says(connection: Connection, job: Job) -> dict[str, Any]:
    """The third witness: `fruitful`, whether anything of the day was recorded since the order; `open_shards` left."""
    row = connection.execute(SQL["recorded_since"], {"id": job.id, "day_id": job.day_id}).fetchone()
    if row is None:
        raise NoSuchJob
    return row


@translated()
def live(connection: Connection, job_id: int | None = None) -> list[Job]:
    """The jobs that are not over, oldest first; or only that one, if it is not over."""
    rows = connection.execute(SQL["live"], {"id": job_id}).fetchall()
    return [Job(**row | {"state": JobState(row["state"]), "tasks": row["tasks"] or 1}) for row in rows]


@translated()
def one(connection: Connection, job_id: int) -> dict[str, Any]:
    """A job with all its columns and, under `starts`, every start of its tasks."""
    row = connection.execute(SQL["by_id"], {"id": job_id}).fetchone()
    if row is None:
        raise NoSuchJob(f"the ledger has no job {job_id}; `dayscribe jobs list` shows those there are")
    return row | {"starts": tasks_of(connection, job_id)}


@translated()
def of_tokens(connection: Connection, tokens: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Token → id, state and owner of the orders of these tokens."""
    return {row["token"]: row for row in connection.execute(SQL["of_tokens"], {"tokens": list(tokens)})}


@translated()
def latest(
    connection: Connection,
    *,
    site: str | None = None,
    start: date | None = None,
    stop: date | None = None,
    only_live: bool = False,
    limit: int = 50,
) -> list[dict[str, Any]]:
    """Jobs, newest first."""
    values = {"site": site, "start": start, "stop": stop, "only_live": only_live, "limit": limit}
    return connection.execute(SQL["latest"], values).fetchall()


@translated()
def put_starts(connection: Connection, job_id: int, starts: Sequence[TaskStart]) -> None:
    """Remember what is known of these starts; what is known already is only added to."""
    rows = [
        {
            "job_id": job_id,
            **{name: getattr(start, name) for name in TaskStart.__slots__},
            "ended_as": None if start.ended_as is None else start.ended_as.value,
            "record": None if start.record is None else Jsonb(start.record),
        }
        for start in starts
    ]
    if rows:
        with connection.cursor() as cursor:
            cursor.executemany(SQL["put_task"], rows)


@translated()
def tasks_of(connection: Connection, job_id: int) -> list[dict[str, Any]]:
    """Every start of the job's tasks, in order."""
    return connection.execute(SQL["tasks_of"], {"id": job_id}).fetchall()


@translated()
def bad_nodes(connection: Connection, *, failures: int, rest: timedelta) -> list[str]:
    """Nodes on which so many tasks ended for the node's own reasons within `rest`, if any other node is known."""
    rows = connection.execute(SQL["bad_nodes"], {"failures": failures, "rest": rest})
    return [row["node"] for row in rows]


@translated()
def unwanted(connection: Connection, kind: str) -> bool:
    """Whether somebody cancelled a job of this kind, which belongs to no day that could be held, within the hour."""
    row = connection.execute(SQL["unwanted"], {"kind": kind}).fetchone()
    return bool(row and row["so"])


@translated()
def backlog(connection: Connection) -> list[Waiting]:
    """The open days with work to do and no live order, oldest first."""
    return [Waiting(**row) for row in connection.execute(SQL["backlog"])]


@translated()
def speed(connection: Connection, site_id: int) -> dict[str, float]:
    """What the site's tasks got through lately: `bytes` in `seconds` with a model loaded, and the longest
    `load_seconds`; zeros when nothing is measured."""
    row = connection.execute(SQL["speed"], {"site_id": site_id}).fetchone()
    assert row is not None
    return row


@translated()
def close_stuck_days(connection: Connection, *, actor: str) -> int:
    """Close the days whose last shard settled without it; returns how many there were."""
    closed = 0
    for row in connection.execute(SQL["stuck_days"]).fetchall():
        with connection.transaction():
            if days.lock(connection, row["id"]) not in FINISHED:
                closed += days.close_if_done(connection, row["id"], actor=actor)
    return closed


@translated()
def put_tick(connection: Connection, *, owner: str, host: str, took_ms: int, report: Mapping[str, Any]) -> None:
    """Note that a tick of this user is through."""
    values = {"owner": owner, "host": host, "took_ms": took_ms, "report": Jsonb(report)}
    connection.execute(SQL["put_tick"], values)


@translated()
def ticks(connection: Connection) -> list[dict[str, Any]]:
    """The last tick of each user, with its age in seconds."""
    return connection.execute(SQL["ticks"]).fetchall()


@translated()
def pause(connection: Connection, *, who: str, why: str) -> bool:
    """Submit nothing new and take back what waits in a queue, until `resume`. False when it is so already."""
    return connection.execute(SQL["pause"], {"who": who, "why": why}).rowcount == 1


@translated()
def resume(connection: Connection) -> bool:
    """End the pause; False when there was none."""
    return connection.execute(SQL["unpause"]).rowcount == 1


@translated()
def paused(connection: Connection) -> dict[str, Any] | None:
    """Who paused scheduling, why and since when; None when nobody did."""
    return connection.execute(SQL["paused"]).fetchone()
