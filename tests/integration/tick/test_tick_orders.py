"""Orders: one array a day, written before it is asked for, asked for once; refused, withdrawn, paused, crowded."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

import pytest

from db import days, deliveries, jobs
from db.states import DayState
from hpc import scheduler


def test_the_order_is_in_the_ledger_before_the_scheduler_is_asked(lab: Any) -> None:
    day = lab.day()
    seen: list[Any] = []
    lab.cluster.before_submit = lambda spec: seen.append((spec.name, lab.order()))
    lab.tick()
    [(name, order)] = seen
    assert (order["state"], order["day_id"], order["scheduler_id"]) == ("intent", day.id, None)
    assert order["asked"] is not None
    assert name == f"ds-{day.date}-{order['token']}"
    assert (lab.order()["state"], lab.order()["scheduler_id"]) == ("submitted", "101")


def test_the_job_folder_is_whole_before_the_scheduler_is_asked(lab: Any) -> None:
    day = lab.day()
    lab.cluster.before_submit = lambda _: seen.append(lab.job_folder(lab.order()).order())
    seen: list[Any] = []
    lab.tick()
    [said] = seen
    assert (said.token, said.tasks, said.day, said.site) == (lab.order()["token"], 4, day.date, "zurich")
    assert lab.cluster.only.spec.argument.read_text().count("DAYSCRIBE_JOB=") == 1


def test_one_array_a_day_and_nothing_for_a_day_that_has_one(lab: Any) -> None:
    lab.days(3)
    first, second = lab.tick(), lab.tick()
    assert [line.what for line in first.did] == ["submitted"] * 3
    assert second.did == second.waits == []
    assert lab.cluster.calls["submit"] == 3


@pytest.mark.parametrize("count", [1, 40])
def test_a_tick_looks_once_however_many_days_there_are(lab: Any, count: int) -> None:
    lab.days(count, 1)
    for number in range(1, 4):
        lab.tick(most_tasks=1000)
        assert lab.cluster.calls == {"look": number, "submit": count}


def test_eight_ticks_at_once_order_fifty_days_fifty_times(lab: Any) -> None:
    lab.days(50, 1)
    worlds = [lab.world(session=lab.session(), most_tasks=1000) for _ in range(8)]
    start = threading.Barrier(8)

    def run(world: Any) -> None:
        world.session.connection()
        start.wait()
        for _ in range(2):
            scheduler.tick(world)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, worlds))
    assert lab.cluster.calls["submit"] == 50
    assert lab.states() == ["submitted"] * 50
    assert len({order["day_id"] for order in lab.orders()}) == 50
    assert not lab.cluster.cancelled


def test_the_same_holds_where_jobs_reach_no_ledger(lab: Any) -> None:
    found = lab.days(20, 2)
    worlds = [lab.world(session=lab.session(), most_tasks=1000, ledger_on_nodes=False) for _ in range(8)]
    start = threading.Barrier(8)

    def run(world: Any) -> None:
        world.session.connection()
        start.wait()
        for _ in range(2):
            scheduler.tick(world)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, worlds))
    assert lab.cluster.calls["submit"] == 20
    assert lab.states() == ["submitted"] * 20
    for order in lab.orders():
        held = lab.rows("SELECT id, epoch FROM shards WHERE owner = %s ORDER BY id", f"job:{order['token']}")
        assert [(one.id, one.epoch) for one in lab.job_folder(order).order().shards] == held
        assert len(held) == 2
    assert {attempts for day in found for _, attempts in lab.shards(day)} == {1}


def test_an_order_that_another_tick_asks_for_meanwhile_is_not_asked_for_twice(lab: Any) -> None:
    """It was written and not asked for; the other tick asks between this one's reading of the ledger and its look."""
    day = lab.day()
    given = {"owner": "me", "tasks": 4, "settings": {}, "code": "c", "day_id": day.id}
    jobs.intend(lab.connection, token="a" * 12, kind="process", **given)
    lab.cluster.answers.append("dropped")  # so that nothing but the ledger tells of it

    def other() -> None:
        lab.cluster.before_look = lambda: None
        lab.tick(session=lab.session())

    lab.cluster.before_look = other
    lab.tick()
    assert lab.cluster.calls == {"look": 2, "submit": 1}
    assert lab.states() == ["intent"]


