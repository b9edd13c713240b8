"""A tick that is killed at any named point and run again: one live order a day, one submission, and no word lost."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from db import days, jobs
from db.faults import KNOWN

DAY = "2025-01-01"
GIVING = sorted(name for name in KNOWN if name.startswith("order.") and name not in ("order.withdrawn", "order.closed"))
LIVE = ("intent", "submitted", "running", "blocked", "unknown")

# A cluster in four scripts and two files: `queue` has a line a job, "id|name|state"; a lock keeps ticks apart.
SCRIPTS = {
    "sbatch": """
        for word in "$@"; do case $word in --job-name=*) name=${word#*=} ;; esac; done
        exec 9>>"$CLUSTER/lock" && flock 9
        id=$(($(wc -l <"$CLUSTER/queue") + 1))
        echo "$id|$name|PENDING" >>"$CLUSTER/queue"
        echo "$id"
    """,
    "squeue": """
        while IFS='|' read -r id name state; do
            case $state in
                PENDING) echo "${id}_[0-1%2]|$state|gpu|(null)|(null)||Priority|$name" ;;
                *) for task in 0 1; do echo "${id}_$task|$state|gpu|(null)|(null)|n1|None|$name"; done ;;
            esac
        done <"$CLUSTER/queue"
    """,
    "sacct": "echo 'Slurm accounting storage is disabled' >&2; exit 1",
    "scancel": """
        for word in "$@"; do id=$word; done
        sed -i "s/^\\($id|.*|\\)PENDING$/\\1CANCELLED/" "$CLUSTER/queue"
    """,
}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The cluster's folder; its commands are first on PATH."""
    (tmp_path / "queue").touch()
    (tmp_path / "bin").mkdir()
    for name, body in SCRIPTS.items():
        script = tmp_path / "bin" / name
        script.write_text(f"#!/bin/bash\n{body}\n")
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("CLUSTER", str(tmp_path))
    yield tmp_path


def queue(cluster: Path) -> list[tuple[str, str]]:
    """(token, state) of every submission."""
    lines = [line.split("|") for line in (cluster / "queue").read_text().splitlines()]
    return [(name.rpartition("-")[2], state) for _, name, state in lines]


def tick(here: Any, fault: str = "", **settings: str) -> int:
    usual = {"schedule.grace_seconds": "0.000001", "slurm.first_tasks": "2", "schedule.backoff_seconds": "0.000001"}
    code: int = here.finish(here.start(fault, "schedule", "--once", **usual | settings))
    return code


def prepared(here: Any) -> None:
    add = ("days", "add", DAY, "--site", "zurich", "--location", str(here.audio))
    assert here.finish(here.start("", *add)) == 0, here.said()


def live(here: Any) -> list[jobs.Job]:
    with here.ledger() as connection:
        return [job for job in jobs.live(connection) if job.state in LIVE]


@pytest.mark.parametrize("point", GIVING)
def test_an_order_is_given_once_wherever_its_tick_is_killed(
    place: Callable[[], AbstractContextManager[Any]], cluster: Path, point: str
) -> None:
    with place() as here:
        prepared(here)
        assert tick(here, f"{point}:kill") == -signal.SIGKILL, here.said()
        for _ in range(3):
            assert tick(here) == 0, here.said()
        [job] = live(here)
        assert (job.state, job.scheduler_id) == ("submitted", "1")
        assert queue(cluster) == [(job.token, "PENDING")]


def test_what_was_withdrawn_is_taken_back_by_the_next_tick(
    place: Callable[[], AbstractContextManager[Any]], cluster: Path
) -> None:
    with place() as here:
        prepared(here)
        assert tick(here) == 0
        moved = {"slurm.partition": "other"}
        assert tick(here, "order.withdrawn:kill", **moved) == -signal.SIGKILL
        assert [state for _, state in queue(cluster)] == ["PENDING"]
        for _ in range(2):
            assert tick(here, **moved) == 0, here.said()
        [job] = live(here)
        assert [state for _, state in queue(cluster)] == ["CANCELLED", "PENDING"]
        assert queue(cluster)[1][0] == job.token
        with here.ledger() as connection:
            assert [row["state"] for row in jobs.latest(connection)] == ["submitted", "replaced"]
            [day] = days.find(connection)
            assert day["state"] == "ready_to_process"  # nobody's will: not held


def test_a_job_that_somebody_cancelled_holds_its_day_wherever_the_tick_is_killed(
    place: Callable[[], AbstractContextManager[Any]], cluster: Path
) -> None:
    with place() as here:
        prepared(here)
        assert tick(here) == 0
        text = (cluster / "queue").read_text()
        (cluster / "queue").write_text(re.sub("PENDING", "CANCELLED", text))
        assert tick(here, "order.closed:kill") == -signal.SIGKILL
        assert tick(here) == 0, here.said()
        assert live(here) == []
        assert len(queue(cluster)) == 1
        with here.ledger() as connection:
            [day] = days.find(connection)
            assert day["state"] == "held"
            assert "days release" in day["message"]


def test_eight_ticks_at_once_give_one_order(place: Callable[[], AbstractContextManager[Any]], cluster: Path) -> None:
    with place() as here:
        prepared(here)
        ticks = [here.start("", "schedule", "--once", **{"slurm.first_tasks": "2"}) for _ in range(8)]
        assert [here.finish(each) for each in ticks] == [0] * 8, here.said()
        [job] = live(here)
        assert queue(cluster) == [(job.token, "PENDING")]
