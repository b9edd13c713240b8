"""The sweep: a worker is killed, asked to stop, or frozen at every named point; run again, the day ends the same."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from db.faults import KNOWN

WORKER = sorted(
    name
    for name in KNOWN
    if name.split(".")[0]
    not in ("export", "migrate", "demo", "order", "transfer", "move", "tidy", "deliver", "sample", "alert")
)
RENEWER = "renew.committed"
ONCE = {
    "listing.intx",
    "days.listed",
    RENEWER,
    "fail.intx",
    "fail.committed",
}  # the others: the second time, amid the work
CASES = [f"{name}-{action}" for name in WORKER for action in ("kill", "term", "stop")]
AT_ONCE = 2
QUARANTINED, AGAIN = 65, 75  # exit codes


@pytest.fixture(scope="module")
def undisturbed(
    place: Callable[..., AbstractContextManager[Any]], outcome: Callable[[Any], Any], audio: Path, many: Path
) -> dict[Path, Any]:
    """Each folder's day as one worker leaves it when nothing happens to it, and how often it passed each point."""
    ends = {}
    for folder, code in ((audio, QUARANTINED), (many, 0)):
        with place(folder) as here:
            assert here.finish(here.start()) == code, here.said()
            ends[folder] = outcome(here), here.points()
    return ends


@pytest.fixture(scope="module")
def swept(
    request: pytest.FixtureRequest,
    place: Callable[..., AbstractContextManager[Any]],
    outcome: Callable[[Any], Any],
    undisturbed: Any,
) -> Iterator[dict[str, Future[None]]]:
    """The end of every case that was asked for, a few being tried at once."""

    def run(case: str) -> None:
        point, _, action = case.partition("-")
        folder = list(undisturbed)[point == RENEWER]
        before = _digests(folder)
        with place(folder) as here:
            try:
                _disturb(here, point, action)
                assert outcome(here) == undisturbed[folder][0]
            except AssertionError as error:
                raise AssertionError(f"{error}\n{here.said()}") from error
        assert _digests(folder) == before

    wanted = [item.callspec.params["case"] for item in request.session.items if _is_a_case(item)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {case: pool.submit(run, case) for case in wanted}
        pool.shutdown(cancel_futures=True)


def _is_a_case(item: Any) -> bool:
    return getattr(item, "originalname", "") == test_the_day_ends_the_same.__name__


def _disturb(here: Any, point: str, action: str) -> None:
    done = 0 if point == RENEWER else QUARANTINED
    fault = f"{point}:{1 if point in ONCE else 2}:{action}"
    worker = here.start(fault)
    if action == "stop":
        here.until_stopped(worker)
        here.freeze(worker)
        assert here.finish(here.start()) == done  # the successor
        here.thaw(worker)
        assert here.finish(worker) == done  # it finds that everything is
    else:
        _check_end(here, point, action, here.finish(worker))
        assert here.finish(here.start()) == done


def _check_end(here: Any, point: str, action: str, code: int) -> None:
    """How a worker ends that was killed or asked to stop at this point."""
    if point == RENEWER:  # a process of its own: the worker replaces it when it is killed, and it ends when told to
        assert code == 0
    elif action == "kill":
        assert code == -signal.SIGKILL
    elif point in ("listing.intx", "days.listed"):  # before there was anything to finish
        assert code == -signal.SIGTERM
    else:
        assert code == AGAIN
        with here.ledger() as connection:
            leased = connection.execute("SELECT name FROM shards WHERE state = 'leased'").fetchall()
        assert leased == [], "a worker that is asked to stop gives its shards back"


@pytest.mark.parametrize("case", CASES)
def test_the_day_ends_the_same(case: str, swept: dict[str, Future[None]]) -> None:
    assert swept[case].result() is None


def test_what_a_killed_worker_published_is_not_made_again(
    place: Callable[..., AbstractContextManager[Any]], outcome: Callable[[Any], Any], undisturbed: Any, audio: Path
) -> None:
    """Killed when the second part was safe on the disk, and not yet in the ledger: with it the first shard is whole."""
    with place() as here:
        assert here.finish(here.start("publish.dirsynced:2:kill")) == -signal.SIGKILL
        before = here.points()["decode.sent"]
        assert here.finish(here.start()) == QUARANTINED, here.said()
        assert here.points()["decode.sent"] - before == undisturbed[audio][1]["decode.sent"] - 3
        assert outcome(here) == undisturbed[audio][0]


def test_a_stuck_worker_is_replaced_once_its_renewer_gives_up(
    place: Callable[..., AbstractContextManager[Any]], outcome: Callable[[Any], Any], undisturbed: Any, audio: Path
) -> None:
    """Only the worker stops. Its leases are renewed as long as it may just be busy; then a successor gets them."""
    busy = {"worker.engine_hang_seconds": "6"}
    with place() as here:
        worker = here.start("publish.half:2:stop", **busy)
        here.until_stopped(worker)
        before = here.points()[RENEWER]
        assert here.finish(here.start(**busy)) == QUARANTINED, here.said()
        assert here.points()[RENEWER] > before
        here.thaw(worker)
        assert here.finish(worker) == QUARANTINED, here.said()
        assert outcome(here) == undisturbed[audio][0]


def test_the_undisturbed_day_is_what_its_archives_say(undisturbed: Any, audio: Path) -> None:
    day, _ = undisturbed[audio]
    assert (day.state, day.closings) == ("completed_with_errors", 1)
    assert [shard[1:] for shard in day.shards] == [
        ("done", None, 3),
        ("done", None, 3),
        ("failed", "archive_damaged", None),
    ]
    assert [row[2:5] for row in day.recordings] == [
        ("a0", "transcribed", None),
        ("a1", "transcribed", None),
        ("a2", "transcribed", None),
        ("b0", "transcribed", None),
        ("b1", "quarantined", "empty"),
        ("b2", "no_speech", None),
    ]


def test_a_worker_passes_every_point_that_the_sweep_arms(undisturbed: Any, audio: Path, many: Path) -> None:
    passed = {name: undisturbed[many if name == RENEWER else audio][1][name] for name in WORKER}
    assert [name for name in WORKER if passed[name] < (1 if name in ONCE else 2)] == []
    assert {name for _, counted in undisturbed.values() for name in counted} == set(WORKER)


def _digests(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        path.name: (hashlib.sha256(path.read_bytes()).digest(), path.stat().st_mtime_ns) for path in folder.iterdir()
    }
