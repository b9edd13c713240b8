"""The named points that no worker passes: other commands ended at them and run again; and none is forgotten."""

from __future__ import annotations

import ast
import hashlib
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import product
from pathlib import Path
from typing import Any

import pytest

import db
import hpc
from db import migrate
from db.connect import connect
from db.faults import KNOWN

DAY = "2025-01-01"
DEMO = ("demo-day", "--date", DAY, "--slots", "1", "--clips", "2", "--trouble", "none")
ENDS = {"kill": -signal.SIGKILL, "term": -signal.SIGTERM}
POOL_BROKEN = 75  # what demo-day says when one of its children died


def files(folder: Path) -> dict[str, bytes]:
    """What lies in a folder, by name; Parquet may differ in nothing either."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).digest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_every_known_point_is_passed_somewhere_in_the_code_and_every_passed_one_is_known() -> None:
    """The sweep takes those of a worker from KNOWN; this module names the rest."""
    passed = set()
    for package in (db, hpc):
        for path in Path(str(package.__file__)).parent.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                match node:
                    case ast.Call(
                        func=ast.Attribute(attr="point") | ast.Name(id="point"), args=[ast.Constant(value=str(name))]
                    ):
                        passed.add(name)
    assert passed == KNOWN
    rest = {name for name in KNOWN if name.split(".")[0] in ("export", "migrate", "demo")}
    assert rest == {*EXPORT, *FREEZE, *MIGRATE, *SPEAK}  # a tick: test_tick.py; a transfer: test_transfers.py


EXPORT = ("export.half", "export.renamed")
FREEZE = ("export.freezing", "export.frozen")
MIGRATE = ("migrate.intx", "migrate.committed")
SPEAK = ("demo.archive_half", "demo.archive_renamed")


def test_an_export_that_ends_early_is_made_again_whole(place: Callable[[], AbstractContextManager[Any]]) -> None:
    with place() as here:
        here.finish(here.start())
        whole = here.folder / "whole"
        command = ("export", DAY, "--format", "txt", "--out")
        assert here.finish(here.start("", *command, str(whole))) == 0, here.said()
        for point, action in product(EXPORT, ("kill", "term", "stop")):
            out = here.folder / f"{point}-{action}"
            first = here.start(f"{point}:{action}", *command, str(out))
            if action == "stop":
                here.until_stopped(first)
                here.freeze(first)
                assert here.finish(here.start("", *command, str(out))) == 0, here.said()
                here.thaw(first)
                assert here.finish(first) == 0, here.said()
            else:
                assert here.finish(first) == ENDS[action]
                assert here.finish(here.start("", *command, str(out))) == 0, here.said()
            assert files(out) == files(whole)
        assert set(EXPORT) <= set(here.points())


def test_a_snapshot_that_ends_early_is_frozen_once_and_written_whole(
    place: Callable[[], AbstractContextManager[Any]],
) -> None:
    with place() as here:
        here.finish(here.start())
        for number, (point, action) in enumerate([*product(FREEZE, ENDS), *product(EXPORT, ("kill",))]):
            name, out = f"set-{number}", here.folder / f"snapshots-{number}"
            command = ("export", DAY, "--snapshot", name, "--out", str(out))
            assert here.finish(here.start(f"{point}:{action}", *command)) == ENDS[action]
            assert here.finish(here.start("", *command)) == 0, here.said()
            made = files(out)
            assert here.finish(here.start("", "export", *command[2:])) == 0, here.said()
            assert (files(out), len(made)) == (made, 6)
        assert set(FREEZE) <= set(here.points())


@pytest.mark.parametrize("action", ["kill", "term"])
@pytest.mark.parametrize("point", MIGRATE)
def test_a_migration_that_ends_early_leaves_all_of_a_step_or_nothing(
    place: Callable[[], AbstractContextManager[Any]], empty_dsn: str, point: str, action: str
) -> None:
    command = {"ledger.dsn": empty_dsn}
    with place() as here:
        assert here.finish(here.start(f"{point}:{action}", "db", "init", **command)) == ENDS[action]
        with connect(empty_dsn) as connection:
            applied = [step.applied is not None for step in migrate.status(connection)]
            assert any(applied) == (point == "migrate.committed")
        assert here.finish(here.start("", "db", "init", **command)) == 0, here.said()
        with connect(empty_dsn) as connection:
            assert migrate.check(connection) == migrate.SPEAKS[-1]
            assert all(step.applied for step in migrate.status(connection))


def test_a_synthetic_day_that_ends_early_is_finished_with_the_same_bytes(
    place: Callable[[], AbstractContextManager[Any]],
) -> None:
    with place() as here:
        whole = here.folder / "whole"
        assert here.finish(here.start("", *DEMO, str(whole))) == 0, here.said()
        for point, action in product(SPEAK, ("kill", "term")):
            folder = here.folder / f"{point}-{action}"
            assert here.finish(here.start(f"{point}:{action}", *DEMO, str(folder))) in (POOL_BROKEN, ENDS[action])
            assert here.finish(here.start("", *DEMO, str(folder))) == 0, here.said()
            assert files(folder) == files(whole)
        assert set(SPEAK) <= set(here.points())
