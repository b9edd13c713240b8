"""The process that renews a worker's leases: a long batch must not cost the lease, a stuck one must."""

from __future__ import annotations

import multiprocessing
import os
import time
from datetime import timedelta
from multiprocessing.connection import Connection

from db.errors import DayscribeError
from db.session import Session
from db.shards import renew

SHARE = 4  # renewals in one lease's time: three may fail before it lapses


class Renewer:
    """Holds (shard id, epoch) pairs for the worker. Renewing stops when no progress is reported for `stall` seconds."""

    def __init__(self, dsn: str, *, require_tls: bool, lease: timedelta, stall: timedelta) -> None:
        context = multiprocessing.get_context("spawn")
        self._held: dict[int, int] = {}
        self._lost: set[int] = set()
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_renew_until_closed, args=(theirs, dsn, require_tls, lease, stall), daemon=True, name="renewer"
        )
        self._process.start()
        theirs.close()

    def hold(self, shard_id: int, epoch: int) -> None:
        """Renew this lease from now on."""
        self._held[shard_id] = epoch
        self._lost.discard(shard_id)
        self.progress()

    def drop(self, shard_id: int) -> None:
        """Renew it no longer."""
        if self._held.pop(shard_id, None) is not None:
            self.progress()

    def progress(self) -> None:
        """Tell it what is held; that it is told at all is the sign of life."""
        try:
            self._pipe.send(dict(self._held))
        except OSError:
            self._lost |= self._held.keys()  # it is gone: the leases lapse, and others will take the shards

    def lost(self) -> set[int]:
        """Shards of ours that somebody else has taken."""
        try:
            while self._pipe.poll():
                self._lost |= self._pipe.recv() & self._held.keys()
        except (EOFError, OSError):
            self._lost |= self._held.keys()
        return self._lost

    def close(self) -> None:
        """End it; what is still held lapses by itself."""
        self._pipe.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()


def _renew_until_closed(pipe: Connection, dsn: str, require_tls: bool, lease: timedelta, stall: timedelta) -> None:
    session = Session(dsn, application="dayscribe-renewer", require_tls=require_tls)
    held: dict[int, int] = {}
    alive = time.monotonic()
    parent = os.getppid()
    pause = lease.total_seconds() / SHARE
    due = time.monotonic() + pause
    while os.getppid() == parent:
        if pipe.poll(max(0.0, due - time.monotonic())):
            try:
                held = pipe.recv()
            except EOFError:
                return
            alive = time.monotonic()
            continue
        due = time.monotonic() + pause
        if held and time.monotonic() - alive < stall.total_seconds():
            try:
                gone = held.keys() - session(renew, list(held.items()), lease=lease)
            except DayscribeError:
                continue  # the ledger is away or busy: the next turn tries again, and a lapsed lease is no disaster
            if gone:
                pipe.send(gone)
