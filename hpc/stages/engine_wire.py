"""How audio travels to the engine's process: samples in shared memory, one piece a recording, and a short word.

Nothing long goes through the pipe in this direction, so a child that is stopped never blocks its parent.
"""

from __future__ import annotations

import mmap
import os
import pickle
import resource
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpc.model import Audio

STOP, LULL = "stop", "lull"  # no more will ever come; nothing more for now


def allow_many() -> None:
    """Each recording in memory that two processes see is an open file in both."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def send(connection: Connection, pid: int, ticket: int, audio: Audio) -> Audio:
    """Hand the recording to process `pid`; the same recording, its samples now in the memory that both see. What was
    said in it lies behind them."""
    size, said = audio.pcm.nbytes, b"" if audio.said is None else pickle.dumps(audio.said)
    if not size:
        connection.send((ticket, audio.recording, 0, 0, audio.flags))
        return audio
    piece = os.memfd_create("dayscribe-audio")
    try:
        os.ftruncate(piece, size)
        shared = _samples(piece, size, writable=True)
        shared[:] = audio.pcm
        os.pwrite(piece, said, size)
        connection.send((ticket, audio.recording, size, len(said), audio.flags))
        send_handle(connection, piece, pid)
    finally:
        os.close(piece)
    return replace(audio, pcm=shared)


def receive(connection: Connection, said: Any) -> tuple[int, Audio]:
    """The ticket and the recording that `send` announced with `said`."""
    ticket, recording, size, words, flags = said
    if not size:
        return ticket, Audio(recording, np.zeros(0, np.int16), flags)
    piece = recv_handle(connection)
    try:
        heard = pickle.loads(os.pread(piece, words, size)) if words else None  # noqa: S301 - our parent wrote it
        return ticket, Audio(recording, _samples(piece, size, writable=False), flags, heard)
    finally:
        os.close(piece)


def _samples(piece: int, size: int, *, writable: bool) -> NDArray[np.int16]:
    """Memory that stays as long as the array does; Python keeps a descriptor of its own for it."""
    access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
    return np.frombuffer(mmap.mmap(piece, size, access=access), np.int16)
