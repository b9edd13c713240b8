"""An engine in a child process: its crash, hang or hunger costs some work done twice, never the worker's books."""

from __future__ import annotations

import math
import multiprocessing
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Literal, Self

from db.faults import point
from db.states import FailureClass
from hpc.engine_options import EngineOptions
from hpc.errors import EngineLost
from hpc.model import Audio, Failure, Result, Transcript
from hpc.stages import engine_child, engine_wire
from hpc.stages.align import kept
from hpc.stages.engine_trial import ATTEMPTS, Trial

_STEP = 1.0  # seconds between looks at the clock


class _Died(Exception):
    """The engine's process ended, or was ended, before it answered."""

    kind = FailureClass.ENGINE_CRASH


class _Failed(_Died):
    """The engine raised instead of answering; after that nothing it holds can be trusted, so it is ended too."""

    kind = FailureClass.ENGINE_ERROR


class EngineProcess:
    """An engine in a spawned child, which holds many recordings at once and answers each when it is done.

    `target` is an import path such as "hpc.engines.echo:EchoEngine". `hang_seconds` is how long it may say nothing
    while it has work, `start_seconds` the time to load; `alive` is told of each word. After `start`, use it from one
    thread.

    The child says what it works on before it does, so that its death is held against few (hpc/stages/engine_trial.py).
    """

    def __init__(
        self,
        target: str,
        options: EngineOptions,
        *,
        hang_seconds: float,
        start_seconds: float = 1800.0,
        verb: Literal["transcribe", "align"] = "transcribe",
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._target, self._options, self._verb = target, options, verb
        self._hang_seconds, self._start_seconds, self._alive = hang_seconds, start_seconds, alive
        # The kernel ends the child with the thread that made it. This one lives as long as the worker does; any other,
        # such as one that reads archives, may be gone before the day is done.
        self._keeper = ThreadPoolExecutor(1, thread_name_prefix="dayscribe-engine")
        self._start = threading.Lock()
        self._started = False
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None
        self._tickets = 0  # given out
        self._pending: dict[int, Audio] = {}  # by ticket, in the order they came
        self._pending_seconds = 0.0
        self._sent: set[int] = set()  # what of it the child has
        self._told = False  # the child knows that nothing more comes for now
        self._begun: dict[int, list[int]] = {}  # what the child works on, by its own numbers
        self._silence = 0.0  # seconds that we have waited since its last word
        self._trial = Trial()
        self._results: list[Result] = []
        self._busy_since = 0.0
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
    def held(self) -> int:
        """How many recordings it has not answered yet."""
        return len(self._pending)

    @property
    def held_seconds(self) -> float:
        """How much audio these are."""
        return self._pending_seconds

    @property
    def busy_seconds(self) -> float:
        """How long the engine has had work, up to its last answer."""
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
                engine_wire.allow_many()
                self._load()
                self._started, self._load_seconds = True, time.monotonic() - began

    def submit(self, audio: Audio) -> None:
        """Give the engine a recording; `ready` and `wait` tell what comes back."""
        if not self._pending:
            self._busy_since = time.monotonic()
        self._tickets += 1
        self._pending[self._tickets] = audio
        self._pending_seconds += audio.duration
        self._step(0.0)
        point("engine.sent")

    def ready(self) -> list[Result]:
        """What has been answered by now."""
        while self._step(0.0):
            pass
        return self._taken()

    def wait(self, seconds: float = math.inf) -> list[Result]:
        """At least one answer, unless nothing is held, or none came in that time."""
        until = time.monotonic() + seconds
        while self._pending and not self._results and (left := until - time.monotonic()) > 0:
            if not self._step(min(left, self._hang_seconds - self._silence)) and self._silence >= self._hang_seconds:
                self._bury(self._death(f"no answer within {self._hang_seconds:g} s"))
        return self._taken()

    def lull(self) -> None:
        """Nothing more comes for now: what waits for company need not."""
        self._step(0.0, lull=True)

    def abandon(self) -> int:
        """Let go of all that is not answered; how many that is."""
        lost = len(self._pending)
        if lost:
            self._end()
            self._pending.clear()
            self._pending_seconds, self._trial = 0.0, Trial(lived=self._trial.lived)
        return lost

    def close(self) -> None:
        """End the child; what it has not answered is dropped."""
        self.abandon()
        if self._process and self._connection and self._process.is_alive():
            try:
                self._connection.send(engine_wire.STOP)
                self._process.join(5.0)
            except OSError:
                pass  # it is gone already
        self._end()
        self._keeper.shutdown()

    def _taken(self) -> list[Result]:
        taken, self._results = self._results, []
        if taken:
            point("engine.received")
        return taken

    def _load(self) -> None:
        if self._process and (self._sent or self._process.is_alive()):
            return  # a dead one that had work has left word of it in the pipe
        reason = ""
        for _ in range(ATTEMPTS):
            self._spawn()
            try:
                if self._hear(self._start_seconds):  # its first word is "ready"
                    return
                reason = str(self._death(f"no answer within {self._start_seconds:g} s"))
            except _Died as death:
                reason = str(death)
        raise EngineLost(f"The engine ended {ATTEMPTS} times before it took any work. The last time: {reason}")

    def _step(self, seconds: float, *, lull: bool = False) -> bool:
        """Send what the child may have, and take one word of it, or its death; False: none came within that time."""
        if not self._pending:
            return False
        try:
            self._load()
            self._send(lull=lull)
            return self._hear(seconds)
        except _Died as death:
            self._bury(death)
            return True

    def _send(self, *, lull: bool) -> None:
        assert self._connection and self._process and self._process.pid
        wanted = [ticket for ticket in self._trial.may_be_sent(self._pending) if ticket not in self._sent]
        try:
            for ticket in wanted:
                if not self._takes_more():
                    return
                audio = engine_wire.send(self._connection, self._process.pid, ticket, self._pending[ticket])
                self._pending[ticket] = audio
                self._sent.add(ticket)
                self._told = False
            if (lull or self._trial.on) and not self._told and self._takes_more():
                self._connection.send(engine_wire.LULL)
                self._told = True
        except OSError:
            return  # it is dead; what it had to say before is still to be heard

    def _takes_more(self) -> bool:
        """Whether a short word fits into the pipe; it does unless the child is stopped, or dead."""
        assert self._connection
        pipe = select.poll()  # unlike select, it takes descriptors of any number
        pipe.register(self._connection, select.POLLOUT)
        return bool(pipe.poll(0))

    def _hear(self, seconds: float) -> bool:
        """Take one word from the child; False when there is none within that time. A step that took far longer than it
        may means that we were suspended ourselves, and counts little: a frozen job finds its engine unharmed."""
        assert self._connection and self._process
        sources: list[Connection | int] = [self._connection, self._process.sentinel]
        while True:
            began = time.monotonic()
            if ready := wait(sources, max(0.0, min(_STEP, seconds))):
                break
            passed = min(time.monotonic() - began, 2 * _STEP)
            seconds -= passed
            self._silence += passed
            if seconds <= 0:
                return False
        self._silence = 0.0
        if self._connection not in ready:
            raise self._death()
        try:
            word, value = self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._death() from error
        self._note(word, value)
        return True

    def _note(self, word: str, value: Any) -> None:
        self._alive()
        if word == "begun":
            work, tickets = value
            self._begun[work] = tickets
        elif word == "ended":
            del self._begun[value]
        elif word == "failed":
            self._end()
            raise _Failed(value)
        elif word == "refused":
            self._end()
            raise value
        elif word == "done":
            ticket, outcome, at = value
            self._busy_seconds += max(0.0, at - self._busy_since)
            self._busy_since = max(self._busy_since, at)
            self._sent.discard(ticket)
            self._trial.answered(ticket)
            self._settle([(ticket, outcome), *self._trial.believed(self._pending)])

    def _bury(self, death: _Died) -> None:
        begun = {ticket for tickets in self._begun.values() for ticket in tickets}
        sent, self._sent, self._begun = sorted(self._sent), set(), {}
        self._trial.died(sent, begun, death.kind, str(death))
        self._settle(self._trial.believed(self._pending))

    def _settle(self, outcomes: Iterable[tuple[int, Transcript | Failure]]) -> None:
        for ticket, outcome in outcomes:
            audio = self._pending.pop(ticket)
            self._pending_seconds -= audio.duration
            self._results.append(Result(audio.recording, kept(audio, outcome), audio.duration, audio.flags))

    def _spawn(self) -> None:
        self._end()
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self._process = context.Process(
            target=engine_child.main,
            args=(theirs, os.getpid(), self._target, self._options, self._verb),
            name="dayscribe-engine",
        )
        self._keeper.submit(self._process.start).result()
        theirs.close()
        self._connection, self._told, self._silence = ours, False, 0.0
        self._sent, self._begun = set(), {}

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
