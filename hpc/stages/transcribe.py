"""Speech to text in a child process: its crash, its hang or its hunger costs one batch, never the worker's books."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Self

from db.faults import point
from hpc.engine_options import EngineOptions
from hpc.errors import EngineLost, FailureClass
from hpc.model import Audio, Failure, Result, Seal, Transcript, Unsealed
from hpc.stages import engine_child
from hpc.stages.batching import BatchLimit, Load, fits, is_full

_ATTEMPTS = 3  # to start an engine, or to get a first answer out of it, before the machine is to blame


class _Died(Exception):
    """The engine's process ended, or was ended, before it answered."""

    kind = FailureClass.ENGINE_CRASH


class _Failed(_Died):
    """The engine raised instead of answering; after that nothing it holds can be trusted, so it is ended too."""

    kind = FailureClass.ENGINE_ERROR


class EngineProcess:
    """An engine in a spawned child, one batch in flight.

    `target` is an import path such as "hpc.engines.echo:EchoEngine". `hang_seconds` is the time one batch may take,
    `start_seconds` the time to load. After `start`, use it from one thread.
    """

    def __init__(
        self, target: str, options: EngineOptions, *, hang_seconds: float, start_seconds: float = 1800.0
    ) -> None:
        self._target, self._options = target, options
        self._hang_seconds, self._start_seconds = hang_seconds, start_seconds
        self._desk = engine_child.Desk()
        # The kernel ends the child with the thread that made it. This one lives as long as the worker does; any other,
        # such as one that reads archives, may be gone before the day is done.
        self._keeper = ThreadPoolExecutor(1, thread_name_prefix="dayscribe-engine")
        self._start = threading.Lock()
        self._started = False
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None
        self._batch: list[Audio] = []  # in flight
        self._sent_at = 0.0
        self._lost: str | None = None  # why the batch in flight has no answer to wait for
        self._answered = False  # whether this engine ever gave an answer
        self._crashes = 0  # in a row
        self._busy_seconds = 0.0
        self._load_seconds = 0.0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The child's process id, while it runs."""
        return self._process.pid if self._process and self._process.is_alive() else None

    @property
    def busy(self) -> bool:
        """Whether a batch is in flight."""
        return bool(self._batch)

    @property
    def busy_seconds(self) -> float:
        """How long the engine has worked on batches that it answered."""
        return self._busy_seconds

    @property
    def load_seconds(self) -> float:
        """How long `start` took."""
        return self._load_seconds

    def start(self) -> None:
        """Load the engine and wait until it is ready; raise what it says if it refuses. Done once, by any thread."""
        with self._start:
            if not self._started:
                began = time.monotonic()
                self._load()
                self._started, self._load_seconds = True, time.monotonic() - began

    def submit(self, batch: Sequence[Audio]) -> None:
        """Give the engine a batch; `collect` waits for the answer. Only one batch may be in flight."""
        if self._batch:
            raise RuntimeError("a batch is already in flight: collect it first")
        self._batch, self._lost = list(batch), None
        if not self._batch:
            return
        try:
            self._send(self._batch)
        except _Died as death:
            self._lost = str(death)
        point("engine.sent")

    def collect(self) -> list[Result]:
        """The results of the batch in flight, in its order; none if there is none.

        If the engine did not survive the batch, its recordings are tried again one at a time.
        """
        batch, self._batch = self._batch, []
        if not batch:
            return []
        try:
            if self._lost is not None:
                raise _Died(self._lost)
            outcomes = self._receive(len(batch))
        except _Died:
            outcomes = [self._alone(audio) for audio in batch]
        point("engine.received")
        return [
            Result(audio.recording, outcome, audio.duration, audio.flags)
            for audio, outcome in zip(batch, outcomes, strict=True)
        ]

    def close(self) -> None:
        """End the child; a batch in flight is dropped."""
        self._batch = []
        if self._process and self._connection and self._process.is_alive():
            try:
                self._connection.send(None)
                self._process.join(5.0)
            except OSError:
                pass  # it is gone already
        self._end()
        self._keeper.shutdown()
        self._desk.close()

    def _load(self) -> None:
        if self.pid:
            return
        reason = ""
        for _ in range(_ATTEMPTS):
            self._spawn()
            try:
                self._hear(self._start_seconds, since=time.monotonic())
                return
            except _Died as death:
                reason = str(death)
        raise EngineLost(f"The engine ended {_ATTEMPTS} times before it took any work. The last time: {reason}")

    def _alone(self, audio: Audio) -> Transcript | Failure:
        """One recording by itself: whatever goes wrong now is its own doing."""
        try:
            self._send([audio])
            return self._receive(1)[0]
        except _Died as death:
            self._crashes += 1
            if not self._answered and self._crashes >= _ATTEMPTS:
                raise EngineLost(f"The engine never answered and ended on {_ATTEMPTS} recordings: {death}") from death
            return Failure(death.kind, f"The engine did not survive this recording: {death}")

    def _send(self, batch: Sequence[Audio]) -> None:
        self._load()
        assert self._connection
        size = self._desk.write(*engine_child.pack(batch))
        self._sent_at = time.monotonic()
        try:
            self._connection.send(size)
        except OSError as error:
            raise self._death() from error

    def _receive(self, count: int) -> list[Transcript | Failure]:
        size, seconds = self._hear(self._hang_seconds, since=self._sent_at)
        answers: list[Transcript | Failure] = pickle.loads(self._desk.read(size))  # noqa: S301 - our own child's
        assert len(answers) == count
        self._answered, self._crashes = True, 0
        self._busy_seconds += seconds
        return answers

    def _hear(self, seconds: float, *, since: float) -> tuple[int, float]:
        """Bytes on the desk and seconds they took. Raise what the child refused with; _Died if it has no answer."""
        assert self._connection and self._process
        sources: list[Connection | int] = [self._connection, self._process.sentinel]
        # Asked twice, because after a stop (SIGSTOP, a suspended job) the time is up and the answer is there too.
        ready = wait(sources, max(0.0, since + seconds - time.monotonic())) or wait(sources, 0.0)
        if not ready:
            raise self._death(f"no answer within {seconds:g} s")
        if self._connection not in ready:
            raise self._death()
        try:
            word, value = self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._death() from error
        if word == "failed":
            self._end()
            raise _Failed(value)
        if word == "refused":
            self._end()
            raise value
        size, busy = value
        return int(size), float(busy)

    def _spawn(self) -> None:
        self._end()
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self._process = context.Process(
            target=engine_child.main,
            args=(theirs, self._desk, os.getpid(), self._target, self._options),
            name="dayscribe-engine",
        )
        self._keeper.submit(self._process.start).result()
        theirs.close()
        self._connection = ours

    def _death(self, reason: str | None = None) -> _Died:
        """Make sure the child is gone; say how it went."""
        assert self._process
        if reason is None:
            self._process.join(5.0)  # its pipe closed a moment before it ended
            reason = _manner(self._process.exitcode)
        self._end()
        return _Died(reason)

    def _end(self) -> None:
        if self._process:
            self._process.kill()
            self._process.join()
            self._process.close()
        if self._connection:
            self._connection.close()
        self._process = self._connection = None


