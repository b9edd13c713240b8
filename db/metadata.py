"""The twenty typed columns of what the platform says about a recording, joined by (day, meta_id) whenever they come."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from db import flags
from db.connect import Connection, translated
from db.sql import load

SQL = load("metadata.sql")

COLUMNS = (
    "posted", "description", "location_created", "text_language", "author_id", "author_name", "author_nickname",
    "author_verified", "digg_count", "share_count", "comment_count", "play_count", "collect_count", "music_id",
    "music_title", "music_author", "video_seconds", "subtitle_language", "collected", "country",
)  # fmt: skip


@translated()
def put(connection: Connection, day_id: int, rows: Iterable[tuple[Any, ...]]) -> int:
    """Take rows of (meta_id, *COLUMNS), the newest collected of each meta_id; returns how many the day has now.
    They are evidence of a language: the shards of these recordings are to be judged anew."""
    with connection.transaction():
        connection.execute(SQL["stage"])
        with connection.cursor() as cursor, cursor.copy(SQL["copy"]) as copy:
            for row in rows:
                copy.write_row((day_id, *row))
        flags.new_evidence(connection, day_id, SQL["merge"])
    counted = connection.execute(SQL["count"], {"day_id": day_id}).fetchone()
    assert counted is not None
    return int(counted["rows"])


@translated()
def get(connection: Connection, day_id: int, meta_id: str) -> dict[str, Any] | None:
    """The metadata of one recording of the day."""
    return connection.execute(SQL["get"], {"day_id": day_id, "meta_id": meta_id}).fetchone()
