"""A crash of the machine at any moment: every part that the ledger knows is on the disk, and whole.

The disk of this test forgets everything that was not synced: a file's bytes until the file is, a name until its folder
is. What a worker does is done for real, once; then the power fails after each step of it.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import pytest

from db import days, faults, shards, sites
from db.connect import Connection
from db.parts import Recorded
from db.states import DayState
from hpc.model import Recording, Result, Run, Seal, Segment, Shard, Transcript
from hpc.stages.ingest import ingest
from hpc.stages.publish import SUFFIX, read_part
from hpc.stages.record import Recorder


@dataclass
class Disk:
    """What would still be there: bytes by inode, names by their folder's inode."""

    root: int
    files: dict[int, bytes] = field(default_factory=dict)
    folders: dict[int, dict[str, int]] = field(default_factory=dict)

    def after(self) -> dict[str, bytes]:
        """Path → bytes as a reboot would find them; a name whose bytes were never synced leads to an empty file."""
        return dict(self._walk(self.root, ""))

    def _walk(self, folder: int, path: str) -> Iterator[tuple[str, bytes]]:
        for name, inode in self.folders.get(folder, {}).items():
            if inode in self.folders:
                yield from self._walk(inode, f"{path}/{name}")
            else:
                yield f"{path}/{name}", self.files.get(inode, b"")


class Shim:
    """Watches the syncs of this process and the parts that the ledger has recorded; takes a picture after each step."""

    def __init__(self, root: Path) -> None:
        self.disk = Disk(root.stat().st_ino)
        self.recorded: dict[str, bytes] = {}  # the part's name → sha256, as committed
        self.syncs: list[str] = []
        self.pictures: list[tuple[str, dict[str, bytes], dict[str, bytes]]] = []

    def fsync(self, descriptor: int) -> None:
        place = Path(f"/proc/self/fd/{descriptor}")
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            names = {entry.name: entry.inode() for entry in os.scandir(place.readlink())}
            self.disk.folders[status.st_ino] = names
            for entry in os.scandir(place.readlink()):
                if entry.is_dir():
                    self.disk.folders.setdefault(entry.inode(), {})
        else:
            self.disk.files[status.st_ino] = place.read_bytes()
        self.syncs.append("folder" if stat.S_ISDIR(status.st_mode) else "file")
        self.picture("fsync")

    def committed(self, path: Path) -> None:
        self.recorded[path.name] = hashlib.sha256(path.read_bytes()).digest()
        self.picture("recorded")

    def picture(self, step: str) -> None:
        self.pictures.append((step, self.disk.after(), dict(self.recorded)))


@dataclass
class Held:
    """A lease without a renewer."""

    shard: Shard
    epoch: int
    known: dict[int, bytes] = field(default_factory=dict)

    def forget(self) -> None:
        pass

    def release(self) -> None:
        pass

    def fail(self, error: Exception) -> None:
        raise error


@pytest.fixture
def shim(ledger: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shim:
    """A worker's recorder has taken three shards of two days, some in several parts."""
    watch = Shim(tmp_path)
    monkeypatch.setattr(os, "fsync", watch.fsync)
    monkeypatch.setattr(faults, "point", watch.picture)

    def record(path: Path) -> Recorded:
        recorded = ingest(ledger, path, actor="test")
        watch.committed(path)
        return recorded

    run = Run(b"k" * 16, {"engine": "none"})
    recorder = Recorder(tmp_path / "results", run, record, recordings=2, seconds=60.0, busy=lambda: 0.0)
    for lease in _leases(ledger):
        recorder.expect(lease)
        for ordinal in range(3):
            recorder.take(_result(lease.shard, ordinal))
        recorder.take(Seal(lease.shard.id, b"s" * 32, 1, 3))
    recorder.finish()
    assert recorder.tally.shards == 3
    return watch


def _leases(ledger: Connection) -> list[Held]:
    site = sites.put(ledger, "zurich", location="/audio")
    for day, names in ((1, "ab"), (2, "c")):
        days.add(ledger, site.id, [date(2025, 1, day)])
        made = days.get(ledger, "zurich", date(2025, 1, day))
        days.listed(ledger, made.id, staged="/audio", revision=0)
        new = [shards.NewShard(name, (name.encode(),), 1) for name in names]
        shards.add(ledger, made.id, new, revision=0, max_attempts=3)
        days.move(ledger, made.id, DayState.READY_TO_PROCESS, actor="test")
    claimed = shards.claim(ledger, owner="one", count=5, lease=timedelta(seconds=60))
    return [Held(Shard(each.id, each.site, each.date, each.name, (Path("x"),)), each.epoch) for each in claimed]


def _result(shard: Shard, ordinal: int) -> Result:
    said = Transcript("en", (Segment(f"{shard.name} {ordinal}", 0.0, 1.0),))
    recording = Recording(shard.id, ordinal, b"x.mp3", 1, hashlib.sha256(b"%d" % ordinal).digest())
    return Result(recording, said, 1.0)


def test_every_recorded_part_survives_a_crash_at_every_step(shim: Shim) -> None:
    assert len(shim.recorded) == 6
    assert len(shim.pictures) > 60
    for number, (step, disk, recorded) in enumerate(shim.pictures):
        found = {path.rpartition("/")[2]: hashlib.sha256(data).digest() for path, data in disk.items()}
        lost = {name for name, digest in recorded.items() if found.get(name) != digest}
        assert lost == set(), f"a crash at step {number} ({step}) loses {lost}"


def test_what_bears_a_part_s_name_after_a_crash_is_a_whole_part(shim: Shim, tmp_path: Path) -> None:
    """The ledger may not know it yet, and will take it for what it says."""
    seen: set[bytes] = set()
    for _, disk, _ in shim.pictures:
        seen |= {data for path, data in disk.items() if not path.rpartition("/")[2].startswith(".tmp-")}
    for number, data in enumerate(sorted(seen)):
        path = tmp_path / f"{number}{SUFFIX}"
        path.write_bytes(data)
        assert read_part(path).results
    assert len(seen) == 6


def test_a_part_costs_two_syncs_and_a_new_folder_what_it_must(shim: Shim) -> None:
    """Six parts; results, site, date and parts are new on the first day, date and parts on the second."""
    assert shim.syncs.count("file") == 6
    assert shim.syncs.count("folder") == 6 + 4 + 2
