"""What an engine says of its chunks: parts hold plain numbers whatever it is, and older parts are read as ever."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc.model import Chunk, Recording, Result, Run, Seal, Segment, Shard, Transcript, Word, compression_ratio
from hpc.stages.publish import PartDamaged, header_of, read_part, write_part
from hpc.stages.quality import chunk_from, chunk_to_dict, worst

NAN, INF = math.nan, math.inf
CALM = Chunk(0.0, 20.0, 15.0, -0.25, 0.01, 1.5, ("retried",))
LOOP = Chunk(20.5, 30.0, 5.0, -1.5, 0.75, 9.25)
anything = st.one_of(
    st.none(), st.floats(), st.integers(), st.booleans(), st.text(max_size=3), st.floats(width=32).map(np.float32)
)


def test_the_compression_ratio_is_whispers_own() -> None:
    from faster_whisper.transcribe import get_compression_ratio

    texts = ["hello", " so it goes " * 40, "grüezi mitenand", "你好" * 30]
    assert [compression_ratio(text) for text in texts] == [get_compression_ratio(text.strip()) for text in texts]
    assert (compression_ratio(""), compression_ratio(" \n")) == (None, None)
    assert compression_ratio("half \udc80 a pair") == compression_ratio("half ? a pair")


@given(st.tuples(*[anything] * 6))
def test_whatever_an_engine_says_is_plain_numbers_or_unknown(numbers: Any) -> None:
    said = chunk_to_dict(Chunk(*numbers))
    again = chunk_from(json.loads(json.dumps(said, allow_nan=False)))
    assert chunk_to_dict(again) == said
    assert all(type(value) is float for value in said.values())
    assert 0 <= said.get("no_speech_prob", 0) <= 1
    assert said.get("avg_logprob", 0) <= 0


@given(st.lists(st.builds(Chunk, *[anything] * 6), max_size=4), st.one_of(st.none(), st.floats()))
def test_the_worst_is_in_the_bounds_that_the_ledger_checks(chunks: list[Chunk], seconds: float | None) -> None:
    bounds = {"avg_logprob": (-1e4, 0), "no_speech_prob": (0, 1), "compression_ratio": (0, 1e4), "coverage": (0, 1)}
    found = worst(chunks, seconds)
    assert found.keys() == bounds.keys()
    assert all(found[name] is None or low <= found[name] <= high for name, (low, high) in bounds.items())


def test_only_what_is_known_is_written_and_rounded() -> None:
    chunk = Chunk(0.12345, 2.00049, None, -0.000001, 0.123456, NAN)
    assert chunk_to_dict(chunk) == {"start": 0.123, "end": 2.0, "avg_logprob": 0.0, "no_speech_prob": 0.1235}
    assert str(chunk_to_dict(chunk)["avg_logprob"]) == "0.0"
    assert chunk_to_dict(Chunk(0.0, 1.0)) == {"start": 0.0, "end": 1.0}
    assert chunk_from(chunk_to_dict(CALM)) == CALM


def test_the_worst_of_the_chunks_and_the_share_of_the_recording_that_is_speech() -> None:
    assert worst([CALM, LOOP], 40.0) == {
        "avg_logprob": -1.5, "no_speech_prob": 0.75, "compression_ratio": 9.25, "coverage": 0.5,
    }  # fmt: skip
    assert worst([LOOP, CALM], 40.0) == worst([CALM, LOOP], 40.0)
    assert worst([LOOP, replace(CALM, avg_logprob=NAN)], 40.0)["avg_logprob"] == -1.5


@pytest.mark.parametrize("seconds", [None, 0.0, NAN, INF])
def test_of_a_recording_without_a_length_no_share_is_known(seconds: float | None) -> None:
    assert worst([CALM], seconds)["coverage"] is None


def test_a_sum_that_lacks_a_chunk_is_no_sum_and_no_chunk_is_no_knowledge() -> None:
    assert worst([CALM, replace(LOOP, speech=None)], 40.0)["coverage"] is None
    assert set(worst([], 40.0).values()) == {None}
    assert worst([replace(CALM, speech=40.001)], 40.0)["coverage"] == 1.0  # times are rounded


# --- parts -----------------------------------------------------------------------------------------------------------

SHARD = Shard(7, "zurich", date(2025, 1, 1), "a", (Path("x"),))


def part(folder: Path, *chunks: Chunk, probability: float | None = 0.5, score: float = 0.5) -> Path:
    """A part of one recording with these chunks."""
    recording = Recording(7, 0, b"clip.mp3", 1, hashlib.sha256(b"clip").digest())
    segment = Segment(" hello", 0.0, 2.0, (Word("hello", 0.0, 2.0, score),), score)
    said = Transcript("en", (segment,), probability, chunks=chunks)
    header = header_of(Run(b"k" * 16, {}), SHARD, 1, 0.5)
    return write_part(folder, header, [Result(recording, said, 40.0)], Seal(7, b"s" * 32, 1, 1))


def edited(path: Path, change: Any) -> Path:
    """The part with its transcript changed by hand, on the disk."""
    lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    change(lines[1]["transcript"])
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode()))
    return path


def read(path: Path) -> Transcript:
    [result] = read_part(path).results
    assert isinstance(result.outcome, Transcript)
    return result.outcome


def test_a_part_says_again_what_it_was_told_of_chunks(tmp_path: Path) -> None:
    assert read(part(tmp_path, CALM, LOOP)).chunks == (CALM, LOOP)
    assert read(part(tmp_path)).chunks == ()


def test_a_part_that_was_written_before_there_were_chunks_is_read(tmp_path: Path) -> None:
    old = read(edited(part(tmp_path, CALM), lambda said: said.pop("chunks")))
    assert (old.text, old.chunks) == ("hello", ())


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_a_number_that_is_none_becomes_unknown_and_the_part_stays_json(tmp_path: Path, bad: float) -> None:
    path = part(tmp_path, Chunk(bad, bad, bad, bad, bad, bad), CALM, probability=bad, score=bad)
    for line in gzip.decompress(path.read_bytes()).splitlines():
        json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    said = read(path)
    assert [said.language_probability, said.segments[0].avg_logprob, said.segments[0].words[0].score] == [None] * 3
    lost, calm = said.chunks
    assert math.isnan(lost.start) and math.isnan(lost.end)
    assert (lost.speech, lost.avg_logprob, lost.no_speech_prob, lost.compression_ratio) == (None,) * 4
    assert calm == CALM


@pytest.mark.parametrize(
    "value",
    [NAN, INF, 10**400, "much", [], {}, -1.0, 1.5],
    ids=["nan", "inf", "huge", "text", "list", "object", "<", ">"],
)
def test_a_number_that_somebody_else_wrote_is_believed_only_within_its_bounds(tmp_path: Path, value: Any) -> None:
    path = edited(part(tmp_path, CALM), lambda said: said["chunks"][0].update(no_speech_prob=value))
    assert read(path).chunks == (replace(CALM, no_speech_prob=None),)


@pytest.mark.parametrize("chunks", [None, 1, "x", [1], [None], [[]], [{"flags": "x"}], [{"flags": [1]}]])
def test_chunks_of_another_shape_are_a_damaged_part(tmp_path: Path, chunks: Any) -> None:
    with pytest.raises(PartDamaged, match="is not a whole part"):
        read_part(edited(part(tmp_path, CALM), lambda said: said.update(chunks=chunks)))
