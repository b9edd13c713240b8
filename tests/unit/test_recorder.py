"""The recorder: parts wait while the ledger is away, a lease that comes back is adopted, a swept part is no crash."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import pytest

from db import faults
from db.errors import LeaseLost, LedgerAway
from db.parts import Recorded
from db.states import FailureClass
from hpc.errors import ArchiveDamaged
from hpc.model import Failure, Recording, Result, Run, Seal, Segment, Shard, Transcript, Unsealed
from hpc.stages.publish import folder_of, read_part
from hpc.stages.record import Recorder

DAY = date(2025, 1, 1)
SETTLED, TAKEN, STALE = Recorded(True, True, False), Recorded(True, False, False), Recorded(True, False, True)


@dataclass
class Held:
    """A lease that remembers how it was closed."""

    shard: Shard
    epoch: int = 1
    known: dict[int, bytes] = field(default_factory=dict)
    closed: list[str] = field(default_factory=list)
    lost: bool = False

    def fail(self, error: Exception) -> None:
        self._close(type(error).__name__)

    def release(self) -> None:
        self._close("released")

    def forget(self) -> None:
        self.closed.append("forgotten")

    def _close(self, how: str) -> None:
        if self.lost:
            raise LeaseLost
        self.closed.append(how)


class Ledger:
    """Takes parts, or is away."""

    def __init__(self) -> None:
        self.away = False
        self.answers: list[Recorded] = []
        self.parts: list[Path] = []

    def record(self, path: Path) -> Recorded:
        if self.away:
            raise LedgerAway
        self.parts.append(path)
        part = read_part(path)
        return self.answers.pop(0) if self.answers else SETTLED if part.seal else TAKEN


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def recorder(ledger: Ledger, tmp_path: Path) -> Recorder:
    run = Run(b"k" * 16, {"engine": "none"})
    return Recorder(tmp_path, run, ledger.record, recordings=2, seconds=60.0, busy=lambda: 0.0)


def held(number: int = 1, epoch: int = 1) -> Held:
    return Held(Shard(number, "zurich", DAY, f"{number}.tar.xz", (Path("x"),)), epoch)


def result(shard: int, ordinal: int) -> Result:
    recording = Recording(shard, ordinal, b"x.mp3", 1, hashlib.sha256(b"%d" % ordinal).digest())
    return Result(recording, Transcript("en", (Segment("hello", 0.0, 1.0),)), 1.0)


def seal(shard: int, recordings: int) -> Seal:
    return Seal(shard, b"s" * 32, 1, recordings)


def said(parts: list[Path]) -> list[tuple[int, int, bool]]:
    """Epoch, results and whether sealed, of each part."""
    return [(p.header.epoch, len(p.results), p.seal is not None) for p in map(read_part, parts)]


def test_results_become_parts_and_the_last_one_carries_the_seal(recorder: Recorder, ledger: Ledger) -> None:
    lease = held()
    recorder.expect(lease)
    for ordinal in range(3):
        recorder.take(result(1, ordinal))
    recorder.take(seal(1, 3))
    assert said(ledger.parts) == [(1, 2, False), (1, 1, True)]
    assert lease.closed == ["forgotten"]
    assert (recorder.tally.shards, recorder.tally.transcribed) == (1, 3)


def test_the_tally_counts_each_outcome_as_what_it_is(recorder: Recorder) -> None:
    recorder.expect(held())
    recorder.take(result(1, 0))
    recorder.take(Result(result(1, 1).recording, Transcript(None, ()), 1.0))
    recorder.take(Result(result(1, 2).recording, Failure(FailureClass.EMPTY, "nothing")))
    tally = recorder.tally
    assert (tally.transcribed, tally.no_speech, tally.quarantined, tally.audio_seconds) == (1, 1, 1, 2.0)


def test_parts_wait_while_the_ledger_is_away_and_are_recorded_in_order(recorder: Recorder, ledger: Ledger) -> None:
    first, second = held(1), held(2)
    recorder.expect(first)
    recorder.expect(second)
    ledger.away = True
    recorder.take(result(1, 0))
    recorder.take(seal(1, 1))
    recorder.take(result(2, 0))
    recorder.take(result(2, 1))
    assert (recorder.waiting, recorder.tally.shards, first.closed) == (2, 0, [])
    with pytest.raises(LedgerAway):
        recorder.flush()
    ledger.away = False
    recorder.flush()
    assert [read_part(path).header.shard_id for path in ledger.parts] == [1, 2]
    assert (recorder.waiting, recorder.tally.shards, first.closed) == (0, 1, ["forgotten"])


def test_a_shard_that_comes_back_while_it_is_worked_goes_on_under_its_new_epoch(
    recorder: Recorder, ledger: Ledger
) -> None:
    """The worker was frozen, its lease lapsed, and it was the first to claim the shard again."""
    before, after = held(epoch=1), held(epoch=2)
    assert recorder.expect(before)
    recorder.take(result(1, 0))
    recorder.take(result(1, 1))
    assert not recorder.expect(after)
    recorder.take(result(1, 2))
    recorder.take(seal(1, 3))
    assert said(ledger.parts) == [(1, 2, False), (2, 1, True)]
    assert (before.closed, after.closed) == ([], ["forgotten"])
    assert recorder.expect(held(epoch=3))


def test_a_part_swept_by_a_successor_is_a_lost_lease_and_no_crash(
    recorder: Recorder, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker was frozen amid a part; another settled the shard and swept up what crashes had left."""

    def swept(name: str) -> None:
        if name == "publish.fsynced" and not ledger.parts:
            for left in folder_of(tmp_path, "zurich", DAY).glob(".tmp-1-*"):
                left.unlink()

    lost, other = held(1), held(2)
    recorder.expect(lost)
    recorder.expect(other)
    monkeypatch.setattr(faults, "point", swept)
    recorder.take(result(1, 0))
    recorder.take(seal(1, 1))
    assert (lost.closed, recorder.tally.stale) == (["forgotten"], 1)
    monkeypatch.undo()
    recorder.take(seal(2, 0))
    assert (other.closed, recorder.tally.shards) == (["forgotten"], 1)


