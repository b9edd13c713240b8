"""The engine's own process: loads an engine by its import path, answers batches, and dies with its parent."""

from __future__ import annotations

import ctypes
import importlib
import os
import pickle
import signal
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.reduction import DupFd
from typing import Any, cast

import numpy as np

from db.errors import DayscribeError
from hpc.blame import blame
from hpc.engine_options import EngineOptions
from hpc.errors import BadSetting, UnknownName
from hpc.model import Audio, Failure, Recording, Transcript
from hpc.ports import Engine

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Desk:
    """A piece of shared memory that one side writes and the other reads, taking turns.

    Batches go through it rather than through the pipe, so that neither side can ever block on the other:
    a stopped child costs its batch, not the worker.
    """

    def __init__(self, fd: int | None = None) -> None:
        self.fd = os.memfd_create("dayscribe-engine") if fd is None else fd

    def write(self, *blocks: bytes | memoryview) -> int:
        """Replace what lies here; return its size."""
        os.ftruncate(self.fd, 0)
        os.lseek(self.fd, 0, os.SEEK_SET)
        for block in blocks:
            rest = memoryview(block).cast("B")
            while rest:
                rest = rest[os.write(self.fd, rest) :]
        return os.lseek(self.fd, 0, os.SEEK_CUR)

    def read(self, size: int) -> bytearray:
        """Take what lies here, and leave the desk empty."""
        data = bytearray(size)
        view, at = memoryview(data), 0
        while at < size and (got := os.preadv(self.fd, [view[at:]], at)):
            at += got
        os.ftruncate(self.fd, 0)
        if at != size:
            raise EOFError(f"{at} of {size} bytes")
        return data

    def close(self) -> None:
        os.close(self.fd)

    def __reduce__(self) -> tuple[Any, ...]:
        return _adopt, (DupFd(self.fd),)


def _adopt(handle: Any) -> Desk:
    return Desk(handle.detach())


def pack(batch: Sequence[Audio]) -> list[bytes | memoryview]:
    """A batch as blocks: the size of the head, the head, and the samples as they are."""
    head = pickle.dumps([(audio.recording, len(audio.pcm), audio.flags) for audio in batch])
    samples = [np.ascontiguousarray(audio.pcm).data.cast("B") for audio in batch if len(audio.pcm)]
    return [len(head).to_bytes(8, "little"), head, *samples]


def unpack(data: bytes | bytearray) -> list[Audio]:
    """The batch that `pack` packed; its arrays share the memory of `data`."""
    at = 8 + int.from_bytes(data[:8], "little")
    head: list[tuple[Recording, int, tuple[str, ...]]] = pickle.loads(data[8:at])  # noqa: S301 - from our own parent
    batch = []
    for recording, count, flags in head:
        batch.append(Audio(recording, np.frombuffer(data, np.int16, count, at), flags))
        at += 2 * count
    return batch


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


def main(connection: Connection, desk: Desk, parent: int, target: str, options: EngineOptions) -> None:
    """Say "ready" or "refused", then answer each batch with "done" or "failed" until told to stop."""
    _die_with(parent)
    # A Ctrl-C or a scheduler's warning reaches the whole group; the worker decides when its engine stops.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.dup2(2, 1)  # libraries print; the worker's standard output is not theirs
    try:
        engine = load(target, options)
    except DayscribeError as error:
        connection.send(("refused", _portable(error)))
        return
    except Exception as error:  # noqa: BLE001 - a library, the driver, a full disk: the parent must hear of it
        connection.send(("failed", blame(error)))
        return
    connection.send(("ready", (0, 0.0)))
    while (size := connection.recv()) is not None:
        connection.send(_answer(engine, desk, size))


def _answer(engine: Engine, desk: Desk, size: int) -> tuple[str, Any]:
    try:
        batch = unpack(desk.read(size))
        begun = time.monotonic()
        answers: list[Transcript | Failure] = list(engine.transcribe(batch))
        busy = time.monotonic() - begun
        if len(answers) != len(batch):
            return "failed", f"The engine gave {len(answers)} answers for {len(batch)} recordings."
        return "done", (desk.write(pickle.dumps(answers)), busy)
    except DayscribeError as error:
        return "refused", _portable(error)
    except Exception as error:  # noqa: BLE001 - a bug of the engine's is a bad batch, not the end of the child
        return "failed", f"The engine failed: {blame(error)}"


def _portable(error: DayscribeError) -> DayscribeError:
    """The same error without what cannot travel between processes: causes and tracebacks."""
    return type(error)(str(error))


def _die_with(parent: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        sys.exit(0)
