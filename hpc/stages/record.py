"""What becomes of results: gathered per shard, published as parts, recorded; the last part settles the shard."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from db.errors import LeaseLost, LedgerAway, TryAgain
from db.parts import Recorded
from hpc.model import Failure, Result, Run, Seal, Unsealed
from hpc.ports import Lease
from hpc.stages.publish import header_of, sweep, write_part


class SealRefused(TryAgain):
    """The shard's recordings do not add up yet; it will be read again."""


@dataclass(slots=True)
class Tally:
    """What one worker has done so far."""

    transcribed: int = 0
    no_speech: int = 0
    quarantined: int = 0
    shards: int = 0  # settled by us
    failed_shards: int = 0
    stale: int = 0  # results taken, but the shard was somebody else's by then
    audio_seconds: float = 0.0
    bytes: int = 0  # of the archives that were read to their end
    failures: list[str] = field(default_factory=list)  # one sentence for each failed shard

    def count(self, result: Result) -> None:
        self.audio_seconds += result.duration or 0.0
        if isinstance(result.outcome, Failure):
            self.quarantined += 1
        elif result.outcome.text:
            self.transcribed += 1
        else:
            self.no_speech += 1


@dataclass(slots=True)
class _Open:
    """A shard's results that are not in a part yet."""

    lease: Lease
    results: list[Result] = field(default_factory=list)
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A published part that the ledger has not recorded yet."""

    path: Path
    lease: Lease
    sealed: bool


class Recorder:
    """Takes the stream's end. `record` writes a part into the ledger; while that is away, parts wait on disk."""

    def __init__(
        self,
        results: Path,
        run: Run,
        record: Callable[[Path], Recorded],
        *,
        recordings: int,
        seconds: float,
        busy: Callable[[], float],
    ) -> None:
        self.tally = Tally()
        self._results, self._run, self._record, self._busy = results, run, record, busy
        self._recordings, self._seconds = recordings, seconds
        self._open: dict[int, _Open] = {}
        self._waiting: list[_Waiting] = []
        self._spent = 0.0

    def expect(self, lease: Lease) -> bool:
        """The shard's results will come. False when they are on their way already: our lease had lapsed and has come
        back to us, and what is on its way goes on under the new epoch."""
        if shard := self._open.get(lease.shard.id):
            shard.lease = lease
            return False
        self._open[lease.shard.id] = _Open(lease)
        return True

    def take(self, item: Result | Seal | Unsealed) -> None:
        """One item of the stream, in its order."""
        if isinstance(item, Result):
            shard = self._open[item.recording.shard_id]
            shard.since = shard.since or time.monotonic()
            shard.results.append(item)
            self.tally.count(item)
            if len(shard.results) >= self._recordings or time.monotonic() - shard.since > self._seconds:
                self._publish(shard, None)
        elif isinstance(item, Seal):
            self.tally.bytes += item.size
            self._publish(self._open.pop(item.shard_id), item)
        else:
            self._end(self._open.pop(item.shard_id), item.error)

    def finish(self) -> None:
        """Publish what is left of shards that nothing more will come of, and give them back."""
        for shard in list(self._open.values()):
            self._end(shard, None)
        self._open.clear()

    @property
    def waiting(self) -> int:
        """How many published parts the ledger has not recorded yet."""
        return len(self._waiting)

    def _publish(self, shard: _Open, seal: Seal | None) -> None:
        busy = self._busy()
        header = header_of(self._run, shard.lease.shard, shard.lease.epoch, busy - self._spent)
        batch, self._spent, shard.results, shard.since = shard.results, busy, [], 0.0
        try:
            path = write_part(self._results, header, batch, seal)
        except LeaseLost:  # settled by another, who has every result: ours are a second copy
            self.tally.stale += 1
            shard.lease.forget()
            return
        self._waiting.append(_Waiting(path, shard.lease, seal is not None))
        with contextlib.suppress(LedgerAway):  # law 1: work goes on, the parts are recorded later by the same code
            self.flush()

    def flush(self) -> None:
        """Record what waits, in order. LedgerAway leaves the rest waiting."""
        while self._waiting:
            part = self._waiting[0]
            recorded = self._record(part.path)
            self._waiting.pop(0)
            if part.sealed:
                self._close(part.lease, recorded)

    def _close(self, lease: Lease, recorded: Recorded) -> None:
        if recorded.settled or not recorded.new:
            self.tally.shards += 1
            lease.forget()
            sweep(self._results, lease.shard, lease.epoch)
        elif recorded.stale:
            self.tally.stale += 1
            lease.forget()
        else:
            _quietly(lease.fail, SealRefused())

    def _end(self, shard: _Open, error: Exception | None) -> None:
        """The shard ends without a seal: keep what was done of it, then give it back or fail it."""
        if error is None or isinstance(error, TryAgain | OSError):
            if shard.results:
                self._publish(shard, None)
            _quietly(shard.lease.release) if error is None else _quietly(shard.lease.fail, error)
            return
        self.tally.failed_shards += 1
        self.tally.failures.append(f"{shard.lease.shard.name}: {error}")
        _quietly(shard.lease.fail, error)


def _quietly(close: Callable[..., None], *args: Exception) -> None:
    """Close a lease. If it is lost, or the ledger away, it lapses by itself and the shard is taken again."""
    with contextlib.suppress(LeaseLost, LedgerAway):
        close(*args)
