"""A tick over a real ledger and a scheduler that the test holds in its hands: what follows from what it shows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from db import days, jobs, shards, sites
from db.connect import Connection
from db.session import Session
from db.states import DayState
from hpc.errors import NoAnswer, SubmitRefused
from hpc.job_folder import FailedShard, Record, folder_of
from hpc.jobs import JobSpec, Look, Seen
from hpc.model import Result, Seal
from hpc.scheduler import tick
from hpc.sections import ScheduleSettings, SlurmSettings
from hpc.stages.ingest import ingest
from hpc.stages.publish import Header, write_part
from hpc.tick.world import Code, Report, World

FIRST = date(2025, 1, 1)
LEASE = timedelta(minutes=1)


@dataclass
class Cluster:
    """The port of a scheduler: a queue that the test changes, and a memory of what was asked."""

    queue: dict[str, list[Seen]] = field(default_factory=dict)
    specs: list[JobSpec] = field(default_factory=list)
    cancelled: list[tuple[str, bool]] = field(default_factory=list)
    looks: int = 0
    silent: bool = False
    accounting: tuple[Seen, ...] | None = None
    answers: Callable[[JobSpec], None] = lambda _spec: None  # raises what submit should, before the job is there
    loses: bool = False  # the job is taken, and the answer lost
    lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self, ids: Sequence[str]) -> Look:  # noqa: ARG002 - the name is the port's
        self.looks += 1
        if self.silent:
            return Look(None, trouble="squeue: no answer in time")
        seen = tuple(one for tasks in self.queue.values() for one in tasks)
        return Look(seen, self.accounting, accounting_trouble="" if self.accounting else "accounting is off")

    def render(self, spec: JobSpec) -> str:
        return spec.name

    def submit(self, spec: JobSpec) -> str:
        self.answers(spec)
        with self.lock:
            self.specs.append(spec)
            job = str(len(self.specs))
            self.queue[job] = [Seen(job, spec.name, "PENDING", "Priority", tasks=spec.tasks)]
        if self.loses:
            raise NoAnswer("sbatch did not get through")
        return job

    def cancel(self, job: str, *, only_pending: bool) -> None:
        self.cancelled.append((job, only_pending))
        self.queue[job] = [replace(one, state="CANCELLED") for one in self.queue[job] if one.state == "PENDING"]

    def becomes(self, job: str, state: str, node: str = "n1", *, reason: str = "None", code: int | None = None) -> None:
        """Every task of the job is now in this state."""
        [first, *_] = self.queue[job]
        tasks = self.specs[int(job) - 1].tasks
        self.queue[job] = [Seen(job, first.name, state, reason, node, task, exit_code=code) for task in range(tasks)]

    def forget(self, job: str) -> None:
        del self.queue[job]


@dataclass
class Place:
    """A ledger, a home and a cluster; ticks over them."""

    dsn: str
    folder: Path
    connection: Connection
    cluster: Cluster = field(default_factory=Cluster)
    rules: dict[str, Any] = field(default_factory=lambda: {"backoff_seconds": 1e-9})
    wanted: dict[str, Any] = field(default_factory=lambda: {"first_tasks": 2})
    user: str = "me"

    def day(self, number: int = 0, *, count: int = 4, site: str = "zurich") -> days.Day:
        """A day that is ready, with so many shards."""
        on = FIRST + timedelta(days=number)
        made = sites.put(self.connection, site, location="/audio")
        days.add(self.connection, made.id, [on])
        found = days.get(self.connection, site, on)
        days.listed(self.connection, found.id, staged="/audio", revision=0)
        new = [shards.NewShard(f"s{n}", (b"s%d" % n,), 1000) for n in range(count)]
        shards.add(self.connection, found.id, new, revision=0, max_attempts=3)
        days.move(self.connection, found.id, DayState.READY_TO_PROCESS, actor="test")
        return days.by_id(self.connection, found.id)

    def world(self, session: Session, user: str | None = None) -> World:
        def take(path: Path) -> None:
            session(ingest, path, actor="tick")

        return World(
            session=session, launcher=self.cluster, user=user or self.user, home=self.folder / "home",
            results=self.folder / "results", scripts=self.folder, rules=ScheduleSettings(**self.rules),
            wanted=SlurmSettings(**self.wanted), variables={}, code=lambda: Code("c" * 64, self.folder), ingest=take,
            register=lambda _site, _on: 0, discover=lambda: 0, clock=time.monotonic,
        )  # fmt: skip

    def tick(self, user: str | None = None) -> Report:
        session = Session(self.dsn, application="tick")
        try:
            return tick(self.world(session, user))
        finally:
            session.close()

    def orders(self) -> list[tuple[str, str | None]]:
        """(state, scheduler's id) of every order, oldest first."""
        return [(row["state"], row["scheduler_id"]) for row in jobs.latest(self.connection, limit=500)[::-1]]

    def order(self) -> jobs.Job:
        return jobs.live(self.connection)[-1]

    def state(self, day: days.Day) -> str:
        return days.by_id(self.connection, day.id).state

    def work(self, day: days.Day, count: int = 99) -> None:
        """Somebody with a ledger does so many shards."""
        for leased in shards.claim(self.connection, owner="w", count=count, lease=LEASE, day_id=day.id):
            self.publish(leased.id, leased.epoch, leased.name, day)
        for path in sorted((self.folder / "results").glob("*/*/parts/[0-9]*")):
            ingest(self.connection, path, actor="w")

    def publish(self, shard: int, epoch: int, name: str, day: days.Day) -> Path:
        """A part with the seal of an empty archive: a whole shard's result in the smallest form."""
        header = Header(day.site, day.date, shard, name, epoch, "ab" * 16, {"engine": "none"}, 0.0)
        results: list[Result] = []
        return write_part(self.folder / "results", header, results, Seal(shard, b"s" * 32, 1, 0))

    def says(self, *ends: str | None, reason: str = "", restart: int = 0) -> None:
        """The tasks of the latest order, one after the other, say that they began and how they ended."""
        folder = folder_of(self.folder / "home", jobs.latest(self.connection)[0]["id"])
        for task, end in enumerate(ends):
            began = Record(task, restart, "n1", time.time())
            folder.began(began)
            if end is not None:
                folder.ended(replace(began, ended=time.time(), ended_as=end, exit_code=0, reason=reason))


@pytest.fixture
def place(dsn: str, ledger: Connection, tmp_path: Path) -> Iterator[Place]:
    yield Place(dsn, tmp_path, ledger)


def whats(lines: Sequence[Any]) -> list[str]:
    return [line.what for line in lines]


def test_a_day_gets_one_array_and_another_tick_orders_nothing(place: Place) -> None:
    place.day()
    assert whats(place.tick().did) == ["submitted"]
    assert whats(place.tick().did) == []
    [spec] = place.cluster.specs
    assert (spec.tasks, spec.gpu) == (2, True)
    assert place.orders() == [("submitted", "1")]


def test_the_order_is_written_before_the_scheduler_is_asked(place: Place) -> None:
    seen: list[Any] = []
    place.cluster.answers = lambda spec: seen.extend(jobs.latest(place.connection)) or seen.append(spec.name)
    place.day()
    place.tick()
    assert seen[0]["state"] == "intent"
    assert seen[0]["token"] in seen[1]


def test_eight_ticks_at_once_over_fifty_days_give_fifty_arrays(place: Place) -> None:
    place.wanted |= {"most_tasks": 1000}
    for number in range(50):
        place.day(number, count=2)
    barrier = threading.Barrier(8)

    def go(_: int) -> Report:
        barrier.wait()
        return place.tick()

    with ThreadPoolExecutor(8) as ticks:
        assert len(list(ticks.map(go, range(8)))) == 8
    assert len(place.cluster.specs) == len({spec.name for spec in place.cluster.specs}) == 50
    assert place.cluster.looks == 8


def test_a_lost_answer_is_found_by_its_token_and_never_repeated(place: Place) -> None:
    place.day()
    place.cluster.loses = True
    assert whats(place.tick().waits) == ["no answer"]
    assert place.orders() == [("intent", None)]
    assert whats(place.tick().did) == ["found"]
    place.tick()
    assert place.orders() == [("submitted", "1")]
    assert len(place.cluster.specs) == 1


def test_an_answer_that_stays_lost_is_given_up_after_the_grace_and_a_late_job_is_taken_back(place: Place) -> None:
    place.day()
    place.cluster.loses = True
    place.tick()
    late = place.cluster.queue.pop("1")
    place.cluster.loses = False
    assert whats(place.tick().waits) == ["no answer yet"]
    assert len(place.cluster.specs) == 1
    place.rules |= {"grace_seconds": 1e-9}
    assert whats(place.tick().did) == ["gave up", "submitted"]
    assert place.orders() == [("failed", None), ("submitted", "2")]
    place.cluster.queue["1"] = late
    assert "took back" in whats(place.tick().did)
    assert place.cluster.cancelled == [("1", True)]


def test_silence_closes_nothing_orders_nothing_and_gives_nothing_up(place: Place) -> None:
    day, other = place.day(0), place.day(1)
    place.wanted |= {"most_tasks": 2}
    place.tick()
    place.cluster.becomes("1", "RUNNING")
    place.tick()
    place.rules |= {"vanish_seconds": 1e-9, "grace_seconds": 1e-9}
    place.cluster.silent = True
    for _ in range(3):
        report = place.tick()
    assert (report.did, whats(report.waits)) == ([], ["no orders"])
    assert place.orders() == [("unknown", "1")]
    assert {place.state(day), place.state(other)} == {"ready_to_process"}
    place.cluster.silent = False
    place.tick()
    assert place.orders() == [("running", "1")]


def test_three_witnesses_make_a_success(place: Place) -> None:
    day = place.day()
    place.tick()
    place.work(day)
    place.says("done", "done")
    place.cluster.becomes("1", "COMPLETED", code=0)
    place.tick()
    assert place.orders() == [("succeeded", "1")]
    assert place.state(day) == "completed"


@pytest.mark.parametrize("missing", ["a record", "a shard", "the scheduler's word"])
def test_without_one_of_them_it_is_none(place: Place, missing: str) -> None:
    day = place.day()
    place.tick()
    place.work(day, 3 if missing == "a shard" else 4)
    place.says("done", None if missing == "a record" else "done")
    place.cluster.becomes("1", "FAILED" if missing == "the scheduler's word" else "COMPLETED", code=0)
    place.tick()
    assert place.orders()[0] == ("failed", "1")


def test_a_job_that_everybody_forgot_is_unknown_and_then_over_but_never_a_success_without_its_records(
    place: Place,
) -> None:
    day = place.day()
    place.tick()
    place.work(day)
    place.says("done", None)
    place.cluster.forget("1")
    assert whats(place.tick().waits) == ["unknown"]
    place.tick()
    assert place.orders() == [("unknown", "1")]
    place.rules |= {"vanish_seconds": 1e-9}
    place.tick()
    assert place.orders() == [("failed", "1")]
    ends = [start["ended_as"] for start in jobs.tasks_of(place.connection, 1)]
    assert sorted(ends) == ["done", "vanished"]


def test_a_renamed_job_is_followed_by_its_id(place: Place) -> None:
    place.day()
    place.tick()
    place.cluster.becomes("1", "RUNNING")
    place.cluster.queue["1"] = [replace(one, name="mine") for one in place.cluster.queue["1"]]
    assert place.tick().did == []
    assert place.orders() == [("running", "1")]


def test_what_somebody_cancels_holds_its_day_until_a_person_releases_it(place: Place) -> None:
    day = place.day()
    place.tick()
    place.cluster.becomes("1", "CANCELLED")
    assert whats(place.tick().did) == ["held", "cancelled"]
    place.tick()
    assert (place.orders(), place.state(day)) == ([("cancelled", "1")], "held")
    held = days.by_id(place.connection, day.id)
    assert "dayscribe days release" in str(held.message)
    days.release(place.connection, held, actor="a person")
    place.tick()
    assert place.orders() == [("cancelled", "1"), ("submitted", "2")]


def test_another_partition_replaces_what_waits_and_never_what_runs(place: Place) -> None:
    day, running = place.day(0), place.day(1)
    place.tick()
    place.cluster.becomes("2", "RUNNING")
    place.wanted |= {"partition": "other"}
    assert whats(place.tick().did) == ["took back", "submitted"]
    assert place.cluster.cancelled == [("1", True)]
    place.tick()
    assert place.orders() == [("replaced", "1"), ("running", "2"), ("submitted", "3")]
    assert {place.state(day), place.state(running)} == {"ready_to_process"}


def test_a_pause_takes_back_what_waits_and_orders_nothing_until_it_ends(place: Place) -> None:
    place.day(0)
    place.tick()
    place.day(1)
    jobs.pause(place.connection, who="a person", why="new disks")
    report = place.tick()
    assert (whats(report.did), whats(report.waits)) == (["took back"], ["paused"])
    place.tick()
    assert place.orders() == [("replaced", "1")]
    jobs.resume(place.connection)
    place.tick()
    assert [state for state, _ in place.orders()] == ["replaced", "submitted", "submitted"]


def test_a_refusal_is_blocked_with_its_reason_and_asked_again_only_after_a_pause(place: Place) -> None:
    def refuse(_spec: JobSpec) -> None:
        raise SubmitRefused("invalid partition specified: gpus")

    place.rules |= {"backoff_seconds": 60.0}
    day = place.day()
    place.cluster.answers = refuse
    for _ in range(3):
        assert whats(place.tick().waits) == ["blocked"]
    [row] = jobs.latest(place.connection)
    assert (row["state"], row["message"]) == ("blocked", "invalid partition specified: gpus")
    assert jobs.one(place.connection, row["id"])["refusals"] == 1
    place.connection.execute("UPDATE jobs SET ready_at = now()")
    place.cluster.answers = lambda _spec: None
    place.tick()
    assert place.orders() == [("submitted", "1")]
    assert place.state(day) == "ready_to_process"


def test_a_limit_halves_the_tasks_and_then_stops_asking(place: Place) -> None:
    asked: list[int] = []

    def limited(spec: JobSpec) -> None:
        asked.append(spec.tasks)
        if spec.tasks > 2 or len(place.cluster.specs) == 1:
            raise SubmitRefused("job submit limit", limit=True)

    place.wanted |= {"first_tasks": 8}
    for number in range(3):
        place.day(number, count=8)
    place.cluster.answers = limited
    report = place.tick()
    assert asked == [8, 4, 2, 8, 4, 2, 1]
    assert [state for state, _ in place.orders()] == ["submitted", "blocked"]
    assert whats(report.waits) == ["blocked", "not asked"]


def test_no_more_tasks_of_a_site_than_its_share_and_another_site_has_its_own(place: Place) -> None:
    place.wanted |= {"most_tasks": 4}
    for number in range(4):
        place.day(number)
    place.day(0, site="basel")
    report = place.tick()
    assert [spec.tasks for spec in place.cluster.specs] == [2, 2, 2]
    assert [(line.what, line.about) for line in report.waits] == [("crowded", "zurich")]


def test_a_day_whose_jobs_come_to_nothing_backs_off_and_is_set_aside_until_a_person_retries(place: Place) -> None:
    day = place.day()
    place.rules |= {"attempts": 2, "backoff_seconds": 60.0}
    place.tick()
    place.says("crash", "crash", reason="no model")
    place.cluster.becomes("1", "FAILED", code=1)
    assert whats(place.tick().waits) == ["backs off"]
    place.rules |= {"backoff_seconds": 1e-9}
    place.tick()
    place.says("crash", "crash", reason="no model")
    place.cluster.becomes("2", "FAILED", code=1)
    assert whats(place.tick().did) == ["failed", "set aside"]
    aside = days.by_id(place.connection, day.id)
    assert aside.state == "processing_failed"
    assert "no model" in str(aside.message)
    shards.retry(place.connection, aside, actor="a person")
    place.tick()
    assert place.orders()[-1] == ("submitted", "3")


def test_a_job_that_recorded_something_starts_the_count_anew(place: Place) -> None:
    day = place.day()
    place.rules |= {"attempts": 2}
    for number in ("1", "2", "3"):
        place.tick()
        if number == "2":
            place.work(day, 1)
        place.says("crash", "crash")
        place.cluster.becomes(number, "FAILED", code=1)
    place.tick()
    assert place.state(day) == "processing"
    assert place.orders()[-1] == ("submitted", "4")


def test_a_node_that_failed_twice_is_left_out_of_the_next_order(place: Place) -> None:
    place.day()
    place.tick()
    place.says("infrastructure", "infrastructure", reason="no GPU")
    place.cluster.becomes("1", "FAILED", code=75)
    place.tick()
    assert [spec.exclude for spec in place.cluster.specs] == [(), ("n1",)]


def test_somebody_else_s_jobs_are_left_alone_and_their_days_not_ordered_twice(place: Place) -> None:
    place.day()
    place.tick(user="she")
    place.wanted |= {"partition": "other"}
    place.cluster.becomes("1", "FAILED")
    report = place.tick(user="me")
    assert (report.did, report.saw["orders of others"]) == ([], 1)
    assert place.orders() == [("submitted", "1")]
    assert place.cluster.cancelled == []


def test_a_shard_that_nobody_will_take_again_ends_and_closes_its_day(place: Place) -> None:
    day = place.day(count=1)
    gone = "state = 'leased', owner = 'gone', attempts = max_attempts, lease_until = now() - interval '1 s'"
    place.connection.execute(f"UPDATE shards SET {gone}")
    place.tick()
    assert place.state(day) == "completed_with_errors"
    assert place.cluster.specs == []


def planned(place: Place) -> list[dict[str, Any]]:
    return shards.owned(place.connection, f"job:{place.order().token}")


def test_a_job_without_a_ledger_gets_its_shards_and_keeps_them_while_ticks_see_it(place: Place) -> None:
    day = place.day()
    place.rules |= {"ledger_on_nodes": False}
    place.tick()
    order = folder_of(place.folder / "home", place.order().id).order()
    assert [one.id for one in order.shards] == [row["id"] for row in planned(place)]
    assert order.mode == "plan"
    place.connection.execute("UPDATE shards SET lease_until = now() + interval '1 s'")
    place.tick()
    left = "SELECT min(lease_until - now()) > interval '1 min' AS renewed FROM shards WHERE state = 'leased'"
    assert place.connection.execute(left).fetchone() == {"renewed": True}
    for one in order.shards[:2]:
        place.publish(one.id, one.epoch, one.name, day)
    bad = order.shards[2]
    folder_of(place.folder / "home", order.id).fail(FailedShard(bad.id, bad.epoch, "archive_damaged", "cut", True))
    place.says("done", "stopped", reason="its time is nearly up")
    place.cluster.becomes("1", "COMPLETED", code=0)
    report = place.tick()
    assert "recorded" in whats(report.did)
    rows = {row["name"]: (row["state"], row["attempts"]) for row in shards.of_day(place.connection, day.id)}
    assert rows == {"s0": ("done", 0), "s1": ("done", 0), "s2": ("failed", 1), "s3": ("ready", 1)}


def test_an_order_that_is_refused_is_no_attempt_at_its_shards(place: Place) -> None:
    def refuse(_spec: JobSpec) -> None:
        raise SubmitRefused("invalid partition")

    day = place.day(count=2)
    place.rules |= {"ledger_on_nodes": False}
    place.cluster.answers = refuse
    for _ in range(5):
        place.tick()
    rows = [(row["state"], row["attempts"]) for row in shards.of_day(place.connection, day.id)]
    assert rows == [("ready", 0), ("ready", 0)]
    place.cluster.answers = lambda _spec: None
    place.tick()
    assert len(planned(place)) == 2


def test_a_task_that_starts_after_its_job_is_over_finds_no_order(place: Place) -> None:
    place.day()
    place.tick()
    folder = folder_of(place.folder / "home", place.order().id)
    assert folder.order().kind == "process"
    place.says("done", "done")
    place.cluster.becomes("1", "COMPLETED", code=0)
    place.tick()
    with pytest.raises(Exception, match="no longer valid"):
        folder.order()
