"""Shards leased from the ledger: the feed of a worker that can reach the database."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from db import shards
from db.errors import BadData, NeedsConfiguration
from db.session import Session, patiently
from hpc.errors import ArchiveDamaged, kind_of
from hpc.feeds.ledger.desk import Desk
from hpc.feeds.ledger.renewer import Renewer
from hpc.model import Shard
from hpc.ports import Lease

RETRY_AFTER = timedelta(seconds=30)  # before a shard that failed for a passing reason is tried again


@dataclass(frozen=True, slots=True)
class LedgerLease:
    """One shard under its epoch."""

    leased: shards.Leased
    feed: LedgerFeed

    @property
    def shard(self) -> Shard:
        held = self.leased
        files = tuple(Path(held.staged) / os.fsdecode(path) for path in held.paths)
        return Shard(held.id, held.site, held.date, held.name, files, held.slot, held.loose, held.plan_id)

    @property
    def epoch(self) -> int:
        return self.leased.epoch

    @property
    def known(self) -> Mapping[int, bytes]:
        return self.leased.known

    @property
    def wanted(self) -> Set[int] | None:
        return self.leased.wanted

    @property
    def said(self) -> Mapping[int, Mapping[str, Any]] | None:
        return self.leased.said

    def fail(self, error: Exception) -> None:
        """Bad data ends the shard (a damaged archive takes its provisional results with it); anything else waits."""
        self.forget()
        where, actor = (self.leased.id, self.leased.epoch), self.feed.owner
        failure = (kind_of(error), str(error))
        if isinstance(error, BadData | NeedsConfiguration):
            discard = isinstance(error, ArchiveDamaged)
            self.feed.session(self.feed.desk.fail, *where, failure=failure, actor=actor, discard=discard)
        else:
            self.feed.session(self.feed.desk.put_back, *where, failure=failure, wait=RETRY_AFTER, actor=actor)

    def release(self) -> None:
        self.forget()
        self.feed.session(self.feed.desk.release, self.leased.id, self.leased.epoch)

    def forget(self) -> None:
        self.feed.renewer.drop(self.leased.id, self.leased.epoch)


class LedgerFeed:
    """Claims shards at a desk: those of open days, oldest first, or those of a plan."""

    def __init__(
        self,
        session: Session,
        renewer: Renewer,
        *,
        lease: timedelta,
        patience: float,
        stop: Callable[[], bool],
        desk: Desk,
        may_claim: Callable[[], bool] = lambda: True,
    ) -> None:
        self.session, self.renewer, self.lease, self.desk = session, renewer, lease, desk
        self.patience, self.stop, self.may_claim = patience, stop, may_claim
        self.owner = f"{socket.gethostname()}:{os.getpid()}"

    def waits(self) -> bool:
        """Whether a claim would find something, or something to give up; an absent ledger is waited for."""
        if not self.may_claim():
            return False
        return patiently(lambda: self.session(self.desk.waits), seconds=self.patience, stop=self.stop)

    def claim(self, count: int) -> Sequence[Lease]:
        """Lease up to `count` shards; an absent ledger is waited for. None when the time for new ones is over."""
        if not self.may_claim():
            return []

        def claim() -> list[shards.Leased]:
            return self.session(self.desk.claim, owner=self.owner, count=count, lease=self.lease)

        leased = patiently(claim, seconds=self.patience, stop=self.stop)
        for shard in leased:
            self.renewer.hold(shard.id, shard.epoch)
        return [LedgerLease(shard, self) for shard in leased]

    def lost(self) -> Set[int]:
        return self.renewer.lost()

    def progress(self) -> None:
        self.renewer.progress()
