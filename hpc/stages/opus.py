"""Decoded samples to Opus in Ogg: 16 kHz mono speech, the same samples always to the same bytes."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from numpy.typing import NDArray

from hpc.model import SAMPLE_RATE

_BITEXACT = {"fflags": "+bitexact"}  # else Ogg's stream number is one by chance


def encode(pcm: NDArray[np.int16], *, kbit: int) -> bytes:
    """The recording as an .opus file."""
    with io.BytesIO() as out:
        with av.open(out, "w", format="opus", options=_BITEXACT) as container:
            options = {"application": "voip", "threads": "1", "flags": "+bitexact"}
            stream: Any = container.add_stream("libopus", rate=SAMPLE_RATE, layout="mono", options=options)
            stream.bit_rate = kbit * 1000
            stream.format = "s16"
            frame = AudioFrame.from_ndarray(np.ascontiguousarray(pcm[np.newaxis]), format="s16", layout="mono")
            frame.sample_rate = SAMPLE_RATE
            frame.pts = 0
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return out.getvalue()


@contextmanager
def encoders(count: int) -> Iterator[Executor]:
    """Processes that encode: in threads it would be one at a time, since PyAV holds Python's lock."""
    pool = ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"), initializer=_end_with_parent)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """A killed command leaves nobody who waits for work for ever; a stop is the parent's to answer."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
