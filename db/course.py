"""How a day went on the cluster: its jobs with what each witness says of them, and the starts of their tasks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from db import days
from db.connect import Connection, translated
from db.sql import load

SQL = load("course.sql")


@translated()
def jobs(connection: Connection, day_id: int, *, limit: int) -> list[dict[str, Any]]:
    """A day's jobs, newest first; `began` and `ended` are its tasks' first and last, `at_work` how many are not over,
    `witnesses` what was written when it was closed (None: it lives)."""
    return connection.execute(SQL["jobs"], {"day_id": day_id, "limit": limit}).fetchall()


@translated()
def ends(connection: Connection, job_ids: Sequence[int]) -> dict[int, dict[str | None, int]]:
    """Of each job how many of its tasks ended in which way at their last start; None: no word of an end."""
    counted: dict[int, dict[str | None, int]] = defaultdict(dict)
    for row in connection.execute(SQL["ends"], {"jobs": list(job_ids)}):
        counted[row["job_id"]][row["ended_as"]] = row["tasks"]
    return counted


@translated()
def starts(connection: Connection, job_ids: Sequence[int], *, limit: int) -> dict[int, list[dict[str, Any]]]:
    """Of each job at most so many starts of its tasks, in order; those that did not end as done are never left out for
    those that did."""
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in connection.execute(SQL["starts"], {"jobs": list(job_ids), "limit": limit}):
        found[row.pop("job_id")].append(row)
    return found


@translated()
def open_shards(connection: Connection, day_id: int) -> int:
    """How many of the day's shards are not settled: what the ledger says of a job that lives."""
    row = connection.execute(days.SQL["open_shards"], {"id": day_id}).fetchone()
    assert row is not None
    return int(row["open"])


@translated()
def minute(connection: Connection) -> datetime:
    """Now by the ledger's clock, to the minute: what is drawn up to it does not change at each look."""
    row = connection.execute(SQL["minute"]).fetchone()
    assert row is not None
    now: datetime = row["now"]
    return now
