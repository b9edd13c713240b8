"""The engine's chunks as parts and the ledger keep them: known numbers only, and the worst of them for a selection."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hpc.model import Chunk

# What each number may be, and to how many decimals it is kept; the ledger's CHECK holds the same bounds. Whatever is
# outside of them (NaN and infinity are always) is no measure of anything: unknown.
_SECONDS = (3, -1e9, 1e9)
_SPEECH = (3, 0.0, 1e9)
_LOGPROB = (4, -1e4, 0.0)
_PROBABILITY = (4, 0.0, 1.0)
_RATIO = (4, 0.0, 1e4)


def chunk_to_dict(chunk: Chunk) -> dict[str, Any]:
    """A chunk in JSON's own kinds, without what is not known of it."""
    said: dict[str, Any] = {
        "start": _number(chunk.start, *_SECONDS),
        "end": _number(chunk.end, *_SECONDS),
        "speech": _number(chunk.speech, *_SPEECH),
        "avg_logprob": _number(chunk.avg_logprob, *_LOGPROB),
        "no_speech_prob": _number(chunk.no_speech_prob, *_PROBABILITY),
        "compression_ratio": _number(chunk.compression_ratio, *_RATIO),
        "flags": list(chunk.flags) or None,
    }
    return {name: value for name, value in said.items() if value is not None}


def chunk_from(said: Any) -> Chunk:
    """The chunk that chunk_to_dict wrote; a time that it did not know is NaN."""
    if not isinstance(said, Mapping):
        raise TypeError(f"a chunk is {type(said).__name__}")
    start, end = (_number(said.get(name), *_SECONDS) for name in ("start", "end"))
    flags = said.get("flags", [])
    if not (isinstance(flags, list) and all(isinstance(flag, str) for flag in flags)):
        raise TypeError("a chunk's flags are no words")
    return Chunk(
        start=math.nan if start is None else start,
        end=math.nan if end is None else end,
        speech=_number(said.get("speech"), *_SPEECH),
        avg_logprob=_number(said.get("avg_logprob"), *_LOGPROB),
        no_speech_prob=_number(said.get("no_speech_prob"), *_PROBABILITY),
        compression_ratio=_number(said.get("compression_ratio"), *_RATIO),
        flags=tuple(flags),
    )


def worst(chunks: Sequence[Chunk], seconds: float | None) -> dict[str, float | None]:
    """What a selection by quality asks of a transcript whose recording is so long; None where nothing is known."""
    known = [chunk_to_dict(chunk) for chunk in chunks]
    return {
        "avg_logprob": min(_each(known, "avg_logprob"), default=None),
        "no_speech_prob": max(_each(known, "no_speech_prob"), default=None),
        "compression_ratio": max(_each(known, "compression_ratio"), default=None),
        "coverage": _coverage(known, seconds),
    }


def _coverage(known: Sequence[Mapping[str, Any]], seconds: float | None) -> float | None:
    """The share of the recording that is speech: of the recording, and not of the chunks, because it then does not
    depend on where chunks were cut, compares across runs, and gives the seconds of speech back."""
    speech = list(_each(known, "speech"))
    if not (known and seconds and math.isfinite(seconds)) or len(speech) < len(known):  # a part of it is no sum
        return None
    return _number(min(sum(speech) / seconds, 1.0), *_PROBABILITY)


def _each(known: Iterable[Mapping[str, Any]], name: str) -> Iterable[float]:
    return (chunk[name] for chunk in known if name in chunk)


def finite(value: float | None) -> float | None:
    """The number, if it is one."""
    return value if value is not None and math.isfinite(value) else None


def _number(value: Any, decimals: int, low: float, high: float) -> float | None:
    try:
        number = round(float(value), decimals) + 0.0  # -0.0 becomes 0.0
    except (TypeError, ValueError, OverflowError):
        return None
    return number if low <= number <= high else None  # NaN is nowhere
