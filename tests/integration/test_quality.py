"""How far a transcript can be trusted, all the way: engine, part, ledger, then command, API and export."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow.parquet as pq
import pytest

from db import formats, reports
from db.connect import Connection, connect
from db.migrate import MIGRATIONS, initialise, migrate
from db.roles import Roles
from hpc import export
from hpc.engines.echo import echo
from hpc.model import SAMPLE_RATE, Audio, Chunk, Recording, Transcript, compression_ratio
from hpc.stages.ingest import ingest
from monitor import create_app

CALM = Chunk(0.0, 20.0, 15.0, -0.25, 0.0125, 1.5, ("retried",))
LOOP = Chunk(20.5, 30.0, 5.0, -1.5, 0.75, 9.25)
WORST = {"avg_logprob": -1.5, "no_speech_prob": 0.75, "compression_ratio": 9.25, "coverage": 0.5}
UNKNOWN = dict.fromkeys(WORST)
TOLD = [
    {
        "start": 0.0, "end": 20.0, "speech": 15.0, "avg_logprob": -0.25, "no_speech_prob": 0.0125,
        "compression_ratio": 1.5, "flags": ["retried"],
    },
    {
        "start": 20.5, "end": 30.0, "speech": 5.0, "avg_logprob": -1.5, "no_speech_prob": 0.75,
        "compression_ratio": 9.25,
    },
]  # fmt: skip


def recorded(a_day: Any, *chunks: Chunk, outcome: Any = None, seconds: float = 40.0) -> int:
    """The id of a recording whose transcript has these chunks, in a shard of its own."""
    [shard] = a_day.lease(a_day.connection, a_day.open.id, 1)
    result = a_day.said(shard.id, 0, b"judged.mp3", "so it goes so it goes")
    outcome = outcome or replace(result.outcome, chunks=chunks)
    path = a_day.publish(shard, [replace(result, outcome=outcome, duration=seconds)], sealed=True)
    assert ingest(a_day.connection, path, actor="worker-1").settled
    found = a_day.connection.execute("SELECT id FROM recordings WHERE meta_id = 'judged'").fetchone()
    return int(found["id"])


def numbers(row: Any) -> dict[str, Any]:
    return {name: row[name] for name in WORST}


def test_the_worst_of_the_chunks_is_in_columns_that_a_selection_finds(a_day: Any) -> None:
    judged = recorded(a_day, CALM, LOOP)
    asked = (
        "SELECT recording_id FROM transcripts WHERE compression_ratio > 2.4 AND avg_logprob < -1 AND coverage <= 0.5"
    )
    assert [row["recording_id"] for row in a_day.connection.execute(asked)] == [judged]


def test_a_recording_is_read_with_its_chunks_and_older_ones_without(a_day: Any) -> None:
    row = reports.recording(a_day.connection, recorded(a_day, CALM, LOOP))
    assert row is not None
    assert (row["chunks"], numbers(row)) == (TOLD, WORST)
    for name in ("hello", "silence", "quarantined", "unsealed"):
        older = reports.recording(a_day.connection, a_day.ids[name])
        assert older is not None
        assert (older["chunks"], numbers(older)) == (None, UNKNOWN)


def test_the_fakes_answer_comes_through_whole(a_day: Any) -> None:
    heard = Recording(0, 0, b"judged.mp3", 1, hashlib.sha256(b"x").digest())
    said = echo(Audio(heard, np.ones(2 * SAMPLE_RATE, np.int16)))
    assert isinstance(said, Transcript)
    ratio = compression_ratio(said.text)
    assert said.chunks == (Chunk(0.0, 2.0, 2.0, 0.0, 0.0, ratio),)

    row = reports.recording(a_day.connection, recorded(a_day, outcome=said, seconds=2.0))
    assert row is not None and ratio is not None
    rounded = round(ratio, 4)
    known = {"avg_logprob": 0.0, "no_speech_prob": 0.0, "compression_ratio": rounded}
    assert row["chunks"] == [{"start": 0.0, "end": 2.0, "speech": 2.0, **known}]
    assert numbers(row) == {**known, "coverage": 1.0}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e300, -1e300])
def test_numbers_that_are_none_reach_neither_the_ledger_nor_json(
    a_day: Any, bad: float, answer: Callable[..., Any]
) -> None:
    number = bad if not math.isfinite(bad) else 0.5
    outcome = a_day.said(0, 0, b"x", "hello").outcome
    outcome = replace(outcome, language_probability=number, chunks=(Chunk(bad, bad, bad, bad, bad, bad), LOOP))
    judged = recorded(a_day, outcome=outcome)

    said = answer("show", str(judged))
    assert said["language_probability"] == (0.5 if math.isfinite(bad) else None)
    assert (said["chunks"], numbers(said)) == ([{}, TOLD[1]], WORST | {"coverage": None})


def test_a_ledger_takes_no_number_that_is_none_from_anybody(a_day: Any) -> None:
    for name, value in (("avg_logprob", "NaN"), ("no_speech_prob", "1.5"), ("compression_ratio", "Infinity")):
        with pytest.raises(psycopg.errors.CheckViolation, match="quality_is_in_numbers"):
            a_day.connection.execute(f"UPDATE transcripts SET {name} = '{value}'")


# --- read ------------------------------------------------------------------------------------------------------------


def test_show_says_in_a_line_how_far_the_words_can_be_trusted(
    a_day: Any, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    judged = recorded(a_day, CALM, LOOP)
    assert call("show", str(judged)) == 0
    said = capsys.readouterr().out
    line = "2; at worst log-probability -1.50, no speech 0.75, compression 9.25; speech in 50 % of the recording\n"
    assert next(each for each in said.splitlines(keepends=True) if each.startswith("chunks ")).endswith(f"  {line}")
    assert call("show", str(a_day.ids["hello"])) == 0
    assert "chunks" not in capsys.readouterr().out


def test_show_says_no_number_that_it_does_not_know(
    a_day: Any, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("show", str(recorded(a_day, Chunk(0.0, 20.0, no_speech_prob=0.01)))) == 0
    assert "  1; at worst no speech 0.01\n" in capsys.readouterr().out


def test_show_in_json_has_every_chunk(a_day: Any, answer: Callable[..., Any]) -> None:
    said = answer("show", str(recorded(a_day, CALM, LOOP)))
    assert (said["chunks"], numbers(said)) == (TOLD, WORST)


def test_the_api_tells_a_recordings_chunks_and_a_pages_worst(a_day: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAYSCRIBE_API_TOKEN_FILE", raising=False)
    judged = recorded(a_day, CALM, LOOP)
    client = create_app(a_day.dsn).test_client()

    whole = client.get(f"/api/v1/recordings/{judged}").get_json()
    rows = client.get("/api/v1/days/zurich/2025-01-31/recordings").get_json()["recordings"]
    page = {row["id"]: row for row in rows}
    assert (whole["chunks"], numbers(whole)) == (TOLD, WORST)
    assert (numbers(page[judged]), numbers(page[a_day.ids["hello"]])) == (WORST, UNKNOWN)
    assert "chunks" not in page[judged]
    assert client.get(f"/api/v1/recordings/{judged}.json").get_json()["chunks"] == TOLD

    schemas = client.get("/api/v1/openapi.json").get_json()["components"]["schemas"]
    told = {key for chunk in TOLD for key in chunk}
    assert (set(schemas["Chunk"]["properties"]), set(schemas["WholeRecording"]["required"])) == (told, set(whole))
    assert set(schemas["Recording"]["required"]) == set(page[judged])


def test_the_parquet_has_the_chunks_and_their_worst(a_day: Any, tmp_path: Path) -> None:
    judged = recorded(a_day, CALM, LOOP)
    table = pq.read_table(export.export_day(a_day.connection, a_day.open, tmp_path, partial=True).path)

    rows = {row["id"]: row for row in table.to_pylist()}
    assert rows[judged]["chunks"] == [TOLD[0], TOLD[1] | {"flags": None}]
    assert (numbers(rows[judged]), numbers(rows[a_day.ids["hello"]])) == (WORST, UNKNOWN)
    assert rows[a_day.ids["hello"]]["chunks"] is None


@pytest.mark.parametrize("kind", formats.KINDS)
def test_a_rendering_is_the_same_with_chunks_and_without_but_for_json(a_day: Any, kind: str) -> None:
    row = reports.recording(a_day.connection, recorded(a_day, CALM, LOOP))
    assert row is not None
    told = formats.render(reports.document(row), kind)
    plain = formats.render(reports.document(row | {"chunks": None} | UNKNOWN), kind)
    if kind == "json":
        assert (json.loads(told)["chunks"], numbers(json.loads(told)["recording"])) == (TOLD, WORST)
        assert json.loads(told)["segments"] == json.loads(plain)["segments"]
    else:
        assert told == plain


# --- the migration ---------------------------------------------------------------------------------------------------

# What a program that speaks version 4 of the schema writes.
OLD_WORKER = """
INSERT INTO transcripts (recording_id, run_id, run_key, version, outcome, language, language_probability, text, words,
    word_count, flags, part_id)
