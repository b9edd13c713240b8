"""A day as Parquet, JSON lines and CSV: the same rows, whatever is in them; filters; and how much it is of."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from db import days, formats, shards, sites
from db.reports import UNFLAGGED, Choice
from db.states import DayState, QualityFlag
from hpc import export
from hpc.cli import export as command
from hpc.export import export_day
from hpc.export.columns import COLUMNS, flat
from hpc.export.tables import KINDS, cell

HOSTILE = "=cmd|' /C calc'!A0\nsecond \"line\", with\r\nends\u2028\u2029\u0085 and \u202eturned"
HALF = '[{"start":0.0,"end":1.0,"text":"half \\ud800 and \\u0000 none\\u2028","words":[{"word":"NaN","start":NaN}]}]'
EXPORTING = """
import sys
from datetime import date
from pathlib import Path
from db import days
from db.connect import connect
from hpc.export import export_day
with connect(sys.argv[1]) as connection:
    day = days.get(connection, "zurich", date.fromisoformat("2025-01-31"))
    export_day(connection, day, Path(sys.argv[2]), kind=sys.argv[3], partial=True)
"""


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def beside(path: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(path.with_name(f"{path.name}.about.json").read_text(encoding="utf-8"))
    return told


def spoken(value: Any) -> Any:
    """A value of a Parquet as JSON has it; what a structure does not tell is null in the one, left out in the other."""
    if isinstance(value, dict):
        return {key: spoken(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [spoken(item) for item in value]
    return value.isoformat() if isinstance(value, date) else value


def made(a_day: Any, out: Path, kind: str, choice: Choice = Choice()) -> Path:  # noqa: B008 - frozen
    return export_day(a_day.connection, a_day.open, out, kind=kind, choice=choice, partial=True).path


def names(a_day: Any, path: Path) -> set[str]:
    by_id = {number: name for name, number in a_day.ids.items()}
    return {by_id[row["id"]] for row in lines(path)}


@pytest.fixture
def hostile(a_day: Any, judge: Callable[..., None]) -> Any:
    """The day with words in it that break careless files, and with flags."""
    packed = formats.PACKED_V1 + zlib.compress(HALF.encode())
    values = {"text": HOSTILE, "words": packed, "id": a_day.ids["hello"]}
    a_day.connection.execute(
        "UPDATE transcripts SET text = %(text)s, words = %(words)s WHERE recording_id = %(id)s", values
    )
    judge("hello", repetition=3.5, long_word=None)
    return a_day


def test_json_lines_hold_what_parquet_holds(a_day: Any, tmp_path: Path, judge: Callable[..., None]) -> None:
    judge("hello", repetition=3.5, long_word=None)
    rows = lines(made(a_day, tmp_path, "jsonl"))
    parquet = pq.read_table(made(a_day, tmp_path, "parquet")).to_pylist()

    assert [list(row) for row in rows] == [export.SCHEMA.names] * 5
    assert [spoken(row) for row in rows] == [spoken(row) for row in parquet]
    [hello] = [row for row in rows if row["id"] == a_day.ids["hello"]]
    assert hello["quality_flags"] == [{"flag": "long_word", "value": None}, {"flag": "repetition", "value": 3.5}]
    assert datetime.fromisoformat(hello["posted"]) == datetime(2025, 1, 31, 0, 1, tzinfo=UTC)
    assert [word["word"] for word in hello["segments"][0]["words"]] == ["hello", "wide", "world"]


def test_csv_holds_every_column_but_the_nested_ones(a_day: Any, tmp_path: Path, judge: Callable[..., None]) -> None:
    judge("hello", repetition=3.5, long_word=None)
    rows = {int(row["id"]): row for row in table(made(a_day, tmp_path, "csv"))}

    hello, quarantined = rows[a_day.ids["hello"]], rows[a_day.ids["quarantined"]]
    assert tuple(hello) == flat(COLUMNS) == tuple(n for n in export.SCHEMA.names if n not in ("segments", "chunks"))
    assert (hello["text"], hello["flags"], hello["seconds"]) == ("hello wide world", "multichannel unaligned", "10.0")
    assert (hello["quality_flags"], hello["author_verified"], hello["play_count"]) == (
        "long_word repetition=3.5", "yes", str(2**40),
    )  # fmt: skip
    assert (quarantined["text"], quarantined["state"], quarantined["failure_class"]) == ("", "quarantined", "truncated")


def test_hostile_words_come_back_from_json_lines_and_none_ends_a_line(hostile: Any, tmp_path: Path) -> None:
    rows = lines(made(hostile, tmp_path, "jsonl"))

    assert len(rows) == 5
    [hello] = [row for row in rows if row["id"] == hostile.ids["hello"]]
    assert hello["text"] == HOSTILE
    [segment] = hello["segments"]
    assert segment["text"] == "half \\ud800 and \0 none\u2028"
    assert segment["words"] == [{"word": "NaN", "start": None}]


def test_hostile_words_come_back_from_csv_and_no_cell_is_a_formula(hostile: Any, tmp_path: Path) -> None:
    rows = table(made(hostile, tmp_path, "csv"))

    cells = [value for row in rows for value in row.values()]
    assert [value for value in cells if value[:1] in set("=+-@\t\r\n＝＋－＠") and not _number(value)] == []
    texts = {int(row["id"]): row["text"].removeprefix("'") for row in rows}
    assert (texts[hostile.ids["hello"]], texts[hostile.ids["injection"]]) == (HOSTILE, "=1+1")


def _number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def test_a_hostile_day_is_a_readable_parquet(hostile: Any, tmp_path: Path) -> None:
    rows = {row["id"]: row for row in pq.read_table(made(hostile, tmp_path, "parquet")).to_pylist()}

    assert rows[hostile.ids["hello"]]["text"] == HOSTILE
    assert rows[hostile.ids["hello"]]["segments"][0]["text"] == "half \\ud800 and \0 none\u2028"


@pytest.mark.parametrize("text", ["=1", "'=1", "''", "'tis", "-", "plain", "\t", "＝1"])
def test_dropping_one_leading_apostrophe_gives_the_text(text: str) -> None:
    assert cell(text).removeprefix("'") == text
    assert cell(text)[:1] not in set("=+-@\t\r\n＝＋－＠")


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_day_is_the_same_bytes_in_every_table(hostile: Any, tmp_path: Path, kind: str) -> None:
    assert made(hostile, tmp_path / "a", kind).read_bytes() == made(hostile, tmp_path / "b", kind).read_bytes()


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_what_a_table_cannot_say_itself_lies_beside_it(a_day: Any, tmp_path: Path, kind: str) -> None:
    for choice in (Choice(), Choice("transcribed", ("en",))):
        path = made(a_day, tmp_path, kind, choice)
        told = beside(path)
        assert (told["file"], told["sha256"]) == (path.name, hashlib.sha256(path.read_bytes()).hexdigest())

    assert told["selection"] == {"state": "transcribed", "languages": ["en"], "flags": []}
    assert (told["kept"]["recordings"], told["denominator"]["recordings"]) == (2, 5)
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name, f"{path.name}.about.json"]


def test_the_numbers_of_a_day_add_up(a_day: Any, tmp_path: Path) -> None:
    told = beside(made(a_day, tmp_path, "jsonl", Choice(languages=("de",))))

    counts, kept = told["denominator"], told["kept"]
    states = ("transcribed", "no_speech", "quarantined")
    assert counts["recordings"] == sum(counts[state] for state in states) == 5
    assert kept["recordings"] == sum(kept[state] for state in states) == 1
    assert counts["slots"] == sum(value for name, value in counts.items() if name.startswith("slots_")) == 5
    assert export.missing(counts) == "2 of 5 slots, 3 of 4 shards"
    assert export.missing(dict.fromkeys(counts, 0)) == "nothing"


@pytest.mark.parametrize(
    ("choice", "kept"),
    [
        (Choice(flags=("repetition",)), {"hello"}),
        (Choice(flags=("repetition", "long_word")), {"hello", "hostile"}),
        (Choice(flags=("none",)), {"silence", "injection"}),
        (Choice(flags=("none", "long_word")), {"hostile", "silence", "injection"}),
        (Choice(flags=("unheard_of",)), set()),
        (Choice(languages=("de",)), {"hostile"}),
        (Choice(languages=("de", "en"), flags=("none",)), {"injection"}),
        (Choice(state="no_speech", flags=("none",)), {"silence"}),
        (Choice(state="quarantined", languages=("en",)), set()),
    ],
)
def test_flags_languages_and_states_choose_rows(
    a_day: Any, tmp_path: Path, judge: Callable[..., None], choice: Choice, kept: set[str]
) -> None:
    judge("hello", repetition=3.5)
    judge("hostile", long_word=44.0)

    assert names(a_day, made(a_day, tmp_path, "jsonl", choice)) == kept


def test_what_nobody_has_judged_is_not_unflagged_and_is_counted(a_day: Any, tmp_path: Path) -> None:
    path = made(a_day, tmp_path, "jsonl", Choice(flags=("none",)))

    assert (lines(path), beside(path)["denominator"]["unjudged"]) == ([], 4)
    assert {row["quality_flags"] is None for row in lines(made(a_day, tmp_path, "jsonl"))} == {True}


def test_what_was_judged_and_has_no_flag_says_so(a_day: Any, tmp_path: Path, judge: Callable[..., None]) -> None:
    judge("hello")

    told = {row["id"]: row["quality_flags"] for row in lines(made(a_day, tmp_path, "jsonl"))}
    assert (told[a_day.ids["hello"]], told[a_day.ids["quarantined"]]) == ([], None)


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
@pytest.mark.parametrize("point", ["export.half", "export.renamed", "export.renamed:2"])
def test_killed_anywhere_a_table_is_never_told_of_wrongly(a_day: Any, tmp_path: Path, kind: str, point: str) -> None:
    path = made(a_day, tmp_path, kind, Choice("no_speech"))
    arguments = [sys.executable, "-c", EXPORTING, a_day.dsn, str(tmp_path), kind]
    armed = os.environ | {"DAYSCRIBE_FAULTS_ARMED": "yes", "DAYSCRIBE_FAULT": f"{point}:kill"}

    assert subprocess.run(arguments, env=armed, check=False).returncode == -signal.SIGKILL
    if path.with_name(f"{path.name}.about.json").exists():
        assert beside(path)["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.exists()
    subprocess.run(arguments, check=True)

    assert sorted(file.name for file in path.parent.iterdir()) == [path.name, f"{path.name}.about.json"]
    whole = made(a_day, tmp_path / "other", kind)
    assert (path.read_bytes(), beside(path)) == (whole.read_bytes(), beside(whole))


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def basel(a_day: Any) -> None:
    """A second site with one of the days, finished."""
    site = sites.put(a_day.connection, "basel", location="/data")
    days.add(a_day.connection, site.id, [date(2025, 1, 30)])
    day = days.get(a_day.connection, "basel", date(2025, 1, 30))
    shards.add(a_day.connection, day.id, [shards.NewShard("a", (b"a",), 1, "00_00")], revision=0, max_attempts=3)
    days.move(a_day.connection, day.id, DayState.COMPLETED, actor="test", summary={})


def test_several_sites_are_exported_and_each_is_named(
    answer: Callable[..., Any], basel: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = answer("export", "2025-01-30", "--site", "zurich", "--site", "basel", "--out", str(tmp_path / "a"))
    every = answer("export", "2025-01-29..2025-01-30", "--all-sites", "--out", str(tmp_path / "b"), "--format", "csv")

    assert [(row["site"], row["rows"], row["of"]) for row in both] == [("basel", 0, 0), ("zurich", 1, 1)]
    assert [(row["site"], row["missing"]) for row in every] == [("basel", "1 of 1 shards"), ("zurich", "nothing")]
    assert (tmp_path / "b" / "basel" / "2025-01-30.csv.about.json").exists()


def test_days_that_some_site_lacks_are_named_with_all_sites_and_refused_without(
    call: Callable[..., int], basel: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ("--out", str(tmp_path / "out"), "--partial")
    assert call("export", "2025-01-30..2025-01-31", "--all-sites", *out) == 0
    assert "Not in the ledger, so in no count: basel 2025-01-31." in capsys.readouterr().err
    assert call("export", "2025-01-30..2025-01-31", "--site", "basel", *out) == 65
    assert "basel has no 2025-01-31 in the ledger" in capsys.readouterr().err
    assert call("export", "2024-01-30", "--all-sites", *out) == 65
    assert call("export", "2025-01-30", *out) == 78
    assert "Say which site" in capsys.readouterr().err


def test_the_command_shows_what_is_expected_and_what_is_missing(
    call: Callable[..., int], a_day: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("export", "2025-01-31", "--partial", "--flag", "none", "--out", str(tmp_path / "out"))
    assert call(*arguments) == 0
    out, err = capsys.readouterr()

    assert "4 transcripts are not judged yet" in err
    assert "2 of 5 slots, 3 of 4 shards" in out
    assert out.splitlines()[1].split()[:6] == ["2025-01-31", "0", "5", "3", "1", "1"]


def test_the_case_of_a_language_to_export_does_not_matter(
    a_day: Any, answer: Callable[..., Any], tmp_path: Path
) -> None:
    words = ("export", "2025-01-31", "--partial", "--format", "jsonl", "--out")
    [small], [capital] = (answer(*words, str(tmp_path / code), "--language", code) for code in ("de", "DE"))
    assert small["rows"] == 1
    assert beside(Path(capital["path"]))["selection"] == beside(Path(small["path"]))["selection"]


def test_the_flags_of_the_command_are_those_of_the_ledger() -> None:
    assert (*QualityFlag, UNFLAGGED) == command.FLAGS


@pytest.mark.usefixtures("a_day")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Say which days"),
        (("2025-01-30", "--site", "zurich", "--all-sites"), "exclude each other"),
        (("2025-01-30", "--language", "German"), "is no language"),
        (("2025-01-30", "--flag", "No Such"), "is not one of"),
        (("2025-01-30", "--snapshot", "a", "--format", "srt"), "is written as parquet, jsonl, csv"),
        (("--snapshot", "a", "--flag", "none"), "Say which days"),
    ],
)
def test_what_the_command_cannot_mean_is_refused(
    call: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    said: str,
) -> None:
    assert call("export", *arguments, "--out", str(tmp_path / "out")) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
