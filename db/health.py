"""Whether all is well: ticks, leases, the last output, jobs, sizes; and what the finished work took."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from db.connect import Connection, translated
from db.sql import load

SQL = load("health.sql")


@translated()
def banner(connection: Connection) -> dict[str, Any]:
    """`tick_ago`, seconds since anybody's last tick (None: there was none), and `paused`, why (None: it is not)."""
    return _one(connection, "banner")


@translated()
def leases(connection: Connection) -> dict[str, Any]:
    """How many shards are `held`, how many leases of these have `lapsed`, and `oldest_lapsed`, seconds ago."""
    return _one(connection, "leases")


@translated()
def abandoned(connection: Connection, since: timedelta) -> int:
    """How many shards' leases ran out so long ago without anybody taking them over."""
    row = connection.execute(SQL["abandoned"], {"since": since}).fetchone()
    assert row is not None
    return int(row["shards"])


@translated()
def last_output(connection: Connection) -> float | None:
    """Seconds since a part was last recorded; None: there is none."""
    row = connection.execute(SQL["last_output"]).fetchone()
    return None if row is None else float(row["seconds_ago"])


@translated()
def days_by_state(connection: Connection) -> list[dict[str, Any]]:
    """How many days each site has in each state."""
    return connection.execute(SQL["days_by_state"]).fetchall()


@translated()
def jobs_by_state(connection: Connection) -> list[dict[str, Any]]:
    """How many live jobs there are of each kind in each state, and their tasks."""
    return connection.execute(SQL["jobs_by_state"]).fetchall()


@translated()
def live_plans(connection: Connection) -> list[dict[str, Any]]:
    """How many plans are not over, by state."""
    return connection.execute(SQL["live_plans"]).fetchall()


@translated()
def sizes(connection: Connection) -> dict[str, Any]:
    """Bytes of the database, and of its largest tables with their indexes."""
    return _one(connection, "sizes") | {"tables": connection.execute(SQL["tables"]).fetchall()}


@translated()
def work(connection: Connection) -> dict[str, Any]:
    """Seconds of audio and of the engine in all finished days and in the last thirty, and recordings by outcome."""
    return _one(connection, "work")


@translated()
def tasks(connection: Connection) -> dict[str, Any]:
    """Seconds that the last 500 ended tasks worked with a model loaded, and how many these are."""
    return _one(connection, "tasks")


@translated()
def gpus(connection: Connection) -> dict[str, Any]:
    """`hours` of GPUs that all our tasks held; of the last 500 `tasks` that ended the `busy` share of their time, in
    which the engine was at work, and the middle one's `real_time`, how many times as fast as real time it worked."""
    return _one(connection, "gpus")


def _one(connection: Connection, query: str) -> dict[str, Any]:
    row = connection.execute(SQL[query]).fetchone()
    assert row is not None
    return row
