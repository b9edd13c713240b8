"""Receipts: which there are, what is of each, how they are named, and what two of them say differently."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from db import runs
from db.transcripts import Scope

Answer = Callable[..., Any]


@pytest.fixture(autouse=True)
def second(versions: Any) -> int:
    """Another run over three recordings: one is current, one is not, and one is of a part that is provisional."""
    made: int = versions.run(b"\xaa\xbb\xcc\x01")
    versions.version(made, "hello", "hello white world", current=True)
    versions.version(made, "calm", "yesterday was calmer")
    versions.version(made, "silence", "something", state="provisional")
    return made


def test_runs_are_listed_with_what_they_made_of_which_readers_see_how_much(
    answer: Answer, versions: Any, second: int
) -> None:
    newest, oldest = answer("runs", "list")

    assert (newest["id"], newest["current"], newest["transcripts"]) == (second, 1, 2)
    assert (newest["first"], newest["last"]) == ("2025-01-30", "2025-01-31")
    assert (newest["engine"], newest["model"], newest["who"], newest["why"]) == (
        "whisperx", "large-v3", "anna", "a larger model",
    )  # fmt: skip
    assert (newest["key"], newest["code"]) == ("aabbcc01" + "0" * 24, "c" * 64)
    assert (oldest["id"], oldest["engine"], oldest["model"]) == (versions.first, "echo", "none")
    assert (oldest["current"], oldest["transcripts"]) == (4, 5)


def test_with_days_or_a_site_only_what_is_of_them_counts(answer: Answer, second: int) -> None:
    [newest, oldest] = answer("runs", "list", "2025-01-30")

    assert (newest["id"], newest["current"], newest["transcripts"]) == (second, 0, 1)
    assert (oldest["current"], oldest["transcripts"]) == (1, 1)
    assert answer("runs", "list", "2025-01-01..2025-01-29") == []
    assert len(answer("runs", "list", "--site", "zurich")) == 2


def test_a_run_of_which_nothing_is_sealed_is_listed_with_nothing(ledger: Any, versions: Any) -> None:
    made = versions.run(b"\xdd")
    versions.version(made, "hello", "not sealed", state="provisional")

    found = {row["id"]: row for row in runs.used(ledger, Scope())}

    assert (found[made]["transcripts"], found[made]["first"]) == (0, None)


def test_a_list_is_readable_and_what_a_receipt_says_cannot_move_the_cursor(
    call: Any, versions: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    versions.run(b"\xee", why="\x1b[2Jgone\u202e", models="nonsense", code=7, options=None)

    assert call("runs", "list") == 0

    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "\\x1b[2Jgone\\u202e" in out
    assert "aabbcc010000 " in out


def test_a_run_is_known_by_its_id_or_by_the_beginning_of_its_key(answer: Answer, second: int) -> None:
    by_id, by_key = answer("runs", "show", str(second)), answer("runs", "show", "AABBCC01")

    assert by_id == by_key
    [receipt] = by_id["receipts"]
    assert (receipt["id"], receipt["receipt"]["models"][0]["name"]) == (second, "large-v3")


def test_a_receipt_is_shown_in_order_with_its_models_and_their_digests(
    call: Any, second: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("runs", "show", str(second)) == 0

    names = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()]
    assert names == [
        "run", "key", "first used", "engine", "who", "why", "image", "code.digest", "code.version",
        "options.beam_size", "options.language", "models.asr.large-v3.digest", "models.asr.large-v3.locked",
        "aligners.en", "libraries.av", "libraries.torch", "format",
    ]  # fmt: skip


def test_receipts_that_share_a_key_are_listed_together(
    call: Any, answer: Answer, versions: Any, second: int, capsys: pytest.CaptureFixture[str]
) -> None:
    other = versions.run(b"\xaa\xbb\xcc\x01", who="bert", why="the same again")

    assert [row["id"] for row in answer("runs", "show", "aabbcc")["receipts"]] == [second, other]
    assert call("runs", "show", "aabbcc") == 0
    said = capsys.readouterr()
    assert f"2 receipts have the key aabbcc010000, so they make the same words: {second}, {other}" in said.err
    assert "the same again" in said.out
    assert answer("runs", "show", str(other))["receipts"][0]["receipt"]["who"] == "bert"
    assert call("runs", "show", "aabbcc", "--against", str(versions.first)) == 65
    assert "say which by its id" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("which", "says"),
    [
        ("99999", "No run is called '99999': give its id, or at least 6 digits"),
        ("abc", "at least 6 digits of its key"),
        ("nonsense", "No run is called"),
        ("aabbcd", "No run has an id or a key 'aabbcd'"),
        ("9" * 30, "No run has an id or a key"),
        ("aabbcc", "2 keys begin with 'aabbcc': aabbcc01"),
    ],
)
def test_a_run_that_is_not_known_or_not_one_is_refused_with_what_to_do(
    call: Any, versions: Any, capsys: pytest.CaptureFixture[str], which: str, says: str
) -> None:
    versions.run(b"\xaa\xbb\xcc\x02")

    assert call("runs", "show", which) == 65
    assert says in capsys.readouterr().err


def test_an_id_goes_before_a_key_that_begins_like_it(ledger: Any, versions: Any) -> None:
    looks_like = f"{versions.first:06d}"
    versions.run(bytes.fromhex(looks_like))

    assert [row["id"] for row in runs.find(ledger, looks_like)] == [versions.first]


def test_two_receipts_differ_in_what_they_say_and_in_their_keys(answer: Answer, versions: Any, second: int) -> None:
    other = versions.run(b"\xaa\xbb\xcc\x03", options={"beam_size": 1, "language": "auto"})

    told = answer("runs", "show", str(second), "--against", str(other))

    assert told == [
        {"name": "key", "one": "aabbcc01" + "0" * 24, "other": "aabbcc03" + "0" * 24},
        {"name": "options.beam_size", "one": 5, "other": 1},
    ]
    assert answer("runs", "show", str(second), "--against", str(second)) == []


def test_a_site_that_is_not_known_is_refused(call: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("runs", "list", "--site", "basel") == 65
    assert "no site is called 'basel'" in capsys.readouterr().err
