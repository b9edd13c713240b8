"""Flags in the ledger: judged when results are recorded, anew when evidence comes, and nothing else is ever changed."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from psycopg.sql import SQL, Identifier

from db import captions, faults, flags, formats, listings, metadata
from db.connect import Connection, connect
from db.listings import Listed
from db.roles import Roles
from db.session import Session
from hpc.model import Chunk
from hpc.stages.arrival import join_metadata
from hpc.stages.ingest import ingest
from hpc.triage import FLAGS, RULES, judge_day, judge_lately, judge_shard
from hpc.triage import shard as triage_shard
from monitor import create_app

DAY = "/api/v1/days/zurich/2025-01-31"
CALM = "the quick brown fox jumps over the lazy dog today"
SCRIPT = "<script>alert(1)</script>"
TEXTS = {
    "calm": CALM,
    "loop": "go left " * 6,
    "hostile": f"{SCRIPT} \u202egnp.3pm \x1b[2J " * 4 + "x" * 300,
    "known": "Thanks for watching!",
    "unsure": "nobody knows what this was about",
}


@pytest.fixture
def session(dsn: str) -> Iterator[Session]:
    made = Session(dsn, application="test")
    yield made
    made.close()


@pytest.fixture(autouse=True)
def all_is_judged(a_day: Any, session: Session) -> None:
    """The metadata of the fixture came after its results."""
    assert judge_day(session, a_day.open.id) == 1


@pytest.fixture
def judged(a_day: Any) -> dict[str, int]:
    """A shard of five recordings, ingested; their ids by name, and the shard's as "shard"."""
    [shard] = a_day.lease(a_day.connection, a_day.open.id, 1)
    results = [a_day.said(shard.id, n, f"{name}.mp3".encode(), text) for n, (name, text) in enumerate(TEXTS.items())]
    doubt = replace(results[4].outcome, chunks=(Chunk(0.0, 6.0, 6.0, -1.5, 0.1, 1.25),))
    everything = [*results[:4], replace(results[4], outcome=doubt)]
    path = a_day.publish(shard, everything, sealed=True)
    assert ingest(a_day.connection, path, actor="worker-1").settled
    rows = a_day.connection.execute("SELECT id, meta_id FROM recordings WHERE shard_id = %s", [shard.id])
    return {row["meta_id"]: row["id"] for row in rows} | {"shard": shard.id}


def found(connection: Connection) -> dict[str, list[str]]:
    """The flags in the ledger by the own id of their recording."""
    rows = connection.execute(
        "SELECT r.meta_id, array_agg(f.flag ORDER BY f.flag) AS flags FROM flags f"
        " JOIN transcripts t ON t.id = f.transcript_id JOIN recordings r ON r.id = t.recording_id GROUP BY r.meta_id"
    )
    return {row["meta_id"]: row["flags"] for row in rows}


FOUND = {
    "loop": ["repetition"],
    "hostile": ["long_word", "repetition"],
    "known": ["known_phrase"],
    "unsure": ["unsure"],
}


def marks(connection: Connection) -> dict[str, int | None]:
    """By which rules the shards of the open day are judged."""
    rows = connection.execute("SELECT slot, judged FROM shards JOIN days d ON d.id = day_id WHERE date = '2025-01-31'")
    return {row["slot"]: row["judged"] for row in rows}


def everything_else(connection: Connection) -> list[Any]:
    """All that a judgement may not touch."""
    shown = "SELECT to_jsonb(x) - 'judged' AS x FROM {} x ORDER BY 1"
    tables = ("days", "shards", "recordings", "transcripts", "parts", "metadata", "events")
    return [row["x"] for table in tables for row in connection.execute(SQL(shown).format(Identifier(table)))]


def tell(a_day: Any, meta_id: str, **columns: Any) -> None:
    """What the platform says of a recording."""
    row = dict.fromkeys(metadata.COLUMNS) | columns
    metadata.put(a_day.connection, a_day.open.id, [(meta_id, *row.values())])


