"""The tests are tested: each of these small damages to the source must turn the tests that guard it red."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TREES = ("db", "hpc", "docs", "slurm", "tests")
AT_ONCE = 2
FAILED = 1  # pytest: tests ran, and some failed
LEDGER = "tests/integration/ledger"
CLAIMS, PARTS, DAYS = (f"{LEDGER}/test_ledger_{name}.py" for name in ("claims", "parts", "days"))
MODEL = f"{LEDGER}/test_ledger_model.py::test_no_order_of_events_makes_the_ledger_differ_from_its_model"
FSYNC = "tests/faults/test_fsync.py::test_every_recorded_part_survives_a_crash_at_every_step"


@dataclass(frozen=True)
class Mutant:
    """Exact texts to replace, by file, and the tests that must notice."""

    changes: tuple[tuple[str, str, str], ...]
    killers: tuple[str, ...]


FAIL_WITHOUT_EPOCH = (
    "db/queries/shards.sql",
    "    failure_class = %(failure_class)s, failure_reason = %(failure_reason)s\n"
    "WHERE id = %(id)s AND epoch = %(epoch)s AND state = 'leased';\n",
    "    failure_class = %(failure_class)s, failure_reason = %(failure_reason)s\n"
    "WHERE id = %(id)s AND state = 'leased';\n",
)
SETTLE_WITHOUT_EPOCH = (
    ("db/parts.py", ' and shard["epoch"] == part.epoch\n', "\n"),
    (
        "db/queries/shards.sql",
        "WHERE id = %(id)s AND epoch = %(epoch)s AND state = 'leased' AND sealed IS NULL;",
        "WHERE id = %(id)s AND state = 'leased' AND sealed IS NULL;",
    ),
    (
        "db/queries/shards.sql",
        "WHERE id = %(id)s AND epoch = %(epoch)s AND state = 'leased' AND sealed IS NOT NULL;",
        "WHERE id = %(id)s AND state = 'leased' AND sealed IS NOT NULL;",
    ),
)
FOLLOW, ORDERS, PLANS = (f"tests/integration/tick/test_tick_{name}.py" for name in ("follow", "orders", "plans"))
SCRIPT, IMAGES = "tests/unit/test_job_containers.py", "tests/integration/test_orders_in_images.py"
NO_ATTEMPT = "test_a_start_that_never_came_to_our_program_is_no_attempt_at_a_shard"
MUTANTS: dict[str, Mutant] = {
    "silence of the scheduler is an empty queue": Mutant(
        (
            (
                "hpc/launchers/slurm/__init__.py",
                "            return Look(None, trouble=trouble)\n",
                "            queue = ()\n",
            ),
        ),
        ("tests/unit/test_slurm_launcher.py",),
    ),
    "a silent scheduler is ordered from all the same": Mutant(
        (
            ("hpc/scheduler.py", "    if look.queue is None:\n", "    if False:\n"),
            ("hpc/tick/follow.py", "        if look.queue is None:\n", "        if False:\n"),
            ("hpc/tick/witnesses.py", "    assert look.queue is not None\n", ""),
        ),
        (f"{FOLLOW}::test_silence_closes_nothing_orders_nothing_and_touches_no_shard",),
    ),
    "a day may have two live orders": Mutant(
        (
            ("db/migrations/0002_jobs.sql", "CREATE UNIQUE INDEX jobs_one_live", "CREATE INDEX jobs_one_live"),
            (
                "db/queries/jobs.sql",
                "ON CONFLICT DO NOTHING RETURNING id;\n\n-- name: asking",
                "RETURNING id;\n\n-- name: asking",
            ),
        ),
        (f"{ORDERS}::test_eight_ticks_at_once_order_fifty_days_fifty_times",),
    ),
    "a missing exit record is as good as a good one": Mutant(
        (
            (
                "hpc/tick/witnesses.py",
                "{TaskEnd.DONE, TaskEnd.SUPERSEDED} and not never",
                "{TaskEnd.DONE, 'no exit record'}",
            ),
        ),
        (f"{FOLLOW}::test_a_job_that_one_witness_speaks_against_has_not_succeeded",),
    ),
    "a cancelled job is ordered again": Mutant(
        (("hpc/tick/follow.py", "        _hold(world, report, job)  #", "        pass  #"),),
        (f"{FOLLOW}::test_a_day_whose_job_somebody_cancelled_is_held_until_it_is_released",),
    ),
    "a lost answer is repeated": Mutant(
        (
            ("hpc/tick/follow.py", "        if not seen.known and not records:\n", "        if True:\n"),
            ("hpc/tick/follow.py", "job.asked_ago <= world.rules.grace_seconds", "False"),
        ),
        (f"{FOLLOW}::test_a_lost_answer_is_found_by_its_token_and_never_asked_for_again",),
    ),
    "what runs is cancelled with what waits": Mutant(
        (
            (
                "hpc/tick/submit.py",
                "cancel(one.job.scheduler_id, only_pending=True)",
                "cancel(one.job.scheduler_id, only_pending=False)",
            ),
        ),
        (f"{ORDERS}::test_what_waits_under_another_partition_is_taken_back_and_ordered_anew",),
    ),
    "a refused order is an attempt at its shards": Mutant(
        (
            (
                "hpc/tick/follow.py",
                "    tried: set[int] = set()\n",
                "    tried: set[int] = set(left)\n",
            ),
        ),
        (f"{PLANS}::test_refused_orders_use_no_attempts_up",),
    ),
    "a stale epoch may fail a shard": Mutant(
        (FAIL_WITHOUT_EPOCH,), (f"{CLAIMS}::test_a_stale_epoch_cannot_close_a_shard",)
    ),
    "a stale epoch may settle a shard": Mutant(SETTLE_WITHOUT_EPOCH, (f"{PARTS}::test_a_stale_epoch_never_seals",)),
    "no epoch check in settle and fail, as the model sees it": Mutant(
        (FAIL_WITHOUT_EPOCH, *SETTLE_WITHOUT_EPOCH), (MODEL,)
    ),
    "a stale epoch is renewed": Mutant(
        (("db/queries/shards.sql", " AND s.epoch = held.epoch AND", " AND"),),
        (f"{CLAIMS}::test_a_stale_epoch_is_not_renewed",),
    ),
    "a recording may be there twice": Mutant(
        (
            ("db/migrations/0001_ledger.sql", "    UNIQUE (shard_id, ordinal),\n", ""),
            ("db/queries/parts.sql", "    ON CONFLICT (shard_id, ordinal) DO NOTHING RETURNING id", "    RETURNING id"),
        ),
        (f"{PARTS}::test_results_of_a_stale_epoch_are_taken_and_the_first_wins",),
    ),
    "a part may be recorded twice": Mutant(
        (
            (
                "db/migrations/0001_ledger.sql",
                "    name text NOT NULL UNIQUE,\n    shard_id bigint",
                "    name text NOT NULL,\n    shard_id bigint",
            ),
            ("db/queries/parts.sql", "ON CONFLICT (name) DO NOTHING RETURNING id;", "RETURNING id;"),
        ),
        (f"{PARTS}::test_recording_a_part_twice_changes_nothing",),
    ),
    "a failure is stored as empty text": Mutant(
        (
            (
                "hpc/stages/ingest.py",
                '    failed = {"failure_class": failure.kind.value, "failure_reason": _storable(failure.reason)}\n',
                '    failed = {"outcome": "no_speech", "text": "", "words": b"", "word_count": 0}\n',
            ),
        ),
        (f"{LEDGER}/test_ledger_ingest.py::test_every_outcome_keeps_its_kind",),
    ),
    "an archive is not read to its end": Mutant(
        (
            (
                "hpc/stages/tarwalk.py",
                "                yield found\n        self._to_the_end()\n",
                "                yield found\n",
            ),
        ),
        ("tests/unit/test_unpack.py::test_an_archive_is_refused_when_it_is",),
    ),
    "a day is closed without locking its row": Mutant(
        (
            (
                "db/queries/days.sql",
                "WHERE id = %(shard_id)s) FOR NO KEY UPDATE;",
                "WHERE id = %(shard_id)s);",
            ),
        ),
        (f"{DAYS}::test_two_settlers_at_the_same_instant_close_the_day_once",),
    ),
    "shards are listed without locking the day's row": Mutant(
        (
            (
                "db/shards.py",
                "        state = days.lock(connection, day_id)  # else",
                "        state = days.by_id(connection, day_id).state  # else",
            ),
        ),
        (f"{DAYS}::test_a_shard_listed_while_the_last_one_settles_is_never_closed_over",),
    ),
    "a part's bytes are not synced": Mutant(
        (("hpc/stages/publish.py", "            os.fsync(out.fileno())\n", ""),), (FSYNC,)
    ),
    "a part's folder is not synced": Mutant(
        (
            (
                "hpc/stages/publish.py",
                '    sync_folder(folder)\n    faults.point("publish.dirsynced")\n',
                '    faults.point("publish.dirsynced")\n',
            ),
        ),
        (FSYNC,),
    ),
    "a new folder is not synced into its own": Mutant(
        (("hpc/stages/publish.py", "        sync_folder(each.parent)\n", "        pass\n"),), (FSYNC,)
    ),
    "a lapsed lease is never rescued": Mutant(
        (("db/queries/shards.sql", "SELECT * FROM lapsed UNION ALL SELECT * FROM fresh", "SELECT * FROM fresh"),),
        (f"{CLAIMS}::test_a_lapsed_lease_is_rescued_in_the_claim_and_the_epoch_rises",),
    ),
    "a seal is taken without counting": Mutant(
        (
            (
                "db/parts.py",
                '    complete = (known["recordings"], known["last"]) == (seal.recordings, seal.recordings - 1)\n',
                "    complete = True\n",
            ),
        ),
        (f"{PARTS}::test_a_seal_that_does_not_add_up_is_refused_and_the_results_stay",),
    ),
    "a seal is taken over other bytes": Mutant(
        (("db/parts.py", '    same = seal.contents in (None, known["contents"])\n', "    same = True\n"),),
        (f"{PARTS}::test_a_seal_over_other_bytes_than_were_recorded_is_refused",),
    ),
    "provisional recordings are on a day's pages": Mutant(
        (("db/queries/transcripts.sql", " AND r.state <> 'provisional' AND", " AND"),),
        (f"{PARTS}::test_results_are_hidden_until_the_seal_and_then_current_together",),
    ),
    "provisional transcripts are found": Mutant(
        (
            (
                "db/queries/search.sql",
                " AND CASE WHEN r.current_id = hit.id AND r.state = 'transcribed' THEN true END\n",
                "\n",
            ),
        ),
        (f"{PARTS}::test_results_are_hidden_until_the_seal_and_then_current_together",),
    ),
    "a stale epoch may discard": Mutant(
        (
            (
                "db/migrations/0001_ledger.sql",
                " AND epoch = the_epoch AND sealed IS NULL FOR",
                " AND sealed IS NULL FOR",
            ),
        ),
        (f"{PARTS}::test_a_discard_under_a_stale_epoch_or_after_the_seal_throws_nothing_away",),
    ),
    "late results of a damaged archive are taken": Mutant(
        (("db/parts.py", ' and part.epoch > shard["discarded_epoch"]:', ":"),),
        (f"{PARTS}::test_what_was_read_of_a_damaged_archive_stays_thrown_away",),
    ),
    "a job in an image is told the way to the ledger": Mutant(
        (("hpc/wiring/__init__.py", 'if order.mode == "plan" or not ', "if not "),),
        (f"{IMAGES}::test_a_job_that_transcribes_works_by_a_plan_and_is_told_no_way_to_the_ledger",),
    ),
    "a task in an image is given the ledger's variables": Mutant(
        (("slurm/container.sh", "[[ $kind == utils ]] || continue", ":"),),
        (f"{SCRIPT}::test_the_gpu_image_is_handed_no_secret",),
    ),
    "an image is not closed": Mutant(
        (("slurm/container.sh", "--containall --cleanenv --no-home", "--cleanenv"),),
        (f"{SCRIPT}::test_a_task_runs_closed_off_and_sees_only_what_is_named",),
    ),
    "an image's digest is not looked at": Mutant(
        (("slurm/container.sh", '[[ $found == "$wanted" ]] ||', "true ||"),),
        (f"{SCRIPT}::test_another_image_under_the_name_is_no_image",),
    ),
    "what leaks in is not asked": Mutant(
        (("hpc/images.py", "if image is not None and (found :=", "if image is None and (found :="),),
        ("tests/unit/test_images.py::test_a_leak_is_the_machines_fault_and_its_value_is_not_said",),
    ),
    "a start that failed for the image is an attempt": Mutant(
        (("hpc/tick/follow.py", "frozenset({TaskEnd.STOPPED, TaskEnd.INFRASTRUCTURE,", "frozenset({TaskEnd.STOPPED,"),),
        (f"{PLANS}::{NO_ATTEMPT}",),
    ),
    "a task that was stopped has tried what it did not begin": Mutant(
        (("hpc/tick/follow.py", "frozenset({TaskEnd.STOPPED, TaskEnd", "frozenset({TaskEnd"),),
        (f"{PLANS}::test_stopped_in_good_order_again_and_again_a_plan_loses_no_shard_that_nobody_read",),
    ),
    "what an image decodes may rewrite its own job's settings": Mutant(
        (("slurm/container.sh", "{job.env,job.json,log}", "{job.json,log}"),),
        (f"{SCRIPT}::test_a_task_runs_closed_off_and_sees_only_what_is_named",),
    ),
    "a held day may be moved": Mutant(
        (("db/states.py", " if target in targets and state is not DayState.HELD)", " if target in targets)"),),
        (f"{DAYS}::test_the_last_shard_of_a_held_day_settles_and_the_release_closes_it",),
    ),
}
OTHERS = {
    name: mutant
    for of in ("transfers", "engine", "plans")
    for name, mutant in runpy.run_path(str(Path(__file__).with_name(f"mutants_of_{of}.py")))["MUTANTS"].items()
}
MUTANTS |= {name: Mutant(*what) for name, what in OTHERS.items()}


def copied(folder: Path, changes: tuple[tuple[str, str, str], ...] = ()) -> Path:
    """The source tree with these changes; each text must be there exactly once."""
    for name in TREES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    for file, before, after in changes:
        path = folder / file
        text = path.read_text(encoding="utf-8")
        assert text.count(before) == 1, (
            f"{file} has {text.count(before)} times {before!r}: bring this mutant up to date"
        )
        path.write_text(text.replace(before, after), encoding="utf-8")
    return folder


def tried(folder: Path, killers: tuple[str, ...]) -> tuple[int, str]:
    """pytest's exit code and words, with the copy's own packages imported."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--tb=line", "-p", "no:cacheprovider", *killers]
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTEST_ADDOPTS", None)  # said to the whole run, not to these
    environment["DAYSCRIBE_MODELS"] = str(ROOT / "models")  # which are too large to copy
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def fates(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Any]]]:
    """What pytest says of each mutant that was asked for, a few being tried at once; "" is the untouched copy."""
    ours = [item for item in request.session.items if item.path == Path(__file__)]  # the whole suite is in there
    wanted = {item.callspec.params["name"] for item in ours if hasattr(item, "callspec")}
    killers = tuple(dict.fromkeys(killer for name in MUTANTS if name in wanted for killer in MUTANTS[name].killers))

    def tell(name: str) -> tuple[int, str]:
        mutant = MUTANTS[name] if name else Mutant((), killers)
        return tried(copied(tmp_path_factory.mktemp("mutant"), mutant.changes), mutant.killers)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {name: pool.submit(tell, name) for name in ("", *(name for name in MUTANTS if name in wanted))}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_killed(name: str, fates: dict[str, Future[Any]]) -> None:
    code, said = fates[name].result()
    assert code == FAILED, f"the tests do not notice that {name}:\n{said}"
    end = said.strip().splitlines()[-1]
    assert re.match(r"\d+ failed\b(?!.*\berror)", end), f"the mutant is broken, which proves nothing:\n{said}"
    assert "SyntaxError" not in said, said


def test_the_same_tests_are_green_without_a_mutant(fates: dict[str, Future[Any]]) -> None:
    code, said = fates[""].result()
    assert code == 0, said
