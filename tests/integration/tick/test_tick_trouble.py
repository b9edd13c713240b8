"""Orders that are not given: for another user's, after jobs that recorded nothing, and on nodes that fail."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from db import days, jobs, shards
from db.states import DayState

# Somebody else's.


def test_the_orders_of_another_user_are_his_own_and_count_as_such(lab: Any, waits: Any) -> None:
    first, second = lab.days(2)
    lab.tick(user="ada", most_tasks=4)
    before = lab.order()
    lab.cluster.only.purged = True  # this user's squeue shows nothing of it
    lab.later(3600)
    report = lab.tick(most_tasks=4, partition="other")
    assert waits(report, "crowded") == ["zurich: 1 days wait: 4 of 4 tasks are out"]
    assert report.saw["orders of others"] == 1
    after = lab.order()
    assert (after["state"], after["message"], after["missing_since"]) == ("submitted", before["message"], None)
    assert lab.cluster.cancelled == []

    lab.tick(most_tasks=8)
    assert [(order["owner"], order["day_id"]) for order in lab.orders()] == [("ada", first.id), ("me", second.id)]


def test_a_refused_order_of_another_user_is_asked_for_by_nobody_else(lab: Any) -> None:
    lab.day()
    lab.cluster.answers.append("refused")
    lab.tick(user="ada")
    lab.later(3600)
    jobs.pause(lab.connection, who="me", why="maintenance")
    lab.tick()
    jobs.resume(lab.connection)
    lab.tick()
    assert lab.states() == ["blocked"]
    assert lab.cluster.calls["submit"] == 1


# Fruitless.


def test_after_fruitless_jobs_a_day_waits_twice_as_long_each_time_and_is_set_aside(
    lab: Any, waits: Any, did: Any
) -> None:
    day = lab.day()
    for fruitless, pause in ((1, 60), (2, 120)):
        lab.tick(attempts=3)
        lab.fruitless()
        lab.tick(attempts=3)
        [told] = waits(lab.tick(attempts=3), "backs off")
        assert f"{fruitless} jobs recorded nothing (the model is not there" in told
        lab.later(pause - 1)
        lab.tick(attempts=3)
        assert lab.cluster.calls["submit"] == fruitless
        lab.later(2)
    lab.tick(attempts=3)
    lab.fruitless()
    report = lab.tick(attempts=3)
    assert lab.states() == ["failed"] * 3
    assert lab.state(day) == DayState.PROCESSING_FAILED
    assert lab.message(day).startswith("3 jobs in a row recorded nothing; the last: the model is not there")
    assert did(report, "set aside") == [f"zurich 2025-01-01: {lab.message(day)}"]

    lab.later(100_000)
    lab.tick(attempts=3)
    assert lab.cluster.calls["submit"] == 3
    shards.retry(lab.connection, days.by_id(lab.connection, day.id), actor="ada")
    lab.tick(attempts=3)
    assert lab.states() == ["failed"] * 3 + ["submitted"]


def test_a_fruitful_job_begins_the_count_anew(lab: Any, waits: Any) -> None:
    day = lab.day()
    for _ in range(2):
        lab.tick(attempts=3)
        lab.fruitless()
        lab.tick(attempts=3)
        lab.later(10_000)
    lab.tick(attempts=3)
    assert lab.work(day, 1) == 1
    lab.fruitless("its time was up")
    lab.tick(attempts=3)
    assert [order["fruitful"] for order in lab.orders()] == [False, False, True, None]
    assert lab.states()[-1] == "submitted"  # at once, in the same tick

    lab.fruitless()
    assert waits(lab.tick(attempts=3), "backs off")[0].startswith("zurich 2025-01-01: 1 jobs recorded nothing")
    assert lab.state(day) == DayState.PROCESSING


# Bad nodes.


def test_a_node_that_failed_twice_is_left_out_of_the_next_order_for_a_while(lab: Any, did: Any) -> None:
    lab.day()
    lab.tick()
    lab.cluster.only.become("NODE_FAIL", 0, 1, node="bad")
    lab.cluster.only.become("NODE_FAIL", 2, node="unlucky")
    lab.cluster.only.become("FAILED", 3, node="n1")
    lab.tick()
    lab.later(61)
    report = lab.tick()
    assert lab.cluster.last.spec.exclude == ("bad",)
    assert did(report, "left out")[0].startswith("bad: ")

    lab.day(on=date(2025, 2, 1))
    lab.later(6 * 3600)
    lab.tick()
    assert lab.cluster.last.spec.exclude == ()


def test_a_task_that_says_so_itself_counts_against_its_node(lab: Any) -> None:
    lab.settings["node_rest_minutes"] = 1e9  # the records' own clock is long ago
    lab.day()
    lab.tick()
    lab.cluster.only.become("FAILED", node="n7")
    lab.ended(lab.order(), "infrastructure", 0, 1, node="n7", reason="no GPU")
    lab.ended(lab.order(), "try_again", 2, node="n8")
    lab.tick()
    lab.later(61)
    lab.tick()
    assert lab.cluster.last.spec.exclude == ("n7",)


def test_where_every_node_fails_the_nodes_are_not_to_blame_and_none_is_left_out(lab: Any, did: Any) -> None:
    """A bind that is not there, an image that was replaced: left out one by one, no node would be left to say so."""
    lab.day()
    lab.tick()
    lab.cluster.only.become("NODE_FAIL", 0, 1, node="n7")
    lab.cluster.only.become("NODE_FAIL", 2, 3, node="n8")
    lab.tick()
    lab.later(61)
    report = lab.tick()
    assert lab.cluster.last.spec.exclude == ()
    assert did(report, "left out") == []


def test_a_node_of_long_ago_is_none_that_could_do_better(lab: Any) -> None:
    lab.day()
    lab.tick()
    lab.cluster.only.become("FAILED", node="retired")
    lab.ended(lab.order(), "crash", node="retired")
    lab.tick()
    lab.later(7 * 3600)
    lab.tick()
    lab.cluster.last.become("NODE_FAIL", 0, 1, node="n7")
    lab.cluster.last.become("NODE_FAIL", 2, 3, node="n8")
    lab.tick()
    lab.later(1000)
    lab.tick()
    assert lab.cluster.last.spec.exclude == ()


def test_a_nodes_failure_grows_old_while_other_tasks_of_the_job_go_on(lab: Any) -> None:
    lab.day()
    lab.tick()
    lab.cluster.only.become("RUNNING")
    lab.cluster.only.become("NODE_FAIL", 0, 1, node="bad")
    lab.cluster.only.become("FAILED", 2, node="n1")
    lab.tick()
    lab.later(7 * 3600)
    lab.tick()
    assert jobs.bad_nodes(lab.connection, failures=2, rest=timedelta(hours=6)) == []
    assert jobs.bad_nodes(lab.connection, failures=2, rest=timedelta(hours=8)) == ["bad"]
