"""The process that renews a worker's leases: a long batch must not cost the lease, a stuck one must."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from ctypes import c_double
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any

from db.errors import DayscribeError
from db.session import Session

SHARE = 4  # renewals in one lease's time: three may fail before it lapses


@dataclass(frozen=True, slots=True)
class _Terms:
    """Where to renew, for how long, and how long without progress."""

    dsn: str
    require_tls: bool
    lease: timedelta
    stall: timedelta
    renew: Callable[..., set[int]]


class Renewer:
    """Holds (shard id, epoch) pairs for the worker. Renewing stops when no progress is reported for `stall` seconds."""

    def __init__(
        self, dsn: str, *, require_tls: bool, lease: timedelta, stall: timedelta, renew: Callable[..., set[int]]
    ) -> None:
        self._context = multiprocessing.get_context("spawn")
        # The time of the last progress lies in shared memory, by the machine's clock: telling it can never block.
        self._alive = self._context.RawValue(c_double, time.monotonic())
        self._terms = _Terms(dsn, require_tls, lease, stall, renew)
        self._held: dict[int, int] = {}
        self._lost: set[int] = set()
        self._start()

    def hold(self, shard_id: int, epoch: int) -> None:
        """Renew this lease from now on."""
        self._held[shard_id] = epoch
        self._lost.discard(shard_id)
        self.progress()
        self._tell()

    def drop(self, shard_id: int, epoch: int) -> None:
        """Renew it no longer, unless it is held under a newer epoch by now."""
        if self._held.get(shard_id) == epoch:
            del self._held[shard_id]
            self.progress()
            self._tell()

    def progress(self) -> None:
        """A sign of life."""
        self._alive.value = time.monotonic()

    def lost(self) -> set[int]:
        """Shards of ours that somebody else has taken."""
        try:
            while self._pipe.poll():
                self._lost |= {shard for shard, epoch in self._pipe.recv() if self._held.get(shard) == epoch}
        except (EOFError, OSError):
            self._start()
            self._tell()
        return self._lost

    def close(self) -> None:
        """End it; what is still held lapses by itself."""
        self._pipe.close()
        self._process.kill()  # it has nothing to tidy up
        self._process.join()

    def _tell(self) -> None:
        try:
            self._pipe.send(self._held)
        except OSError:  # somebody has killed it: another takes its place, and will say what lapsed meanwhile
            self._start()
            self._pipe.send(self._held)

    def _start(self) -> None:
        self._pipe, theirs = self._context.Pipe()
        self._process = self._context.Process(
            target=_renew_until_closed, args=(theirs, self._alive, self._terms), daemon=True, name="renewer"
        )
        self._process.start()
        theirs.close()


def _renew_until_closed(pipe: Connection, alive: Any, terms: _Terms) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # they reach the whole group; the worker decides when its leases end
    session = Session(terms.dsn, application="dayscribe-renewer", require_tls=terms.require_tls)
    held: dict[int, int] = {}
    parent = os.getppid()
    pause = terms.lease.total_seconds() / SHARE
    due = time.monotonic() + pause
    while os.getppid() == parent:
        try:
            if pipe.poll(max(0.0, due - time.monotonic())):
                held = pipe.recv()
                continue
            due = time.monotonic() + pause
            if held and time.monotonic() - alive.value < terms.stall.total_seconds():
                gone = held.keys() - session(terms.renew, list(held.items()), lease=terms.lease)
                if gone:
                    pipe.send([(shard, held[shard]) for shard in gone])
        except (EOFError, OSError):
            return
        except DayscribeError:
            continue  # the ledger is away or busy: the next turn tries again, and a lapsed lease is no disaster
