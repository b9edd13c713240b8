"""What a transcript is judged by, and what is found: values, and how the ledger's rows and an engine's answer become
them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpc.model import Transcript

_NONSENSE = 1e9  # seconds and all else are less


@dataclass(frozen=True, slots=True)
class Flag:
    """Why a transcript is suspect."""

    name: str
    value: float | None  # the number that it goes by
    detail: str  # in words


@dataclass(frozen=True, slots=True)
class Stretch:
    """Timed text of a transcript: a segment."""

    text: str
    start: float | None
    end: float | None


@dataclass(frozen=True, slots=True)
class Heard:
    """A chunk: what the model saw, what it says of it, and the text that begins in it."""

    start: float | None
    end: float | None
    speech: float | None
    no_speech_prob: float | None
    compression_ratio: float | None
    text: str


@dataclass(frozen=True, slots=True)
class Captions:
    """What the platform itself wrote down."""

    language: str  # as the platform writes it
    kind: str  # "ASR": by a machine from the sound itself
    text: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of one transcript; None and () are what is not known."""

    text: str
    language: str | None = None
    language_probability: float | None = None
    seconds: float | None = None
    segments: Sequence[Stretch] = ()
    spans: Sequence[tuple[float, float]] = ()  # where words are; disjoint, in order
    chunks: Sequence[Heard] = ()
    avg_logprob: float | None = None
    coverage: float | None = None
    text_language: str | None = None  # of the post's description, as the platform writes it
    subtitle_language: str | None = None
    captions: Sequence[Captions] = ()

    @property
    def speech(self) -> float | None:
        """Seconds of it."""
        if self.coverage is None or self.seconds is None:
            return None
        return self.coverage * self.seconds


def from_row(row: Mapping[str, Any], captions: Iterable[Mapping[str, Any]] = ()) -> Evidence:
    """Of a transcript's row of the ledger whose `segments` and `chunks` are open, with its metadata beside it."""
    segments = [said for said in row["segments"] or () if isinstance(said, Mapping)]
    stretches = [_stretch(said) for said in segments]
    words = [[_times(word) for word in said.get("words") or ()] for said in segments]
    return Evidence(
        text=row["text"],
        language=row["language"],
        language_probability=number(row["language_probability"]),
        seconds=number(row["seconds"]),
        segments=stretches,
        spans=_spans(stretches, words),
        chunks=[_heard(chunk, stretches) for chunk in row["chunks"] or () if isinstance(chunk, Mapping)],
        avg_logprob=number(row["avg_logprob"]),
        coverage=number(row["coverage"]),
        text_language=row["text_language"],
        subtitle_language=row["subtitle_language"],
        captions=tuple(Captions(one["language"], one["kind"], one["text"]) for one in captions),
    )


def from_transcript(said: Transcript, seconds: float | None, **more: Any) -> Evidence:
    """Of what an engine answered, before any ledger."""
    segments = [Stretch(one.text, number(one.start), number(one.end)) for one in said.segments]
    speech = [chunk.speech for chunk in said.chunks if chunk.speech is not None]
    whole = bool(said.chunks) and len(speech) == len(said.chunks) and bool(seconds)
    known: dict[str, Any] = {
        "avg_logprob": min((c.avg_logprob for c in said.chunks if c.avg_logprob is not None), default=None),
        "coverage": min(sum(speech) / seconds, 1.0) if whole and seconds else None,
    }
    return Evidence(
        text=said.text,
        language=said.language,
        language_probability=said.language_probability,
        seconds=seconds,
        segments=segments,
        spans=_spans(segments, [[(word.start, word.end) for word in one.words] for one in said.segments]),
        chunks=[
            Heard(
                number(chunk.start), number(chunk.end), chunk.speech, chunk.no_speech_prob, chunk.compression_ratio,
                _text_in(number(chunk.start), number(chunk.end), segments),
            )
            for chunk in said.chunks
        ],
        **known | more,
    )  # fmt: skip


def number(value: Any) -> float | None:
    """The value, if it is a number of anything."""
    return float(value) if isinstance(value, int | float) and abs(value) < _NONSENSE else None  # NaN is not


Times = tuple[float | None, float | None]


def _times(said: Mapping[str, Any]) -> Times:
    return number(said.get("start")), number(said.get("end"))


def _stretch(said: Mapping[str, Any]) -> Stretch:
    return Stretch(str(said.get("text", "")), *_times(said))


def _spans(segments: Sequence[Stretch], words: Sequence[Sequence[Times]]) -> list[tuple[float, float]]:
    """Where words are: their own times; a segment none of whose words has any counts whole, if it has text."""
    found: list[tuple[float, float]] = []
    for segment, inside in zip(segments, words, strict=True):
        timed = [(start, end) for start, end in inside if start is not None and end is not None]
        if not timed and segment.start is not None and segment.end is not None and segment.text.strip():
            timed = [(segment.start, segment.end)]
        found += timed
    joined: list[tuple[float, float]] = []
    for start, end in sorted(found):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((start, end))
    return joined


def _heard(chunk: Mapping[str, Any], segments: Sequence[Stretch]) -> Heard:
    start, end = _times(chunk)
    speech, unheard, ratio = (number(chunk.get(name)) for name in ("speech", "no_speech_prob", "compression_ratio"))
    return Heard(start, end, speech, unheard, ratio, _text_in(start, end, segments))


def _text_in(start: float | None, end: float | None, segments: Sequence[Stretch]) -> str:
    """The segments that begin in a chunk: the aligner cuts a chunk's text into sentences and joins no two chunks."""
    if start is None or end is None:
        return ""
    mine = (one.text.strip() for one in segments if one.start is not None and start <= one.start < end)
    return " ".join(filter(None, mine))
