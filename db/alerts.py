"""Alerts: what is amiss by the ledger's own word, and what people were told of it: each thing once, none lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from db import health, jobs, transfers
from db.connect import Connection, translated
from db.sql import load

SQL = load("alerts.sql")
Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Facts:
    """What the ledger knows that an alert may be made of; ages are by its own clock."""

    ticks: Rows
    troubles: Rows
    waits_for_a_person: Rows
    failed_days: Rows
    blocked: Rows
    lapsed: Rows
    open_work: int
    silent_seconds: float | None  # since the last part, or since work was opened; None: no work is open
    paused: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Found:
    """Something that is amiss now."""

    kind: str
    subject: str  # what it is of; with the kind it says whether it is the same as before
    message: str
    fix: str = ""  # the command that mends it


@dataclass(frozen=True, slots=True)
class Notice:
    """What one way of telling people owes them: that something is amiss, or that it is over."""

    id: int  # of the alert
    attempt: int
    kind: str
    subject: str
    message: str
    fix: str
    since: datetime
    cleared: datetime | None

    @property
    def what(self) -> str:
        return "found" if self.cleared is None else "cleared"


Judge = Callable[[Facts], Sequence[Found]]


@translated()
def facts(connection: Connection, *, lapsed: timedelta) -> Facts:
    """Ask everything once. `lapsed`: how long ago a lease has to have run out to count."""

    def asked(name: str, **values: object) -> Rows:
        return connection.execute(SQL[name], values).fetchall()

    [work] = asked("open_work")
    silent = [work["seconds"], health.last_output(connection)] if work["open"] else []
    return Facts(
        ticks=asked("ticks"), troubles=transfers.troubles(connection), waits_for_a_person=asked("waits_for_a_person"),
        failed_days=asked("failed_days"), blocked=asked("blocked"),
        lapsed=asked("lapsed", seconds=lapsed.total_seconds()), open_work=work["open"],
        silent_seconds=min((one for one in silent if one is not None), default=None), paused=jobs.paused(connection),
    )  # fmt: skip


@translated()
def look(connection: Connection, judge: Judge, *, judged: Sequence[str], lapsed: timedelta) -> list[Found]:
    """Remember what is amiss by `judge`, and what is no longer; of kinds that are not `judged` nothing is known now."""
    with connection.transaction():
        return _look(connection, judge, judged, lapsed)


@translated()
def preview(
    connection: Connection, judge: Judge, channels: Sequence[str], *, judged: Sequence[str], lapsed: timedelta
) -> tuple[list[Found], dict[str, list[Notice]]]:
    """What `look` would find, and what would be said by each way; nothing is kept."""
    with connection.transaction(force_rollback=True):
        found = _look(connection, judge, judged, lapsed)
        return found, {channel: _claim(connection, channel, timedelta(0)) for channel in channels}


@translated()
def claim(connection: Connection, channel: str, *, lease: timedelta) -> list[Notice]:
    """Take on all that this way owes; the intent is written before anything is sent. After `lease` without a word of
    it another may take it on, since nobody knows whether it was sent."""
    with connection.transaction():
        return _claim(connection, channel, lease)


@translated()
def said(connection: Connection, channel: str, notices: Sequence[Notice]) -> None:
    """These were sent."""
    values = {"ids": [one.id for one in notices], "whats": [one.what for one in notices], "channel": channel}
    connection.execute(SQL["said"], values)


@translated()
def put_back(connection: Connection, channel: str, notices: Sequence[Notice]) -> None:
    """These could not be sent."""
    values = {"ids": [one.id for one in notices], "whats": [one.what for one in notices], "channel": channel}
    connection.execute(SQL["put_back"], values | {"attempts": [one.attempt for one in notices]})


@translated()
def still_open(connection: Connection) -> Rows:
    """What is amiss as far as was seen last, with its id and since when."""
    return connection.execute(SQL["open"]).fetchall()


@translated()
def wants_room(connection: Connection, *, attempts: int) -> dict[str, Any] | None:
    """id, site and date of the first day whose archives wait to be fetched; None: none does."""
    return connection.execute(SQL["wants_room"], {"attempts": attempts}).fetchone()


def _look(connection: Connection, judge: Judge, judged: Sequence[str], lapsed: timedelta) -> list[Found]:
    connection.execute(SQL["one_at_a_time"])
    found = list({(one.kind, one.subject): one for one in judge(facts(connection, lapsed=lapsed))}.values())
    columns = {name: [getattr(one, name) for one in found] for name in Found.__slots__}
    connection.execute(SQL["clear"], columns | {"judged": list(judged)})
    connection.execute(SQL["put"], columns)
    return found


def _claim(connection: Connection, channel: str, lease: timedelta) -> list[Notice]:
    connection.execute(SQL["one_at_a_time"])  # what is taken on as amiss is not over before it is read
    values = {"channel": channel, "lease": lease}
    taken = connection.execute(SQL["claim_cleared"], values).fetchall()
    taken += connection.execute(SQL["claim_found"], values).fetchall()
    attempts = {(row["id"], row["what"]): row["attempt"] for row in taken}
    rows = connection.execute(SQL["of_ids"], {"ids": [row["id"] for row in taken]}).fetchall()
    notices = []
    for row in rows:
        what = "found" if row["cleared"] is None else "cleared"
        if (row["id"], what) in attempts:
            notices.append(Notice(attempt=attempts[row["id"], what], **row))
    return notices
