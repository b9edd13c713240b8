"""A day in a ledger with shards to claim and parts made of thin air, for the tests of the ledger."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import date, timedelta
from typing import Any

import pytest

from db import days, formats, parts, shards, sites
from db.connect import Connection
from db.states import DayState

LEASE = timedelta(seconds=60)


class Books:
    """Says the ledger's verbs over one connection, with everything that does not matter filled in."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def day(self, *names: str, on: date = date(2025, 1, 1), site: str = "zurich", max_attempts: int = 3) -> days.Day:
        """A day that is ready, with a shard of each name."""
        made = sites.put(self.connection, site, location="/audio")
        days.add(self.connection, made.id, [on])
        day = days.get(self.connection, site, on)
        days.listed(self.connection, day.id, staged="/audio", revision=0)
        self.list_shards(day, *names, max_attempts=max_attempts)
        days.move(self.connection, day.id, DayState.READY_TO_PROCESS, actor="test")
        return days.by_id(self.connection, day.id)

    def list_shards(self, day: days.Day, *names: str, max_attempts: int = 3) -> int:
        new = [shards.NewShard(name, (name.encode(),), 1) for name in names]
        return shards.add(self.connection, day.id, new, revision=0, max_attempts=max_attempts)

    def claim(self, count: int = 1, *, owner: str = "one", lease: timedelta = LEASE) -> list[shards.Leased]:
        return shards.claim(self.connection, owner=owner, count=count, lease=lease)

    def one(self, *, owner: str = "one") -> shards.Leased:
        """Exactly one shard, claimed."""
        [leased] = self.claim(owner=owner)
        return leased

    def lapse(self, *which: shards.Leased) -> None:
        """The leases' time is up, by the ledger's clock."""
        ids = [leased.id for leased in which]
        late = "UPDATE shards SET lease_until = now() - interval '1 s' WHERE state = 'leased' AND id = ANY (%s)"
        self.connection.execute(late, [ids])

    def record(
        self,
        leased: shards.Leased,
        results: Iterable[Mapping[str, Any]] | Iterable[int] = (),
        *,
        seal: int | None = None,
        name: str | None = None,
        content: bytes = b"",
        contents: bytes | None = None,
    ) -> parts.Recorded:
        """A part of these results (or of speech at these ordinals), with a seal over so many recordings if wanted."""
        rows = [said(each) if isinstance(each, int) else each for each in results]
        name = name or f"{leased.id}-{leased.epoch}-{secrets.token_hex(8)}"
        digest = hashlib.sha256(name.encode() + content).digest()
        part = parts.Part(name, leased.id, leased.epoch, digest, 1, b"k" * 16, {"engine": "none"}, engine_seconds=0.5)
        sealing = None if seal is None else parts.SealRow(b"s" * 32, 1, seal, contents)
        return parts.record(self.connection, part, rows, sealing, actor="test")

    def rows(self, statement: str, *values: object) -> list[Any]:
        """Rows of a question of the test's own; of one column, only the values."""
        found = [tuple(row.values()) for row in self.connection.execute(statement, values).fetchall()]
        return [row[0] for row in found] if all(len(row) == 1 for row in found) else found

    def value(self, statement: str, *values: object) -> Any:
        [value] = self.rows(statement, *values)
        return value

    def shard(self, leased: shards.Leased) -> tuple[str, int, int]:
        """State, epoch, attempts."""
        found: tuple[str, int, int] = self.value("SELECT state, epoch, attempts FROM shards WHERE id = %s", leased.id)
        return found

    def state(self, day: days.Day) -> DayState:
        return days.by_id(self.connection, day.id).state

    def somebody_waits(self) -> bool:
        """Whether a session of this ledger waits for a row that another holds."""
        waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        return bool(self.value(waits))

    def until(self, true: Callable[[], bool]) -> None:
        """Look again and again, for no longer than a frozen test should last."""
        give_up, pause = time.monotonic() + 20, threading.Event()
        while not true():
            assert time.monotonic() < give_up, "what was waited for did not happen"
            pause.wait(0.01)

    def everything(self) -> dict[str, list[Any]]:
        """All that a refused call must leave as it was."""
        tables = ("days", "shards", "parts", "recordings", "transcripts", "events")
        return {table: self.rows(f"SELECT * FROM {table} ORDER BY id") for table in tables}


def said(ordinal: int, text: str = "hello world", *, language: str = "en", content: bytes = b"") -> dict[str, Any]:
    """A result row: speech, or no speech when the text is empty."""
    return {
        "ordinal": ordinal,
        "meta_id": f"clip{ordinal}",
        "name": b"clip%d.mp3" % ordinal,
        "size": 1,
        "sha256": hashlib.sha256(b"%d" % ordinal + content).digest(),
        "seconds": 2.0,
        "flags": [],
        "failure_class": None,
        "failure_reason": None,
        "outcome": "speech" if text else "no_speech",
        "language": language if text else None,
        "language_probability": None,
        "text": text,
        "words": formats.pack([{"start": 0.0, "end": 2.0, "text": text, "words": []}]),
        "word_count": len(text.split()),
        "transcript_flags": [],
    }


def failed(ordinal: int, kind: str = "empty", reason: str = "no samples") -> dict[str, Any]:
    """A result row: a recording that was quarantined."""
    nothing = dict.fromkeys(("outcome", "language", "language_probability", "text", "words", "word_count", "seconds"))
    return said(ordinal) | nothing | {"failure_class": kind, "failure_reason": reason}


@pytest.fixture
def books(ledger: Connection) -> Books:
    return Books(ledger)


@pytest.fixture
def speech() -> Any:
    """said(ordinal, text, language=…): a result row."""
    return said


@pytest.fixture
def failure() -> Any:
    """failed(ordinal, class, reason): a result row."""
    return failed
