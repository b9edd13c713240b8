"""Whether two contestants heard the same, recording by recording: language, text, times of segments and of words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hpc.demo.score import align, normal

SAME_TIME = 0.0005  # seconds; WhisperX gives times to the millisecond
NAMED = 10  # differing recordings that are listed
QUOTED = 120  # characters of a text
Answer = Mapping[str, Any]  # a Transcript or a Failure as a dictionary


def compare(
    ours: Sequence[Answer], theirs: Sequence[Answer], named: Callable[[int], str], *, exact: bool
) -> dict[str, Any]:
    """How many recordings are the same, what differs in the others, and the first of them. Where nothing exact can be
    expected (another voice detector, no word times) the verdict `identical` is None and the error rate says it all."""
    kinds, listed, same = Counter[str](), list[dict[str, Any]](), 0
    deltas, errors, words = [0.0], 0, 0
    for at, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        found = list(_differences(mine, other, exact=exact))
        kinds.update(kind for kind, _, _ in found)
        same += not found
        if found and len(listed) < NAMED:
            what, first, second = found[0]
            listed.append({"recording": named(at), "differs_in": what, "ours": first, "theirs": second})
        deltas += _deltas(mine, other)
        spoken, heard = normal(_text(other)), normal(_text(mine))
        errors += align(spoken, heard)[0]
        words += len(spoken)
    return {
        "identical": same == len(ours) if exact else None,
        "recordings": len(ours),
        "same": same,
        "differing": dict(kinds),
        "first": listed,
        "max_logprob_delta": max(deltas),
        "words": words,
        "word_differences": errors,
        "word_error_rate": round(errors / words, 5) if words else (0.0 if not errors else None),
    }


def _differences(mine: Answer, other: Answer, *, exact: bool) -> Iterator[tuple[str, Any, Any]]:
    """What differs, and how each has it; the most telling first."""
    if "reason" in mine or "reason" in other:
        if mine.get("kind") != other.get("kind"):
            yield "outcome", mine.get("reason", "a transcript"), other.get("reason", "a transcript")
        return
    if mine["language"] != other["language"]:
        yield "language", mine["language"], other["language"]
    if _text(mine) != _text(other):
        yield "text", _text(mine)[:QUOTED], _text(other)[:QUOTED]
    if not exact:
        return
    for kind, times in (("chunk times", _chunks), ("segment times", _segments), ("word times", _words)):
        first, second = times(mine), times(other)
        if not _same_times(first, second):
            at = next((at for at, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1]), None)
            yield (kind, len(first), len(second)) if at is None else (kind, first[at], second[at])


def _text(answer: Answer) -> str:
    return "" if "reason" in answer else " ".join(segment["text"].strip() for segment in answer["segments"])


Times = list[tuple[float | None, float | None]]


def _chunks(answer: Answer) -> Times:
    return [(chunk["start"], chunk["end"]) for chunk in answer["chunks"]]


def _segments(answer: Answer) -> Times:
    return [(segment["start"], segment["end"]) for segment in answer["segments"]]


def _words(answer: Answer) -> Times:
    return [(word["start"], word["end"]) for segment in answer["segments"] for word in segment["words"]]


def _same_times(first: Times, second: Times) -> bool:
    return len(first) == len(second) and all(
        one == other or (one is not None and other is not None and abs(one - other) < SAME_TIME)
        for pair in zip(first, second, strict=True)
        for one, other in zip(*pair, strict=True)
    )


def _deltas(mine: Answer, other: Answer) -> list[float]:
    """Of the log-probability of each chunk, where both have the same chunks."""
    first, second = ([chunk["avg_logprob"] for chunk in answer.get("chunks", ())] for answer in (mine, other))
    if len(first) != len(second):
        return []
    pairs = zip(first, second, strict=True)
    return [abs(one - two) for one, two in pairs if one is not None and two is not None]