def test_two_kinds_of_work_of_one_day_are_two_orders_but_two_of_a_kind_are_not(lab: Any) -> None:
    day = lab.day()
    given = {"owner": "me", "tasks": 1, "settings": {}, "code": "c", "day_id": day.id}
    first = jobs.intend(lab.connection, token="a" * 12, kind="process", **given)
    assert first is not None
    assert jobs.intend(lab.connection, token="b" * 12, kind="process", **given) is None
    assert jobs.intend(lab.connection, token="c" * 12, kind="stage", **given) is not None


def test_a_preview_asks_the_queue_and_changes_nothing(lab: Any, waits: Any) -> None:
    lab.day()
    before = lab.untouched()
    report = scheduler.preview(lab.world())
    assert waits(report, "would submit") == [
        "zurich 2025-01-01: 4 tasks of 240 minutes (8 shards, no speed measured yet)"
    ]
    assert lab.untouched() == before
    assert lab.orders() == []
    assert lab.cluster.calls == {"look": 1}


# Refusals.


def test_a_refused_order_is_blocked_with_its_reason_and_asked_for_again_after_a_while(lab: Any, waits: Any) -> None:
    lab.day()
    lab.cluster.answers.extend(["refused"] * 3)
    [told] = waits(lab.tick(), "blocked")
    reason = "Invalid account or account/partition combination specified"
    assert told == f"zurich 2025-01-01: {reason} (asked again in 60 s)"
    assert (lab.order()["state"], lab.order()["message"]) == ("blocked", reason)

    lab.later(59)
    assert waits(lab.tick(), "blocked") == [f"zurich 2025-01-01: {reason}"]
    assert lab.cluster.calls["submit"] == 1
    lab.later(2)
    assert "(asked again in 120 s)" in waits(lab.tick(), "blocked")[0]
    assert lab.cluster.calls["submit"] == 2
    lab.later(119)
    lab.tick()
    assert lab.cluster.calls["submit"] == 2
    lab.later(2)
    lab.tick()
    assert lab.cluster.calls["submit"] == 3
    assert lab.events("job.blocked") == 1

    lab.later(3600)
    lab.tick()
    assert (lab.order()["state"], lab.order()["refusals"]) == ("submitted", 3)


def test_the_pause_after_a_refusal_is_an_hour_at_most(lab: Any, waits: Any) -> None:
    lab.day()
    for _ in range(9):
        lab.cluster.answers.append("refused")
        report = lab.tick()
        lab.later(3601)
    assert "(asked again in 3600 s)" in waits(report, "blocked")[0]


def test_for_a_limit_fewer_tasks_are_asked_for_until_they_fit(lab: Any, did: Any) -> None:
    lab.day(16)
    lab.cluster.limit = 3
    report = lab.tick(first_tasks=16)
    assert lab.cluster.calls["submit"] == 4  # 16, 8, 4, 2
    assert (lab.order()["state"], lab.order()["array_size"]) == ("submitted", 2)
    assert "2 tasks" in did(report, "submitted")[0]
    assert "fewer tasks, for a limit" in did(report, "submitted")[0]
    assert lab.job_folder(lab.order()).order().tasks == 2


def test_when_not_even_one_task_is_taken_no_other_day_is_asked_for(lab: Any, waits: Any) -> None:
    lab.days(3)
    lab.cluster.limit = 0
    report = lab.tick()
    assert lab.cluster.calls["submit"] == 3  # 4, 2, 1 tasks of the first day
    assert lab.states() == ["blocked"]
    assert [line.partition(":")[0] for line in waits(report, "not asked")] == ["zurich 2025-01-02", "zurich 2025-01-03"]


