"""A job's folder: what its tasks are told, what they say of their ends, and the feed that lives on it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.errors import LedgerAway, TryAgain
from hpc.errors import ArchiveDamaged, EngineLost, ModelMissing, SourceMissing
from hpc.feeds.plan import PlanFeed
from hpc.job_folder import FailedShard, JobFolder, Order, PlannedShard, Record, Superseded, folder_of

BASH = shutil.which("bash") or "/bin/bash"
ODD = os.fsdecode(b"/data/\xff\xfe caf\xc3\xa9/a'b\n.tar.xz")  # no UTF-8
SHARDS = (
    PlannedShard(17, "a.tar.xz", "00_15", False, (ODD,), 2, {0: "ab" * 32, 11: "cd" * 32}),
    PlannedShard(18, "loose", None, True, ("/data/1.mp3", "/data/2.mp3"), 1),
)
ORDER = Order(7, "0123456789ab", "process", "plan", "d" * 64, 2, 95, True, 3, "zurich", "2025-01-01", SHARDS)
RECORD = Record(3, 0, "n1", 100.5, "12")


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    made = folder_of(tmp_path, 7)
    made.make(ORDER, {})
    return made


def test_an_order_is_read_back_as_it_was_given(folder: JobFolder, tmp_path: Path) -> None:
    assert folder.order() == ORDER
    assert folder.path == tmp_path / "jobs/7"
    assert sorted(path.name for path in folder.path.iterdir()) == ["job.env", "job.json", "log"]


def test_an_order_that_is_given_again_replaces_the_first(folder: JobFolder) -> None:
    folder.make(replace(ORDER, tasks=1, shards=()), {"A": "1"})

    assert folder.order() == replace(ORDER, tasks=1, shards=())
    assert (folder.path / "job.env").read_text().endswith("\nA=1\n")


def test_the_tasks_of_a_superseded_order_leave(folder: JobFolder) -> None:
    folder.supersede()
    folder.supersede()

    with pytest.raises(Superseded) as caught:
        folder.order()
    assert (str(caught.value), caught.value.exit_code) == (
        "This job's order is no longer valid; another does its work.", 75,
    )  # fmt: skip
    folder.make(ORDER, {})
    assert folder.order() == ORDER


HOSTILE = {
    "SINGLE": "it's '' '\"'\"'",
    "DOUBLE": '"$HOME" "',
    "DOLLAR": "$HOME ${PATH} $(id) $$ $'x'",
    "LINES": "one\ntwo\n\n#three\r\n",
    "TICKS": "`id`",
    "SPACES": "  a  b\t",
    "SLASHES": "a\\b\\\\\\",
    "EMPTY": "",
    "SIGNS": "!&|;<>()*?[]{}~#%^=",
    "WORDS": "Zürich 日本 😀",
    "BYTES": ODD,
}


def read_by_bash(file: Path, names: list[str]) -> dict[str, str]:
    script = 'set -a; source "$1"; shift; for name; do printf "%s\\0" "${!name}"; done'
    done = subprocess.run(
        [BASH, "-euc", script, "job", str(file), *names], check=True, capture_output=True, env={"HOME": "/h"}
    )
    return dict(zip(names, map(os.fsdecode, done.stdout.split(b"\0")[:-1]), strict=True))


def test_bash_reads_every_variable_back_as_it_was(folder: JobFolder) -> None:
    folder.make(ORDER, HOSTILE)

    assert read_by_bash(folder.path / "job.env", list(HOSTILE)) == HOSTILE


def test_the_end_of_a_start_says_more_than_its_beginning(folder: JobFolder) -> None:
    """In whatever order they were written; a later start is another line."""
    over = replace(RECORD, ended=160.0, ended_as="stopped", exit_code=75, reason="moved", facts={"shards": 2})
    again, first = replace(RECORD, restart=1), replace(RECORD, task=0)
    folder.ended(over)
    for record in (RECORD, again, first):
        folder.began(record)

    assert folder.records() == [first, over, again]


GOOD = json.dumps({"task": 5, "restart": 0, "node": "n", "began": 1.0})


@pytest.mark.parametrize(
    "text",
    [b"", b"{", GOOD[:-4].encode(), b"[]", b"null", b"7", b'"x"', b"{}", b"\xff\xfe", b'{"task": 5}', b"\0" * 40,
     GOOD.replace("5", '"5"').encode(), GOOD.replace("5", "[5]").encode(),
     GOOD.replace("node", "nodes").encode(), (GOOD[:-1] + ', "more": 1}').encode()],
)  # fmt: skip
@pytest.mark.parametrize("ending", ["began", "ended"])
def test_a_record_that_is_not_whole_is_as_good_as_none(folder: JobFolder, text: bytes, ending: str) -> None:
    folder.began(RECORD)
    (folder.path / f"task-5.0.{ending}.json").write_bytes(text)
    (folder.path / "failed-1-1.json").write_bytes(text)

    assert (folder.records(), folder.failures()) == ([RECORD], [])


def test_a_file_that_is_being_written_is_not_read(folder: JobFolder) -> None:
    (folder.path / ".new-0011-task-5.0.ended.json").write_text(GOOD)
    assert folder.records() == []
    (folder.path / "task-5.0.ended.json").write_text(GOOD)
    assert folder.records() == [Record(5, 0, "n", 1.0)]


def test_a_folder_that_is_gone_has_nothing_to_say(tmp_path: Path) -> None:
    gone = JobFolder(tmp_path / "gone")

    assert (gone.records(), gone.failures()) == ([], [])
    gone.supersede()


def test_a_write_that_fails_leaves_nothing_behind(folder: JobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        folder.began(RECORD)
    assert sorted(path.name for path in folder.path.iterdir()) == ["job.env", "job.json", "log"]


def test_failed_shards_are_read_back(folder: JobFolder) -> None:
    failed = [FailedShard(17, 2, "archive_damaged", "a bit", True), FailedShard(17, 3, "x", "é\n", False)]
    for one in failed:
        folder.fail(one)

    assert folder.failures() == failed


def feed(
    folder: JobFolder,
    task: int = 0,
    *,
    order: Order = ORDER,
    published: Callable[[PlannedShard], tuple[Mapping[int, bytes], bool]] = lambda _: ({}, False),
    may_claim: Callable[[], bool] = lambda: True,
) -> PlanFeed:
    return PlanFeed(order, folder, task=task, published=published, may_claim=may_claim)


def planned(count: int) -> tuple[PlannedShard, ...]:
    return tuple(PlannedShard(number, f"{number}.tar", None, False, (f"/{number}.tar",), 1) for number in range(count))


@given(shards=st.integers(0, 60), tasks=st.integers(1, 20), count=st.integers(1, 5))
def test_the_tasks_of_an_order_work_every_shard_exactly_once(shards: int, tasks: int, count: int) -> None:
    order = replace(ORDER, tasks=tasks, shards=planned(shards))
    claimed: list[int] = []
    for task in range(tasks):
        share = feed(JobFolder(Path("/nowhere")), task, order=order)
        while leases := share.claim(count):
            assert len(leases) <= count
            claimed += [lease.shard.id for lease in leases]
        assert share.left == 0

    assert sorted(claimed) == list(range(shards))


def test_a_claimed_shard_is_the_one_that_was_planned(folder: JobFolder) -> None:
    [lease] = feed(folder).claim(5)

    assert (lease.epoch, lease.shard.site, str(lease.shard.date)) == (2, "zurich", "2025-01-01")
    assert (lease.shard.id, lease.shard.name, lease.shard.slot, lease.shard.loose) == (17, "a.tar.xz", "00_15", False)
    assert list(map(os.fsencode, lease.shard.files)) == [b"/data/\xff\xfe caf\xc3\xa9/a'b\n.tar.xz"]
    assert feed(folder).owner == "job:0123456789ab"


def test_what_is_known_is_what_the_order_says_and_what_lies_published(folder: JobFolder) -> None:
    [lease] = feed(folder, published=lambda _: ({11: b"new", 12: b"more"}, False)).claim(1)

    assert lease.known == {0: bytes.fromhex("ab" * 32), 11: b"new", 12: b"more"}


def test_a_shard_that_a_part_seals_is_left_out(folder: JobFolder) -> None:
    order = replace(ORDER, tasks=1, shards=planned(4))
    share = feed(folder, order=order, published=lambda one: ({}, one.id in (0, 2)))

    assert [lease.shard.id for lease in share.claim(9)] == [1, 3]


def test_whether_a_share_has_work_is_said_without_taking_any_of_it(folder: JobFolder) -> None:
    order = replace(ORDER, tasks=1, shards=planned(4))
    share = feed(folder, order=order, published=lambda one: ({}, one.id in (0, 2)))

    assert (share.waits(), share.waits()) == (True, True)
    assert [lease.shard.id for lease in share.claim(1)] == [1]
    assert share.waits()
    assert [lease.shard.id for lease in share.claim(9)] == [3]
    assert not share.waits()
    assert not feed(folder, order=order, published=lambda _: ({}, True)).waits()
    assert not feed(folder, order=order, may_claim=lambda: False).waits()


def test_a_shard_that_failed_under_this_epoch_is_left_out_and_under_another_is_not(folder: JobFolder) -> None:
    order = replace(ORDER, tasks=1, shards=planned(3))
    folder.fail(FailedShard(0, 1, "x", "y", False))
    folder.fail(FailedShard(1, 7, "x", "y", False))

    assert [lease.shard.id for lease in feed(folder, order=order).claim(9)] == [1, 2]


def test_who_may_not_claim_gets_nothing_and_loses_nothing(folder: JobFolder) -> None:
    answers = [True, False]
    share = feed(folder, order=replace(ORDER, tasks=1, shards=planned(3)), may_claim=lambda: answers.pop(0))

    assert [lease.shard.id for lease in share.claim(9)] == [0]
    assert share.left == 2


@pytest.mark.parametrize(
    ("error", "failed"),
    [
        (ArchiveDamaged("a\x1b[31m bit"), FailedShard(17, 2, "archive_damaged", "a\\x1b[31m bit", True)),
        (SourceMissing("gone"), FailedShard(17, 2, "source_missing", "gone", False)),
        (ModelMissing("none"), FailedShard(17, 2, "model_missing", "none", False)),
    ],
)
def test_a_shard_that_cannot_be_done_is_a_file_for_the_next_tick(
    folder: JobFolder, error: Exception, failed: FailedShard
) -> None:
    [lease] = feed(folder).claim(1)
    lease.fail(error)

    assert folder.failures() == [failed]
    assert feed(folder).claim(1) == []


@pytest.mark.parametrize("error", [TryAgain("later"), LedgerAway(), EngineLost(), OSError(5, "I/O"), KeyError("x")])
def test_what_may_pass_leaves_the_shard_to_the_next_job(folder: JobFolder, error: Exception) -> None:
    [lease] = feed(folder).claim(1)
    lease.fail(error)
    lease.release()
    lease.forget()

    assert folder.failures() == []
    assert len(feed(folder).claim(1)) == 1