def test_a_seal_that_comes_too_late_is_counted_and_the_lease_forgotten(recorder: Recorder, ledger: Ledger) -> None:
    lease = held()
    recorder.expect(lease)
    ledger.answers = [STALE]
    recorder.take(seal(1, 0))
    assert (lease.closed, recorder.tally.stale, recorder.tally.shards) == (["forgotten"], 1, 0)


def test_a_refused_seal_puts_the_shard_back(recorder: Recorder, ledger: Ledger) -> None:
    lease = held()
    recorder.expect(lease)
    ledger.answers = [TAKEN]
    recorder.take(seal(1, 0))
    assert (lease.closed, recorder.tally.shards) == (["SealRefused"], 0)


def test_a_damaged_archive_fails_its_shard_and_publishes_nothing_more(recorder: Recorder, ledger: Ledger) -> None:
    lease = held()
    recorder.expect(lease)
    recorder.take(result(1, 0))
    recorder.take(Unsealed(1, ArchiveDamaged("a bit is wrong")))
    assert (ledger.parts, lease.closed) == ([], ["ArchiveDamaged"])
    assert (recorder.tally.failed_shards, recorder.tally.failures) == (1, ["1.tar.xz: a bit is wrong"])


@pytest.mark.parametrize(("error", "how"), [(None, "released"), (OSError(5, "Input/output error"), "OSError")])
def test_a_shard_that_ends_early_keeps_what_was_done(
    recorder: Recorder, ledger: Ledger, error: OSError | None, how: str
) -> None:
    lease = held()
    recorder.expect(lease)
    recorder.take(result(1, 0))
    recorder.take(Unsealed(1, error))
    assert said(ledger.parts) == [(1, 1, False)]
    assert lease.closed == [how]


def test_the_end_gives_back_what_nothing_more_will_come_of(recorder: Recorder, ledger: Ledger) -> None:
    lease, gone = held(1), held(2)
    gone.lost = True
    recorder.expect(lease)
    recorder.expect(gone)
    recorder.take(result(1, 0))
    recorder.finish()
    assert said(ledger.parts) == [(1, 1, False)]
    assert (lease.closed, gone.closed) == (["released"], [])


def test_leftovers_of_crashed_writers_go_when_the_shard_is_settled_and_others_stay(
    recorder: Recorder, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path, "zurich", DAY)
    folder.mkdir(parents=True)
    names = [".tmp-1-1-aa.jsonl.gz", ".tmp-1-2-bb.jsonl.gz", ".tmp-1-3-cc.jsonl.gz", ".tmp-11-1-dd.jsonl.gz"]
    for name in names:
        (folder / name).touch()
    recorder.expect(held(epoch=2))
    recorder.take(seal(1, 0))
    assert sorted(path.name for path in folder.glob(".tmp-*")) == names[2:]
