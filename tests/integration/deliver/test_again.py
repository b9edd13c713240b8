"""`reprocess --stage export`: what was delivered is made and sent again where it has changed, and only there."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from hpc.cli import main

DAY = "2025-01-01"
GAP = (
    "INSERT INTO flags SELECT current_id, 'gap', day_id, 9.0, 'made up' FROM recordings WHERE current_id IS NOT NULL"
    " ORDER BY id LIMIT 1"
)
Again = Callable[..., Any]


@pytest.fixture(autouse=True)
def as_it_was(lab: Any) -> Iterator[None]:
    yield
    lab.do("DELETE FROM flags WHERE detail = 'made up'")


@pytest.fixture
def again(lab: Any, capsys: pytest.CaptureFixture[str]) -> Again:
    """`dayscribe reprocess --date DAY --stage export …`: its exit code, its rows, and what it said."""

    def run(*words: str) -> tuple[int, list[dict[str, Any]], str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main.main([*lab.words(), "reprocess", "--date", DAY, "--stage", "export", *words, "--json"])
        out, err = capsys.readouterr()
        assert isinstance(left.value.code, int)
        return left.value.code, json.loads(out) if out.strip() else [], " ".join(err.split())

    return run


def states(told: tuple[int, list[dict[str, Any]], str]) -> list[str]:
    code, rows, said = told
    assert code == 0, said
    return [row["state"] for row in rows]


def flags_at(target: Path) -> set[str]:
    table = pq.read_table(target / "transcripts" / "audio" / f"{DAY}.parquet")  # type: ignore[no-untyped-call]
    return {flag["flag"] for flags in table.column("quality_flags").to_pylist() for flag in flags or ()}


def test_a_delivered_day_whose_flags_changed_is_sent_again_here_and_one_that_did_not_is_left(
    lab: Any, answer: Any, again: Again, target: Path
) -> None:
    answer("--target", str(target), "--no-parts")
    before = lab.rows()
    assert states(again("--here")) == ["there already"]
    assert states(again()) == ["there already"]
    assert lab.rows() == before, "nothing is written where nothing is to do"
    lab.do(GAP)
    assert states(again("--dry-run")) == states(again("--dry-run", "--here")) == ["would send"]
    assert lab.rows() == before
    assert flags_at(target) == set()
    assert states(again("--here")) == ["verified"]
    assert flags_at(target) == {"gap"}
    assert not (target / "parts").exists(), "what was not asked for then is not sent now"
    assert states(again("--here")) == ["there already"]


def test_without_here_it_is_written_down_and_a_job_of_the_next_tick_sends_it(
    lab: Any, answer: Any, again: Again, target: Path, tmp_path: Path
) -> None:
    answer("--target", str(target))
    lab.do(GAP)
    assert states(again()) == ["wanted"]
    [row] = lab.rows()
    assert (row["state"], row["by_job"], row["parts"], row["audio"]) == ("wanted", True, True, False)
    program = Path(sys.executable).with_name("dayscribe")
    told = [program, *lab.words(), "deliver", DAY, "--target", str(target), "--json"]
    assert json.loads(subprocess.run(told, capture_output=True, check=True).stdout)[0]["state"] == "verified"
    assert flags_at(target) == {"gap"}


def test_one_target_that_is_gone_costs_no_other_and_is_in_the_exit_code(
    answer: Any, again: Again, lab: Any, target: Path, tmp_path: Path
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    answer("--target", str(gone))
    answer("--target", str(target))
    shutil.rmtree(gone)
    lab.do(GAP)
    code, rows, said = again("--here")
    assert code != 0
    assert [(row["target"], row["state"]) for row in rows] == [(str(gone), "failed"), (str(target), "verified")]
    assert "There is no folder" in said
    assert flags_at(target) == {"gap"}


def test_what_was_never_delivered_is_told_of_with_the_commands_that_write_it(again: Again) -> None:
    code, rows, said = again()
    assert (code, rows) == (0, [])
    assert "1 days were never delivered: dayscribe deliver" in said
    assert "dayscribe export" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--only", "suspect"), "leave --only out"),
        (("--limit", "1"), "leave --limit out"),
        (("--keep-current",), "leave --keep-current out"),
        (("--force", "--reason", "x"), "leave --force out"),
    ],
)
def test_what_chooses_recordings_is_refused_since_files_are_of_whole_days(
    again: Again, words: tuple[str, ...], said: str
) -> None:
    code, _, told = again(*words)
    assert code == 2
    assert said in told


def test_where_jobs_reach_no_ledger_it_says_to_do_it_here(lab: Any, again: Again) -> None:
    lab.settings["schedule.ledger_on_nodes"] = "false"
    code, _, said = again()
    assert code == 78
    assert "add --here" in said
