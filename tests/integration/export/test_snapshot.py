"""Frozen sets: the same bytes on every day, whatever becomes of the recordings; refused names; crashes; folders."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import psycopg
import pyarrow.parquet as pq
import pytest

from db import days, metadata, snapshots
from db.connect import connect
from db.days import SlotFinding
from db.errors import NeedsConfiguration
from db.reports import Choice
from db.roles import Roles
from db.snapshots import NameTaken
from db.states import Finding
from hpc.export import export_day
from hpc.export import freeze as freezing
from hpc.export import snapshot as writing
from hpc.export.codebook import codebook
from hpc.export.columns import LASTING, NESTED
from hpc.export.freeze import FORMAT, NotJudged, Wish, freeze
from hpc.export.snapshot import AnotherFormat, FolderInUse, Written, write_snapshot
from hpc.export.tables import KINDS

FIRST, LAST = date(2025, 1, 30), date(2025, 1, 31)
BOTH = Wish(("zurich",), FIRST, LAST, partial=True)
MAKING = """
import sys
from datetime import date
from pathlib import Path
from db import days
from db.connect import connect
from hpc.export.freeze import Wish, find, freeze
from hpc.export.snapshot import write_snapshot
with connect(sys.argv[1]) as connection:
    wish = Wish(("zurich",), date(2025, 1, 30), date(2025, 1, 31), partial=True)
    both = [days.get(connection, "zurich", on) for on in (wish.first, wish.last)]
    made = find(connection, "set", wish) or freeze(connection, "set", wish, both, kind="jsonl", who="tester")
    write_snapshot(connection, made, Path(sys.argv[2]))
