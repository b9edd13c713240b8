"""A contestant's own process: loads it, lets it hear one clip, then all of them under the clock."""

from __future__ import annotations

import importlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from db.errors import DayscribeError
from hpc.bench import machine
from hpc.blame import blame
from hpc.engine_options import EngineOptions
from hpc.model import Audio, Failure, Recording, Transcript
from hpc.stages.engine_child import load

Outcome = Transcript | Failure
# Left to themselves the libraries take as many threads as each thinks right, whatever this shell was told.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Contestant(Protocol):
    """What takes part. It is made with the options, and that is its loading."""

    batch_size: int

    def hear(self, audios: Sequence[Audio], done: Callable[[], None]) -> list[Outcome]:
        """What it hears in each, in their order; `done` is called once for each."""

    def counts(self) -> Mapping[str, int]:
        """What its model was asked so far."""

    def stages(self) -> Mapping[str, float]:
        """CPU seconds so far, by what was done."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a contestant's process is told; its samples lie in one file, one recording after the other."""

    target: str  # import path
    engine: bool  # one of ours, which is fed as a worker feeds it
    options: EngineOptions
    samples: Path
    lengths: tuple[int, ...]
    warm_up: int  # which clip
    room: tuple[int, float] = (0, 0.0)  # recordings and seconds of audio that an engine holds at most

    def audios(self) -> list[Audio]:
        whole = np.fromfile(self.samples, np.int16)
        ends = np.cumsum(self.lengths)
        return [
            Audio(Recording(0, at, b"%d" % at, 2 * length, b""), whole[end - length : end])
            for at, (length, end) in enumerate(zip(self.lengths, ends, strict=True))
        ]


def main(connection: Connection, job: Job) -> None:
    """Says "step" for each clip, and at the end "done" with the measures, or "refused"."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started us ends us
    os.dup2(2, 1)  # libraries print
    for name in THREADS:
        os.environ.pop(name, None)
    try:
        connection.send(("done", _measured(job, lambda: connection.send(("step", None)))))
    except DayscribeError as error:
        connection.send(("refused", type(error)(str(error))))
    except Exception as error:  # noqa: BLE001 - a library's; the parent says whose
        connection.send(("failed", blame(error)))
    connection.close()
    os._exit(0)


def _measured(job: Job, step: Callable[[], None]) -> dict[str, Any]:
    audios = job.audios()
    began = time.monotonic()
    contestant = _contestant(job)
    loaded = time.monotonic()
    contestant.hear([audios[job.warm_up]], lambda: None)
    counts, stages = dict(contestant.counts()), dict(contestant.stages())
    warm = time.monotonic()
    with machine.GpuBusy(wanted=job.options.device != "cpu") as gpu:
        cpu, (every, stolen), start = machine.cpu_seconds(), machine.whole_machine(), time.monotonic()
        outcomes = contestant.hear(audios, step)
        wall, cpu = time.monotonic() - start, machine.cpu_seconds() - cpu
        every, stolen = (now - then for now, then in zip(machine.whole_machine(), (every, stolen), strict=True))
    return {
        "load_seconds": loaded - began,
        "warm_up_seconds": warm - loaded,
        "wall_seconds": wall,
        "cpu_seconds": cpu,
        "others_cpu_seconds": max(0.0, every - cpu),
        "stolen_cpu_seconds": stolen,
        "peak_megabytes": machine.peak_megabytes(),
        "gpu_busy": gpu.share,
        "batch_size": contestant.batch_size,
        "counts": {name: count - counts.get(name, 0) for name, count in contestant.counts().items()},
        "stages": {name: spent - stages.get(name, 0.0) for name, spent in contestant.stages().items()},
        "answers": [asdict(outcome) for outcome in outcomes],
    }


def _contestant(job: Job) -> Contestant:
    if job.engine:
        return _Ours(job)
    module, _, name = job.target.partition(":")
    made: Contestant = getattr(importlib.import_module(module), name)(job.options)
    return made


class _Ours:
    """An engine of ours, fed as a worker feeds it: no more at a time than it may hold, a lull at the end."""

    def __init__(self, job: Job) -> None:
        self._engine: Any = load(job.target, job.options)
        self._room, self.batch_size = job.room, job.options.batch_size

    def hear(self, audios: Sequence[Audio], done: Callable[[], None]) -> list[Outcome]:
        feed = _Feed(audios, *self._room)
        outcomes: dict[int, Outcome] = {}
        for audio, outcome in self._engine.transcribe(feed.stream(), lambda _: nullcontext()):
            outcomes[id(audio)] = outcome
            feed.answered(audio)
            done()
        return [outcomes[id(audio)] for audio in audios]

    def counts(self) -> Mapping[str, int]:
        counts = getattr(getattr(self._engine, "generation", None), "counts", None)
        if counts is None:
            return {}
        return {
            "generate_calls": counts.generate_calls,
            "chunks": counts.chunks,
            "steps": counts.steps,
            "language_calls": counts.detect_calls,
            "halvings": counts.halvings,
        }

    def stages(self) -> Mapping[str, float]:
        clock = getattr(self._engine, "clock", None)
        return dict(clock.seconds) if clock else {}


@dataclass
class _Feed:
    """What of the clips an engine has not answered yet."""

    audios: Sequence[Audio]
    recordings: int
    seconds: float
    _held: int = 0
    _held_seconds: float = 0.0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def stream(self) -> Iterator[Audio | None]:
        for audio in self.audios:
            with self._changed:
                self._changed.wait_for(partial(self._has_room_for, audio))
                self._held += 1
                self._held_seconds += audio.duration
            yield audio
        yield None

    def answered(self, audio: Audio) -> None:
        with self._changed:
            self._held -= 1
            self._held_seconds -= audio.duration
            self._changed.notify()

    def _has_room_for(self, audio: Audio) -> bool:
        if not self._held:
            return True
        return self._held < self.recordings and self._held_seconds + audio.duration <= self.seconds
