"""A ledger in which recordings have more than one version: other runs over the small ledger of the tests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import pytest

from db import formats

RECEIPT = {
    "format": 1, "engine": "whisperx", "who": "anna", "why": "a larger model", "image": "sha256:" + "d" * 64,
    "code": {"version": "1.0", "digest": "c" * 64}, "libraries": {"torch": "2.8.0", "av": "18.0"},
    "models": [{"name": "large-v3", "kind": "asr", "digest": "m" * 64, "locked": True}],
    "aligners": {"en": "a" * 64}, "options": {"beam_size": 5, "language": "auto"},
}  # fmt: skip


class Versions:
    """Adds runs and their versions to the ledger of `a_day`."""

    def __init__(self, made: Any) -> None:
        self.made, self.connection, self.ids = made, made.connection, made.ids
        self.first = self.value("SELECT id FROM runs")  # with which a_day was made

    def value(self, statement: str, *values: Any) -> Any:
        [row] = self.connection.execute(statement, values).fetchall()
        return next(iter(row.values()))

    def run(self, key: bytes, **said: Any) -> int:
        """A receipt; what is not said is as in RECEIPT."""
        receipt: Mapping[str, Any] = {**RECEIPT, **said}
        text = json.dumps(receipt)
        return int(
            self.value(
                "INSERT INTO runs (key, digest, receipt) VALUES (%s, %s, %s) RETURNING id",
                key.ljust(16, b"\0"),
                hashlib.sha256(text.encode() + key).digest(),
                text,
            )
        )

    def version(
        self, run: int, name: str, text: str, *, language: str | None = "en", state: str = "sealed",
        current: bool = False, plan: int | None = None, forced: int = 0,
    ) -> int:  # fmt: skip
        """A version of the recording that the tests call `name`; its part is in this state."""
        recording = self.ids[name]
        shard = self.value("SELECT shard_id FROM recordings WHERE id = %s", recording)
        part = self.value(
            "INSERT INTO parts (name, shard_id, epoch, run_id, sha256, size, recordings, state)"
            " VALUES (%s, %s, 1, %s, sha256(''), 1, 1, %s) RETURNING id",
            f"{run}-{recording}-{text[:9]}", shard, run, state,
        )  # fmt: skip
        made = self.value(
            "INSERT INTO transcripts (recording_id, run_id, run_key, version, outcome, language, text, words,"
            " word_count, part_id, plan_id, forced_by) SELECT %s, id, key, 1 + (SELECT max(version) FROM transcripts"
            " WHERE recording_id = %s), %s, %s, %s, %s, %s, %s, %s, %s FROM runs WHERE id = %s RETURNING id",
            recording, recording, "speech" if text else "no_speech", language if text else None, text, formats.pack([]),
            len(text.split()), part, plan, forced, run,
        )  # fmt: skip
        if current:
            self.connection.execute("UPDATE recordings SET current_id = %s WHERE id = %s", [made, recording])
        return int(made)

    def trial(self, run: int) -> int:
        """A plan whose versions stay beside what readers see."""
        return int(
            self.value(
                "INSERT INTO plans (selection, who, run_key, receipt, keep_current, recordings, seconds)"
                " SELECT '{}', 'anna', key, receipt, true, 1, 1 FROM runs WHERE id = %s RETURNING id",
                run,
            )
        )

    def transcript(self, name: str) -> int:
        """The one readers see."""
        return int(self.value("SELECT current_id FROM recordings WHERE id = %s", self.ids[name]))

    def flag(self, transcript: int, *flags: str) -> None:
        for flag in flags:
            self.connection.execute(
                "INSERT INTO flags (transcript_id, flag, day_id) SELECT t.id, %s, r.day_id FROM transcripts t"
                " JOIN recordings r ON r.id = t.recording_id WHERE t.id = %s",
                [flag, transcript],
            )

    def judge(self) -> None:
        self.connection.execute("UPDATE shards SET judged = 1")


@pytest.fixture
def versions(a_day: Any) -> Versions:
    return Versions(a_day)
