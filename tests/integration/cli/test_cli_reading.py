"""`dayscribe show`, `search` and `export` on a real ledger: what a reader gets."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from db import formats
from db.states import DayState, Finding, RecordingState, ShardState
from hpc import export, layout
from hpc.cli import days as days_command
from hpc.cli import export as export_command
from hpc.cli import gap_map
from hpc.cli import show as show_command
from hpc.cli import sites as sites_command
from hpc.cli.display import Display

Call = Callable[..., int]


pytestmark = pytest.mark.usefixtures("undisturbed")

# --- show -------------------------------------------------------------------------------------------------------------


def test_show_tells_a_recording_by_its_id_or_its_own_name(
    call: Call, a_day: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    for which in (str(a_day.ids["hello"]), "7000000000000000001"):
        assert call("show", which) == 0
        said.append(capsys.readouterr().out)

    assert said[0] == said[1]
    assert "   0:00.00 –  0:03.00  hello wide world\n" in said[0]
    assert "en (75 %)" in said[0]
    assert "engine echo" in said[0]
    assert "play count" in said[0]


def test_show_says_why_a_recording_has_no_words(call: Call, a_day: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("show", str(a_day.ids["quarantined"])) == 0
    assert "quarantined, truncated: it ends early" in capsys.readouterr().out
    assert call("show", "unsealed") == 0
    shown = capsys.readouterr().out
    assert "its shard is not sealed yet" in shown
    assert "future" not in shown
    assert call("show", str(a_day.ids["quarantined"]), "--format", "srt") == 65
    assert "has no transcript: quarantined, truncated" in capsys.readouterr().err


@pytest.mark.parametrize("kind", formats.KINDS)
def test_show_prints_each_format(call: Call, a_day: Any, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    assert call("show", "7000000000000000001", "--format", kind) == 0
    said = capsys.readouterr().out

    if kind == "json":
        assert json.loads(said)["receipt"]["engine"] == "echo"
        assert json.loads(said)["segments"][0]["words"][1]["word"] == "wide"
    else:
        assert "hello wide world" in said


def test_show_lists_versions_and_answers_in_json(answer: Callable[..., Any], a_day: Any) -> None:
    [version] = answer("show", "7000000000000000001", "--versions")
    said = answer("show", "7000000000000000001", "--date", "2025-01-31", "--site", "zurich")

    assert (version["version"], version["current"], version["word_count"]) == (1, True, 3)
    assert (said["id"], said["text"]) == (a_day.ids["hello"], "hello wide world")


def test_show_asks_which_when_a_name_is_not_enough(
    call: Call, a_day: Any, waiting: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    a_day.connection.execute("UPDATE recordings SET meta_id = 'twin' WHERE meta_id LIKE '700000000000000000_'")

    assert call("show", "twin") == 65
    said = capsys.readouterr().err
    assert "3 recordings are called 'twin'" in said
    assert f"  {a_day.ids['hello']}: zurich 2025-01-31 0_2025-01-31_00_00.tar.xz" in said
    assert call("show", "twin", "--date", "2025-01-30") == 0
    assert call("show", "nobody") == 65
    assert "no recording 'nobody'" in capsys.readouterr().err


def test_an_id_of_the_ledger_goes_before_a_name_that_looks_like_one(answer: Callable[..., Any], a_day: Any) -> None:
    a_day.connection.execute(
        "UPDATE recordings SET meta_id = %s WHERE id = %s", (str(a_day.ids["calm"]), a_day.ids["hello"])
    )

    assert answer("show", str(a_day.ids["calm"]))["text"] == "yesterday was calm"


# --- search -----------------------------------------------------------------------------------------------------------


def test_search_always_ends_with_its_denominator_and_the_unfinished_days(
    call: Call, answer: Callable[..., Any], a_day: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    said = answer("search", "hello")
    assert [hit["recording_id"] for hit in said["hits"]] == [a_day.ids["hello"], a_day.ids["hostile"]]

    assert call("search", "wide") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "    hello <<wide>> world"
    assert lines[-2:] == [
        "1 of 4 transcripts; 1 recordings hold no speech, 1 are quarantined, 1 not sealed yet."
        " Of 5 archives 1 are missing.",
        "Not finished: zurich 2025-01-31 (processing).",
    ]
    assert call("search", "wide", "--to", "2025-01-30", "--site", "zurich") == 0
    assert capsys.readouterr().out == (
        "0 of 1 transcripts; 0 recordings hold no speech, 0 are quarantined, 0 not sealed yet."
        " Of 1 archives 0 are missing.\n"
    )


def test_search_finds_by_language_and_refuses_an_unknown_site(
    call: Call, answer: Callable[..., Any], a_day: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    found = answer("search", "hello", "--language", "de", "--only-language", "de")

    assert [hit["recording_id"] for hit in found["hits"]] == [a_day.ids["hostile"]]
    assert answer("search", "hello", "--language", "De", "--only-language", "DE") == found
    assert call("search", "hello", "--only-language", "German") == 2
    assert "is no language" in capsys.readouterr().err
    assert call("search", "hello", "--site", "nowhere") == 65
    assert "known: zurich" in capsys.readouterr().err


def test_search_for_nothing_is_refused_and_for_words_too_common_is_told(
    call: Call, a_day: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for nothing in ("", "''", "%"):
        assert call("search", nothing) == 65
        said = capsys.readouterr()
        assert ("Say what to look for" in said.err, said.out) == (True, "")

    assert call("search", "the") == 0
    assert "too common" in capsys.readouterr().err


def test_what_was_found_is_bold_on_a_terminal_and_nothing_else_can_be() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    Display(stdout=terminal).passage("a <<b\x1b[31m>> \u202ec", marks=("<<", ">>"))

    assert terminal.getvalue() == "a \x1b[1mb\\x1b[31m\x1b[22m \\u202ec\x1b[0m\n"


# --- export -----------------------------------------------------------------------------------------------------------


def test_export_writes_finished_days_and_says_of_how_many(
    answer: Callable[..., Any], a_day: Any, tmp_path: Path
) -> None:
    [row] = answer("export", "2025-01-30", "--out", str(tmp_path / "out"))

    assert (row["rows"], row["of"], row["partial"], row["metadata_rows"]) == (1, 1, False, None)
    assert pq.read_table(row["path"])["text"].to_pylist() == ["yesterday was calm"]


def test_export_refuses_an_unfinished_day_before_it_writes_any(
    call: Call, a_day: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"

    assert call("export", "2025-01-30..2025-01-31", "--out", str(out)) == 75
    assert "2025-01-31 (processing)" in capsys.readouterr().err
    assert call("export", "2025-01-29..2025-01-30", "--out", str(out)) == 65
    assert "has no 2025-01-29" in capsys.readouterr().err
    assert not out.exists()
    assert call("export", "2025-01-30..2025-01-31", "--out", str(out), "--partial", "--format", "vtt") == 0
    assert sorted(path.name for path in (out / "zurich").iterdir()) == ["2025-01-30_vtt", "2025-01-31_vtt"]


def test_the_names_that_commands_spell_for_their_help_are_the_real_ones() -> None:
    visible = [state.value for state in RecordingState if state is not RecordingState.PROVISIONAL]

    assert export_command.FORMATS == export.KINDS
    assert list(export_command.STATES) == visible
    assert show_command.FORMATS == formats.KINDS
    assert tuple(state.value for state in DayState) == days_command.STATES
    assert set(gap_map.ARCHIVES) == {state.value for state in ShardState}
    assert set(gap_map.FINDINGS) == {finding.value for finding in Finding} - {"arrived"}
    assert tuple(gap_map.KINDS) == sites_command.KINDS == layout.KINDS
