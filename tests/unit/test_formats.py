"""The formats agree with WhisperX's own writers byte for byte, stay whole on hostile text, and pack without loss."""

from __future__ import annotations

import io
import itertools
import json
import math
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.errors import BadData
from db.formats import KINDS, pack, render, unpack

DEFAULTS = {"max_line_width": None, "max_line_count": None, "highlight_words": False}


def segment(text: str, start: float, end: float, *, words: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"start": start, "end": end, "text": text} | ({} if words is None else {"words": words})


def timed(text: str, start: float = 0.0) -> list[dict[str, Any]]:
    return [
        {"word": word, "start": start + place, "end": start + place + 0.5, "score": 0.9}
        for place, word in enumerate(text.split())
    ]


def document(*segments: dict[str, Any], language: str | None = "en") -> dict[str, Any]:
    words = [word for one in segments for word in one.get("words", ())]
    return {"segments": list(segments), "word_segments": words, "language": language}


DOCUMENTS = {
    "aligned": document(
        segment(" Hello there.", 0.1, 2.2, words=timed("Hello there.", 0.1)),
        segment(" And again", 2.5, 4.0, words=timed("And again", 2.5)),
    ),
    "unaligned": document(segment(" Hello there. ", 0.1, 2.2), segment("tail\tend", 2.2, 3.0005)),
    "some words without times": document(
        segment(
            "It cost 12 €", 1.0, 5.0, words=[{"word": "It", "start": 1.25, "end": 1.5, "score": 0.5}, {"word": "€"}]
        )
    ),
    "no word with a time": document(segment("…", 3.0, 4.0, words=[{"word": "…"}])),
    "beyond an hour": document(segment("late", 3599.9996, 7325.001), segment("later", 360000.0, 360001.5)),
    "an arrow in the text": document(segment("left --> right", 0.0, 1.0)),
    "two lines": document(segment("one\ntwo", 0.0, 1.0)),
    "right to left": document(segment("שלום עולם", 0.0, 2.0, words=timed("שלום עולם")), language="he"),
    "no spaces": document(
        segment(
            "你好", 0.0, 1.0, words=[{"word": "你", "start": 0.0, "end": 0.4}, {"word": "好", "start": 0.4, "end": 1.0}]
        ),
        language="zh",
    ),
    "a very long segment": document(segment("x", 0.0, 900.0, words=timed("supercalifragilistic " * 120))),
    "an empty word first": document(
        segment("a", 0.0, 1.0, words=[{"word": " "}, {"word": " a", "start": 0.2, "end": 0.4}])
    ),
    "no speech": document(language=None),
}


@pytest.mark.parametrize(
    ("name", "kind"), [pair for pair in itertools.product(DOCUMENTS, KINDS) if pair != ("two lines", "tsv")]
)
def test_every_format_is_byte_for_byte_what_whisperx_writes(name: str, kind: str) -> None:
    from whisperx.utils import get_writer

    theirs = io.StringIO()
    get_writer(kind, "unused").write_result(DOCUMENTS[name], file=theirs, options=DEFAULTS)

    assert theirs.getvalue() == render(DOCUMENTS[name], kind)


@given(st.floats(min_value=0, max_value=1e6), st.floats(min_value=0, max_value=1e6))
def test_every_time_is_written_as_whisperx_writes_it(start: float, end: float) -> None:
    from whisperx.utils import format_timestamp

    one = document(segment("a", start, end))

    assert f"{format_timestamp(start)} --> {format_timestamp(end)}" == render(one, "vtt").splitlines()[2]
    srt = [format_timestamp(value, always_include_hours=True, decimal_marker=",") for value in (start, end)]
    assert " --> ".join(srt) == render(one, "srt").splitlines()[1]


def test_json_adds_our_recording_and_receipt_after_the_shape_of_whisperx() -> None:
    ours = DOCUMENTS["aligned"] | {"receipt": {"model": "demo"}, "recording": {"name": "7000.mp3"}, "other": 1}

    written = json.loads(render(ours, "json"))

    assert list(written) == ["segments", "word_segments", "language", "recording", "receipt"]
    assert DOCUMENTS["aligned"]["word_segments"] == written["word_segments"]


def test_json_leaves_out_the_times_that_are_none() -> None:
    missing = document(segment("a", 0.0, 1.0, words=[{"word": "a", "start": None, "end": None, "score": math.nan}]))

    assert json.loads(render(missing, "json"))["word_segments"] == [{"word": "a"}]
    assert "00:00.000 --> 00:01.000" in render(missing, "vtt")


@pytest.mark.parametrize("words", [False, True], ids=["segments", "words"])
@pytest.mark.parametrize(
    "hostile", ["a\n\n2\n00:00:00,000 --> 00:00:09,000\nforged", "a\r\rb --> c", "a ---> b", "-->"]
)
def test_hostile_text_adds_no_cue_and_no_arrow(hostile: str, words: bool) -> None:
    pieces = [{"word": hostile, "start": 0.0, "end": 1.0}] if words else None
    one = document(segment(hostile, 0.0, 1.0, words=pieces), segment("tail", 1.0, 2.0, words=timed("tail")))

    for kind in ("srt", "vtt"):
        text = render(one, kind).replace("\r", "\n").removeprefix("WEBVTT\n\n")
        assert 2 == len(text.strip().split("\n\n")) == text.count("-->")


def test_hostile_text_adds_no_row_and_no_column_to_tsv() -> None:
    rows = render(document(segment("a\tb\r\nc\n9\t9\tforged", 0.0, 1.0)), "tsv").splitlines()

    assert len(rows) == 2
    assert rows[1].split("\t") == ["0", "1000", "a b  c 9 9 forged"]


def test_a_segment_without_words_among_aligned_ones_keeps_its_text() -> None:
    mixed = document(segment("one", 0.0, 1.0, words=timed("one")), segment(" two ", 1.0, 2.0, words=[]))

    assert render(mixed, "srt").splitlines()[6] == "two"


def test_an_unknown_format_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(BadData, match="json, txt, srt, vtt, tsv"):
        render(document(), "docx")


finite = st.floats(allow_nan=False, allow_infinity=False)
words = st.fixed_dictionaries({"word": st.text()}, optional={"start": finite, "end": finite, "score": finite})
segments = st.fixed_dictionaries(
    {"start": finite, "end": finite, "text": st.text()},
    optional={"words": st.lists(words), "avg_logprob": finite},
)


@given(st.lists(segments))
def test_what_is_packed_comes_back(original: list[dict[str, Any]]) -> None:
    assert original == unpack(pack(original))


@given(st.lists(segments, min_size=1), st.data())
def test_packed_segments_that_are_cut_are_refused(original: list[dict[str, Any]], data: st.DataObject) -> None:
    packed = pack(original)
    cut = data.draw(st.integers(min_value=0, max_value=len(packed) - 1))

    with pytest.raises(BadData):
        unpack(packed[:cut])


def test_packing_leaves_out_what_is_no_number() -> None:
    unplaced = {"word": "a", "start": math.nan, "end": math.inf, "score": None}

    assert [segment("a", 0.0, 1.0, words=[{"word": "a"}])] == unpack(pack([segment("a", 0.0, 1.0, words=[unplaced])]))


def test_packed_segments_of_another_version_and_bombs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadData, match="begin with"):
        unpack(b"\x02" + pack([])[1:])
    monkeypatch.setattr("db.formats.UNPACKED_LIMIT", 1000)
    with pytest.raises(BadData, match="longer than any transcript"):
        unpack(b"\x01" + zlib.compress(b"[" + b" " * 100_000 + b"]"))