# --- when ------------------------------------------------------------------------------------------------------------


def test_results_are_judged_when_they_are_recorded_and_what_is_not_sealed_is_not(
    a_day: Any, judged: dict[str, int]
) -> None:
    assert found(a_day.connection) == FOUND
    assert marks(a_day.connection) == {"00_00": RULES, "00_10": None, "00_20": None, "23_50": RULES}
    [unsure] = flags.of_recording(a_day.connection, judged["unsure"])
    assert unsure == {"flag": "unsure", "value": -1.5, "detail": "average log-probability -1.50 in its worst chunk"}


def test_judging_changes_flags_and_nothing_else_and_twice_is_the_same_as_once(
    a_day: Any, judged: dict[str, int]
) -> None:
    before = everything_else(a_day.connection)
    rows = a_day.connection.execute("SELECT * FROM flags ORDER BY transcript_id, flag").fetchall()

    assert [judge_shard(a_day.connection, judged["shard"]) for _ in range(2)] == [5, 5]
    assert a_day.connection.execute("SELECT * FROM flags ORDER BY transcript_id, flag").fetchall() == rows
    assert everything_else(a_day.connection) == before


def test_a_shard_that_is_not_sealed_or_not_there_has_nothing_to_judge(a_day: Any) -> None:
    rows = a_day.connection.execute("SELECT id FROM shards WHERE sealed IS NULL").fetchall()
    assert [judge_shard(a_day.connection, row["id"]) for row in [*rows, {"id": 2**40}]] == [0] * (len(rows) + 1)
    assert set(marks(a_day.connection).values()) == {RULES, None}


