"""A day on its way here, ended at every step of its transfer and run again: nothing is lost, or moved for nothing."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from db.faults import KNOWN

DAY = "2025-01-01"
POINTS = sorted(name for name in KNOWN if name.split(".")[0] in ("transfer", "move"))
QUARANTINED = 65


def moved(here: Any, how: str = "--copy") -> None:
    """A site whose files are copied to staging."""
    add = ("sites", "add", "zurich", "--location", str(here.audio), how)
    assert here.finish(here.start("", *add)) == 0, here.said()


def run(here: Any, fault: str = "") -> int:
    """The day, its pauses skipped as if they had passed."""
    with here.ledger() as connection:
        # A day that was lost sight of stays lost here: only a pause that was asked for is cut short.
        connection.execute("UPDATE days SET look_at = clock_timestamp() WHERE look_at IS NOT NULL")
    code: int = here.finish(here.start(fault, "run", DAY, "--site", "zurich"))
    return code


@pytest.fixture(scope="module")
def undisturbed(place: Callable[..., AbstractContextManager[Any]], outcome: Callable[[Any], Any]) -> Any:
    with place() as here:
        moved(here)
        assert run(here) == QUARANTINED, here.said()
        return outcome(here), here.points()


def staged(here: Any) -> dict[str, bytes]:
    """What lies in staging, but for what a mover remembers; what it was writing is no day's."""
    folder = here.folder / "staging" / "zurich" / DAY
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


@pytest.mark.parametrize("point", POINTS)
def test_a_copied_day_ends_the_same_wherever_it_was_killed(
    place: Callable[..., AbstractContextManager[Any]],
    outcome: Callable[[Any], Any],
    undisturbed: Any,
    audio: Path,
    point: str,
) -> None:
    with place() as here:
        moved(here)
        assert run(here, f"{point}:1:kill") == -signal.SIGKILL, here.said()
        for _ in range(2):
            assert run(here) == QUARANTINED, here.said()
        assert outcome(here) == undisturbed[0]
        assert staged(here) == {path.name: path.read_bytes() for path in audio.iterdir()}
        with here.ledger() as connection:
            rows = connection.execute("SELECT what, state FROM transfers ORDER BY id").fetchall()
        assert [tuple(row.values()) for row in rows] == [("archives", "succeeded")]


def test_a_copied_day_passes_every_point_that_is_armed_here(undisturbed: Any) -> None:
    assert [point for point in POINTS if not undisturbed[1][point]] == []


def test_a_linked_day_takes_no_space_and_ends_the_same(
    place: Callable[..., AbstractContextManager[Any]], outcome: Callable[[Any], Any], undisturbed: Any, audio: Path
) -> None:
    with place() as here:
        moved(here, "--link")
        assert run(here) == QUARANTINED, here.said()
        assert outcome(here) == undisturbed[0]
        folder = here.folder / "staging" / "zurich" / DAY
        assert all((folder / path.name).stat().st_ino == path.stat().st_ino for path in audio.iterdir())
