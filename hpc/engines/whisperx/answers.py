"""From what WhisperX says to our values: plain numbers, times within the recording, no segment without text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from db.states import FailureClass
from hpc.blame import blame
from hpc.engines.whisperx.offline import is_out_of_memory
from hpc.model import Chunk, Failure, Segment, Transcript, Word

UNALIGNED = "unaligned"  # the flag of a transcript whose words have no times
EMPTY_TEXT = "empty_text"  # of one with speech of which the model made no words
NO_SAMPLES = Failure(FailureClass.EMPTY, "The recording has no samples.")


def transcript(
    segments: Sequence[Any],
    language: str | None,
    probability: float | None,
    duration: float,
    *,
    chunks: Sequence[Chunk],
    flags: tuple[str, ...] = (),
) -> Transcript:
    """`segments` in WhisperX's shape, those with text only; without any, there is no language either."""
    if any("empty" in chunk.flags for chunk in chunks):
        flags = (*flags, EMPTY_TEXT)
    if not segments:
        return Transcript(language=None, segments=(), flags=flags, chunks=tuple(chunks))
    return Transcript(
        language=language,
        segments=tuple(segment_of(segment, duration) for segment in segments),
        language_probability=probability,
        flags=flags,
        chunks=tuple(chunks),
    )


def chunk_of(said: Any, duration: float, ratio: float | None, **known: Any) -> Chunk:
    """The numbers of one chunk; `said` is its segment before anything is aligned."""
    empty = () if said["text"].strip() else ("empty",)
    return Chunk(
        start=time_of(said["start"], duration) or 0.0,
        end=time_of(said["end"], duration) or 0.0,
        avg_logprob=number_of(said.get("avg_logprob")),
        compression_ratio=ratio,
        **known | {"flags": (*known.get("flags", ()), *empty)},
    )


def failed(error: Exception) -> Failure:
    """Of one recording that was alone when it happened."""
    if is_out_of_memory(error):
        return Failure(FailureClass.ENGINE_ERROR, f"Out of memory with this recording alone: {blame(error)}")
    return Failure(FailureClass.ENGINE_ERROR, f"WhisperX failed: {blame(error)}")


def segment_of(said: Any, duration: float) -> Segment:
    """A segment with its words."""
    return Segment(
        text=str(said["text"]),
        start=time_of(said["start"], duration) or 0.0,
        end=time_of(said["end"], duration) or 0.0,
        words=tuple(
            Word(
                text=str(word["word"]),
                start=time_of(word.get("start"), duration),
                end=time_of(word.get("end"), duration),
                score=number_of(word.get("score")),
            )
            for word in said.get("words", ())
        ),
        avg_logprob=number_of(said.get("avg_logprob")),
    )


def number_of(value: Any) -> float | None:
    """A plain float: WhisperX gives NumPy's, and NaN for what it does not know."""
    return None if value is None or math.isnan(value) else float(value)


def time_of(value: Any, duration: float) -> float | None:
    """Seconds within the recording: the last chunk can end a little after it."""
    number = number_of(value)
    return None if number is None else min(max(number, 0.0), duration)
