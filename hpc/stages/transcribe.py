"""Audio in, results out: the engine holds many recordings, across shards, and gives each back when it is done."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from hpc.model import Audio, Result, Seal, Unsealed
from hpc.stages.engine_process import EngineProcess

_LOOK = 1.0  # seconds between looks whether to stop
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Room:
    """How much an engine may hold, so that memory stays flat. It may always hold one recording."""

    recordings: int
    seconds: float  # of audio

    def for_one_more(self, engine: EngineProcess, seconds: float) -> bool:
        """Whether there is room for a recording of this length."""
        if not engine.held:
            return True
        return engine.held < self.recordings and engine.held_seconds + seconds <= self.seconds


def transcribe(
    audios: Iterable[Audio | Result | Seal | Unsealed],
    engine: EngineProcess,
    room: Room,
    *,
    stop: Callable[[], bool] = lambda: False,
    patience: float = 60.0,
) -> Iterator[Result | Seal | Unsealed]:
    """Turn audio into results, in the order they are done; what is a result already passes straight through.

    A shard's end (Seal or Unsealed) waits until every audio of the shard that came before it has been yielded as a
    result. After a stop the engine is given nothing more and has `patience` seconds for what it holds; what is not done
    by then, another worker will do.
    """
    books, until = _Books(), _Patience(stop, patience)
    for item in audios:
        if isinstance(item, Result):
            yield item
        elif isinstance(item, Seal | Unsealed):
            yield from books.close(item)
        else:
            books.expect(item)
            while not until.stopped() and not room.for_one_more(engine, item.duration):
                yield from books.note(engine.wait(_LOOK))
            if not until.stopped():
                engine.submit(item)
        yield from books.note(engine.ready())
    engine.lull()
    yield from books.note(engine.ready())
    while engine.held:
        if until.over():
            _log.info("Stopped with %d recordings in hand; they are left to another worker.", engine.abandon())
        yield from books.note(engine.wait(_LOOK))
    yield from books.give_up()


class _Patience:
    """With what is held after a stop, from the moment that the stop is seen."""

    def __init__(self, stop: Callable[[], bool], seconds: float) -> None:
        self._stop, self._seconds = stop, seconds
        self._since: float | None = None

    def stopped(self) -> bool:
        if self._since is None and self._stop():
            self._since = time.monotonic()
        return self._since is not None

    def over(self) -> bool:
        return self.stopped() and time.monotonic() > (self._since or 0.0) + self._seconds


class _Books:
    """How many recordings of each shard are still with the engine, and the shard ends that wait for them."""

    def __init__(self) -> None:
        self._pending: Counter[int] = Counter()
        self._ends: list[Seal | Unsealed] = []

    def expect(self, audio: Audio) -> None:
        self._pending[audio.recording.shard_id] += 1

    def close(self, end: Seal | Unsealed) -> Iterator[Seal | Unsealed]:
        self._ends.append(end)
        yield from self._released()

    def note(self, results: Iterable[Result]) -> Iterator[Result | Seal | Unsealed]:
        for result in results:
            self._pending[result.recording.shard_id] -= 1
            yield result
            yield from self._released()

    def give_up(self) -> Iterator[Unsealed]:
        """The ends of shards of which something will not be done here: whatever they were, they seal nothing."""
        for end in self._ends:
            yield Unsealed(end.shard_id, None)

    def _released(self) -> Iterator[Seal | Unsealed]:
        free = [end for end in self._ends if self._pending[end.shard_id] <= 0]
        self._ends = [end for end in self._ends if self._pending[end.shard_id] > 0]
        for end in free:
            del self._pending[end.shard_id]
            yield end
