"""The figures of a demo day: the word error rate as jiwer counts it, and what counts as planted."""

from __future__ import annotations

from typing import Any

import jiwer
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hpc.demo.score import align, normal, score
from hpc.demo.truth import ClipTruth

WORDS = st.lists(st.sampled_from(["one", "two", "three", "stop", "go"]), max_size=9)
PATIENT = settings(deadline=None)  # a busy machine is no failure
ARCHIVE = "0_2025-01-31_00_00.tar.xz"


def clip(meta_id: str, text: str = "", *, kind: str = "speech", damaged: bool = False) -> ClipTruth:
    words = tuple((word, float(place), place + 0.5) for place, word in enumerate(text.split()))
    return ClipTruth(
        meta_id=meta_id, slot="00_00", shard=ARCHIVE, ordinal=0, member=f"{meta_id}.mp3", kind=kind, text=text,
        words=words, voice=None, codec="mp3", seconds=5.0, damaged=damaged,
    )  # fmt: skip


def row(meta_id: str, text: str | None = None, *, state: str = "transcribed", **more: Any) -> dict[str, Any]:
    words = [
        {"word": word, "start": place + 0.02, "end": place + 0.5} for place, word in enumerate((text or "").split())
    ]
    segments = [{"start": 0.0, "end": 9.0, "text": text, "words": words}] if text else []
    return {
        "meta_id": meta_id, "shard": ARCHIVE, "state": state, "failure_class": None, "text": text,
        "segments": segments,
    } | more  # fmt: skip


@PATIENT
@given(WORDS.filter(bool), WORDS)
@example(["one"], [])
def test_word_errors_are_those_that_jiwer_counts(spoken: list[str], heard: list[str]) -> None:
    errors, agreeing = align(spoken, heard)
    counted = jiwer.process_words(" ".join(spoken), " ".join(heard))
    assert errors == counted.substitutions + counted.deletions + counted.insertions
    assert all(spoken[mine] == heard[theirs] for mine, theirs in agreeing)
    assert agreeing == sorted(set(agreeing))
    assert len(agreeing) + errors >= len(spoken)


def test_case_and_punctuation_are_no_errors() -> None:
    judged = score([clip("1", "unit one stop")], [row("1", " Unit one, stop. ")])
    assert (judged.word_errors, judged.words, judged.exactly_right) == (0, 3, 1.0)


def test_the_rate_is_over_all_words_and_missed_speech_is_all_errors() -> None:
    truth = [clip("1", "one two three four"), clip("2", "stop go"), clip("3", "left right")]
    judged = score(truth, [row("1", "one two tree four"), row("2", state="no_speech")])
    assert judged.word_error_rate == 5 / 8
    assert judged.exactly_right == 0
    assert judged.unheard == ("2", "3")
    assert judged.kinds == {"speech": {"transcribed": 1, "no_speech": 1, "absent": 1}}


def test_text_where_nothing_was_said_is_hallucinated_but_not_unexpected() -> None:
    truth = [clip("1", kind="music"), clip("2", kind="silence"), clip("3", kind="noise")]
    judged = score(truth, [row("1", "nine."), row("2", state="no_speech"), row("3", "", state="transcribed")])
    assert judged.hallucinated == ("1",)
    assert judged.unexpected == 0
    assert judged.word_error_rate == 0


def test_a_quarantine_is_as_planted_only_under_its_class() -> None:
    truth = [clip("1", kind="bad:empty"), clip("2", kind="bad:truncated"), clip("3", "go"), clip("4", kind="bad:empty")]
    rows = [
        row("1", state="quarantined", failure_class="empty"),
        row("2", state="quarantined", failure_class="undecodable"),
        row("3", state="quarantined", failure_class="engine_error"),
        row("4", "go"),
    ]
    judged = score(truth, rows)
    assert judged.as_planted == ("1",)
    assert judged.not_as_planted == (
        ("2", "quarantined truncated", "quarantined undecodable"),
        ("3", "transcribed", "quarantined engine_error"),
        ("4", "quarantined empty", "transcribed"),
    )
    assert judged.unexpected == 3


@pytest.mark.parametrize("order", [1, -1])
def test_twins_are_told_apart_by_their_failure_whatever_the_order(order: int) -> None:
    truth = [clip("1", "go"), clip("1", kind="bad:duplicate_member")]
    rows = [row("1", "go"), row("1", state="quarantined", failure_class="duplicate_member")]
    judged = score(truth, rows[::order])
    assert (judged.word_errors, judged.as_planted, judged.unexpected) == (0, ("1",), 0)


def test_absent_clips_and_strangers_are_unexpected_and_a_damaged_archive_should_be_absent() -> None:
    truth = [clip("1", "go"), clip("2", "stop", damaged=True), clip("3", "left", damaged=True)]
    judged = score(truth, [row("2", "stop"), row("9", "what")])
    assert judged.not_as_planted == (("1", "transcribed", "absent"),)
    assert sorted(judged.strangers) == ["2", "9"]
    assert judged.words == 1


def test_word_starts_are_measured_on_the_words_that_agree() -> None:
    judged = score([clip("1", "one two three"), clip("2", "go")], [row("1", "One too three."), row("2", "go")])
    assert judged.median_start_error_ms == pytest.approx(20)


def test_words_without_times_or_without_alignment_are_left_out_of_the_measure() -> None:
    timeless = row("1", "one two")
    timeless["segments"][0]["words"][0].pop("start")
    judged = score([clip("1", "one two"), clip("2", "go")], [timeless, row("2", "go", segments=[{"text": "go"}])])
    assert judged.median_start_error_ms == pytest.approx(20)
    nothing = score([clip("2", "go")], [row("2", "go", segments=None)])
    assert nothing.median_start_error_ms is None


def test_the_norm_keeps_words_of_any_script() -> None:
    assert normal("Zoë said: “It’s 9_00!”") == ["zoë", "said", "it", "s", "9", "00"]
