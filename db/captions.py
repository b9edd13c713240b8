"""What the platform itself wrote down of recordings: evidence, not truth; joined by (day, meta_id)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from db import flags
from db.connect import Connection, translated
from db.sql import load

SQL = load("captions.sql")

Row = tuple[str, str, str, str, datetime | None]
"""meta_id, language and kind as the platform writes them, the text without its times, when it was collected."""


@translated()
def put(connection: Connection, day_id: int, rows: Iterable[Row]) -> int:
    """Take captions; the shards of their recordings are to be judged anew. Returns how many the day has now."""
    with connection.transaction():
        connection.execute(SQL["stage"])
        with connection.cursor() as cursor, cursor.copy(SQL["copy"]) as copy:
            for row in rows:
                copy.write_row((day_id, *row))
        flags.new_evidence(connection, day_id, SQL["merge"])
    counted = connection.execute(SQL["count"], {"day_id": day_id}).fetchone()
    assert counted is not None
    return int(counted["rows"])
