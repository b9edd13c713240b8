"""The append-only history: who did what to which day or shard, and when."""

from __future__ import annotations

from typing import Any

from psycopg.types.json import Jsonb

from db.connect import Connection, translated
from db.sql import load

SQL = load("events.sql")


@translated()
def add(
    connection: Connection,
    /,
    what: str,
    *,
    actor: str,
    day_id: int | None = None,
    shard_id: int | None = None,
    **detail: object,
) -> None:
    """Append one event."""
    connection.execute(
        SQL["add"], {"day_id": day_id, "shard_id": shard_id, "actor": actor, "what": what, "detail": Jsonb(detail)}
    )


@translated()
def of_day(connection: Connection, day_id: int, *, limit: int = 100) -> list[dict[str, Any]]:
    """The latest events of a day, newest first."""
    return connection.execute(SQL["of_day"], {"day_id": day_id, "limit": limit}).fetchall()
