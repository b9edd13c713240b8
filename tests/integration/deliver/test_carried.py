"""A day by a mover whose tasks go on without us, and by a job: asked once, followed, looked at, and never believed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from db import days, deliveries, faults
from db.session import Session
from db.states import TransferState
from hpc.deliver import Delivered, Hands, Wish, deliver_day, deliver_wanted
from hpc.errors import InFlight, NotVerified
from hpc.job_folder import JobFolder, Order, Record
from hpc.model import Checksum, Move, Progress
from hpc.packing import alone
from hpc.parcel import Target
from hpc.receipt import code_digest
from hpc.senders.carried import CarriedSender
from hpc.wiring import deliveries as wiring

DAY = "2025-01-01"
COLLECTION = "6c54cade-bde5-45c1-bdea-f4bd71dba2cc"
TARGET = Target.parse(f"globus://{COLLECTION}/out", site="audio")


@dataclass
class Collection:
    """A mover between two folders; its tasks end when `goes` says so."""

    source: Path
    there: Path
    goes: bool = True
    spoils: dict[str, int] = field(default_factory=dict)  # path → how often it arrives with another byte
    loses: dict[str, int] = field(default_factory=dict)
    ends: TransferState = TransferState.SUCCEEDED
    told: bool = True  # whether it tells checksums
    tasks: dict[UUID, Move] = field(default_factory=dict)
    by_submission: dict[UUID, UUID] = field(default_factory=dict)
    done: set[UUID] = field(default_factory=set)
    prompt: bool = True

    def new_submission(self) -> UUID:
        return uuid4()

    def submit(self, move: Move) -> UUID:
        task = self.by_submission.setdefault(move.submission, uuid4())
        self.tasks.setdefault(task, move)
        return task

    def look(self, task: UUID) -> Progress:
        if not self.goes:
            return Progress(TransferState.ACTIVE, "", 0, 0)
        if task not in self.done and self.ends is TransferState.SUCCEEDED:
            for source, destination in self.tasks[task].files:
                self._carry(source, destination)
        self.done.add(task)
        return Progress(self.ends, "", 1, 1)

    def _carry(self, source: str, destination: str) -> None:
        if self.loses.get(destination, 0):
            self.loses[destination] -= 1
            return
        target = self.there / destination
        target.parent.mkdir(parents=True, exist_ok=True)
        data = (self.source / source).read_bytes()
        if self.spoils.get(destination, 0):
            self.spoils[destination] -= 1
            data = bytes([data[0] ^ 1]) + data[1:]
        target.write_bytes(data)

    def checksums(self, task: UUID) -> Mapping[str, Checksum]:
        import hashlib

        if not self.told:
            return {}
        there = {destination: self.there / destination for _, destination in self.tasks[task].files}
        return {
            path: Checksum("md5", hashlib.md5(file.read_bytes()).hexdigest())
            for path, file in there.items()
            if file.exists()
        }

    def cancel(self, task: UUID) -> None: ...

    def sizes(self, paths: Sequence[str]) -> dict[str, int]:
        return {path: (self.there / path).stat().st_size for path in paths if (self.there / path).exists()}


@dataclass
class Desk:
    lab: Any
    session: Session
    collection: Collection
    wait: bool = True
    by_job: bool = False
    said: list[str] = field(default_factory=list)

    def hands(self) -> Hands:
        @contextmanager
        def bars(_label: str, _total: float | None, _unit: str) -> Iterator[Any]:
            class Bar:
                def advance(self, count: float = 1) -> None: ...

            yield Bar()

        made = wiring.hands(self.lab.load(), self.session, bars=bars, stop=lambda: False, by_job=self.by_job)

        def sender(target: Target, ours: str, stop: Callable[[], bool]) -> Any:
            assert ours == f"audio/{DAY}/tree"
            if target.kind != "globus":
                return made.sender(target, ours, stop)
            return CarriedSender(self.collection, self.collection.sizes, self.wait, pause=lambda: None, stop=stop)

        return replace(made, sender=sender)

    def deliver(self, **wish: bool) -> Delivered:
        return deliver_day(self.hands(), self.lab.day(), Wish(TARGET, **wish))

    def wanted(self) -> dict[str, int]:
        return deliver_wanted(self.hands(), self.said.append)


@pytest.fixture
def desk(lab: Any, target: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(faults, "_seen", {})
    session = Session(lab.dsn, application="test")
    yield Desk(lab, session, Collection(lab.packed, target))
    session.close()


def test_all_files_go_before_the_manifest_and_the_day_is_verified(desk: Desk, tree_of: Any, target: Path) -> None:
    assert desk.deliver(audio=True).state == "verified"

    first, second = desk.collection.tasks.values()
    assert [destination for _, destination in second.files] == [f"manifests/audio/{DAY}.sha256"]
    assert len(first.files) == len(tree_of(target)) - 1
    assert tree_of(target) == tree_of(desk.lab.packed)
    assert desk.deliver(audio=True).state == "there already"
    assert len(desk.collection.tasks) == 2


def test_what_arrives_otherwise_is_named_sent_again_and_at_last_refused(desk: Desk, target: Path, tree_of: Any) -> None:
    path = f"transcripts/audio/{DAY}.parquet"
    desk.collection.spoils = {path: 1}
    desk.collection.loses = {f"manifests/audio/{DAY}.sha256": 1}
    assert desk.deliver().state == "verified"
    assert tree_of(target) == tree_of(desk.lab.packed)
    assert [len(move.files) for move in desk.collection.tasks.values()][1:] == [1, 1, 1]

    desk.collection.spoils = {path: 9}
    with pytest.raises(NotVerified, match=f"1 of . files are not whole .*{path}"):
        desk.deliver(again=True)
    assert desk.lab.rows()[0]["state"] == "failed"


def test_a_task_that_ends_badly_is_another_one_next_time(desk: Desk) -> None:
    desk.collection.ends = TransferState.FAILED
    with pytest.raises(NotVerified, match="ended otherwise than it should"):
        desk.deliver()
    desk.collection.ends = TransferState.SUCCEEDED
    assert desk.deliver().state == "verified"


@pytest.mark.parametrize("point", ["deliver.intended", "deliver.submitted"])
def test_whatever_became_of_the_answer_the_mover_is_asked_for_one_task(
    desk: Desk, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAYSCRIBE_FAULTS_ARMED", "yes")
    monkeypatch.setenv("DAYSCRIBE_FAULT", f"{point}:1:raise")
    with pytest.raises(faults.InjectedFault):
        desk.deliver()
    monkeypatch.delenv("DAYSCRIBE_FAULT")

    assert desk.deliver().state == "verified"
    assert len(desk.collection.tasks) == 2  # the files, the manifest


def test_a_job_does_not_wait_for_a_mover_and_the_next_one_goes_on(desk: Desk) -> None:
    desk.wait, desk.by_job, desk.collection.goes = False, True, False
    day = desk.lab.day()
    desk.session(
        deliveries.want, day.id, str(TARGET), parts=True, audio=False, partial=False, again=False,
        owner=desk.hands().owner,
    )  # fmt: skip
    assert desk.wanted() == {"delivered": 0, "on_their_way": 1, "failed": 0}
    assert desk.wanted() == {"delivered": 0, "on_their_way": 0, "failed": 0}  # it was looked at just now
    desk.collection.goes = True
    desk.lab.do("UPDATE deliveries SET polled = now() - interval '1 hour', changed = now() - interval '1 hour'")

    assert desk.wanted()["delivered"] == 1
    assert (len(desk.collection.tasks), desk.lab.rows()[0]["state"]) == (2, "verified")


def test_what_a_person_waits_for_is_gone_on_with_by_the_same_command(desk: Desk) -> None:
    desk.wait, desk.collection.goes = False, False
    with pytest.raises(InFlight):
        desk.deliver()
    desk.collection.goes = True
    assert desk.deliver().state == "verified"
    assert len(desk.collection.tasks) == 2


def test_a_wish_is_written_down_and_a_job_fulfils_it(desk: Desk, answer: Any, target: Path, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    assert answer("--target", str(target), "--audio", "--slurm")["state"] == "wanted"
    answer("--target", str(tmp_path / "gone"), "--slurm")
    assert list(target.iterdir()) == []
    shutil.rmtree(tmp_path / "gone")

    desk.by_job = True
    assert desk.wanted() == {"delivered": 1, "on_their_way": 0, "failed": 1}

    assert (target / f"manifests/audio/{DAY}.sha256").exists()
    assert [row["state"] for row in desk.lab.rows()] == ["verified", "failed"]
    assert "There is no folder" in desk.lab.rows()[1]["message"]
    assert desk.wanted() == {"delivered": 0, "on_their_way": 0, "failed": 0}


def work(lab: Any, tmp_path: Path, fault: str = "") -> tuple[int, Record]:
    """A job's task, as its script runs it, and what it says of its end."""
    folder = JobFolder(tmp_path / f"job{fault}")
    folder.make(Order(1, "0123456789abcdef", "deliver", "ledger", code_digest(), 1, 10, gpu=False), {})
    program = Path(sys.executable).with_name("dayscribe")
    armed = {"DAYSCRIBE_FAULTS_ARMED": "yes", "DAYSCRIBE_FAULT": fault}
    ended = subprocess.run(
        [program, *lab.words(), "work", "--job", str(folder.path)],
        env=os.environ | armed,
        capture_output=True,
        check=False,
    )
    [record] = folder.records()
    return ended.returncode, record


