"""What people ask across the ledger's tables: one recording whole, a day's rows for an export, who holds what now."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from psycopg import IsolationLevel

from db import formats
from db.connect import Connection, translated
from db.names import display
from db.sql import load

SQL = load("reports.sql")
PAGE = 200  # recordings read at once: memory does not follow the length of a day
LONGEST_QUESTION = "2s"

_OF_RECORDING = (
    "id", "site", "date", "slot", "shard", "ordinal", "meta_id", "name", "sha256", "state", "seconds", "flags",
    "failure_class", "failure_reason", "version", "language_probability", "avg_logprob", "no_speech_prob",
    "compression_ratio", "coverage", "word_count",
)  # fmt: skip


@translated()
def only_look(connection: Connection) -> None:
    """Let this session change nothing and ask nothing long."""
    connection.execute(SQL["only_look"], {"longest": LONGEST_QUESTION})


@contextmanager
def snapshot(connection: Connection) -> Iterator[None]:
    """What is read inside is one moment's state of the ledger, whatever is recorded meanwhile."""
    before = connection.isolation_level
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    try:
        with translated(), connection.transaction():
            connection.execute(SQL["take_time"])
            yield
    finally:
        if not connection.closed:
            connection.isolation_level = before


@translated()
def recording(connection: Connection, recording_id: int) -> dict[str, Any] | None:
    """The recording of that id with its `segments` and `chunks`, its name as it may be shown, its receipt, metadata."""
    row = connection.execute(SQL["recording"], {"id": recording_id}).fetchone()
    return row and _open(row)


@translated()
def ids(connection: Connection, day_id: int, *, state: str | None = None) -> array[int]:
    """The ids of a day's visible recordings, in order; eight bytes each."""
    cursor = connection.execute(SQL["ids"], {"day_id": day_id, "state": state})
    return array("q", (row["id"] for row in cursor))


@translated()
def some(connection: Connection, wanted: Sequence[int]) -> list[dict[str, Any]]:
    """These recordings, whole, in the order of their ids."""
    return [_open(row) for row in connection.execute(SQL["rows"], {"ids": list(wanted)})]


def rows(connection: Connection, day_id: int, *, state: str | None = None) -> Iterator[list[dict[str, Any]]]:
    """All visible recordings of a day, whole, page by page."""
    every = ids(connection, day_id, state=state)
    for start in range(0, len(every), PAGE):
        yield some(connection, every[start : start + PAGE])


@translated()
def receipts(connection: Connection, day_id: int) -> list[dict[str, Any]]:
    """The receipts of a day's current transcripts: id, key, receipt, and how many recordings are of each."""
    return connection.execute(SQL["receipts"], {"day_id": day_id}).fetchall()


@translated()
def versions(connection: Connection, recording_id: int) -> list[dict[str, Any]]:
    """Every transcript of a recording, oldest first; `current` marks the one the world sees."""
    return connection.execute(SQL["versions"], {"id": recording_id}).fetchall()


@translated()
def leased(connection: Connection, *, limit: int = 100) -> list[dict[str, Any]]:
    """The shards that workers hold now; a negative `seconds_left` says that the worker has gone."""
    return connection.execute(SQL["leased"], {"limit": limit}).fetchall()


def document(row: Mapping[str, Any]) -> dict[str, Any]:
    """A recording's row as the document that formats.render takes."""
    about = {key: row[key] for key in _OF_RECORDING if key in row}
    about |= {"date": row["date"].isoformat(), "sha256": row["sha256"].hex()}
    receipt = row.get("receipt")
    key = row.get("run_key")
    return {
        "segments": row["segments"] or [],
        "language": row["language"],
        "chunks": row.get("chunks"),
        "recording": about,
        "receipt": receipt if receipt is None or key is None else {"key": key.hex(), **receipt},
    }


def _open(row: dict[str, Any]) -> dict[str, Any]:
    return formats.opened(row) | {"name": display(row["name"])}
