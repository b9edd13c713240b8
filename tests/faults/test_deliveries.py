"""A day on its way out, killed at every step and delivered again: the target ends the same, and never shows a manifest
of files that are not there."""

from __future__ import annotations

import hashlib
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from db.faults import KNOWN

DAY = "2025-01-01"
QUARANTINED = 65
MOVERS = ("deliver.intended", "deliver.submitted")  # tests/integration/deliver/test_carried.py
POINTS = sorted(name for name in KNOWN if name.startswith("deliver.") and name not in MOVERS)


@pytest.fixture(scope="module")
def worked(place: Callable[..., AbstractContextManager[Any]]) -> Iterator[Any]:
    """A day that is done, once for all cases."""
    with place() as here:
        assert here.finish(here.start()) == QUARANTINED, here.said()
        yield here


def deliver(here: Any, target: Path, fault: str = "") -> int:
    target.mkdir(exist_ok=True)
    code: int = here.finish(here.start(fault, "deliver", DAY, "--target", str(target), "--audio"))
    return code


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def whole(target: Path) -> bool:
    """Whether all that the manifest tells of is there, as it says."""
    [manifest] = (target / "manifests").rglob("*.sha256")
    said = dict(reversed(line.split("  ", 1)) for line in manifest.read_text().splitlines())
    return all(hashlib.sha256((target / path).read_bytes()).hexdigest() == digest for path, digest in said.items())


@pytest.fixture(scope="module")
def undisturbed(worked: Any) -> tuple[dict[str, bytes], set[str]]:
    before = worked.points()
    target = worked.folder / "undisturbed"
    assert deliver(worked, target) == 0, worked.said()
    return tree(target), set(worked.points() - before)


def test_a_delivery_passes_every_point_that_is_armed_here(undisturbed: Any) -> None:
    assert [point for point in POINTS if point not in undisturbed[1]] == []


@pytest.mark.parametrize("point", POINTS)
def test_a_delivery_ends_the_same_wherever_it_was_killed(worked: Any, undisturbed: Any, point: str) -> None:
    target, home = worked.folder / point, worked.folder / "deliveries"
    shutil.rmtree(home, ignore_errors=True)

    assert deliver(worked, target, f"{point}:1:kill") == -signal.SIGKILL, worked.said()
    if (target / "manifests").exists():
        assert whole(target)
    assert deliver(worked, target) == 0, worked.said()

    assert tree(target) == undisturbed[0]
    assert whole(target)
    assert list(home.rglob(".tmp-*")) == []
    with worked.ledger() as connection:
        rows = connection.execute("SELECT state FROM deliveries WHERE target = %s", [str(target)]).fetchall()
    assert [row["state"] for row in rows] == ["verified"]


def test_one_that_is_asked_to_stop_leaves_in_good_order_and_goes_on(worked: Any, undisturbed: Any) -> None:
    target = worked.folder / "stopped"
    shutil.rmtree(worked.folder / "deliveries", ignore_errors=True)

    assert deliver(worked, target, "deliver.tar_half:1:term") == 75, worked.said()
    assert tree(target) == {}
    assert deliver(worked, target) == 0, worked.said()
    assert tree(target) == undisturbed[0]