def test_a_worker_that_dies_between_recording_and_judging_leaves_it_to_the_next_tick(
    a_day: Any, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("hpc.stages.ingest.judge_settled", lambda *_: None)  # as if it had been killed there
        [shard] = a_day.lease(a_day.connection, a_day.open.id, 1)
        result = a_day.said(shard.id, 0, b"known.mp3", TEXTS["known"])
        assert ingest(a_day.connection, a_day.publish(shard, [result], sealed=True), actor="worker-1").settled
    assert (found(a_day.connection), marks(a_day.connection)["23_50"]) == ({}, None)

    assert judge_lately(session, seconds=60) == 1
    assert (found(a_day.connection), marks(a_day.connection)["23_50"]) == ({"known": ["known_phrase"]}, RULES)
    assert judge_lately(session, seconds=60) == 0


def test_a_judgement_that_fails_costs_the_worker_nothing_and_is_told(
    a_day: Any, session: Session, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(faults, "_seen", {})
    with monkeypatch.context() as patch:
        patch.setenv("DAYSCRIBE_FAULTS_ARMED", "yes")
        patch.setenv("DAYSCRIBE_FAULT", "judge.intx:raise")
        [shard] = a_day.lease(a_day.connection, a_day.open.id, 1)
        result = a_day.said(shard.id, 0, b"known.mp3", TEXTS["known"])
        assert ingest(a_day.connection, a_day.publish(shard, [result], sealed=True), actor="worker-1").settled

    assert f"Shard {shard.id} is not judged yet" in caplog.text
    assert found(a_day.connection) == {}
    assert judge_day(session, a_day.open.id) == 1
    assert found(a_day.connection) == {"known": ["known_phrase"]}


def test_a_tick_judges_no_longer_than_it_may_and_leaves_days_of_long_ago_alone(a_day: Any, session: Session) -> None:
    a_day.connection.execute("UPDATE shards SET judged = NULL")
    times = iter([0.0, 1.0, 99.0])
    assert judge_lately(session, seconds=10, clock=lambda: next(times)) == 1  # of two

    a_day.connection.execute("UPDATE days SET finished = now() - interval '31 days' WHERE finished IS NOT NULL")
    a_day.connection.execute("UPDATE shards SET judged = NULL")
    assert judge_lately(session, seconds=60) == 1
    assert judge_day(session, a_day.done.id) == 1


def test_what_older_rules_have_judged_is_judged_anew(a_day: Any, judged: dict[str, int], session: Session) -> None:
    a_day.connection.execute("UPDATE flags SET value = 0, detail = 'by older rules'")
    a_day.connection.execute("INSERT INTO flags SELECT transcript_id, 'no_rule_any_more', day_id FROM flags LIMIT 1")
    a_day.connection.execute("UPDATE shards SET judged = %s WHERE sealed IS NOT NULL", [RULES + 1])

    assert judge_day(session, a_day.open.id) == 2
    assert found(a_day.connection) == FOUND
    told = a_day.connection.execute("SELECT detail FROM flags WHERE detail = 'by older rules'")
    assert told.fetchall() == []


@pytest.mark.parametrize("role", ["worker", "scheduler"])
def test_who_records_results_may_judge_them(a_day: Any, judged: dict[str, int], roles: Roles, role: str) -> None:
    a_day.connection.execute("DELETE FROM flags")
    a_day.connection.execute(SQL("SET ROLE {}").format(Identifier(getattr(roles, role))))
    assert judge_shard(a_day.connection, judged["shard"]) == 5
    row = ("known", "eng-US", "ASR", "thanks for watching", None)
    assert captions.put(a_day.connection, a_day.open.id, [row]) == 1
    a_day.connection.execute("RESET ROLE")
    assert found(a_day.connection) == FOUND


# --- evidence that comes later ---------------------------------------------------------------------------------------


def test_metadata_that_comes_later_has_its_own_shards_judged_anew_and_no_other(
    a_day: Any, judged: dict[str, int], session: Session
) -> None:
    tell(a_day, "calm", text_language="de")
    tell(a_day, "of_no_recording", text_language="de")
    assert marks(a_day.connection) == {"00_00": RULES, "00_10": None, "00_20": None, "23_50": None}
    assert found(a_day.connection) == FOUND  # until then

    assert judge_day(session, a_day.open.id) == 1
    assert found(a_day.connection) == FOUND | {"calm": ["language"]}
    assert flags.of_recording(a_day.connection, judged["calm"]) == [
        {"flag": "language", "value": 0.75, "detail": "heard en; the post's text de"}
    ]
    tell(a_day, "calm", text_language="en")  # it was wrong
    assert judge_day(session, a_day.open.id) == 1
    assert found(a_day.connection) == FOUND


def test_captions_that_come_later_are_compared(a_day: Any, judged: dict[str, int], session: Session) -> None:
    told = [
        ("calm", "eng-US", "ASR", CALM.upper(), None),
        ("unsure", "eng-US", "ASR", "something else is written down here", None),
        ("loop", "deu-DE", "MT", "eins zwei drei vier fünf sechs", None),
    ]
    assert captions.put(a_day.connection, a_day.open.id, told) == 3
    assert judge_day(session, a_day.open.id) == 1
    assert found(a_day.connection) == FOUND | {"unsure": ["captions_differ", "unsure"]}


def test_evidence_that_comes_while_a_shard_is_judged_is_not_missed(
    a_day: Any, judged: dict[str, int], dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, brought = triage_shard.judge, []

    def judge(evidence: Any) -> Any:
        if not brought:
            brought.append(True)
            with connect(dsn) as other:
                row = dict.fromkeys(metadata.COLUMNS) | {"text_language": "de"}
                metadata.put(other, a_day.open.id, [("calm", *row.values())])
        return real(evidence)

    monkeypatch.setattr(triage_shard, "judge", judge)
    assert judge_shard(a_day.connection, judged["shard"]) == 6
    assert found(a_day.connection) == FOUND | {"calm": ["language"]}
    assert marks(a_day.connection)["23_50"] == RULES


def test_evidence_that_is_just_being_brought_is_waited_for(
    a_day: Any, judged: dict[str, int], session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The judge begins after the evidence is written and before it can be seen."""
    real = flags.new_evidence
    judge = threading.Thread(target=session, args=(judge_shard, judged["shard"]))

    def new_evidence(connection: Connection, *rest: Any) -> None:
        real(connection, *rest)
        judge.start()
        waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        while not a_day.connection.execute(waiting).fetchone() and judge.is_alive():
            pass

    monkeypatch.setattr(flags, "new_evidence", new_evidence)
    tell(a_day, "calm", text_language="de")
    judge.join()
    assert found(a_day.connection) == FOUND | {"calm": ["language"]}
    assert marks(a_day.connection)["23_50"] == RULES


def test_of_two_judges_the_one_who_began_last_writes(a_day: Any, judged: dict[str, int], dsn: str) -> None:
    first = flags.take(a_day.connection, judged["shard"])
    with connect(dsn) as other:
        second = flags.take(other, judged["shard"])
        assert first and second
        assert not flags.write(a_day.connection, first, [], [], rules=RULES)
        assert flags.write(other, second, [], [], rules=RULES)
    assert found(a_day.connection) == FOUND


def test_only_the_version_that_the_world_sees_counts_and_every_version_is_judged(
    a_day: Any, judged: dict[str, int]
) -> None:
    a_day.connection.execute(
        "INSERT INTO transcripts (recording_id, run_id, run_key, version, outcome, language, text, words, word_count,"
        " part_id) SELECT recording_id, run_id, substr(sha256(run_key), 1, 16), 2, 'speech', 'en', 'go left ', %s, 2,"
        " part_id FROM transcripts WHERE recording_id = %s",
        [formats.pack([]), judged["loop"]],
    )
    a_day.connection.execute(
        "UPDATE recordings SET current_id = (SELECT max(id) FROM transcripts WHERE recording_id = recordings.id)"
        " WHERE id = %s",
        [judged["loop"]],
    )
    assert judge_shard(a_day.connection, judged["shard"]) == 5  # the older version keeps its own
    assert flags.of_recording(a_day.connection, judged["loop"]) == []
    assert flags.overview(a_day.connection, a_day.open)["quality_flags"]["repetition"] == 1
    assert judged["loop"] not in [row["id"] for row in flags.page(a_day.connection, a_day.open.id)]


# --- subtitle files --------------------------------------------------------------------------------------------------


def arrive(
    a_day: Any, folder: Path, columns: dict[str, Any], name: str = "0_2025-01-31_23_50_subtitles.parquet"
) -> Path:
    """A file of subtitles in the day's folder, listed and arrived."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    pq.write_table(pa.table(columns), path)
    listed = [Listed(name.encode(), "subtitles", "23_50", path.stat().st_size)]
    listings.take(a_day.connection, a_day.open.id, listed, staged=str(folder), at_hand=True, actor="test")
    return path


def test_subtitles_of_a_day_become_captions_and_a_second_time_nothing_is_read(
    a_day: Any, judged: dict[str, int], session: Session, tmp_path: Path
) -> None:
    vtt = "WEBVTT\n\n00:00.000 --> 00:02.000\nnothing of that was\n\n00:02.000 --> 00:04.000\never said here\n"
    columns = {
        "content": [vtt], "meta_id": ["calm"], "lang": ["eng-US"], "type": ["ASR"], "rest": ["{}"],
        "collection_timestamp": [1_738_312_200], "hash_unique_id": ["x"],
    }  # fmt: skip
    path = arrive(a_day, tmp_path / "staged", columns)
    assert join_metadata(session, a_day.open.id, path.parent) == 0  # rows of metadata
    rows = a_day.connection.execute("SELECT meta_id, language, kind, text FROM captions").fetchall()
    assert rows == [
        {"meta_id": "calm", "language": "eng-US", "kind": "ASR", "text": "nothing of that was ever said here"}
    ]
    assert judge_day(session, a_day.open.id) == 1
    assert found(a_day.connection) == FOUND | {"calm": ["captions_differ"]}
    path.unlink()
    assert join_metadata(session, a_day.open.id, path.parent) == 0
    assert marks(a_day.connection)["23_50"] == RULES


def test_a_file_of_subtitles_that_is_none_costs_the_day_nothing_and_is_told(
    a_day: Any, session: Session, tmp_path: Path
) -> None:
    path = arrive(a_day, tmp_path / "staged", {"meta_id": ["calm"], "content": ["x"]})
    path.write_bytes(b"nothing" * (path.stat().st_size // 7 + 1))
    assert join_metadata(session, a_day.open.id, path.parent) == 0
    told = a_day.connection.execute("SELECT detail FROM events WHERE what = 'companion.unreadable'").fetchall()
    assert [path.name in row["detail"]["reason"] for row in told] == [True]


# --- read ------------------------------------------------------------------------------------------------------------


DENOMINATOR = {
    "recordings": 10, "transcribed": 8, "no_speech": 1, "quarantined": 1, "unsealed": 1, "judged": 9, "unjudged": 0,
}  # fmt: skip
COUNTS = dict.fromkeys(FLAGS, 0) | {"repetition": 2, "long_word": 1, "known_phrase": 1, "unsure": 1}


@pytest.fixture
def client(a_day: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.delenv("DAYSCRIBE_API_TOKEN_FILE", raising=False)
    return create_app(a_day.dsn).test_client()


def test_the_api_counts_a_days_flags_with_their_denominator(client: Any, a_day: Any, judged: dict[str, int]) -> None:
    said = client.get(f"{DAY}/quality").get_json()
    assert said == {
        "site": "zurich", "date": "2025-01-31", "quality_flags": COUNTS, "flagged": 4, "denominator": DENOMINATOR,
        "rules": RULES,
    }  # fmt: skip
    assert "4 of 9 judged transcripts are" in client.get("/days/zurich/2025-01-31").text
    a_day.connection.execute("UPDATE shards SET judged = CASE slot WHEN '23_50' THEN -7 END")
    said = client.get(f"{DAY}/quality").get_json()
    assert (said["denominator"]["judged"], said["denominator"]["unjudged"], said["rules"]) == (0, 9, None)


def test_the_api_lists_flagged_recordings_page_by_page_each_once(client: Any, judged: dict[str, int]) -> None:
    rows, place = [], f"{DAY}/flags?limit=1"
    while place:
        page = client.get(place).get_json()
        rows += page["recordings"]
        place = page["next"]
    assert {row["meta_id"]: [flag["flag"] for flag in row["quality_flags"]] for row in rows} == FOUND
    assert [row["id"] for row in rows] == sorted(judged[name] for name in FOUND)

    [only] = client.get(f"{DAY}/flags?flag=long_word").get_json()["recordings"]
    assert (only["meta_id"], only["cut"], len(only["excerpt"])) == ("hostile", True, flags.EXCERPT)
    assert [flag["value"] for flag in only["quality_flags"] if flag["flag"] == "long_word"] == [300.0]
    assert client.get(f"{DAY}/flags?flag=gap").get_json() == {"recordings": [], "next": None}


def test_the_api_refuses_a_flag_that_there_is_not_and_tells_no_tag(client: Any, judged: dict[str, int]) -> None:
    assert client.get(f"{DAY}/flags?flag=repetitions").status_code == 400
    assert client.get(f"{DAY}/flags?limit=501").status_code == 400
    told = client.get(f"{DAY}/flags").text
    assert "<" not in told and "\\u003cscript" in told


def test_the_api_tells_of_a_recording_why_it_is_suspect(client: Any, judged: dict[str, int]) -> None:
    said = client.get(f"/api/v1/recordings/{judged['known']}").get_json()
    assert said["quality_flags"] == [
        {"flag": "known_phrase", "value": 1.0, "detail": "Thanks for watching (the whole text)"}
    ]


def test_flags_are_what_decoder_and_engine_noticed_and_quality_flags_why_it_is_suspect_wherever_either_is_told(
    client: Any, judged: dict[str, int], answer: Callable[..., Any], tmp_path: Path
) -> None:
    known = f"/api/v1/recordings/{judged['known']}"
    listed = {row["id"]: row for row in client.get(f"{DAY}/recordings").get_json()["recordings"]}
    answer("export", "--date", "2025-01-31", "--partial", "--out", str(tmp_path), "--format", "jsonl")
    [file] = tmp_path.rglob("*.jsonl")
    exported = {row["id"]: row for row in map(json.loads, file.read_text().splitlines()) if "id" in row}
    told = [
        client.get(known).get_json(), client.get(f"{known}?version=1").get_json(), listed[judged["known"]],
        client.get(f"{known}.json").get_json()["recording"], answer("show", str(judged["known"])),
        exported[judged["known"]],
    ]  # fmt: skip
    assert [one["flags"] for one in told] == [["multichannel", "unaligned"]] * len(told)
    assert [name for one in told for name in ("transcript_flags", "quality") if name in one] == []
    assert "multichannel, unaligned" in client.get(f"/recordings/{judged['known']}").text
    suspect = [told[0], told[1], told[5], *client.get(f"{DAY}/flags?flag=known_phrase").get_json()["recordings"]]
    suspect += answer("quality", "2025-01-31", "--flag", "known_phrase")["days"][0]["examples"]
    assert [[flag["flag"] for flag in one["quality_flags"]] for one in suspect] == [["known_phrase"]] * 5


def test_quality_prints_flags_with_their_share_then_examples_then_the_denominator(
    judged: dict[str, int], call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("quality", "2025-01-31") == 0
    said = capsys.readouterr().out
    lines = said.splitlines()
    assert lines[1].split()[:4] == ["repetition", "2", "22.2", "%"]
    assert f"{judged['known']}  2025-01-31 23_50  known  en" in lines
    assert "    known_phrase: Thanks for watching (the whole text)" in lines
    assert "    “Thanks for watching!”" in lines
    assert lines[-1] == (
        "2025-01-31: 4 of 9 transcripts are flagged (8 with text, 1 without speech); 1 recordings are quarantined,"
        " 1 not sealed yet; 0 of the 9 transcripts are not judged."
    )
    assert not {"\x1b", "\u202e"} & set(said)
    assert "\\u202e" in said


def test_quality_by_flag_shows_that_flag_only(
    judged: dict[str, int], call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("quality", "2025-01-31", "--flag", "long_word", "--limit", "1") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.startswith(FLAGS)] == ["long_word"]
    assert [line.strip().partition(":")[0] for line in lines if line.startswith("    ")][:1] == ["long_word"]
    assert call("quality", "2025-01-31", "--flag", "no_such") == 2


def test_quality_judges_what_is_not_judged_yet_and_all_when_it_is_told_to(
    a_day: Any, judged: dict[str, int], answer: Callable[..., Any]
) -> None:
    a_day.connection.execute("UPDATE shards SET judged = NULL")
    a_day.connection.execute("DELETE FROM flags")
    said = answer("quality", "2025-01-30..2025-02-02")["days"]
    assert [(day["date"], day["flagged"], day["denominator"]["unjudged"]) for day in said] == [
        ("2025-01-30", 0, 0), ("2025-01-31", 4, 0),
    ]  # fmt: skip
    assert (said[1]["quality_flags"], said[1]["denominator"]) == (COUNTS, DENOMINATOR)
    assert {row["meta_id"]: [flag["flag"] for flag in row["quality_flags"]] for row in said[1]["examples"]} == FOUND

    a_day.connection.execute("UPDATE flags SET detail = 'stale'")
    first = answer("quality", "2025-01-31")["days"][0]["examples"][0]["quality_flags"]
    assert {flag["detail"] for flag in first} == {"stale"}
    again = answer("quality", "2025-01-31", "--rejudge")["days"][0]["examples"][0]["quality_flags"]
    assert "stale" not in {flag["detail"] for flag in again}


def test_quality_of_a_day_that_there_is_not_is_refused(
    a_day: Any, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("quality", "2025-02-01") == 65
    assert call("quality", "2025-02-01..2025-02-03") == 65
    assert "zurich has no day from 2025-02-01 to 2025-02-03" in capsys.readouterr().err
