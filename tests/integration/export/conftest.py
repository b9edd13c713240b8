"""What happens to a day after it was exported: flags, a redo, metadata, new clocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from db import formats

REDO = """
WITH made AS (
    INSERT INTO transcripts (recording_id, run_id, run_key, version, outcome, language, text, words, word_count,
        part_id, forced_by)
    SELECT r.id, u.id, u.key, v.version + 1, 'speech', 'fr', %(text)s, %(words)s, 1, r.part_id, v.version
    FROM recordings r, (SELECT * FROM runs LIMIT 1) u,
        (SELECT coalesce(max(version), 0) AS version FROM transcripts WHERE recording_id = %(id)s) v
    WHERE r.id = %(id)s RETURNING id, recording_id)
UPDATE recordings r SET current_id = m.id, state = 'transcribed', failure_class = NULL, failure_reason = NULL
FROM made m WHERE r.id = m.recording_id
"""
FLAG = """
INSERT INTO flags (transcript_id, flag, day_id, value)
SELECT current_id, %(flag)s, day_id, %(value)s FROM recordings WHERE id = %(id)s
"""
JUDGED = "UPDATE shards SET judged = 1 WHERE id = (SELECT shard_id FROM recordings WHERE id = %(id)s)"


@pytest.fixture
def a_day(a_day: Any) -> Any:
    """The day as it is before anybody judges it, whoever does that of himself."""
    a_day.connection.execute("DELETE FROM flags")
    a_day.connection.execute("UPDATE shards SET judged = NULL")
    return a_day


@pytest.fixture
def redo(a_day: Any) -> Callable[[str, str], None]:
    """Gives a recording another transcript, which is what readers see from now on."""

    def make(name: str, text: str) -> None:
        words = formats.pack([{"start": 0.0, "end": 1.0, "text": text, "words": []}])
        a_day.connection.execute(REDO, {"id": a_day.ids[name], "text": text, "words": words})

    return make


@pytest.fixture
def judge(a_day: Any) -> Callable[..., None]:
    """Says that a recording's shard was judged, and gives the recording flags with their numbers."""

    def make(name: str, **flags: float | None) -> None:
        for flag, value in flags.items():
            a_day.connection.execute(FLAG, {"id": a_day.ids[name], "flag": flag, "value": value})
        a_day.connection.execute(JUDGED, {"id": a_day.ids[name]})

    return make
