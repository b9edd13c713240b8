"""Two runs over the same recordings, in a real ledger: which are compared, of how many, and what is shown of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from db import runs

Answer = Callable[..., Any]


@pytest.fixture(autouse=True)
def second(versions: Any) -> int:
    """Another run: a word differs, one is gone, one is new, one is a trial, one is provisional."""
    made: int = versions.run(b"\xaa\xbb\xcc\x01")
    versions.version(made, "hello", "Hello, white world", current=True)
    versions.version(made, "calm", "", current=True)
    versions.version(made, "silence", "thank you for watching", language="en")
    versions.version(made, "hostile", "never to be seen", state="provisional")
    return made


def test_days_are_compared_on_the_recordings_that_have_both_of_all_that_there_are(
    answer: Answer, versions: Any, second: int
) -> None:
    told = answer("compare", str(versions.first), str(second))

    calm, hello = told["days"]
    assert (calm["site"], calm["date"], calm["recordings"], calm["both"]) == ("zurich", "2025-01-30", 1, 1)
    assert (calm["new_empty"], calm["differences"], calm["rate"], calm["length_change"]) == (1, 3, 1.0, -3)
    # Of five visible recordings one is quarantined; the provisional version of another is none.
    assert (hello["recordings"], hello["both"], hello["only_a"], hello["only_b"]) == (5, 2, 2, 0)
    assert (hello["words_a"], hello["words_b"], hello["differences"], hello["new_words"]) == (3, 7, 5, 1)
    assert (hello["current_a"], hello["current_b"]) == (1, 1)
    total = told["total"]
    assert (total["recordings"], total["both"], total["words_a"], total["differences"]) == (6, 3, 6, 8)
    assert (total["rate"], total["length_change"]) == (8 / 6, 1)


def test_the_other_way_round_it_is_the_words_of_the_other_below_the_line(
    answer: Answer, versions: Any, second: int
) -> None:
    total = answer("compare", str(second), str(versions.first))["total"]

    assert (total["words_a"], total["differences"], total["rate"]) == (7, 8, 8 / 7)
    assert (total["new_empty"], total["new_words"], total["only_b"]) == (1, 1, 2)


def test_versions_are_found_whether_readers_see_them_or_not_and_the_first_six_digits_do(
    answer: Answer, versions: Any, second: int
) -> None:
    other = versions.run(b"\x12\x34\x56\xff")
    versions.version(other, "hello", "hello white worlds")

    told = answer("compare", "aabbcc", "123456ff")

    assert (told["total"]["both"], told["total"]["current_a"], told["total"]["current_b"]) == (1, 1, 0)
    assert [receipt["id"] for receipt in told["b"]["receipts"]] == [other]


def test_receipts_of_one_key_are_one_side(answer: Answer, versions: Any, second: int) -> None:
    twin = versions.run(b"\xaa\xbb\xcc\x01", who="bert")
    versions.version(twin, "injection", "1 1 1")

    assert answer("compare", str(versions.first), "aabbcc")["total"]["both"] == 4
    assert answer("compare", str(versions.first), str(twin))["total"]["both"] == 1


def test_days_that_are_asked_for_count_even_where_nothing_is_of_either_run(
    answer: Answer, versions: Any, second: int
) -> None:
    other = versions.run(b"\x12\x34\x56\xff")
    versions.version(other, "calm", "yesterday was calm")

    everywhere = answer("compare", str(other), str(second))
    asked = answer("compare", str(other), str(second), "2025-01-30", "--site", "zurich")
    nowhere = answer("compare", str(other), str(versions.first), "2025-01-31")

    assert [day["date"] for day in everywhere["days"]] == ["2025-01-30", "2025-01-31"]
    assert [(day["date"], day["both"]) for day in asked["days"]] == [("2025-01-30", 1)]
    assert (nowhere["total"]["recordings"], nowhere["total"]["both"], nowhere["total"]["only_b"]) == (5, 0, 4)


def test_flags_are_gained_and_lost_by_version_where_both_were_judged(
    answer: Answer, versions: Any, second: int
) -> None:
    first = versions.value("SELECT id FROM transcripts WHERE recording_id = %s AND version = 1", versions.ids["hello"])
    versions.flag(first, "repetition", "gap")
    versions.flag(versions.transcript("hello"), "gap", "unsure")
    told = {}
    for mark in (None, -7, 1):  # not judged, being judged, judged
        versions.connection.execute("UPDATE shards SET judged = %s", [mark])
        total = answer("compare", str(versions.first), str(second), "2025-01-31")["total"]
        told[mark] = total["judged"], total["gained"], total["lost"]

    assert told == {None: (0, {}, {}), -7: (0, {}, {}), 1: (2, {"unsure": 1}, {"repetition": 1})}


def test_a_trial_and_a_forced_redo_of_the_same_key_are_versions_like_any_other(
    answer: Answer, versions: Any, second: int
) -> None:
    forced = versions.run(b"\xaa\xbb\xcc\x01", why="forced")
    plan = versions.trial(forced)
    versions.version(forced, "hello", "hello bright world", plan=plan, forced=plan)

    told = answer("compare", str(second), str(forced))

    assert (told["total"]["both"], told["total"]["current_a"], told["total"]["current_b"]) == (1, 1, 0)
    assert told["examples"][0]["diff"] == "hello [-white-] {+bright+} world"
    first = str(versions.first)
    for side, sides in (("b", (first, "aabbcc")), ("a", ("aabbcc", first))):  # of one key's versions the newest
        newest = answer("compare", *sides, "2025-01-31", "--examples", "9")["examples"]
        said = [one[side]["text"] for one in newest if one["recording"] == versions.ids["hello"]]
        assert said == ["hello bright world"]


def test_pages_make_no_difference(answer: Answer, versions: Any, second: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = answer("compare", str(versions.first), str(second))
    monkeypatch.setattr(runs, "PAGE", 1)

    assert answer("compare", str(versions.first), str(second)) == whole


def test_the_most_different_are_shown_side_by_side_with_marks_and_the_denominator_is_said(
    call: Any, versions: Any, second: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("compare", str(versions.first), str(second), "--examples", "2") == 0

    lines = capsys.readouterr().out.splitlines()
    assert [line.strip() for line in lines if "[-" in line or "{+" in line] == [
        "{+thank you for watching+}", "[-yesterday was calm-]",
    ]  # fmt: skip
    [title] = [line for line in lines if "silence" in line]
    assert title == f"{versions.ids['silence']}  zurich 2025-01-31  silence  -→en  4 words differ"
    [said] = [line for line in lines if "have both" in line]
    assert said.startswith("3 of 6 recordings of these 2 days have both versions (2 A alone, 0 B alone). 8 of A's 6")
    assert "Readers see B's version of 2, A's of 1." in said


def test_a_long_example_is_cut_on_the_terminal_and_whole_in_json(
    call: Any, answer: Answer, versions: Any, second: int, capsys: pytest.CaptureFixture[str]
) -> None:
    other = versions.run(b"\x12\x34\x56\xff")
    versions.version(second, "injection", " ".join(f"hello v{number}" for number in range(300)))
    versions.version(other, "injection", " ".join(f"hello w{number}" for number in range(300)))

    assert call("compare", str(second), str(other)) == 0
    [shown] = [line for line in capsys.readouterr().out.splitlines() if "{+" in line]
    [whole] = answer("compare", str(second), str(other))["examples"]

    assert shown.endswith(" … (all of it: --json)")
    assert len(shown) < 1_050
    assert whole["diff"].endswith("hello [-v299-] {+w299+}")


def test_what_was_heard_is_shown_without_what_could_move_a_cursor(
    call: Any, versions: Any, second: int, capsys: pytest.CaptureFixture[str]
) -> None:
    other = versions.run(b"\x12\x34\x56\xff")
    versions.version(other, "hostile", "alert(1) \x1b[2J\u202ehello everything", language="de")

    assert call("compare", str(versions.first), str(other)) == 0
    shown = capsys.readouterr().out
    assert call("compare", str(versions.first), str(other), "--json") == 0

    assert "[-gnihtyreve-] {+everything+}" in shown
    for text in (shown, capsys.readouterr().out):
        assert "\x1b" not in text
        assert "\u202e" not in text


def test_a_run_is_not_compared_with_itself(
    call: Any, versions: Any, second: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("compare", str(second), "aabbcc01") == 65
    assert "Both are the same run" in capsys.readouterr().err
    assert call("compare", str(second), "ffffff") == 65
    assert "No run has an id or a key 'ffffff'" in capsys.readouterr().err


def test_days_that_the_ledger_does_not_have_are_refused(
    call: Callable[..., int], versions: Any, second: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("compare", str(versions.first), str(second), "2031-01-01") == 65
    assert "The ledger has no day in this selection" in capsys.readouterr().err
