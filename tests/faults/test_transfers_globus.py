"""A day on its way by Globus, its tick killed at every step: one task a submission, and no file moved for nothing."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from db import days, listings
from db.faults import KNOWN
from hpc.demo.day import make_day
from hpc.demo.trouble import Trouble

DAY = "2025-01-01"
SLOTS = 3
HARMED = f"0_{DAY}_00_10.tar.xz"
POINTS = sorted(name for name in KNOWN if name.startswith("transfer."))
ORDERING = ("transfer.intended", "transfer.asking", "transfer.answered", "transfer.submitted")
LOOKING = ("transfer.verifying", "transfer.settled", "transfer.closed")


@pytest.fixture(scope="session")
def far_day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection with a day of archives and their companions."""
    folder = tmp_path_factory.mktemp("far")
    make_day(
        folder, site="zurich", date=date.fromisoformat(DAY), slots=SLOTS, clips=1, seed=7, trouble=Trouble.none(),
        progress=lambda _=1: None,
    )  # fmt: skip
    return folder


@dataclass
class Lab:
    """Workers that come and go, and a Globus that stays: it lives in this process."""

    here: Any
    globus: Any
    settings: dict[str, str]
    month: Path
    staged: Path

    def run(self, fault: str, *words: str) -> int:
        code: int = self.here.finish(self.here.start(fault, *words, **self.settings))
        return code

    def tick(self, fault: str = "") -> int:
        """One tick, when all that was asked of Globus is done."""
        self.globus.transfer.wait()
        return self.run(fault, "schedule", "--once")

    def day(self) -> dict[str, Any]:
        with self.here.ledger() as connection:
            return dict(days.find(connection)[0])

    def later(self) -> None:
        """Its pause is over."""
        with self.here.ledger() as connection:
            connection.execute("UPDATE days SET look_at = clock_timestamp() WHERE look_at IS NOT NULL")

    def asked(self) -> Counter[str]:
        """How often each file was asked for, in all tasks."""
        items = (item for task in self.globus.transfer.tasks.values() for item in task.data["DATA"])
        return Counter(Path(item["source_path"]).name for item in items)

    def transfers(self) -> list[tuple[str, str, str]]:
        with self.here.ledger() as connection:
            rows = connection.execute("SELECT what, state, task_id::text FROM transfers ORDER BY id").fetchall()
        return [tuple(row.values()) for row in rows]

    def is_whole(self) -> None:
        """Ready, verified, every byte as it was sent, and the ledger's tasks are those of the service."""
        day = self.day()
        assert day["state"] == "ready_to_process", self.here.said()
        assert bytes_in(self.staged) == bytes_in(self.month)
        assert {state for _, state, _ in self.transfers()} == {"succeeded"}
        assert sorted(task for *_, task in self.transfers()) == sorted(self.globus.transfer.tasks)
        taken = [task for task in self.globus.transfer.submissions.values() if task is not None]
        assert sorted(taken) == sorted(self.globus.transfer.tasks)
        with self.here.ledger() as connection:
            files = {row["kind"]: (row["expected"], row["verified"]) for row in listings.gaps(connection, day["id"])}
            shards = connection.execute("SELECT name, state FROM shards").fetchall()
        assert files == dict.fromkeys(("archive", "comments", "metadata", "subtitles"), (SLOTS, SLOTS))
        assert [row["state"] for row in shards] == ["ready"] * SLOTS


def bytes_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def lab(
    place: Callable[[], AbstractContextManager[Any]],
    globus: Any,
    far_day: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Lab]:
    """A site and a day of it. There is no cluster: what a tick orders is none of ours here."""
    squeue = tmp_path / "bin" / "squeue"
    squeue.parent.mkdir()
    squeue.write_text("#!/bin/sh\nexit 1\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", str(squeue.parent), prepend=":")
    far, near = globus.transfer.collection(far_day), globus.transfer.collection(tmp_path / "near")
    secret = tmp_path / "secret.json"
    secret.write_text(json.dumps({"client_id": globus.auth.client_id, "client_secret": globus.auth.secret}))
    secret.chmod(0o600)
    settings = {"globus.secret_file": str(secret), "transfer.staging": str(near.root / "staging")}
    with place() as here:
        made = Lab(
            here, globus, settings | {"transfer.reserve_gb": "0", "globus.seconds": "10"},
            month=far_day / "zurich_2025_january" / "prepped_data", staged=near.root / "staging" / "zurich" / DAY,
        )  # fmt: skip
        add = ("--location", "/", "--folder", "{site}_{year}_{monthname}/prepped_data", "--collection", far.id)
        there = ("--destination", near.id, "--destination-folder", "/staging")
        assert made.run("", "sites", "add", "zurich", *add, *there) == 0, here.said()
        assert made.run("", "days", "add", DAY, "--site", "zurich") == 0, here.said()
        yield made


