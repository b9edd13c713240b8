"""A digest's facts: what was finished and what failed since a moment, and what is under way."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from db.connect import Connection, translated
from db.sql import load

SQL = load("digests.sql")
Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a digest is made of."""

    since: datetime
    finished: Rows
    quarantined: Rows
    failed_shards: Rows
    failed_jobs: Rows
    failed_movements: Rows
    under_way: Rows
    plans: Rows
    pending: int
    held: int


@translated()
def facts(connection: Connection, since: datetime | timedelta) -> Facts:
    """What happened since that moment, or for so long by the ledger's clock."""
    with connection.transaction():
        moment = since if isinstance(since, datetime) else _ago(connection, since)
        values = {"since": moment}
        [waiting] = connection.execute(SQL["waiting"])
        return Facts(
            moment, connection.execute(SQL["finished"], values).fetchall(),
            connection.execute(SQL["quarantined"], values).fetchall(),
            connection.execute(SQL["failed_shards"], values).fetchall(),
            connection.execute(SQL["failed_jobs"], values).fetchall(),
            connection.execute(SQL["failed_movements"], values).fetchall(),
            connection.execute(SQL["under_way"]).fetchall(), connection.execute(SQL["plans"], values).fetchall(),
            waiting["pending"], waiting["held"],
        )  # fmt: skip


def _ago(connection: Connection, length: timedelta) -> datetime:
    [row] = connection.execute(SQL["since_ago"], {"ago": length})
    moment: datetime = row["since"]
    return moment
