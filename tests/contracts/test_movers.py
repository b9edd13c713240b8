"""The law of every mover: the same submission is one task, what is moved is whole, and nothing lands anywhere else."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from db import faults
from db.errors import DayscribeError
from db.states import MOVING, TransferState
from hpc.errors import MoverTrouble
from hpc.model import Move, Progress
from hpc.ports import Mover
from hpc.sources.globus import GlobusMover, Spot
from hpc.sources.globus.access import Access
from hpc.sources.local import LocalMover

NOBODY = 65_534
LONG_AGO = 1_500_000_000_123_456_789  # ns
ODD = {
    "dash": "-rf",
    "newline": "a\nb",
    "spaces": " two  words ",
    "unicode": "zürich \U0001f98a 北京",
    "shell": "$(touch pwned); `id` & *",
    "dots": "..a",
    "below": "deep/er/a.tar.xz",
    "very long": "x" * 255,
}
WAYS_OUT = {
    "up": "../x",
    "up from below": "deep/../../x",
    "up and back": "../day/../x",
    "absolute": "{above}/x",
}


@dataclass
class Yard:
    """Two folders, a mover between them, and what is known of its doings."""

    kind: str
    far: Path
    near: Path
    mover: Mover
    wait: Callable[[], None]
    full: Callable[[], Any]  # a context in which the destination has no room
    refuses: Callable[[str], None]  # the source's own system does not let this file be read
    hold: Callable[[], None]  # from now on a task stays where it is
    tasks: Callable[[], int]

    def put(self, *names: str, data: bytes = b"") -> None:
        for name in names:
            path = self.far / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data or hashlib.sha256(os.fsencode(name)).digest() * 100)
            os.utime(path, ns=(LONG_AGO, LONG_AGO))

    def order(self, *names: str) -> Move:
        deadline = datetime.now(UTC) + timedelta(hours=1)
        return Move(self.mover.new_submission(), "a day", tuple((name, name) for name in names), deadline)

    def moved(self, *names: str) -> Progress:
        """What is said in the end of a move of these."""
        return self.ended(self.mover.submit(self.order(*names)))

    def ended(self, task: UUID) -> Progress:
        self.wait()
        return self.mover.look(task)

    def here(self) -> list[str]:
        """The files of the destination, with whatever was begun and not finished."""
        return sorted(os.path.relpath(path, self.near) for path in self.near.rglob("*") if path.is_file())

    def same(self, *names: str) -> bool:
        return all((self.far / name).read_bytes() == (self.near / name).read_bytes() for name in names)


@contextmanager
def _small_files_only() -> Iterator[None]:
    """The system itself refuses to write a file beyond 10 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def _no_more_names(patch: pytest.MonkeyPatch) -> Iterator[None]:
    def full(source: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), source)

    with patch.context() as within:
        within.setattr("hpc.sources.local.os.link", full)
        yield


def _local(tmp_path: Path, patch: pytest.MonkeyPatch, *, link: bool) -> Yard:
    far, near = tmp_path / "far" / "day", tmp_path / "near" / "day"
    near.mkdir(parents=True)
    mover = LocalMover(far, near, tmp_path / "memory", link=link)

    def refuses(name: str) -> None:
        """As whoever is not root sees it."""
        opened, linked = Path.open, os.link

        def open_(path: Path, *given: Any, **named: Any) -> Any:
            if path == far / name:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
            return opened(path, *given, **named)

        def link_(source: Path, *given: Any, **named: Any) -> None:
            if source == far / name:
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), os.fspath(source), None, str(given[0]))
            linked(source, *given, **named)

        patch.setattr(Path, "open", open_)
        patch.setattr("hpc.sources.local.os.link", link_)

    full = (lambda: _no_more_names(patch)) if link else _small_files_only
    kind, tasks = "link" if link else "copy", tmp_path / "memory" / ".moves"
    return Yard(kind, far, near, mover, lambda: None, full, refuses, lambda: None, lambda: len(list(tasks.iterdir())))


