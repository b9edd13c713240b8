"""A recording on its way through the engine, and what becomes of a batch in which one item fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from db.errors import DayscribeError
from hpc.engines.whisperx import answers
from hpc.engines.whisperx.generation import Language, Said
from hpc.engines.whisperx.offline import free_memory, is_gpu_lost, is_out_of_memory
from hpc.engines.whisperx.placing import Heard
from hpc.engines.whisperx.speech import Sound, Span
from hpc.errors import MachineUnfit
from hpc.model import SAMPLE_RATE, Audio, Chunk, Failure, Transcript, compression_ratio

BEGINNING = 30 * SAMPLE_RATE  # samples by which WhisperX tells the language
T = TypeVar("T")
R = TypeVar("R")


@dataclass(eq=False, slots=True)
class Work:
    """What is known of a recording so far."""

    audio: Audio
    spans: Sequence[Span] = ()
    language: Language | None = None
    failure: Failure | None = None
    _said: dict[int, Said] = field(default_factory=dict)  # by chunk
    _left: int = 0

    def have(self, spans: Sequence[Span]) -> None:
        """These are its chunks."""
        self.spans, self._left = spans, len(spans)

    @property
    def is_whole(self) -> bool:
        """Whether nothing more is to be said of it."""
        return self._left == 0

    def pieces(self) -> Iterator[tuple[Piece, float]]:
        """Its chunks that nothing is said of yet, with how much speech each has."""
        for at, span in enumerate(self.spans):
            if at not in self._said:
                yield Piece(self, at), span.speech

    def first_piece(self) -> tuple[Piece, float]:
        return next(self.pieces())

    def land(self, piece: Piece, said: tuple[Said, Language] | Failure) -> None:
        """What came of one of its chunks."""
        self._left -= 1
        if isinstance(said, Failure):
            self.failure = said
            if self.language is None:
                self._left = 0  # the others will not be asked for
            return
        self._said[piece.at], self.language = said

    @property
    def segments(self) -> list[dict[str, Any]]:
        """In WhisperX's shape, in order, those with text."""
        return [said for said in self._all() if said["text"].strip()]

    def answer(self, placed: Sequence[Any] | None, *, aligned: bool) -> Transcript | Failure:
        """`placed` are its aligned segments, or None if they were not `aligned`, or could not be."""
        if isinstance(placed, Failure) or self.failure is not None:
            return self.failure or placed  # type: ignore[return-value]
        flags = (answers.UNALIGNED,) if aligned and placed is None else ()
        return answers.transcript(
            self.segments if placed is None else placed,
            self.language.code if self.language else None,
            self.language.probability if self.language else None,
            self.audio.duration,
            chunks=list(self._chunks()),
            flags=flags,
        )

    def sound(self) -> Sound:
        return as_float(self.audio.pcm)

    def beginning(self) -> Sound:
        return as_float(self.audio.pcm[:BEGINNING])

    def heard(self) -> Heard:
        assert self.language
        return Heard(self.segments, self.language.code, self.sound())

    def _all(self) -> Iterator[dict[str, Any]]:
        for at, span in enumerate(self.spans):
            said = self._said[at]
            yield {
                "text": said.text,
                "start": round(span.start, 3),
                "end": round(span.end, 3),
                "avg_logprob": said.avg_logprob,
            }

    def _chunks(self) -> Iterator[Chunk]:
        for at, (said, segment) in enumerate(zip(self._said_in_order(), self._all(), strict=True)):
            yield answers.chunk_of(
                segment,
                self.audio.duration,
                compression_ratio(said.text),
                speech=round(self.spans[at].speech, 3),
                no_speech_prob=said.no_speech_prob,
                flags=said.flags,
            )

    def _said_in_order(self) -> list[Said]:
        return [self._said[at] for at in range(len(self.spans))]


@dataclass(frozen=True, eq=False, slots=True)
class Piece:
    """One chunk of a recording."""

    work: Work
    at: int

    @property
    def audio(self) -> Audio:
        return self.work.audio

    def sound(self) -> Sound:
        """Cut as WhisperX cuts."""
        span = self.work.spans[self.at]
        return as_float(self.audio.pcm[int(span.start * SAMPLE_RATE) : int(span.end * SAMPLE_RATE)])


def as_float(pcm: np.typing.NDArray[np.int16]) -> Sound:
    """As whisperx.load_audio scales samples."""
    return pcm.astype(np.float32) / np.float32(32768)


def each(
    work: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T], *, again: bool = False
) -> Sequence[R | Failure]:
    """work(items); if that fails, of halves, until the item that is to blame is alone. The others never notice.

    A GPU that has no memory left for one item, even once more, is no item's fault: MachineUnfit.
    """
    try:
        return work(items)
    except DayscribeError:
        raise  # the machine or the settings, not an item
    except Exception as error:
        if is_gpu_lost(error):
            raise  # only a new process gets it back
        hungry = is_out_of_memory(error)
        if len(items) == 1 and (not hungry or isinstance(error, MemoryError)):
            return [answers.failed(error)]
        if len(items) == 1 and again:
            raise MachineUnfit("The GPU has no memory left for one recording. Lower engine.batch_size.") from error
    if hungry:
        free_memory()
    if len(items) == 1:
        return each(work, items, again=True)
    half = len(items) // 2
    return [*each(work, items[:half]), *each(work, items[half:])]
