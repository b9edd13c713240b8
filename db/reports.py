"""What people ask across the ledger's tables: one recording whole, a day's rows for an export, who holds what now."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from psycopg import IsolationLevel

from db import formats
from db.connect import Connection, translated
from db.names import display
from db.sql import load

SQL = load("reports.sql")
PAGE = 200  # recordings read at once: memory does not follow the length of a day
LONGEST_QUESTION = "2s"
UNFLAGGED = "none"  # among flags: judged, and nothing was found

_OF_RECORDING = (
    "id", "site", "date", "slot", "shard", "ordinal", "meta_id", "name", "sha256", "state", "seconds", "flags",
    "failure_class", "failure_reason", "version", "language_probability", "avg_logprob", "no_speech_prob",
    "compression_ratio", "coverage", "word_count",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Choice:
    """Which of a day's visible recordings; nothing said means all of them. What has no transcript has no language and
    no flags, and is chosen by neither."""

    state: str | None = None
    languages: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()  # any of these of the table flags; UNFLAGGED is one of them

    def values(self) -> dict[str, Any]:
        """As the query takes it."""
        names = [flag for flag in self.flags if flag != UNFLAGGED]
        return {
            "state": self.state,
            "languages": list(self.languages) or None,
            "flags": names if self.flags else None,
            "unflagged": UNFLAGGED in self.flags,
        }

    def told(self) -> dict[str, Any]:
        """As an export tells of it; the order in which things were asked for is none."""
        return {"state": self.state, "languages": sorted(set(self.languages)), "flags": sorted(set(self.flags))}


EVERYTHING = Choice()


@dataclass(frozen=True, slots=True)
class Chosen:
    """The recordings of a day that a choice keeps."""

    ids: array[int]  # in order; eight bytes each
    states: dict[str, int]  # how many of each visible state

    def __len__(self) -> int:
        return len(self.ids)


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
def place(connection: Connection, recording_id: int) -> dict[str, Any] | None:
    """Where the recording's bytes lie: its shard's `paths` below `staged`, unless they were `let_go`; None if there is
    no such recording."""
    return connection.execute(SQL["place"], {"id": recording_id}).fetchone()


@translated()
def choose(connection: Connection, day_id: int, choice: Choice = EVERYTHING) -> Chosen:
    """The day's visible recordings of this choice."""
    found, states = array("q"), Counter({"transcribed": 0, "no_speech": 0, "quarantined": 0})
    for row in connection.execute(SQL["ids"], {"day_id": day_id} | choice.values()):
        found.append(row["id"])
        states[row["state"]] += 1
    return Chosen(found, dict(states))


@translated()
def some(connection: Connection, wanted: Sequence[int]) -> list[dict[str, Any]]:
    """These recordings, whole, in the order of their ids."""
    return [_open(row) for row in connection.execute(SQL["rows"], {"ids": list(wanted)})]


def pages(connection: Connection, wanted: Sequence[int]) -> Iterator[list[dict[str, Any]]]:
    """These recordings, whole, page by page."""
    for start in range(0, len(wanted), PAGE):
        yield some(connection, wanted[start : start + PAGE])


@translated()
def unjudged(connection: Connection, day_id: int) -> int:
    """How many of a day's transcripts nobody has looked at for flags yet: that they have none says nothing."""
    row = connection.execute(SQL["unjudged"], {"day_id": day_id}).fetchone()
    assert row is not None
    return int(row["transcripts"])


@translated()
def receipts(connection: Connection, day_id: int) -> list[dict[str, Any]]:
    """The receipts of a day's current transcripts: id, key, receipt, and how many recordings are of each."""
    return connection.execute(SQL["receipts"], {"day_id": day_id}).fetchall()


@translated()
def versions(connection: Connection, recording_id: int) -> list[dict[str, Any]]:
    """Every transcript of a recording, oldest first; `current` marks the one the world sees."""
    return connection.execute(SQL["versions"], {"id": recording_id}).fetchall()


@translated()
def pinned(connection: Connection, recording_id: int, version: int) -> dict[str, Any] | None:
    """One version of a recording's transcript with its `segments`, `chunks`, receipt and `quality_flags`; None if there
    is none that may be shown."""
    row = connection.execute(SQL["pinned"], {"id": recording_id, "version": version}).fetchone()
    if row is None:
        return None
    flags = connection.execute(SQL["flags_of"], {"transcript_id": row["id"]}).fetchall()
    return formats.opened(row) | {"quality_flags": flags}


@translated()
def captions(connection: Connection, recording_id: int) -> list[dict[str, Any]]:
    """What the recording's platform itself wrote down of it, by language."""
    return connection.execute(SQL["captions"], {"id": recording_id}).fetchall()


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
    """The row with what is packed in it open and its name as it may be shown."""
    opened = formats.opened(row) | {"name": display(row["name"])}
    for flag in opened.get("quality_flags") or ():
        flag["value"] = number(flag["value"])
    return opened


def number(value: Any) -> float | None:
    """What came through JSON as a number, whole ones too; None for what is none."""
    return None if value is None or not math.isfinite(float(value)) else float(value)
