"""The engine's own process: loads an engine by its import path, answers a stream of audio, and dies with its parent."""

from __future__ import annotations

import ctypes
import importlib
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from multiprocessing.connection import Connection
from typing import Any, cast

from db.errors import DayscribeError
from hpc.blame import blame
from hpc.engine_options import EngineOptions
from hpc.errors import BadSetting, UnknownName
from hpc.model import Audio
from hpc.ports import Engine
from hpc.stages import engine_wire

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def load(target: str, options: EngineOptions) -> Engine:
    """Make the engine that an import path such as "hpc.engines.echo:EchoEngine" names."""
    module_name, _, name = target.partition(":")
    try:
        make = getattr(importlib.import_module(module_name), name)
    except (ModuleNotFoundError, AttributeError, ValueError) as error:
        raise UnknownName(f"There is no engine {target!r} ({error}).") from error
    try:
        return cast(Engine, make(options))
    except ImportError as error:
        raise BadSetting(
            f"The engine {target!r} needs a library that is not installed: {error}. "
            "Install this project with its extra 'speech' (make demo does)."
        ) from error


def main(connection: Connection, parent: int, target: str, options: EngineOptions, verb: str) -> None:
    """Say "ready" or "refused", then "done" for each recording, or "failed", until told to stop."""
    _die_with(parent)
    # A Ctrl-C or a scheduler's warning reaches the whole group; the worker decides when its engine stops.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.dup2(2, 1)  # libraries print; the worker's standard output is not theirs
    engine_wire.allow_many()
    talk = _Talk(connection)
    try:
        answers = getattr(load(target, options), verb)
        talk.say("ready", None)
        for audio, outcome in answers(talk.audios(), talk.at_work):
            talk.say("done", (talk.ticket(audio, done=True), outcome, time.monotonic()))
    except DayscribeError as error:
        talk.say("refused", type(error)(str(error)))  # without what cannot travel: causes and tracebacks
    except Exception as error:  # noqa: BLE001 - a library, the driver, a full disk: the parent must hear of it
        talk.say("failed", blame(error))
    os._exit(0)  # whatever threads the libraries still run have nothing left to say


@dataclass(slots=True)
class _Talk:
    """The child's end of the wire. Threads of the engine speak through it, too."""

    connection: Connection
    _speaking: threading.Lock = field(default_factory=threading.Lock)
    _tickets: dict[int, int] = field(default_factory=dict)  # id() of an Audio that the engine has → its ticket
    _works: Iterator[int] = field(default_factory=count)

    def say(self, word: str, value: Any) -> None:
        with self._speaking:
            self.connection.send((word, value))

    def ticket(self, audio: Audio, *, done: bool = False) -> int:
        return self._tickets.pop(id(audio)) if done else self._tickets[id(audio)]

    def audios(self) -> Iterator[Audio | None]:
        """What the parent sends; None when it says that there is no more for now."""
        came: queue.SimpleQueue[tuple[int, Audio] | Exception | None] = queue.SimpleQueue()
        threading.Thread(target=self._listen, args=(came,), daemon=True).start()
        while True:
            item = came.get()
            if isinstance(item, EOFError):
                return
            if isinstance(item, Exception):
                raise item
            if item is None:
                yield None
            else:
                ticket, audio = item
                self._tickets[id(audio)] = ticket
                yield audio
                del audio, item  # the engine alone keeps it now

    def _listen(self, came: queue.SimpleQueue[tuple[int, Audio] | Exception | None]) -> None:
        try:
            while (said := self.connection.recv()) != engine_wire.STOP:
                came.put(None if said == engine_wire.LULL else engine_wire.receive(self.connection, said))
            came.put(EOFError())
        except Exception as error:  # noqa: BLE001 - raised again where the stream is read
            came.put(error)

    @contextmanager
    def at_work(self, audios: Sequence[Audio]) -> Iterator[None]:
        """Told before the work: if this process does not survive it, its parent knows whose doing it may be."""
        work = next(self._works)
        self.say("begun", (work, [self.ticket(audio) for audio in audios]))
        yield
        self.say("ended", work)  # not if it raised: then they stay at work, and it is held against them


def _die_with(parent: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        sys.exit(0)
