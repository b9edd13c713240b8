"""How a day went: what moved its files, which jobs worked on it by three witnesses' word, and when each did."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from db import calendar, transfers
from db import course as ledger
from db.connect import Connection
from db.days import Day
from db.states import JOBS_OVER

MOST = 20  # transfers and jobs of a day that are shown, the newest
STARTS = 40  # of a job


def course(connection: Connection, one: Day) -> dict[str, Any]:
    """A day's transfers and jobs, newest first; when each moved, waited and worked, oldest first; its speed."""
    moved = [
        _transfer(row) for row in transfers.latest(connection, site=one.site, start=one.date, stop=one.date, limit=MOST)
    ]
    found, speed = ledger.jobs(connection, one.id, limit=MOST), calendar.speed(connection, one.id)
    ids, left = [job["id"] for job in found], ledger.open_shards(connection, one.id)
    ends, starts = ledger.ends(connection, ids), ledger.starts(connection, ids, limit=STARTS)
    worked = [_job(job, ends.get(job["id"], {}), left) | {"starts": starts.get(job["id"], [])} for job in found]
    timeline = _timeline(moved, found, one, speed)
    now = ledger.minute(connection) if any(span["ended"] is None for span in timeline) else None
    return {"transfers": moved, "jobs": worked, "timeline": timeline, "now": now, "speed": speed}


def _transfer(row: dict[str, Any]) -> dict[str, Any]:
    names = (
        "id", "what", "state", "owner", "files", "expected_files", "bytes", "expected_bytes", "skipped", "message",
        "created", "polled", "finished",
    )  # fmt: skip
    return {name: row[name] for name in names}


def _job(job: dict[str, Any], ends: dict[str | None, int], open_shards: int) -> dict[str, Any]:
    """What three witnesses say: of a job that was judged what was written then, of another what is known now; of its
    own shards the ledger speaks only while it lives."""
    names = (
        "id", "token", "kind", "state", "scheduler_id", "tasks", "message", "created", "began", "finished", "plan_id",
        "witnesses",
    )  # fmt: skip
    told = {name: job[name] for name in names}
    if told["witnesses"] is None:
        told["witnesses"] = {
            "scheduler": job["scheduler_says"],
            "exit_records": {end or "no exit record": tasks for end, tasks in ends.items()},
            "ledger": {"open_shards": None if job["plan_id"] or job["state"] in JOBS_OVER else open_shards},
        }
    return told


def _timeline(
    moved: Sequence[dict[str, Any]], worked: Sequence[dict[str, Any]], one: Day, speed: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Transfer, queue, work: who, from when to when (None: it goes on). Plans have pages of their own."""
    spans = [_span("transfer", row["what"], row["created"], row["finished"]) for row in reversed(moved)]
    for job in reversed([job for job in worked if job["plan_id"] is None]):
        spans += _of_job(job)
    if one.started is not None and speed and not any(job["plan_id"] is None for job in worked):
        # Worked on one machine, without a scheduler: from the first lease to what was recorded last.
        ended = one.finished or speed[-1]["minute"] + timedelta(minutes=1)
        spans.append(_span("work", "without jobs", one.started, ended))
    return spans


def _of_job(job: dict[str, Any]) -> list[dict[str, Any]]:
    name = f"job {job['id']}"
    if job["began"] is None:
        return [_span("queue", name, job["created"], job["finished"])]
    over = job["state"] in JOBS_OVER or not job["at_work"]
    return [
        _span("queue", name, job["created"], job["began"]),
        _span("work", name, job["began"], (job["ended"] or job["finished"]) if over else None),
    ]


def _span(phase: str, what: str, began: datetime, ended: datetime | None) -> dict[str, Any]:
    return {"phase": phase, "what": what, "began": began, "ended": ended if ended is None else max(began, ended)}