def test_another_refusal_says_nothing_of_the_next_day(lab: Any) -> None:
    lab.days(3)
    lab.cluster.answers.append("refused")
    lab.tick()
    assert lab.states() == ["blocked", "submitted", "submitted"]


@pytest.mark.parametrize("ledger_on_nodes", [True, False])
def test_a_refused_order_is_not_given_again_for_a_day_that_somebody_holds_since(
    lab: Any, ledger_on_nodes: bool
) -> None:
    day = lab.day()
    lab.cluster.answers.append("refused")
    lab.tick(ledger_on_nodes=ledger_on_nodes)
    days.hold(lab.connection, day, actor="somebody", message="the tape is being copied")
    lab.later(61)
    lab.tick(ledger_on_nodes=ledger_on_nodes)
    assert lab.cluster.calls["submit"] == 1
    days.release(lab.connection, day, actor="somebody")
    lab.tick(ledger_on_nodes=ledger_on_nodes)
    assert lab.states() == ["replaced", "submitted"]


# Crowded.


def test_no_more_tasks_of_a_site_are_out_than_the_settings_say(lab: Any, waits: Any) -> None:
    lab.days(4)
    report = lab.tick(most_tasks=10)
    assert [order["array_size"] for order in lab.orders()] == [4, 4, 2]
    assert waits(report, "crowded") == ["zurich: 1 days wait: 10 of 10 tasks are out"]
    assert waits(lab.tick(most_tasks=10), "crowded") == ["zurich: 1 days wait: 10 of 10 tasks are out"]

    lab.cluster.jobs[0].become("COMPLETED", 0, 1)
    lab.tick(most_tasks=10)
    assert [order["array_size"] for order in lab.orders()] == [4, 4, 2, 2]


def test_two_sites_do_not_share_the_room(lab: Any, waits: Any) -> None:
    lab.days(2)
    lab.days(2, site="bern")
    report = lab.tick(most_tasks=4)
    ordered = "SELECT i.name FROM jobs j JOIN days d ON d.id = j.day_id JOIN sites i ON i.id = d.site_id"
    assert sorted(lab.rows(ordered)) == ["bern", "zurich"]
    assert sorted(line.partition(":")[0] for line in waits(report, "crowded")) == ["bern", "zurich"]


def test_a_refused_order_that_is_given_again_keeps_to_the_room_too(lab: Any) -> None:
    lab.days(2)
    lab.cluster.answers.append("refused")
    lab.tick(most_tasks=4)
    assert lab.states() == ["blocked", "submitted"]
    lab.later(61)
    lab.tick(most_tasks=4)
    assert lab.cluster.calls["submit"] == 2
    lab.cluster.only.become("COMPLETED", 0, 1, 2)
    lab.tick(most_tasks=4)
    assert [order["array_size"] for order in lab.orders()] == [3, 4]
    assert sum(job.tasks.count("PENDING") for job in lab.cluster.jobs) == 4


# Withdrawn: the settings changed.


def test_what_waits_under_another_partition_is_taken_back_and_ordered_anew(lab: Any, did: Any, waits: Any) -> None:
    day = lab.day()
    lab.tick(partition="old")
    lab.cluster.only.become("RUNNING", 0)
    report = lab.tick(partition="new")
    assert lab.cluster.cancelled == [("101", True)]
    assert "partition old → new" in did(report, "took back")[0]
    assert lab.states() == ["draining", "submitted"]
    assert lab.orders()[1]["settings"]["partition"] == "new"

    old = lab.orders()[0]
    lab.cluster["101"].become("COMPLETED", 0)
    lab.ended(old, "done", 0)
    lab.tick(partition="new")
    assert lab.states() == ["replaced", "submitted"]
    assert lab.state(day) == DayState.READY_TO_PROCESS
    assert lab.cluster.calls["submit"] == 2