def test_a_job_of_this_kind_does_what_is_wanted_and_one_that_is_stopped_leaves_it_to_the_next(
    lab: Any, answer: Any, target: Path, tmp_path: Path
) -> None:
    answer("--target", str(target), "--audio", "--slurm")

    code, record = work(lab, tmp_path, "deliver.tar_half:1:term")
    assert (code, record.ended_as, lab.rows()[0]["state"]) == (75, "stopped", "wanted")
    code, record = work(lab, tmp_path)
    assert (code, record.ended_as, record.facts["delivered"]) == (0, "done", 1)

    assert lab.rows()[0]["state"] == "verified"
    assert (target / f"manifests/audio/{DAY}.sha256").exists()


def test_a_folder_that_is_being_packed_is_left_for_later(desk: Desk, answer: Any, target: Path) -> None:
    answer("--target", str(target), "--slurm")
    with alone(desk.lab.packed.parent):
        assert desk.wanted() == {"delivered": 0, "on_their_way": 1, "failed": 0}
    assert desk.lab.rows()[0]["state"] == "wanted"


def test_an_older_attempt_no_longer_ends_a_delivery(desk: Desk) -> None:
    from db.errors import LeaseLost

    day = desk.lab.day()
    stamp = desk.session(deliveries.stamp, day.id)
    old, new = (
        desk.session(
            deliveries.begin,
            day.id,
            str(TARGET),
            stamp,
            parts=True,
            audio=False,
            partial=False,
            owner="me",
            by_job=False,
        )
        for _ in range(2)
    )
    assert not desk.session(deliveries.failed, old, "late", actor="me", day_id=day.id)
    with pytest.raises(LeaseLost):
        desk.session(deliveries.verified, old, files=1, size=1, message="late", actor="me", day_id=day.id)
    desk.session(deliveries.verified, new, files=1, size=1, message="", actor="me", day_id=day.id)
    assert desk.session(days.by_id, day.id).state == day.state
