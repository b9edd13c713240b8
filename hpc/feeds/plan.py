"""Shards out of a job's order: the feed of a task that reaches no ledger. A tick leased them for the job."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from db.errors import BadData, NeedsConfiguration
from db.printable import printable
from hpc.errors import ArchiveDamaged, kind_of
from hpc.job_folder import FailedShard, JobFolder, Order, PlannedShard
from hpc.model import Shard
from hpc.ports import Lease


@dataclass(frozen=True, slots=True)
class PlanLease:
    """One shard of the task's share, under the epoch of the order. Failures become files, which a tick reads."""

    planned: PlannedShard
    shard: Shard
    known: Mapping[int, bytes]
    folder: JobFolder
    wanted: Set[int] | None = None
    said: Mapping[int, Mapping[str, Any]] | None = None

    @property
    def epoch(self) -> int:
        return self.planned.epoch

    def fail(self, error: Exception) -> None:
        """Bad data ends the shard; whatever may pass is left open: the tick gives it to the next job."""
        if isinstance(error, BadData | NeedsConfiguration):
            kind, reason, discard = kind_of(error), printable(str(error)), isinstance(error, ArchiveDamaged)
            self.folder.fail(FailedShard(self.planned.id, self.planned.epoch, kind, reason, discard))

    def release(self) -> None:
        """Nothing to say: what no part seals is given to the next job."""

    def forget(self) -> None:
        """Nobody renews it here; the tick does, for the whole job."""


class PlanFeed:
    """The share of one task: every n-th shard of the order, those that are sealed by a part or failed left out.

    `published` says of a shard what lies on disk already: the recordings in its parts, and whether one has its seal.
    """

    def __init__(
        self,
        order: Order,
        folder: JobFolder,
        *,
        task: int,
        published: Callable[[PlannedShard], tuple[Mapping[int, bytes], bool]],
        may_claim: Callable[[], bool],
    ) -> None:
        self._order, self._folder, self._published, self._may_claim = order, folder, published, may_claim
        failed = {(one.shard_id, one.epoch) for one in folder.failures()}
        self._left = [one for one in order.share(task) if (one.id, one.epoch) not in failed]
        self.owner = f"job:{order.token}"

    def waits(self) -> bool:
        """Whether a shard of the share is left that no part seals."""
        while self._left and self._may_go_on():
            if not self._published(self._left[0])[1]:
                return True
            self._left.pop(0)
        return False

    def claim(self, count: int) -> Sequence[Lease]:
        """The next shards of the share."""
        found: list[Lease] = []
        while self._left and len(found) < count and self._may_go_on():
            planned = self._left.pop(0)
            published, sealed = self._published(planned)
            if not sealed:
                known = {ordinal: bytes.fromhex(digest) for ordinal, digest in planned.known.items()}
                wanted = None if planned.wanted is None else frozenset(planned.wanted) - published.keys()
                said = None if self._order.text is None else self._folder.said(planned)
                found.append(
                    PlanLease(planned, self._shard(planned), known | dict(published), self._folder, wanted, said)
                )
        return found

    def _may_go_on(self) -> bool:
        """There is time, and nobody has taken the order back: of a plan that is paused nothing more is begun."""
        return self._may_claim() and not self._folder.superseded()

    def lost(self) -> Set[int]:
        return frozenset()

    def progress(self) -> None:
        """Nobody has to be told: the tick sees the job."""

    @property
    def left(self) -> int:
        """Shards that were not begun."""
        return len(self._left)

    def _shard(self, planned: PlannedShard) -> Shard:
        day = self._order.day
        assert day is not None
        assert self._order.site is not None
        files = tuple(Path(os.fsdecode(os.fsencode(name))) for name in planned.files)
        return Shard(
            planned.id, self._order.site, day, planned.name, files, planned.slot, planned.loose, self._order.plan_id
        )
