"""A plan that reads what was let go, ended at every step of fetching it again: it ends the same, and staging, too."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from db import plans
from db.faults import KNOWN
from db.session import Session
from hpc.config import load
from hpc.tick.report import Report
from hpc.tick.tidying import tidy_staging
from hpc.wiring import movers

DAY = "2025-01-01"
DAMAGED = f"0_{DAY}_00_20.tar.xz"  # of no plan, and never let go
POINTS = sorted(
    name for name in KNOWN if name.split(".")[0] in ("transfer", "move") or name in ("listing.intx", "days.listed")
)
QUARANTINED = 65
NEW = {"engine.language": "de"}
PLAN = ("reprocess", "--plan", "1", "--here")


def tidy(here: Any) -> None:
    """A tick lets go what it may, a year later."""
    with here.ledger() as connection:
        connection.execute("UPDATE days SET finished = finished - interval '1 year', tidy_at = NULL")
    session = Session(here.dsn, application="test")
    try:
        settings = load(None, [f"home={here.folder}", f"ledger.dsn={here.dsn}", "ledger.require_tls=false"])
        tidy_staging(movers.porter(settings, session), Report())
    finally:
        session.close()


def staged(here: Any) -> dict[str, bytes]:
    """What lies in staging, but for what a mover remembers."""
    folder = here.folder / "staging" / "zurich" / DAY
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def run(here: Any, fault: str = "") -> int:
    """The plan, the pauses of its transfers skipped as if they had passed."""
    with here.ledger() as connection:
        connection.execute("UPDATE days SET look_at = clock_timestamp() WHERE look_at IS NOT NULL")
    code: int = here.finish(here.start(fault, *PLAN, **NEW))
    return code


@pytest.fixture(scope="module")
def drawn(place: Callable[..., AbstractContextManager[Any]]) -> Iterator[Any]:
    """A copied day that was worked and let go, and a plan of all of it."""
    with place() as here:
        add = ("sites", "add", "zurich", "--location", str(here.audio), "--copy")
        assert here.finish(here.start("", *add)) == 0, here.said()
        assert here.finish(here.start("", "run", DAY, "--site", "zurich")) == QUARANTINED, here.said()
        tidy(here)
        assert list(staged(here)) == [DAMAGED]
        assert here.finish(here.start("", "reprocess", "--date", DAY, "--dry-run", **NEW)) == 0, here.said()
        yield here


def ended(here: Any) -> Any:
    """What the plan has come to, and what readers see."""
    with here.ledger() as connection:
        plan = plans.get(connection, 1)
        seen = connection.execute(
            "SELECT r.shard_id, r.ordinal, r.state, t.language, t.version FROM recordings r"
            " LEFT JOIN transcripts t ON t.id = r.current_id ORDER BY 1, 2"
        ).fetchall()
        files = connection.execute("SELECT path, state, reason, transfer_id FROM files ORDER BY path").fetchall()
        [day] = connection.execute("SELECT state, revision FROM days").fetchall()
        moved = connection.execute("SELECT what, state FROM transfers ORDER BY id").fetchall()
    summary = {name: value for name, value in (plan.summary or {}).items() if name != "engine_seconds"}
    return plan.state, summary, seen, files, day, moved


@pytest.fixture(scope="module")
def undisturbed(place: Callable[..., AbstractContextManager[Any]], drawn: Any) -> Any:
    with place(like=drawn) as here:
        before = here.points()
        assert run(here) == QUARANTINED, here.said()
        return ended(here), here.points() - before


@pytest.mark.parametrize("point", POINTS)
def test_a_plan_whose_audio_is_fetched_again_ends_the_same_wherever_it_was_killed(
    place: Callable[..., AbstractContextManager[Any]], drawn: Any, undisturbed: Any, audio: Path, point: str
) -> None:
    with place(like=drawn) as here:
        assert run(here, f"{point}:1:kill") == -signal.SIGKILL, here.said()
        for _ in range(2):
            assert run(here) == QUARANTINED, here.said()
        assert ended(here) == undisturbed[0]
        assert staged(here) == {path.name: path.read_bytes() for path in audio.iterdir()}
        tidy(here)
        assert list(staged(here)) == [DAMAGED], "afterwards it is let go again"


def test_a_plan_whose_audio_is_fetched_again_passes_every_point_that_is_armed_here(undisturbed: Any) -> None:
    assert [point for point in POINTS if not undisturbed[1][point]] == []


def test_a_plan_that_is_cancelled_where_it_was_killed_has_nothing_fetched_and_all_is_let_go_again(
    place: Callable[..., AbstractContextManager[Any]], drawn: Any
) -> None:
    with place(like=drawn) as here:
        assert run(here, "move.renamed:1:kill") == -signal.SIGKILL, here.said()
        assert len(staged(here)) == 2, "one has come, and nobody has looked at it"
        assert here.finish(here.start("", "plans", "cancel", "1")) == 0
        session = Session(here.dsn, application="test")
        try:
            settings = load(None, [f"home={here.folder}", f"ledger.dsn={here.dsn}", "ledger.require_tls=false"])
            movers.porter(settings, session, works=True).follow(Report(), seconds=60)
        finally:
            session.close()
        tidy(here)
        assert list(staged(here)) == [DAMAGED]
        with here.ledger() as connection:
            states = [row["state"] for row in connection.execute("SELECT state FROM transfers ORDER BY id")]
            left = connection.execute("SELECT path FROM files WHERE transfer_id IS NOT NULL OR reason IS NOT NULL")
            assert (states, left.fetchall()) == (["succeeded", "cancelled"], [])