def _globus(tmp_path: Path, globus: Any) -> Yard:
    far, near = (globus.collection(tmp_path / name, name) for name in ("far", "near"))
    access = Access(globus.auth.client_id, globus.auth.secret, tmp_path / "tokens", "me", 5.0)
    mover = GlobusMover(Spot(far.id, "/day"), Spot(near.id, "/day"), access)
    (near.root / "day").mkdir()

    @contextmanager
    def full() -> Iterator[None]:
        near.quota = 0
        yield
        near.quota = None

    return Yard(
        "globus", far.root / "day", near.root / "day", mover, globus.transfer.wait, full, far.unreadable.add,
        globus.transfer.hold, lambda: len(globus.transfer.tasks),
    )  # fmt: skip


@pytest.fixture(params=["copy", "link", "globus"])
def yard(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Yard:
    if request.param == "globus":
        made = _globus(tmp_path, request.getfixturevalue("globus"))
    else:
        made = _local(tmp_path, monkeypatch, link=request.param == "link")
    made.far.mkdir(parents=True, exist_ok=True)
    return made


@pytest.fixture(params=["copy", "link"])
def local(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Yard:
    made = _local(tmp_path, monkeypatch, link=request.param == "link")
    made.far.mkdir(parents=True, exist_ok=True)
    return made


# --- a task -----------------------------------------------------------------------------------------------------------


def test_the_same_submission_twice_is_the_same_task(yard: Yard) -> None:
    yard.put("a")
    order = yard.order("a")
    first = yard.mover.submit(order)
    yard.wait()
    assert yard.mover.submit(order) == first
    assert yard.ended(first).state is TransferState.SUCCEEDED
    assert yard.tasks() == 1


def test_two_submissions_are_two_tasks(yard: Yard) -> None:
    yard.put("a", "b")
    assert yard.mover.submit(yard.order("a")) != yard.mover.submit(yard.order("b"))
    yard.wait()
    assert yard.tasks() == 2


def test_every_submission_has_an_id_of_its_own(yard: Yard) -> None:
    assert len({yard.mover.new_submission() for _ in range(10)}) == 10


def test_a_task_that_goes_on_is_moving_and_one_that_is_over_never_is_again(yard: Yard) -> None:
    yard.put("a")
    yard.hold()
    task = yard.mover.submit(yard.order("a"))
    assert (yard.mover.look(task).state in MOVING) == yard.mover.prompt
    yard.mover.cancel(task)
    over = yard.mover.look(task)
    assert over.state not in MOVING
    assert yard.mover.look(task) == over


def test_an_unknown_task_is_unknown_and_raises_nothing(yard: Yard) -> None:
    told = yard.mover.look(uuid.uuid4())
    assert told.state is TransferState.UNKNOWN
    assert told.message


def test_what_is_over_can_be_cancelled_as_often_as_one_likes(yard: Yard) -> None:
    yard.put("a")
    task = yard.mover.submit(yard.order("a"))
    over = yard.ended(task)
    for _ in range(2):
        yard.mover.cancel(task)
    assert yard.mover.look(task) == over


def test_a_note_that_is_half_written_is_a_move_of_which_nothing_is_known(local: Yard, tmp_path: Path) -> None:
    local.put("a")
    task = local.mover.submit(local.order("a"))
    [note] = (tmp_path / "memory" / ".moves").iterdir()
    note.write_text(json.dumps(json.loads(note.read_text()))[:30])
    assert local.mover.look(task).state is TransferState.UNKNOWN
    assert local.mover.checksums(task) == {}


# --- files ------------------------------------------------------------------------------------------------------------


def test_what_is_moved_is_the_same_byte_for_byte_and_as_old(yard: Yard) -> None:
    yard.put("a", "b")
    yard.put("large", data=os.urandom(3_000_001))
    told = yard.moved("a", "b", "large")
    assert (told.state, told.files, told.bytes) == (TransferState.SUCCEEDED, 3, 3_006_401)
    assert told.skipped == ()
    assert yard.here() == ["a", "b", "large"]
    assert yard.same("a", "b", "large")
    assert {(yard.near / name).stat().st_mtime_ns for name in yard.here()} == {LONG_AGO}


def test_what_is_moved_stays_where_it_was(yard: Yard) -> None:
    yard.put("a")
    before = (yard.far / "a").read_bytes()
    yard.moved("a")
    assert (yard.far / "a").read_bytes() == before
    assert [path.name for path in yard.far.iterdir()] == ["a"]


def test_an_empty_file_is_moved(yard: Yard) -> None:
    (yard.far / "a").write_bytes(b"")
    assert yard.moved("a").state is TransferState.SUCCEEDED
    assert (yard.near / "a").stat().st_size == 0


def test_what_is_there_already_is_not_moved_again(yard: Yard) -> None:
    yard.put("a", "b")
    yard.moved("a")
    before = (yard.near / "a").stat()
    told = yard.moved("a", "b")
    after = (yard.near / "a").stat()
    assert told.state is TransferState.SUCCEEDED
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    if yard.kind != "link":  # which costs nothing, and is made anew
        assert told.bytes == (yard.far / "b").stat().st_size
    assert yard.same("a", "b")


def test_what_is_there_and_other_is_moved_though_it_is_as_long(yard: Yard) -> None:
    yard.put("a")
    (yard.near / "a").write_bytes(b"x" * (yard.far / "a").stat().st_size)
    yard.moved("a")
    assert yard.same("a")


@pytest.mark.parametrize("trouble", ["missing", "unreadable", "a folder"])
def test_a_file_that_cannot_be_read_is_named_and_holds_up_no_other(yard: Yard, trouble: str) -> None:
    yard.put("a", "c")
    if trouble == "a folder":
        (yard.far / "b").mkdir()
    if trouble == "unreadable":
        yard.put("b")
        yard.refuses("b")
    told = yard.moved("a", "b", "c")
    assert told.state is TransferState.SUCCEEDED
    assert [path.rpartition("/")[2] for path in told.skipped] == ["b"]
    assert yard.here() == ["a", "c"]
    assert yard.same("a", "c")


def test_a_file_that_its_disk_cannot_read_is_named_and_holds_up_no_other(
    local: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.put("a", "b", "c")
    lstat = Path.lstat

    def broken(path: Path) -> os.stat_result:
        if path == local.far / "b":
            raise OSError(errno.EIO, os.strerror(errno.EIO), os.fspath(path))
        return lstat(path)

    monkeypatch.setattr(Path, "lstat", broken)
    told = local.moved("a", "b", "c")
    assert local.here() == ["a", "c"]
    assert told.skipped == ("b",)


def test_a_destination_that_is_full_is_over_quota_and_has_nothing_half(yard: Yard) -> None:
    yard.put("a", data=b"x" * 50_000)
    with yard.full():
        told = yard.moved("a")
    assert told.state is TransferState.OVER_QUOTA
    assert told.message
    assert yard.here() == []
    assert yard.moved("a").state is TransferState.SUCCEEDED
    assert yard.same("a")


def test_a_destination_that_may_not_be_written_is_not_said_of_the_source(tmp_path: Path) -> None:
    """Though its folder's name begins as the source's does."""
    far, near = tmp_path / "day", tmp_path / "day-here"
    far.mkdir()
    (far / "a").write_bytes(b"x")
    mover = LocalMover(far, near, tmp_path / "memory", link=False)
    opened = Path.open

    def open_(path: Path, *given: Any, **named: Any) -> Any:
        if path.is_relative_to(near):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
        return opened(path, *given, **named)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(MoverTrouble):
        patch.setattr(Path, "open", open_)
        mover.submit(Move(uuid.uuid4(), "a day", (("a", "a"),), datetime.now(UTC)))


@contextmanager
def _as_nobody() -> Iterator[Path]:
    """A folder of an unprivileged user, who we are in it: root may write anywhere."""
    with tempfile.TemporaryDirectory() as name:
        user = os.geteuid()
        if user == 0:
            os.chown(name, NOBODY, NOBODY)
            os.seteuid(NOBODY)
        try:
            yield Path(name)
        finally:
            os.seteuid(user)


@pytest.mark.parametrize("link", [True, False], ids=["link", "copy"])
def test_a_destination_that_is_not_ours_to_write_is_trouble_and_no_success_without_files(link: bool) -> None:
    """By real permissions: that nothing can be made there is not the fault of any file of the source."""
    with _as_nobody() as folder:
        far, near = folder / "far", folder / "near"
        far.mkdir()
        (far / "a").write_bytes(b"x")
        near.mkdir(0o555)
        with pytest.raises(MoverTrouble):
            LocalMover(far, near, folder / "memory", link=link).submit(
                Move(uuid.uuid4(), "a day", (("a", "a"),), datetime.now(UTC))
            )


def test_checksums_are_right_where_they_are_told(yard: Yard) -> None:
    yard.put("a", "deep/b")
    task = yard.mover.submit(yard.order("a", "deep/b"))
    yard.wait()
    told = yard.mover.checksums(task)
    assert set(told) == (set() if yard.kind == "link" else {"a", "deep/b"})
    for path, said in told.items():
        assert said.value == hashlib.new(said.algorithm, (yard.far / path).read_bytes()).hexdigest()


@pytest.mark.parametrize("point", ["move.half", "move.written"])
def test_whoever_is_stopped_in_the_middle_leaves_nothing_under_a_final_name(
    local: Yard, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    local.put("a", data=b"new" * 1_000_000)
    (local.near / "a").write_bytes(b"what was there before")

    def stop(name: str) -> None:
        if name == point:
            raise faults.InjectedFault(name)

    monkeypatch.setattr(faults, "point", stop)
    passes = local.kind == "link" and point == "move.half"  # a link is never half
    with suppress(faults.InjectedFault) if passes else pytest.raises(faults.InjectedFault):
        local.moved("a")
    assert local.here() == ["a"]
    expected = b"new" * 1_000_000 if passes else b"what was there before"
    assert (local.near / "a").read_bytes() == expected


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ODD)
def test_a_name_is_data_and_lands_in_the_destinations_folder(yard: Yard, which: str) -> None:
    yard.put(ODD[which], "other")
    told = yard.moved(ODD[which], "other")
    assert (told.state, told.skipped) == (TransferState.SUCCEEDED, ())
    assert yard.here() == sorted([ODD[which], "other"])
    assert yard.same(ODD[which], "other")


def test_a_name_that_is_no_text_is_moved_byte_for_byte(local: Yard) -> None:
    name = os.fsdecode(b"\xff\xfe")
    local.put(name)
    assert local.moved(name).state is TransferState.SUCCEEDED
    assert local.same(name)


@pytest.mark.parametrize("which", WAYS_OUT)
@pytest.mark.parametrize("end", [0, 1], ids=["source", "destination"])
def test_a_name_that_leads_out_reads_nothing_and_writes_nothing_beyond_the_two_folders(
    yard: Yard, tmp_path: Path, end: int, which: str
) -> None:
    """A listing with such a name is refused before it comes so far; but whoever moves is the last who can."""
    yard.put("a", "deep/b", data=b"mine")
    (yard.far.parent / "x").write_bytes(b"somebody else's")
    (yard.near / "deep").mkdir()
    names = [WAYS_OUT[which].format(above=(yard.far, yard.near)[end].parent)] * 2
    names[1 - end] = "a"
    beyond = [path for path in tmp_path.rglob("x") if not path.is_relative_to(yard.near)]
    deadline = datetime.now(UTC) + timedelta(hours=1)
    with suppress(DayscribeError):
        yard.mover.submit(Move(yard.mover.new_submission(), "a day", ((names[0], names[1]),), deadline))
        yard.wait()
    assert [path for path in tmp_path.rglob("x") if not path.is_relative_to(yard.near)] == beyond
    assert b"somebody else's" not in [(yard.near / name).read_bytes() for name in yard.here()]


def test_a_link_at_the_destination_is_replaced_and_never_written_through(local: Yard, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    local.put("a")
    (local.near / "a").symlink_to(victim)
    local.moved("a")
    assert victim.read_bytes() == b"mine"
    assert not (local.near / "a").is_symlink()
    assert local.same("a")


def test_a_link_at_the_source_is_left_out(local: Yard, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"mine")
    (local.far / "a").symlink_to(tmp_path / "secret")
    assert local.moved("a").skipped == ("a",)
    assert local.here() == []


def test_a_folder_in_the_place_of_a_file_is_an_end_with_a_reason(local: Yard) -> None:
    local.put("a")
    (local.near / "a").mkdir()
    told = local.moved("a")
    assert told.state is TransferState.FAILED
    assert str(local.near) in told.message
