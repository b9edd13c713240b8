"""The fake that is part of the product: no model, and made-up text that depends on the recording alone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

from db.states import FailureClass
from hpc.engine_options import EngineOptions
from hpc.errors import ModelMissing
from hpc.model import Audio, Chunk, Failure, Segment, Transcript, Word, compression_ratio
from hpc.ports import AtWork

_WORDS = (
    "amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "haven", "inlet", "jetty", "knoll", "larch", "maple",
    "north", "ocean", "pearl", "quarry", "river", "stone", "tidal", "umbra", "vale", "willow", "xenon", "yarrow",
)  # fmt: skip


class EchoEngine:
    """Says the same of the same recording, on every machine and in any company.

    `options.trouble` makes it misbehave, for tests of whoever lives with an engine:
    raise:NAME (at this recording), error:NAME (the whole call), crash:NAME (SIGABRT), kill:NAME (SIGKILL, as the
    kernel does when memory is short), hang:NAME, crowd:N (SIGABRT for more than N recordings at once), slow:SECONDS
    (for each recording), start:crash, start:hang, start:missing, start:error.
    """

    def __init__(self, options: EngineOptions) -> None:
        self._language = "en" if options.language == "auto" else options.language
        self._trouble = [entry.partition(":")[::2] for entry in options.trouble]
        crowds = [int(detail) for kind, detail in self._trouble if kind == "crowd"]
        self._gathers, self._most = bool(crowds), min(crowds, default=1)
        for kind, detail in self._trouble:
            if kind == "start":
                _START[detail]()

    def transcribe(
        self, audios: Iterator[Audio | None], at_work: AtWork
    ) -> Iterator[tuple[Audio, Transcript | Failure]]:
        """Answers in the order of the stream, all that is there by a lull at once."""
        batch: list[Audio] = []
        for audio in audios:
            if audio is not None:
                batch.append(audio)
            if audio is None or not self._gathers:
                with at_work(batch):
                    if len(batch) > self._most:
                        _abort()
                    answers = [self._one(one) for one in batch]
                yield from zip(batch, answers, strict=True)
                batch = []

    def align(self, audios: Iterator[Audio | None], at_work: AtWork) -> Iterator[tuple[Audio, Transcript | Failure]]:
        """The same text again, with times; in trouble as it is when it transcribes."""
        return self.transcribe(audios, at_work)

    def _one(self, audio: Audio) -> Transcript | Failure:
        for kind, detail in self._trouble:
            if kind == "slow":
                time.sleep(float(detail))
            elif kind in _ACTS and audio.recording.name == os.fsencode(detail):
                _ACTS[kind]()
            elif kind == "raise" and audio.recording.name == os.fsencode(detail):
                return Failure(FailureClass.ENGINE_ERROR, "The echo engine was told to fail here.")
        return echo(audio, self._language) if audio.said is None else placed(audio, audio.said)


def placed(audio: Audio, said: Transcript) -> Transcript | Failure:
    """The words of each segment, spread over its time."""
    if not len(audio.pcm):
        return Failure(FailureClass.EMPTY, "The recording has no samples.")
    return replace(said, segments=tuple(_spread(segment, audio.duration) for segment in said.segments))


def _spread(segment: Segment, duration: float) -> Segment:
    texts, start, end = segment.text.split(), min(segment.start, duration), min(segment.end, duration)
    times = [round(start + (end - start) * at / max(1, len(texts)), 3) for at in range(len(texts))] + [end]
    words = tuple(Word(text, *span, 0.5) for text, span in zip(texts, pairwise(times), strict=True))
    return replace(segment, start=start, end=end, words=words)


def echo(audio: Audio, language: str = "en") -> Transcript | Failure:
    """About two words a second, drawn by the recording's hash; zeros are silence."""
    if not len(audio.pcm):
        return Failure(FailureClass.EMPTY, "The recording has no samples.")
    if not audio.pcm.any():
        return Transcript(language=None, segments=())
    seed, seconds = audio.recording.sha256 or b"\0", audio.duration
    count = max(1, min(60, round(2 * seconds)))
    texts = [_WORDS[(seed[at % len(seed)] + 7 * at) % len(_WORDS)] for at in range(count)]
    times = [round(seconds * at / count, 3) for at in range(count)] + [seconds]
    words = tuple(Word(text, start, end, 1.0) for text, start, end in zip(texts, times[:-1], times[1:], strict=True))
    segment = Segment(" " + " ".join(texts), 0.0, seconds, words, avg_logprob=0.0)
    chunk = Chunk(0.0, seconds, seconds, 0.0, 0.0, compression_ratio(segment.text))
    return Transcript(language=language, segments=(segment,), language_probability=1.0, chunks=(chunk,))


def _abort() -> None:
    os.kill(os.getpid(), signal.SIGABRT)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _hang() -> None:
    while True:
        signal.pause()


def _error() -> None:
    raise RuntimeError("The echo engine was told to fail.")


def _missing() -> None:
    raise ModelMissing("The echo engine was told that its model is missing.")


_ACTS: dict[str, Callable[[], None]] = {"crash": _abort, "kill": _kill, "hang": _hang, "error": _error}
_START: dict[str, Callable[[], None]] = {"crash": _abort, "hang": _hang, "missing": _missing, "error": _error}