@pytest.mark.parametrize(
    ("point", "time"), [*((point, 1) for point in POINTS), *((point, 2) for point in ORDERING)]
)  # the second time it is the companions'
def test_a_tick_killed_anywhere_leaves_one_task_a_submission_and_moves_nothing_twice(
    lab: Lab, point: str, time: int
) -> None:
    fault = f"{point}:{time}:kill"
    first = lab.tick(fault)
    assert -signal.SIGKILL in (first, first or lab.tick(fault)), lab.here.said()
    for _ in range(4):
        assert lab.tick() == 0, lab.here.said()
    lab.is_whole()
    assert lab.asked() == Counter(path.name for path in lab.month.iterdir())
    assert [what for what, *_ in lab.transfers()] == ["archives", "companions"]


@pytest.mark.parametrize("point", LOOKING)
def test_a_file_that_was_harmed_is_the_only_one_that_is_moved_again_wherever_the_look_at_it_was_killed(
    lab: Lab, point: str
) -> None:
    lab.globus.transfer.harm = {HARMED: "flip"}
    assert lab.tick() == 0, lab.here.said()
    assert lab.tick(f"{point}:1:kill") == -signal.SIGKILL, lab.here.said()
    assert lab.tick() == 0, lab.here.said()
    assert lab.day()["state"] == "transferring"
    assert HARMED in lab.day()["message"]
    lab.globus.transfer.harm = {}
    lab.later()
    for _ in range(2):
        assert lab.tick() == 0, lab.here.said()
    lab.is_whole()
    once = Counter(path.name for path in lab.month.iterdir())
    assert lab.asked() - once == Counter({HARMED: 1})


@pytest.mark.parametrize(
    "point", ["transfer.intended", "transfer.answered", "transfer.settled", "transfer.closed"]
)  # tests/faults/test_again.py has them all, of a copy
def test_what_a_plan_has_fetched_again_is_asked_for_once_more_wherever_the_tick_was_killed(
    lab: Lab, point: str
) -> None:
    for _ in range(3):
        assert lab.tick() == 0, lab.here.said()
    assert lab.run("", "run", DAY, "--site", "zurich") in (0, 65), lab.here.said()
    with lab.here.ledger() as connection:
        connection.execute("UPDATE days SET finished = finished - interval '1 year'")
    assert lab.tick() == 0, lab.here.said()
    archives = {path.name for path in lab.month.iterdir() if path.name.endswith(".tar.xz")}
    assert not archives & set(bytes_in(lab.staged)), "they were let go"
    lab.settings["engine.language"] = "de"
    assert lab.run("", "reprocess", "--date", DAY) == 0, lab.here.said()
    first = lab.tick(f"{point}:1:kill")
    assert -signal.SIGKILL in (first, first or lab.tick(f"{point}:1:kill")), lab.here.said()
    for _ in range(3):
        assert lab.tick() == 0, lab.here.said()
    assert bytes_in(lab.staged) == bytes_in(lab.month)
    assert lab.asked() == Counter(path.name for path in lab.month.iterdir()) + Counter(archives)
    assert [what for what, *_ in lab.transfers()] == ["archives", "companions", "archives"]
    assert {state for _, state, _ in lab.transfers()} == {"succeeded"}
    assert lab.run("", "reprocess", "--plan", "1", "--here") in (0, 65), lab.here.said()
    assert lab.tick() == 0, lab.here.said()
    with lab.here.ledger() as connection:
        connection.execute("UPDATE days SET tidy_at = NULL")
    assert lab.tick() == 0, lab.here.said()
    assert not archives & set(bytes_in(lab.staged)), "and again afterwards"
    assert len(lab.transfers()) == 3


def test_a_day_by_globus_passes_every_point_that_is_armed_here(lab: Lab) -> None:
    for _ in range(2):
        assert lab.tick() == 0, lab.here.said()
    lab.is_whole()
    assert [point for point in POINTS if not lab.here.points()[point]] == []
    assert [point for point in ORDERING if lab.here.points()[point] != 2] == []