def test_what_only_runs_under_another_partition_is_left_alone(lab: Any) -> None:
    lab.day()
    lab.tick(partition="old")
    lab.cluster.only.become("RUNNING")
    lab.tick(partition="new")
    lab.tick(partition="new")
    assert lab.cluster.cancelled == []
    assert lab.states() == ["running"]


def test_what_could_not_be_taken_back_is_taken_back_by_a_later_tick(lab: Any, waits: Any) -> None:
    lab.day()
    lab.tick(partition="old")
    lab.cluster.deaf = True
    assert waits(lab.tick(partition="new"), "not taken back") == ["zurich 2025-01-01: scancel: no answer in time"]
    assert lab.states() == ["draining", "submitted"]
    lab.cluster.deaf = False
    lab.tick(partition="new")
    assert lab.cluster.cancelled == [("101", True)]
    lab.tick(partition="new")
    assert lab.states() == ["replaced", "submitted"]


def test_a_withdrawal_by_another_tick_is_never_taken_for_a_persons(lab: Any, job_of: Any) -> None:
    """The other tick withdraws between this one's reading of the ledger and its look at the queue."""
    day = lab.day()
    lab.tick(partition="old")

    def other() -> None:
        if lab.order()["state"] == "submitted":
            jobs.withdraw(lab.connection, job_of(lab.order()), "the partition changed")
            lab.cluster.cancel("101", only_pending=True)

    lab.cluster.before_look = other
    lab.tick(partition="new")
    assert lab.state(day) != DayState.HELD
    assert lab.states() == ["replaced", "submitted"]


def test_a_withdrawal_by_another_tick_is_not_undone(lab: Any, job_of: Any) -> None:
    """The withdrawn order still runs, the day has its next order already, and this tick goes by what it read before."""
    day = lab.day()
    lab.tick(partition="old")
    lab.cluster.only.become("RUNNING", 0)
    done: list[None] = []

    def other() -> None:
        if not done:
            done.append(None)
            jobs.withdraw(lab.connection, job_of(lab.order()), "the partition changed")
            lab.cluster.before_look = lambda: None
            lab.tick(partition="new", session=lab.session())

    lab.cluster.before_look = other
    lab.tick(partition="new")
    assert lab.states() == ["draining", "submitted"]
    assert lab.state(day) == DayState.READY_TO_PROCESS


# A pause for all.


def test_a_pause_takes_back_what_waits_orders_nothing_and_says_so(lab: Any, waits: Any) -> None:
    lab.days(2)
    lab.tick()
    running, waiting = lab.cluster.jobs
    running.become("RUNNING")
    lab.day(on=date(2025, 2, 1))
    jobs.pause(lab.connection, who="ada", why="the power is cut at noon")
    [told] = waits(lab.tick(), "paused")
    assert "paused by ada" in told
    assert told.endswith("the power is cut at noon")
    assert lab.cluster.cancelled == [(waiting.id, True)]
    assert lab.states() == ["running", "draining"]
    lab.tick()
    assert lab.states() == ["running", "replaced"]
    assert lab.cluster.calls["submit"] == 2

    jobs.resume(lab.connection)
    lab.tick()
    assert lab.states() == ["running", "replaced", "submitted", "submitted"]


def test_a_pause_ends_refused_orders_and_the_resumption_gives_them_anew(lab: Any) -> None:
    lab.day()
    lab.cluster.answers.append("refused")
    lab.tick()
    jobs.pause(lab.connection, who="ada", why="maintenance")
    lab.tick()
    assert lab.states() == ["replaced"]
    jobs.resume(lab.connection)
    lab.tick()
    assert lab.states() == ["replaced", "submitted"]


def test_a_delivery_that_somebody_wants_is_a_job_of_its_own(lab: Any) -> None:
    day = lab.day()
    deliveries.want(lab.connection, day.id, "/archive", parts=True, audio=False, partial=True, again=False, owner="me")
    lab.tick()
    assert sorted(order["kind"] for order in lab.orders()) == ["deliver", "process"]
    lab.tick()
    assert len(lab.orders()) == 2
