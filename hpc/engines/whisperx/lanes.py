"""Threads that work for the engine. On a CPU one set of them does everything, what is nearest to an answer first."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import TypeVar

T = TypeVar("T")
STOP = 1_000_000  # comes after all work
THREAD = "dayscribe-lane"


@dataclass(slots=True)
class Clock:
    """CPU seconds of threads, by what they did; CTranslate2's own threads are not seen here."""

    seconds: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, what: str, seconds: float) -> None:
        with self._lock:
            self.seconds[what] = self.seconds.get(what, 0.0) + seconds


class Lane:
    """A few threads with one queue. Torch, CTranslate2 and ONNX Runtime let go of the interpreter while they work."""

    def __init__(self, threads: int, clock: Clock) -> None:
        self._queue: queue.PriorityQueue[tuple[int, int, str, Callable[[], None]]] = queue.PriorityQueue()
        self._numbers, self._clock = count(), clock
        self._threads = [threading.Thread(target=self._work, name=THREAD, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def do(self, what: str, rank: int, work: Callable[[], T], then: Callable[[T | BaseException], None]) -> None:
        """Work, by rank; `then` is told its result, or what it raised."""

        def run() -> None:
            try:
                result: T | BaseException = work()
            except BaseException as error:  # noqa: BLE001 - whoever asked decides what it means
                result = error
            then(result)

        self._queue.put((rank, next(self._numbers), what, run))

    def close(self, *, wait: bool) -> None:
        """End the threads once they have done what they have begun; what they have not is dropped."""
        while True:
            try:
                self._queue.get_nowait()
            except queue.Empty:
                break
        for _ in self._threads:
            self._queue.put((STOP, next(self._numbers), "", lambda: None))
        for thread in self._threads if wait else ():
            thread.join()

    def _work(self) -> None:
        while True:
            rank, _, what, run = self._queue.get()
            if rank == STOP:
                return
            before = time.thread_time()
            run()
            self._clock.add(what, time.thread_time() - before)
