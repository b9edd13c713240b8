"""What is printed: tables, records, JSON, progress; and that nothing from outside can steer a terminal."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.printable import printable
from hpc.cli import display
from hpc.cli.display import Column, Display, PlainProgress


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True)
class Point:
    x: int


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


ROWS = [{"name": "a\x1b[2Jb\n", "count": 3, "extra": 1.5}, {"name": "日本", "count": 12, "extra": None}]
COLUMNS = [Column("name"), Column("count", right=True)]


def test_without_a_terminal_a_table_is_aligned_columns_with_controls_escaped() -> None:
    out = io.StringIO()

    Display(stdout=out).table(ROWS, COLUMNS)

    assert out.getvalue() == "name         count\na\\x1b[2Jb\\n      3\n日本            12\n"


def test_on_a_terminal_a_table_folds_to_its_width_and_takes_no_markup_from_data(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "24")
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()

    Display(stdout=out).table([{"name": "[red]x[/red] " + "long " * 12, "count": 3}], COLUMNS)

    lines = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()).splitlines()
    assert max(map(len, lines)) <= 24
    assert "[red]x[/red]" in out.getvalue()
    assert out.getvalue().count("long") == 12


def test_as_json_a_table_is_a_list_with_every_key_whatever_the_columns() -> None:
    out = io.StringIO()

    Display(stdout=out, as_json=True).table(ROWS, COLUMNS)

    assert json.loads(out.getvalue()) == ROWS


def test_json_knows_our_kinds_of_values_and_no_control_character_leaves_raw() -> None:
    out = io.StringIO()
    kinds = {
        "day": date(2025, 1, 31), "at": datetime(2025, 1, 31, 12, tzinfo=UTC), "sha": b"\x00\xff", "state": Colour.RED,
        "path": Path("/a"), "nan": float("nan"), "point": Point(1), "set": {2, 1}, 7: "\x9b\u202e\ud800é",
    }  # fmt: skip

    Display(stdout=out, as_json=True).record(kinds)

    assert json.loads(out.getvalue()) == {
        "day": "2025-01-31", "at": "2025-01-31T12:00:00+00:00", "sha": "00ff", "state": "red",
        "path": "/a", "nan": None, "point": {"x": 1}, "set": [1, 2], "7": "\x9b\u202e\ud800é",
    }  # fmt: skip
    assert printable(out.getvalue(), lines=True) == out.getvalue()


def test_a_record_is_a_line_a_field() -> None:
    out = io.StringIO()

    Display(stdout=out).record({"site": "zurich", "sealed": True, "seconds_of_audio": 1.5, "reason": None})

    assert out.getvalue().splitlines() == [
        "site              zurich",
        "sealed            yes",
        "seconds of audio  1.5",
        "reason            -",
    ]


@given(st.text())
def test_nothing_printable_lets_a_control_character_through(text: str) -> None:
    safe = printable(text)

    assert "".join(safe.splitlines()) == safe
    assert all(ord(character) >= 32 and not 127 <= ord(character) < 160 for character in safe)
    assert safe.encode().decode() == safe


def test_text_is_exact_in_a_pipe_and_harmless_on_a_terminal() -> None:
    pipe, terminal = io.StringIO(), Terminal()

    Display(stdout=pipe).text("a\x1b[2J\n")
    Display(stdout=terminal).text("a\x1b[2J\n")

    assert (pipe.getvalue(), terminal.getvalue()) == ("a\x1b[2J\n", "a\\x1b[2J\n")


def test_an_empty_table_says_so_beside_the_answer_and_quiet_says_nothing() -> None:
    out, err = io.StringIO(), io.StringIO()

    Display(stdout=out, stderr=err).table([], COLUMNS, empty="No days yet.")
    Display(stdout=out, stderr=err, quiet=True).table([], COLUMNS, empty="No days yet.")

    assert (out.getvalue(), err.getvalue()) == ("", "No days yet.\n")


def test_progress_without_a_terminal_is_a_line_now_and_then_and_one_at_the_end() -> None:
    told: list[str] = []
    now = [0.0]
    progress = PlainProgress("zurich", total=10, unit="recordings", say=told.append, clock=lambda: now[0])

    for second in range(10):
        now[0] = second * 8.0
        progress.advance()
    progress.update(note="1 quarantined")
    progress.close()

    assert told == [
        "zurich: 5 of 10 recordings",
        "zurich: 9 of 10 recordings",
        "zurich: 10 of 10 recordings, 1 quarantined",
    ]


def test_progress_goes_to_stderr_only() -> None:
    out, err = io.StringIO(), io.StringIO()

    with Display(stdout=out, stderr=err).progress("work", total=2) as progress:
        progress.advance(2)
    with Display(stdout=out, stderr=err, quiet=True).progress("work", total=2) as progress:
        progress.advance(2)

    assert (out.getvalue(), err.getvalue()) == ("", "work: 2 of 2\n")


def test_progress_on_a_terminal_is_a_bar() -> None:
    script = (
        "from hpc.cli.display import Display\n"
        "with Display().progress('the \\x1b[2Jday', total=4, unit='clips') as bar:\n"
        "    bar.advance(4)\n"
        "    bar.update(note='[b]x[/b]')\n"
    )
    leader, follower = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    done = subprocess.run(
        [sys.executable, "-c", script], stderr=follower, stdout=subprocess.PIPE, env=environment, check=True
    )
    os.close(follower)
    shown = os.read(leader, 100_000).decode()
    os.close(leader)

    assert done.stdout == b""
    assert "4/4" in shown and "clips" in shown and "[b]x[/b]" in shown
    assert "the \\x1b[2Jday" in shown


def test_a_length_of_time_is_hours_minutes_seconds() -> None:
    assert [display.clock(seconds) for seconds in (0, 59.6, 3661)] == ["0:00:00", "0:01:00", "1:01:01"]


@pytest.mark.parametrize("as_json", [True, False])
def test_pages_are_written_as_they_come_and_are_one_table(as_json: bool) -> None:
    out = io.StringIO()
    written = []

    def pages() -> Iterator[list[dict[str, int]]]:
        for page in ([{"n": 1}, {"n": 2}], [], [{"n": 3}]):
            written.append(out.getvalue().count("\n"))
            yield page

    Display(as_json=as_json, stdout=out).pages(pages(), [Column("n")])
    assert written[0] < written[1] == written[2], "the first page is out before the next is asked for"
    if as_json:
        assert json.loads(out.getvalue()) == [{"n": 1}, {"n": 2}, {"n": 3}]
    else:
        assert out.getvalue().split() == ["n", "1", "2", "3"]


def test_no_page_is_an_empty_list_or_a_word() -> None:
    out, err = io.StringIO(), io.StringIO()
    Display(as_json=True, stdout=out).pages([], [Column("n")])
    assert json.loads(out.getvalue()) == []
    Display(stdout=io.StringIO(), stderr=err).pages([], [Column("n")], empty="None.")
    assert err.getvalue() == "None.\n"