"""


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def frozen(a_day: Any, wish: Wish = BOTH, *, name: str = "set", kind: str = "jsonl", who: str = "tester") -> Any:
    both = [a_day.done, a_day.open] if wish.first < wish.last else [a_day.open]
    return freeze(a_day.connection, name, wish, both, kind=kind, who=who)


def written(a_day: Any, out: Path, kind: str | None = None, *, name: str = "set") -> Written:
    found = freezing.find(a_day.connection, name, None)
    assert found is not None
    return write_snapshot(a_day.connection, found, out, kind=kind)


def rows(folder: Path) -> dict[int, dict[str, Any]]:
    files = sorted((folder / "data").rglob("*.jsonl"))
    return {row["id"]: row for file in files for row in map(json.loads, file.read_text().splitlines())}


def manifest(folder: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return told


@pytest.fixture
def changed(a_day: Any, redo: Callable[[str, str], None], judge: Callable[..., None]) -> Callable[[], None]:
    """Everything about the day that can change, changes."""

    def change() -> None:
        connection = a_day.connection
        redo("hello", "bonjour")
        redo("quarantined", "enfin")
        connection.execute(
            "UPDATE recordings SET seconds = 77, flags = '{late}' WHERE id = %s", [a_day.ids["quarantined"]]
        )
        connection.execute("DELETE FROM flags")
        judge("hostile", gaps=0.5)
        judge("calm", long_word=30.0)
        values = dict.fromkeys(metadata.COLUMNS) | {"country": "IT", "play_count": 1}
        metadata.put(connection, a_day.done.id, [("7000000000000000000", *values.values())])
        begins = datetime(2020, 1, 1, tzinfo=UTC)
        slots = [SlotFinding("00_00", "archive", Finding.ARRIVED, "other", 5, begins)]
        slots += [SlotFinding("12_00", "archive", Finding.LISTED_BUT_MISSING, "late", 5)]
        days.put_slots(connection, a_day.open.id, revision=1, slots=slots)
        connection.execute("UPDATE days SET state = 'ready_to_process' WHERE id = %s", [a_day.done.id])
        connection.execute("UPDATE runs SET created = now() - interval '9 days'")
        # The recording that is not sealed becomes visible.
        connection.execute(
            "UPDATE recordings r SET state = 'transcribed', current_id = t.id FROM transcripts t"
            " WHERE t.recording_id = r.id AND r.id = %s", [a_day.ids["unsealed"]],
        )  # fmt: skip

    return change


@pytest.mark.parametrize("kind", KINDS)
def test_a_snapshot_is_the_same_bytes_whatever_became_of_its_recordings(
    a_day: Any, tmp_path: Path, judge: Callable[..., None], changed: Callable[[], None], kind: str
) -> None:
    judge("hello", repetition=3.0, long_word=None)
    begins = datetime(2025, 1, 30, 23, 0, tzinfo=UTC)
    slots = [SlotFinding("00_00", "archive", Finding.ARRIVED, "00_00.archive", 1000, begins)]
    days.put_slots(a_day.connection, a_day.open.id, revision=0, slots=slots)
    frozen(a_day, kind=kind)
    first = written(a_day, tmp_path / "one")
    changed()
    again = [written(a_day, tmp_path / "two"), written(a_day, tmp_path / "two")]

    assert content(again[0].path) == content(first.path)
    assert [first.same, *(one.same for one in again)] == [None, None, True]
    assert {one.manifest for one in (first, *again)} == {
        hashlib.sha256(content(first.path)["manifest.json"]).hexdigest()
    }
    assert (first.recordings, first.kind) == (6, kind)
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["set"]


def test_a_snapshot_shows_what_was_true_when_it_was_frozen(
    a_day: Any, tmp_path: Path, judge: Callable[..., None], changed: Callable[[], None]
) -> None:
    judge("hello", repetition=3.0, long_word=None)
    begins = datetime(2025, 1, 30, 23, 0, tzinfo=UTC)
    slots = [SlotFinding("00_00", "archive", Finding.ARRIVED, "00_00.archive", 1000, begins)]
    days.put_slots(a_day.connection, a_day.open.id, revision=0, slots=slots)
    frozen(a_day)
    changed()
    told = rows(written(a_day, tmp_path).path)

    assert sorted(told) == sorted(number for name, number in a_day.ids.items() if name != "unsealed")
    hello, quarantined = told[a_day.ids["hello"]], told[a_day.ids["quarantined"]]
    assert [list(row) for row in told.values()] == [[column.name for column in LASTING]] * 6
    assert (hello["text"], hello["language"], hello["version"], hello["state"]) == (
        "hello wide world", "en", 1, "transcribed",
    )  # fmt: skip
    assert hello["quality_flags"] == [{"flag": "long_word", "value": None}, {"flag": "repetition", "value": 3.0}]
    assert datetime.fromisoformat(hello["slot_time"]) == begins
    assert (quarantined["state"], quarantined["failure_class"], quarantined["text"]) == (
        "quarantined",
        "truncated",
        None,
    )
    assert (quarantined["failure_reason"][:14], quarantined["seconds"], quarantined["flags"]) == (
        "it ends early ",
        None,
        [],
    )
    assert (told[a_day.ids["silence"]]["state"], told[a_day.ids["silence"]]["segments"]) == ("no_speech", [])
    assert [told[a_day.ids[name]]["quality_flags"] for name in ("hostile", "calm", "quarantined")] == [[], None, None]


def test_a_snapshot_of_before_its_days_had_rows_gives_the_same_bytes(
    a_day: Any, tmp_path: Path, judge: Callable[..., None], changed: Callable[[], None]
) -> None:
    judge("hello", repetition=3.0)
    frozen(a_day)
    new = content(written(a_day, tmp_path / "new").path)
    a_day.connection.execute(
        "UPDATE snapshots SET facts = facts || jsonb_build_object('frozen',"
        " (SELECT jsonb_object_agg(day_id::text, frozen) FROM snapshot_days))"
    )
    assert a_day.connection.execute("DELETE FROM snapshot_days").rowcount == 2
    changed()

    assert content(written(a_day, tmp_path / "old").path) == new


def test_a_snapshot_agrees_with_the_export_of_the_same_moment(
    a_day: Any, tmp_path: Path, judge: Callable[..., None]
) -> None:
    judge("hello", repetition=3.0, long_word=None)
    frozen(a_day, Wish(("zurich",), LAST, LAST, partial=True))
    whole = export_day(a_day.connection, a_day.open, tmp_path, kind="jsonl", partial=True).path
    exported = {row["id"]: row for row in map(json.loads, whole.read_text().splitlines())}

    names = [column.name for column in LASTING]
    snapshot = rows(written(a_day, tmp_path).path)
    assert snapshot == {number: {name: row[name] for name in names} for number, row in exported.items()}


def test_the_folder_explains_itself(a_day: Any, tmp_path: Path, judge: Callable[..., None]) -> None:
    judge("hello", repetition=3.0)
    frozen(a_day, kind="parquet")
    folder = written(a_day, tmp_path).path

    assert sorted(content(folder)) == [
        "CITATION.txt", "SHA256SUMS", "codebook.md", "data/zurich/2025-01-30.parquet", "data/zurich/2025-01-31.parquet",
        "manifest.json", "receipts.json",
    ]  # fmt: skip
    checked = subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=folder, capture_output=True, check=True)
    assert checked.stdout.count(b": OK") == 6
    codebook = (folder / "codebook.md").read_text()
    schema = pq.read_schema(folder / "data/zurich/2025-01-31.parquet")
    assert re.findall(r"^\| `(\w+)` \|", codebook.partition("## Each of")[0], re.MULTILINE) == schema.names
    assert [name for name in NESTED if f"## Each of `{name}`" not in codebook] == []
    assert json.loads(schema.metadata[b"dayscribe"])["denominator"]["quarantined"] == 1
    [receipt] = json.loads((folder / "receipts.json").read_text())
    assert (receipt["recordings"], receipt["receipt"]["engine"]) == (5, "echo")


def test_the_manifest_states_the_denominators_and_they_add_up(a_day: Any, tmp_path: Path) -> None:
    frozen(a_day, Wish(("zurich",), FIRST, LAST, Choice("transcribed", ("en",)), partial=True))
    folder = written(a_day, tmp_path).path
    told = manifest(folder)

    assert told["totals"]["kept"] == {"recordings": 3, "transcribed": 3, "no_speech": 0, "quarantined": 0}
    for name, total in told["totals"]["denominator"].items():
        assert total == sum(day["denominator"][name] for day in told["days"])
    assert (told["totals"]["denominator"]["recordings"], told["totals"]["denominator"]["quarantined"]) == (6, 1)
    assert [(day["date"], day["partial"], day["missing"]["empty"]) for day in told["days"]] == [
        ("2025-01-30", False, []), ("2025-01-31", True, ["23_50"]),
    ]  # fmt: skip
    assert {place: one["rows"] for place, one in told["files"].items() if place.startswith("data/")} == {
        "data/zurich/2025-01-30.jsonl": 1, "data/zurich/2025-01-31.jsonl": 2,
    }  # fmt: skip
    assert told["selection"]["languages"] == ["en"]


def test_the_citation_says_what_it_is_and_names_nobody(a_day: Any, tmp_path: Path) -> None:
    a_day.connection.execute("""UPDATE runs SET receipt = receipt || '{"who": "lovelace", "why": "for lovelace"}'""")
    made = frozen(a_day, who="lovelace")
    folder = written(a_day, tmp_path).path
    said = (folder / "CITATION.txt").read_text()

    assert "Machine transcripts of zurich, 2025-01-30 to 2025-01-31: 2 days, 6 recordings." in said
    assert "Kept: 6 of 6 recordings; 4 transcribed, 1 without speech, 1 quarantined." in said
    assert "Missing on these days: 2 of 5 slots, 3 of 5 shards; 1 of them unfinished when it was frozen." in said
    assert f"Frozen on {made.created:%Y-%m-%d}" in said
    assert hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest() in said
    assert {name for name, data in content(folder).items() if b"lovelace" in data} == set()


# --- names and what is there -----------------------------------------------------------------------------------------


def test_a_name_is_of_one_set_and_another_is_refused_with_what_differs(a_day: Any) -> None:
    made = frozen(a_day)
    other = Wish(("zurich",), FIRST, date(2025, 2, 1), Choice(flags=("none",)), partial=True)

    with pytest.raises(NameTaken, match=r"flags is not chosen, not none") as refused:
        freezing.find(a_day.connection, "set", other)
    assert "last is 2025-01-31, not 2025-02-01" in str(refused.value)
    assert freezing.find(a_day.connection, "set", BOTH) == made
    assert [row["name"] for row in snapshots.every(a_day.connection)] == ["set"]


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "-a", "a" * 64, "a\n", ".tmp", "ä"])
def test_what_is_no_name_is_refused_before_anything_is_done(a_day: Any, name: str) -> None:
    with pytest.raises(Exception, match="is no name for a snapshot"):
        frozen(a_day, name=name)
    assert snapshots.every(a_day.connection) == []


def test_two_who_freeze_the_same_at_once_have_one_snapshot(a_day: Any, tmp_path: Path) -> None:
    quicker: list[Any] = []

    def meddle(_count: int) -> None:
        if not quicker:
            with connect(a_day.dsn) as other:
                quicker.append(freeze(other, "set", BOTH, [a_day.done, a_day.open], kind="csv", who="quicker"))

    made = freeze(a_day.connection, "set", BOTH, [a_day.done, a_day.open], kind="jsonl", who="slow", advance=meddle)

    assert [made] == quicker
    assert a_day.connection.execute("SELECT count(*) AS n FROM snapshot_recordings").fetchone() == {"n": 6}
    assert written(a_day, tmp_path).kind == "csv"


def test_a_frozen_transcript_cannot_be_removed(a_day: Any, redo: Callable[[str, str], None]) -> None:
    frozen(a_day)
    redo("hello", "bonjour")
    redo("hello", "salut")

    remove = "DELETE FROM transcripts WHERE recording_id = %s AND version = %s"
    with pytest.raises(psycopg.errors.ForeignKeyViolation, match="snapshot_recordings"):
        a_day.connection.execute(remove, [a_day.ids["hello"], 1])
    assert a_day.connection.execute(remove, [a_day.ids["hello"], 2]).rowcount == 1


def test_the_scheduler_may_freeze_and_whoever_may_only_look_may_write(a_day: Any, roles: Roles, tmp_path: Path) -> None:
    a_day.connection.execute(f"SET ROLE {roles.worker}")
    with pytest.raises(NeedsConfiguration, match="permission denied"):
        frozen(a_day)
    a_day.connection.execute(f"SET ROLE {roles.scheduler}")
    frozen(a_day)
    a_day.connection.execute(f"SET ROLE {roles.monitor}")

    assert written(a_day, tmp_path).recordings == 6


def test_a_snapshot_of_another_version_is_refused_and_not_written_differently(
    a_day: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen(a_day)
    monkeypatch.setattr(writing, "VERSION", 5)

    with pytest.raises(AnotherFormat, match=r"made by dayscribe .* \(files 1, columns 4, "):
        written(a_day, tmp_path)
    monkeypatch.undo()
    a_day.connection.execute("UPDATE snapshots SET facts = jsonb_set(facts, '{unicode}', '\"1.0\"')")
    with pytest.raises(AnotherFormat, match=r"Python's Unicode 1\.0"):
        written(a_day, tmp_path)
    assert not (tmp_path / "set").exists()


def test_what_is_not_of_the_snapshot_is_never_replaced(a_day: Any, tmp_path: Path) -> None:
    frozen(a_day)
    (tmp_path / "one" / "set").mkdir(parents=True)
    (tmp_path / "one" / "set" / "thesis.txt").write_text("years")
    folder = written(a_day, tmp_path / "two").path
    (folder / "data" / "notes.txt").write_text("mine")
    (tmp_path / "three").mkdir()
    (tmp_path / "three" / "set").symlink_to(folder)

    for out, what in (
        ("one", "is not this snapshot"),
        ("two", "holds data/notes.txt"),
        ("three", "is not this snapshot"),
    ):
        with pytest.raises(FolderInUse, match=what):
            written(a_day, tmp_path / out)
    assert (tmp_path / "one" / "set" / "thesis.txt").read_text() == "years"
    assert (folder / "data" / "notes.txt").read_text() == "mine"


def test_a_damaged_snapshot_is_written_whole_again_and_another_format_replaces_it(a_day: Any, tmp_path: Path) -> None:
    frozen(a_day)
    made = written(a_day, tmp_path)
    before = content(made.path)
    (made.path / "data" / "zurich" / "2025-01-30.jsonl").write_bytes(b"damage")
    (made.path / "codebook.md").unlink()

    assert written(a_day, tmp_path).same is True
    assert content(made.path) == before
    assert written(a_day, tmp_path, "csv").same is False
    assert sorted(path.suffix for path in (made.path / "data" / "zurich").iterdir()) == [".csv", ".csv"]


# --- crashes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("point", "known", "there"),
    [
        ("export.freezing", False, False),
        ("export.frozen", True, False),
        ("export.half", True, False),
        ("export.half:2", True, False),
        ("export.renamed", True, True),
    ],
)
def test_killed_anywhere_and_run_again_there_is_one_whole_snapshot(
    a_day: Any, tmp_path: Path, point: str, known: bool, there: bool
) -> None:
    arguments = [sys.executable, "-c", MAKING, a_day.dsn, str(tmp_path)]
    armed = os.environ | {"DAYSCRIBE_FAULTS_ARMED": "yes", "DAYSCRIBE_FAULT": f"{point}:kill"}

    assert subprocess.run(arguments, env=armed, check=False).returncode == -signal.SIGKILL
    assert [row["recordings"] for row in snapshots.every(a_day.connection)] == ([6] if known else [])
    assert (tmp_path / "set").exists() == there
    subprocess.run(arguments, check=True)

    assert [path.name for path in tmp_path.iterdir() if path.name != "home"] == ["set"]
    assert content(tmp_path / "set") == content(written(a_day, tmp_path / "whole").path)


# --- the commands ----------------------------------------------------------------------------------------------------


def test_the_command_freezes_writes_and_writes_again_by_its_name_alone(
    answer: Callable[..., Any], a_day: Any, tmp_path: Path, changed: Callable[[], None]
) -> None:
    out = ("--snapshot", "set", "--out", str(tmp_path / "out"))
    first = answer("export", "2025-01-30", *out)
    before = content(Path(first["path"]))
    changed()
    again = answer("export", *out)
    asked = answer("export", "2025-01-30", *out)

    assert (first["recordings"], first["of"], first["format"], first["same_as_before"]) == (1, 1, "parquet", None)
    assert [again["same_as_before"], asked["same_as_before"]] == [True, True]
    assert (again["manifest_sha256"], content(Path(again["path"]))) == (first["manifest_sha256"], before)
    [row] = answer("snapshots", "list")
    assert (row["name"], row["recordings"], row["sites"], row["first"]) == ("set", 1, ["zurich"], "2025-01-30")
    shown = answer("snapshots", "show", "set")
    assert (shown["transcribed"], shown["missing"], shown["by_day"][0]["date"]) == (1, "nothing", "2025-01-30")


def test_the_command_refuses_what_it_refuses_of_an_export(
    call: Callable[..., int], a_day: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ("--out", str(tmp_path / "out"), "--snapshot")
    for arguments, code, said in (
        (("2025-01-31", *out, "set"), 75, "zurich 2025-01-31 (processing)"),
        (("2025-02-01", *out, "set"), 65, "zurich has no 2025-02-01 in the ledger"),
        ((*out, "set"), 65, "no snapshot set"),
        (("2025-01-30", *out, "../set"), 65, "is no name for a snapshot"),
    ):
        assert call("export", *arguments) == code
        assert said in capsys.readouterr().err
    assert call("export", "2025-01-30", *out, "set") == 0
    assert call("export", "2025-01-30", "--language", "de", *out, "set") == 65
    assert "languages is not chosen, not de" in capsys.readouterr().err
    assert call("snapshots", "show", "other") == 65


def test_a_snapshot_by_flag_waits_until_all_is_judged(a_day: Any) -> None:
    """What is left out of it would be left out for good."""
    wish = Wish(("zurich",), LAST, LAST, Choice(flags=("none",)), partial=True)
    with pytest.raises(NotJudged, match="dayscribe quality 2025-01-31 --site zurich"):
        a_day.connection.execute("UPDATE shards SET judged = NULL")
        frozen(a_day, wish)
    assert freezing.find(a_day.connection, "set", wish) is None
    a_day.connection.execute("UPDATE shards SET judged = 1")
    assert frozen(a_day, wish).facts["totals"]["kept"]["recordings"] > 0


def test_flags_of_what_has_to_be_judged_anew_are_not_given_for_a_judgement(a_day: Any, tmp_path: Path) -> None:
    a_day.connection.execute(
        "INSERT INTO flags SELECT current_id, 'repetition', day_id, 3, '' FROM recordings WHERE current_id IS NOT NULL"
    )
    a_day.connection.execute("UPDATE shards SET judged = NULL")
    frozen(a_day)
    assert {json.dumps(row["quality_flags"]) for row in rows(written(a_day, tmp_path).path).values()} == {"null"}


def test_what_explains_the_columns_changes_only_with_the_format() -> None:
    """Its digest is in the manifest, whose digest people cite: raise FORMAT when this one changes."""
    assert (FORMAT, hashlib.sha256(codebook("x").encode()).hexdigest()[:16]) == (1, "917cc4e98e2b6eb4")
