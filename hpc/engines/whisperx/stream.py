"""The way of recordings through the engine: what is known of each, what waits for company, and what is done next."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from hpc.engines.whisperx import answers
from hpc.engines.whisperx.generation import Generation, Language
from hpc.engines.whisperx.lanes import Lane
from hpc.engines.whisperx.placing import Placer
from hpc.engines.whisperx.pool import Pool
from hpc.engines.whisperx.speech import SpeechFinder
from hpc.engines.whisperx.work import Piece, Work, each
from hpc.model import Audio, Failure, Transcript
from hpc.ports import AtWork

Then = Callable[[Sequence[Any], Sequence[Any]], None]
QUIET_SECONDS = 0.5  # with nothing under way and nothing happening, what waits for company goes on without it
PLACING, SAYING, FINDING = range(3)  # what is nearest to an answer comes first


@dataclass(frozen=True, slots=True)
class Means:
    """What the work is done with, and how much of it at once."""

    finder: SpeechFinder
    generation: Generation
    placer: Placer | None  # None: words get no times
    language: str | None  # of every recording; None: it is found out
    detect_on_speech: bool  # in the first chunk rather than at the start
    finders: int  # batches in the voice detector
    generations: int  # batches in the model
    windows: int  # of the voice detector in one batch, about
    aligned_at_once: int  # recordings


class Stream:
    """One stream of recordings. All of this runs in one thread, but for what the lanes do and what reads the stream."""

    def __init__(self, means: Means, lanes: Sequence[Lane], at_work: AtWork) -> None:
        self._means, self._lanes, self._at_work = means, lanes, at_work
        self._events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._ended = False  # no more audio will come
        self._lull = False  # none comes for now
        self._open = 0  # recordings that came and are not answered
        self._finding = 0  # batches of recordings in which speech is looked for
        self._saying = 0  # batches in the model
        self._detecting = 0  # of these, those whose language is found out
        self._placing = 0  # groups of recordings being aligned
        self._new: deque[Work] = deque()  # speech is to be looked for
        self._unheard: list[Work] = []  # their language is to be found out
        self._pool: Pool[Piece] = Pool()
        self._said: list[Work] = []  # to be aligned
        self._done: list[tuple[Audio, Transcript | Failure]] = []

    def answers(self, audios: Iterator[Audio | None]) -> Iterator[tuple[Audio, Transcript | Failure]]:
        threading.Thread(target=self._read, args=(audios,), daemon=True).start()
        while not self._ended or self._open:
            self._next_event()()
            self._set_to_work()
            done, self._done = self._done, []
            yield from done

    def _next_event(self) -> Callable[[], None]:
        """What happens next; when nothing is under way, waiting for company comes to an end."""
        idle = not (self._finding or self._saying or self._placing) and (self._unheard or self._pool)
        try:
            return self._events.get(timeout=QUIET_SECONDS if idle else None)
        except queue.Empty:
            return self._quiet

    # In the reader's thread:

    def _read(self, audios: Iterator[Audio | None]) -> None:
        try:
            for audio in audios:
                self._events.put(self._quiet if audio is None else partial(self._came, audio))
            self._events.put(self._end)
        except BaseException as error:  # noqa: BLE001 - it is raised again in the stream's own thread
            self._events.put(partial(_raise, error))

    # What happens:

    def _came(self, audio: Audio) -> None:
        self._lull = False
        self._open += 1
        if len(audio.pcm):
            self._new.append(Work(audio))
        else:
            self._done_with([(audio, answers.NO_SAMPLES)])

    def _quiet(self) -> None:
        self._lull = True

    def _end(self) -> None:
        self._ended = self._lull = True

    def _found(self, works: Sequence[Work], results: Sequence[Any]) -> None:
        self._finding -= 1
        for work, spans in zip(works, results, strict=True):
            if isinstance(spans, Failure):
                work.failure = spans
            else:
                work.have(spans)
            if work.is_whole:
                self._whole(work)
            elif self._means.language:
                work.language = Language(self._means.language)
                self._enter(work)
            elif self._means.detect_on_speech:
                self._pool.add(*work.first_piece())
            else:
                self._unheard.append(work)

    def _heard(self, works: Sequence[Work], results: Sequence[Any]) -> None:
        self._saying -= 1
        self._detecting -= 1
        for work, language in zip(works, results, strict=True):
            if isinstance(language, Failure):
                work.failure = language
                self._whole(work)
            else:
                work.language = language
                self._enter(work)

    def _enter(self, work: Work) -> None:
        for piece, length in work.pieces():
            self._pool.add(piece, length)

    def _landed(self, pieces: Sequence[Piece], results: Sequence[Any]) -> None:
        self._saying -= 1
        for piece, said in zip(pieces, results, strict=True):
            work = piece.work
            alone = work.language is None  # the first chunk told the language, and the others have waited for it
            work.land(piece, said)
            if alone and work.failure is None:
                self._enter(work)
            if work.is_whole:
                self._whole(work)

    def _whole(self, work: Work) -> None:
        if work.failure is None and self._means.placer and work.segments:
            self._said.append(work)
        else:
            self._done_with([(work.audio, work.answer(None, aligned=False))])

    def _placed(self, works: Sequence[Work], results: Sequence[Any]) -> None:
        self._placing -= 1
        self._done_with(
            [(work.audio, work.answer(placed, aligned=True)) for work, placed in zip(works, results, strict=True)]
        )

    def _done_with(self, answered: Sequence[tuple[Audio, Transcript | Failure]]) -> None:
        self._open -= len(answered)
        self._done += answered

    # What is to be done:

    def _set_to_work(self) -> None:
        self._place()
        self._find()
        while self._saying < self._means.generations:
            size = self._means.generation.batch_size
            if len(self._unheard) >= size or (self._unheard and self._no_more_speech):
                if len(self._unheard) < size:  # the last ones: text waits for all of them, so all workers share them
                    size = -(-len(self._unheard) // (self._means.generations - self._saying))
                works, self._unheard = self._unheard[:size], self._unheard[size:]
                self._detecting += 1
                self._say("language", works, _detect, self._heard)
            elif len(self._pool) >= size or (self._pool and self._no_more_chunks):
                self._say("text", self._pool.take(size), _say, self._landed)
            else:
                return

    @property
    def _no_more_speech(self) -> bool:
        """No recording is on its way to those whose language is to be found out."""
        return self._lull and not self._new and not self._finding

    @property
    def _no_more_chunks(self) -> bool:
        """Nothing is on its way to the chunks that wait, so that they need not wait for it."""
        coming = self._unheard or self._detecting or (self._means.detect_on_speech and self._saying)
        return self._no_more_speech and not coming

    def _place(self) -> None:
        most = self._means.aligned_at_once
        while self._said and (self._placing == 0 or most == 1):
            group, self._said = self._said[:most], self._said[most:]
            self._placing += 1
            self._do(PLACING, "alignment", group, partial(_place, self._means), self._placed)

    def _find(self) -> None:
        """The voice detector waits for nobody: what has come while it was busy shares its next batch."""
        while self._new and self._finding < self._means.finders:
            group, windows = list[Work](), 0
            while self._new and windows < self._means.windows:
                group.append(self._new.popleft())
                windows += self._means.finder.windows(len(group[-1].audio.pcm))
            self._finding += 1
            self._do(FINDING, "speech", group, partial(_find, self._means), self._found)

    def _say(
        self, what: str, items: Sequence[Any], work: Callable[[Means, Sequence[Any]], Sequence[Any]], then: Then
    ) -> None:
        self._saying += 1
        self._do(SAYING, what, items, partial(work, self._means), then)

    def _do(
        self,
        rank: int,
        what: str,
        items: Sequence[Any],
        work: Callable[[Sequence[Any]], Sequence[Any]],
        then: Then,
    ) -> None:
        """work(items) in its lane, then(items, results) here. An item that fails has a Failure for a result."""
        audios = list({id(item.audio): item.audio for item in items}.values())

        def run() -> Sequence[Any]:
            with self._at_work(audios):
                return each(work, items)

        def tell(results: Sequence[Any] | BaseException) -> None:
            told = partial(_raise, results) if isinstance(results, BaseException) else partial(then, items, results)
            self._events.put(told)

        self._lanes[rank].do(what, rank, run, tell)


def _find(means: Means, works: Sequence[Work]) -> Sequence[Any]:
    return means.finder.find([work.sound() for work in works])


def _detect(means: Means, works: Sequence[Work]) -> Sequence[Any]:
    return means.generation.languages([work.beginning() for work in works])


def _say(means: Means, pieces: Sequence[Piece]) -> Sequence[Any]:
    return means.generation.say([(piece.sound(), piece.work.language) for piece in pieces])


def _place(means: Means, works: Sequence[Work]) -> Sequence[Any]:
    assert means.placer
    return means.placer.place([work.heard() for work in works])


def _raise(error: BaseException) -> None:
    raise error
