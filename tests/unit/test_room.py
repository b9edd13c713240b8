"""Room: the budget, the project's quota and the file system each have a say, and what is not known is not free."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hpc.room import GB, Room, free
from hpc.sections import TransferSettings

NOTHING = {"bytes": 0, "files": 0, "coming_bytes": 0, "coming_files": 0}
PYTHON = sys.executable


@pytest.fixture
def room(tmp_path: Path) -> Callable[..., Room]:
    """Room for what the ledger says is `taken`, under these rules; nothing is kept in reserve."""

    def make(taken: dict[str, int] | None = None, **rules: Any) -> Room:
        session: Any = lambda _function: NOTHING | (taken or {})  # noqa: E731
        return Room(TransferSettings(**{"reserve_gb": 0.0} | rules), tmp_path / "not" / "there", session)

    return make


def test_without_a_rule_the_file_system_decides(room: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = SimpleNamespace(f_bavail=10, f_frsize=1000, f_files=100, f_favail=5)
    monkeypatch.setattr("os.statvfs", lambda _where: disk)
    assert room().lacks(10_000, 5) is None
    assert "has no room" in room().lacks(10_001, 5)
    assert "5 files may still be made, not 6" in room().lacks(10_000, 6)
    disk.f_files = 0  # it counts none
    assert room().lacks(10_000, 6) is None


def test_what_is_on_its_way_and_the_reserve_count_as_here(room: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = SimpleNamespace(f_bavail=3, f_frsize=int(GB), f_files=0, f_favail=0)
    monkeypatch.setattr("os.statvfs", lambda _where: disk)
    coming = {"coming_bytes": int(GB)}
    assert room(coming).lacks(int(2 * GB), 1) is None
    assert room(coming, reserve_gb=0.5).lacks(int(2 * GB), 1) is not None


def test_a_budget_is_for_all_that_is_staged(room: Any) -> None:
    staged = {"bytes": int(6 * GB), "files": 600}
    assert room(staged, budget_gb=10).lacks(int(4 * GB), 1) is None
    assert "budget of 10 GB is used up: 6.0 GB are staged" in room(staged, budget_gb=10).lacks(int(4.1 * GB), 1)
    assert room(staged, budget_files=1000).lacks(1, 400) is None
    assert "budget of 1,000 files" in room(staged, budget_files=1000).lacks(1, 401)


def test_a_quota_command_tells_bytes_and_files(room: Any) -> None:
    says = [PYTHON, "-c", "print(5_000, 10)"]
    assert room(quota_command=says).lacks(5_000, 10) is None
    assert "project's quota" in room(quota_command=says).lacks(5_001, 10)
    assert "10 files, not 11" in room(quota_command=says).lacks(5_000, 11)


@pytest.mark.parametrize(
    "command",
    [
        [PYTHON, "-c", "print('plenty')"],
        [PYTHON, "-c", "print(-5, 10)"],
        [PYTHON, "-c", "print(5_000_000_000_000, 10_000); raise SystemExit(3)"],
        [PYTHON, "-c", "pass"],
        ["/no/such/program"],
    ],
)
def test_a_quota_that_is_not_known_is_not_free(room: Any, command: list[str]) -> None:
    assert "the quota is not known, so nothing is moved" in room(quota_command=command).lacks(1, 1)


def test_a_quota_command_that_hangs_is_ended(room: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpc.room.QUOTA_SECONDS", 0.2)
    hangs = [PYTHON, "-c", "import sys; sys.stdin.readline() or __import__('threading').Event().wait(60)"]
    assert "TimeoutExpired" in room(quota_command=hangs).lacks(1, 1)


def test_a_quota_is_asked_once_for_all_days_of_a_tick(room: Any, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    counts = [PYTHON, "-c", f"open({str(asked)!r}, 'a').write('x'); print(10**12, 10**6)"]
    one = room(quota_command=counts)
    for _ in range(5):
        assert one.lacks(1, 1) is None
    assert asked.read_text() == "x"


@pytest.mark.parametrize("says", ["1000", "1000 5 7", "1e9 5", "1,000 5", "-1 5", "1000 -5"])
def test_two_whole_numbers_are_wanted_and_nothing_else(room: Any, says: str) -> None:
    assert "the quota is not known" in room(quota_command=["echo", says]).lacks(1, 1)


@pytest.mark.parametrize("script", ["printf '\\377\\376 5'", "printf '%05000d 5' 1"], ids=["no text", "5,000 digits"])
def test_garbage_that_python_cannot_even_read_is_a_quota_that_is_not_known(room: Any, script: str) -> None:
    assert "the quota is not known" in room(quota_command=["sh", "-c", script]).lacks(1, 1)


def test_a_quota_command_whose_children_hold_its_output_open_is_ended(
    room: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("hpc.room.QUOTA_SECONDS", 0.2)
    pids = tmp_path / "pids"
    hangs = ["sh", "-c", f"sleep 60 & echo $! >{pids}; echo $$ >>{pids}; wait"]
    assert "TimeoutExpired" in room(quota_command=hangs).lacks(1, 1)
    child, own = pids.read_text().split()
    os.kill(int(child), signal.SIGKILL)  # it is nobody's now
    assert not Path("/proc", own).exists()


def test_nobody_is_asked_for_a_quota_where_the_budget_is_used_up(room: Any, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    assert "budget" in room(budget_gb=1, quota_command=["touch", str(asked)]).lacks(int(2 * GB), 1)
    assert not asked.exists()


def test_what_fits_the_quota_has_to_fit_the_disk_too(room: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = SimpleNamespace(f_bavail=10, f_frsize=1000, f_files=0, f_favail=0)
    monkeypatch.setattr("os.statvfs", lambda _where: disk)
    says = ["echo", f"{10**12} {10**6}"]
    assert room(quota_command=says).lacks(10_000, 1) is None
    assert "has no room" in room(quota_command=says).lacks(10_001, 1)


def test_the_disk_is_asked_at_the_nearest_folder_that_is_there(
    room: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Path] = []

    def statvfs(where: Path) -> SimpleNamespace:
        asked.append(where)
        return SimpleNamespace(f_bavail=10, f_frsize=1000, f_files=0, f_favail=0)

    monkeypatch.setattr("os.statvfs", statvfs)
    assert room().lacks(1, 1) is None
    assert asked == [tmp_path]


def test_what_a_disk_has_left_is_told_of_what_is_there_of_the_way_to_a_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    disk = SimpleNamespace(f_blocks=40, f_bavail=10, f_frsize=1000, f_files=100, f_favail=5)
    looked: list[Path] = []
    monkeypatch.setattr("os.statvfs", lambda where: looked.append(where) or disk)
    told = {"bytes": 40_000, "free_bytes": 10_000, "files": 100, "free_files": 5}
    assert free(tmp_path / "not" / "there") == told
    assert looked == [tmp_path]
    disk.f_files = 0  # it counts none
    assert free(tmp_path) == told | {"files": None, "free_files": None}


def test_a_disk_that_cannot_be_seen_is_told_as_not_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def gone(_where: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.statvfs", gone)
    assert set(free(tmp_path).values()) == {None}