SELECT r.id, p.run_id, u.key, %(version)s, 'speech', 'en', 0.5, 'hello', %(words)s, 1, '{}', p.id
FROM recordings r JOIN parts p ON p.id = r.part_id JOIN runs u ON u.id = p.run_id
"""
SOME_DATA = """
INSERT INTO sites (name, location) VALUES ('zurich', '/x');
INSERT INTO days (site_id, date) SELECT id, '2025-01-01' FROM sites;
INSERT INTO shards (day_id, name, paths, size, revision) SELECT id, 'a', '{x}', 1, 0 FROM days;
INSERT INTO runs (key, digest, receipt) VALUES (decode(repeat('00', 16), 'hex'), decode(repeat('00', 32), 'hex'), '{}');
INSERT INTO parts (name, shard_id, epoch, run_id, sha256, size, recordings)
    SELECT 'p', s.id, 1, r.id, r.digest, 1, 1 FROM shards s, runs r;
INSERT INTO recordings (shard_id, ordinal, day_id, meta_id, name, size, sha256, part_id)
    SELECT p.shard_id, 0, s.day_id, 'clip', 'clip', 1, p.sha256, p.id FROM parts p JOIN shards s ON s.id = p.shard_id;
"""
SEAL = "UPDATE recordings SET state = 'transcribed', current_id = (SELECT max(id) FROM transcripts)"


@pytest.fixture
def before(empty_dsn: str, roles: Roles, tmp_path: Path) -> Iterator[Connection]:
    """A ledger of schema version 4 that has a transcript."""
    older = tmp_path / "migrations"
    older.mkdir()
    for path in sorted(MIGRATIONS.glob("000[1-4]_*.sql")):
        shutil.copy(path, older)
    with connect(empty_dsn) as connection:
        initialise(connection, roles, older)
        connection.execute(SOME_DATA)
        connection.execute(OLD_WORKER, {"version": 1, "words": formats.pack([])})
        connection.execute(SEAL)
        yield connection


def test_the_migration_leaves_transcripts_as_they_are_and_says_nothing_of_them(
    before: Connection, roles: Roles
) -> None:
    was = before.execute("SELECT * FROM transcripts").fetchall()
    assert migrate(before, roles)[0] == "0005_quality"
    now = before.execute("SELECT * FROM transcripts").fetchall()
    later = {"plan_id": None, "forced_by": 0}
    assert now == [row | {"chunks": None} | UNKNOWN | later for row in was]
    [only] = reports.some(before, [now[0]["recording_id"]])
    assert (only["text"], only["chunks"], numbers(only)) == ("hello", None, UNKNOWN)


def test_a_worker_that_does_not_know_the_columns_goes_on_in_its_role(before: Connection, roles: Roles) -> None:
    migrate(before, roles)
    before.execute("UPDATE recordings SET state = 'provisional', current_id = NULL")
    before.execute("DELETE FROM transcripts")
    with before.transaction():
        before.execute(f"SET LOCAL ROLE {roles.worker}")
        before.execute(OLD_WORKER, {"version": 1, "words": formats.pack([])})
        before.execute(SEAL)
    [row] = before.execute("SELECT chunks, avg_logprob, coverage FROM transcripts").fetchall()
    assert set(row.values()) == {None}
