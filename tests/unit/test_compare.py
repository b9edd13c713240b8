"""Two versions side by side: words as people count them, the fewest differences, figures that add up, and marks."""

from __future__ import annotations

from datetime import date
from typing import Any

import jiwer
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hpc.compare import Change, Tally, change, changes, compare, words
from hpc.receipt import differing, flat

SAID = st.lists(st.sampled_from(["one", "two", "three", "stop", "go"]), max_size=9)
ABOUT = {"site": "zurich", "date": date(2025, 1, 31)}


def row(number: int, one: str | None, other: str | None, **more: Any) -> dict[str, Any]:
    """A recording with two versions; None: it has no such version."""
    made: dict[str, Any] = {"id": number, "meta_id": f"clip{number}", "judged": True}
    for side, text in (("a", one), ("b", other)):
        there = text is not None
        made |= {
            f"{side}_id": 10 * number if there else None, f"{side}_version": 1, f"{side}_text": text,
            f"{side}_language": "en" if text else None, f"{side}_quality_flags": [],
            f"{side}_current": there and side == "a",
        }  # fmt: skip
    return made | more


def compared(*rows: dict[str, Any], examples: int = 3, recordings: int | None = None) -> tuple[Tally, list[Any]]:
    tally, kept = compare([rows], recordings=recordings or len(rows), examples=examples, about=ABOUT)
    return tally, kept.told()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" Unit one, STOP. ", ["unit", "one", "stop"]),
        ("Don't — don’t!", ["dont", "dont"]),
        ("Straße STRASSE", ["strasse", "strasse"]),
        ("cafe\u0301 caf\u00e9", ["café", "café"]),
        ("हिन्दी में", ["हिन्दी", "में"]),  # its vowel signs are marks, and part of the word
        ("你好，世界 iPhone手机", ["你", "好", "世", "界", "iphone", "手", "机"]),
        ("ｶﾞ ガ", ["ガ", "ガ"]),
        ("3.5 и ٣", ["3", "5", "и", "٣"]),
        ("… ♪ -- 🎵", []),
        ("", []),
    ],
)
def test_words_are_compared_without_case_and_punctuation_in_any_script(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@given(st.text())
def test_the_words_of_words_are_the_same_words(text: str) -> None:
    said = words(text)
    assert words(" ".join(said)) == said


@given(SAID, SAID)
@example([], [])
@example(["one"], [])
def test_a_change_has_as_few_errors_as_jiwer_counts_and_leads_from_the_one_to_the_other(
    one: list[str], other: list[str]
) -> None:
    found = change(one, other)

    counted = jiwer.process_words(" ".join(one), " ".join(other))
    assert found.errors == counted.substitutions + counted.deletions + counted.insertions
    assert [word for _, gone, _ in found.steps for word in gone] == one
    assert [word for _, _, come in found.steps for word in come] == other
    assert found.share == change(other, one).share


def test_many_are_aligned_as_each_alone() -> None:
    pairs = [(["a"], ["a"]), (["a", "b"], ["b"]), ([], ["c"]), ([], []), (["x"], ["y"])]

    assert changes(pairs) == [change(*pair) for pair in pairs]


def test_differences_are_marked_without_colour_and_long_agreement_is_cut() -> None:
    same = [f"w{number}" for number in range(30)]

    said = change([*same, "saw", *same, "end"], ["new", *same, "heard", *same]).marked()

    assert said == (
        "{+new+} w0 w1 w2 w3 w4 … w25 w26 w27 w28 w29 [-saw-] {+heard+} w0 w1 w2 w3 w4 … w25 w26 w27 w28 w29 [-end-]"
    )


def test_a_long_loss_is_named_by_its_beginning() -> None:
    said = change([f"w{number}" for number in range(500)], []).marked()

    assert said.startswith("[-w0 w1 ")
    assert said.endswith("w119 … 380 more words-]")


def test_the_rate_is_by_the_words_of_a_and_the_denominator_is_all_recordings() -> None:
    loops, gap = ["repetition"], ["gap"]
    tally, _ = compared(
        row(1, "x", "x", a_language="de", b_language="en", a_quality_flags=loops, b_quality_flags=["unsure"]),
        row(2, "x", "y", a_language="de", b_language="en", a_quality_flags=loops, b_quality_flags=loops),
        row(3, "x", "", a_language="fr", a_quality_flags=gap),
        row(4, "x", "x", a_quality_flags=gap, judged=False),
    )

    told = tally.told()
    assert told["languages"] == [{"from": "de", "to": "en", "recordings": 2}]
    assert (told["gained"], told["lost"], told["judged"]) == ({"unsure": 1}, {"gap": 1, "repetition": 1}, 3)
    assert (told["new_empty"], told["new_words"], told["same"]) == (1, 0, 2)


def test_the_most_different_are_shown_first_whatever_their_order() -> None:
    rows = [
        row(1, "one two three", "one two tree"),
        row(2, "gone for ever", ""),
        row(3, "no", "yes"),
        row(4, "a b", "c d"),
        row(5, "the same", "The same!"),
        row(6, "e f", "g h"),
        row(7, "a b c d e f g h i j", "a b c d e f u v w x"),  # four words, but of ten
    ]

    _, first = compared(*rows, examples=5)
    _, again = compared(*reversed(rows), examples=5)

    assert [one["recording"] for one in first] == [2, 4, 6, 3, 7]
    assert first == again
    assert (first[0]["diff"], first[0]["site"], first[0]["a"]["text"]) == (
        "[-gone for ever-]",
        "zurich",
        "gone for ever",
    )


def test_days_add_up_to_their_total_and_examples_of_all_days_are_ranked_together() -> None:
    total, kept = Tally(), compare([], recordings=0, examples=2, about=ABOUT)[1]
    for number, pair in enumerate([("a b", "a c"), ("x", "y"), ("q r s", "t u v")]):
        tally, some = compare([[row(number, *pair)]], recordings=5, examples=2, about=ABOUT)
        total.add(tally)
        kept.add(some)

    assert (total.recordings, total.both, total.differences, total.words_a) == (15, 3, 5, 6)
    assert [one["recording"] for one in kept.told()] == [2, 1]


def test_no_examples_are_kept_where_none_are_wanted() -> None:
    assert compared(row(1, "a", "b"), examples=0)[1] == []


def test_nothing_is_no_difference() -> None:
    assert (Change(()).errors, Change(()).share, Change(()).marked()) == (0, 0.0, "")


def test_receipts_are_held_against_each_other_name_by_name() -> None:
    one = {
        "engine": "whisperx", "options": {"beam_size": 5, "language": "auto"}, "why": "first",
        "models": [{"name": "large-v3", "kind": "asr", "digest": "aa", "locked": True}], "aligners": {"de": "bb"},
    }  # fmt: skip
    other = {
        "engine": "whisperx", "options": {"beam_size": 1, "language": "auto"}, "why": "first",
        "models": [{"name": "large-v2", "kind": "asr", "digest": "cc", "locked": True}], "aligners": {"de": "bb"},
        "image": "dd",
    }  # fmt: skip

    assert list(flat(one)) == [
        "engine", "options.beam_size", "options.language", "why", "models.asr.large-v3.digest",
        "models.asr.large-v3.locked", "aligners.de",
    ]  # fmt: skip
    assert differing(one, other) == [
        {"name": "options.beam_size", "one": 5, "other": 1},
        {"name": "models.asr.large-v3.digest", "one": "aa", "other": None},
        {"name": "models.asr.large-v3.locked", "one": True, "other": None},
        {"name": "models.asr.large-v2.digest", "one": None, "other": "cc"},
        {"name": "models.asr.large-v2.locked", "one": None, "other": True},
        {"name": "image", "one": None, "other": "dd"},
    ]
    assert differing(one, one) == []