def _manner(exit_code: int | None) -> str:
    if exit_code is None:
        return "it closed its pipe"
    if exit_code == -signal.SIGKILL:
        return "it was killed (SIGKILL), which is what happens when memory runs out"
    if exit_code < 0:
        return f"it ended with {signal.Signals(-exit_code).name}"
    return f"it ended with exit code {exit_code}"


def transcribe(
    audios: Iterable[Audio | Result | Seal | Unsealed],
    engine: EngineProcess,
    *,
    batch_recordings: int,
    batch_seconds: float,
) -> Iterator[Result | Seal | Unsealed]:
    """Turn audio into results, batch by batch across shards; what is a result already passes straight through.

    The next batch is gathered while the engine works on this one, so at most two are in memory. A shard's end (Seal
    or Unsealed) waits until every audio of the shard that came before it has been yielded as a result.
    """
    limit = BatchLimit(batch_recordings, batch_seconds)
    books = _Books()
    batch: list[Audio] = []
    load = Load()
    for item in audios:
        if isinstance(item, Result):
            yield item
            continue
        if isinstance(item, Seal | Unsealed):
            yield from books.close(item)
            continue
        if not fits(load, item.duration, limit):
            yield from _hand_over(engine, batch, books)
            batch, load = [], Load()
        books.expect(item)
        batch.append(item)
        load = load.plus(item.duration)
        if is_full(load, limit):
            yield from _hand_over(engine, batch, books)
            batch, load = [], Load()
    yield from _hand_over(engine, batch, books)
    yield from books.note(engine.collect())


def _hand_over(engine: EngineProcess, batch: list[Audio], books: _Books) -> Iterator[Result | Seal | Unsealed]:
    """Take the last batch's results, and set the engine to work again before anyone looks at them."""
    results = engine.collect()
    engine.submit(batch)
    yield from books.note(results)


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

    def _released(self) -> Iterator[Seal | Unsealed]:
        free = [end for end in self._ends if self._pending[end.shard_id] <= 0]
        self._ends = [end for end in self._ends if self._pending[end.shard_id] > 0]
        for end in free:
            del self._pending[end.shard_id]
            yield end
