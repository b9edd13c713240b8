"""Jobs that reach no ledger: what a tick leases for them, records of them, and charges when they end."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from db import shards
from db.states import DayState
from hpc import scheduler
from hpc.errors import BadSetting
from hpc.job_folder import ORDER, FailedShard
from hpc.tick.report import Report


@pytest.fixture
def planned(lab: Any) -> Any:
    """Jobs reach no ledger; planned(): the only order, after a tick has given it, with the ids of its shards."""
    lab.settings["ledger_on_nodes"] = False

    def give() -> tuple[dict[str, Any], list[int]]:
        lab.tick()
        order = lab.orders()[-1]
        return order, [one.id for one in lab.job_folder(order).order().shards]

    return give


def leases(lab: Any, order: dict[str, Any]) -> list[float]:
    """How long each shard that is leased for the job still is, seconds."""
    left = "SELECT extract(epoch FROM lease_until - now())::float8 FROM shards WHERE owner = %s ORDER BY id"
    found: list[float] = lab.rows(left, f"job:{order['token']}")
    return found


def test_the_shards_of_a_plan_are_leased_for_its_job_and_ticks_renew_them(lab: Any, planned: Any) -> None:
    day = lab.day(3)
    order, ids = planned()
    assert order["mode"] == "plan"
    assert len(ids) == len(leases(lab, order)) == 3
    assert lab.job_folder(order).order().shards[0].files == ("/audio/2025-01-01/0.tar",)
    lab.later(3000)
    lab.tick()
    assert min(leases(lab, order)) > 3500
    lab.cluster.silent = True
    lab.later(3000)
    lab.tick()
    assert min(leases(lab, order)) > 3500
    assert lab.claim(day) == []


def test_parts_of_a_plan_are_recorded_by_a_tick_and_settle_their_shards(lab: Any, planned: Any, did: Any) -> None:
    day = lab.day(3)
    order, ids = planned()
    lab.cluster.only.become("RUNNING")
    lab.publish(order, *ids[:2])
    report = lab.tick()
    assert did(report, "recorded") == ["zurich 2025-01-01: 2 parts"]
    assert [state for state, _ in lab.shards(day)] == ["done", "done", "leased"]

    lab.publish(order, ids[2])
    lab.ended(order, "done")
    lab.cluster.only.become("COMPLETED")
    lab.tick()
    assert lab.state(day) == DayState.COMPLETED
    assert lab.states() == ["succeeded"]


def test_a_part_that_is_not_whole_is_told_of_and_costs_its_neighbours_nothing(
    lab: Any, planned: Any, waits: Any, did: Any
) -> None:
    day = lab.day(2)
    order, ids = planned()
    broken, _ = lab.publish(order, *ids)
    broken.write_bytes(broken.read_bytes()[:-9])
    report = lab.tick()
    assert [line.partition(":")[0] for line in waits(report, "refused")] == [broken.name]
    assert did(report, "recorded") == ["zurich 2025-01-01: 1 parts"]
    assert [state for state, _ in lab.shards(day)] == ["leased", "done"]
    assert did(lab.tick(), "recorded") == []  # nothing is: it is refused again


def test_what_a_task_found_damaged_fails_the_shard_and_nothing_of_it_is_seen(lab: Any, planned: Any) -> None:
    day = lab.day(2)
    order, ids = planned()
    lab.publish(order, ids[0], sealed=False)
    lab.publish(order, ids[1])
    lab.tick()
    assert lab.value("SELECT count(*) FROM recordings WHERE shard_id = %s", ids[0]) == 1
    lab.job_folder(order).fail(FailedShard(ids[0], 1, "archive_damaged", "it ends early", True))
    lab.ended(order, "done")
    lab.cluster.only.become("COMPLETED")
    lab.tick()
    failed = lab.rows("SELECT state, failure_class, failure_reason FROM shards WHERE id = %s", ids[0])
    assert failed == [("failed", "archive_damaged", "it ends early")]
    assert lab.value("SELECT count(*) FROM recordings WHERE shard_id = %s", ids[0]) == 0
    assert lab.state(day) == DayState.COMPLETED_WITH_ERRORS
    assert lab.states() == ["succeeded"]


def test_what_a_job_that_ran_left_over_goes_back_and_that_was_an_attempt(lab: Any, planned: Any) -> None:
    day = lab.day(2)
    order, ids = planned()
    lab.publish(order, ids[0])
    lab.ended(order, "crash", reason="segmentation fault")
    lab.cluster.only.become("FAILED")
    lab.tick()
    assert [state for state, _ in lab.shards(day)] == ["done", "ready"]
    assert lab.shards(day)[1] == ("ready", 1)
    lab.later(6)
    again, left = planned()
    assert again["id"] != order["id"]
    assert left == ids[1:]
    assert lab.shards(day)[1] == ("leased", 2)


def test_a_start_that_never_came_to_our_program_is_no_attempt_at_a_shard(lab: Any, planned: Any) -> None:
    """The image was another one, or a bind was missing: its job script says so in the record of the task."""
    lab.day(2)
    order, _ = planned()
    lab.cluster.only.become("FAILED")
    lab.ended(order, "infrastructure", 0, 1, reason="the image is not the one that was ordered")
    lab.tick()
    assert lab.rows("SELECT state::text, attempts FROM shards") == [("ready", 0)] * 2


def test_stopped_in_good_order_again_and_again_a_plan_loses_no_shard_that_nobody_read(lab: Any, planned: Any) -> None:
    """Short limits and preemption: each job seals one, and the rest were not begun."""
    day = lab.day(4, max_attempts=2)
    for _ in range(3):
        order, ids = planned()
        lab.publish(order, ids[0])
        lab.ended(order, "stopped")
        lab.cluster.last.become("FAILED")
        lab.tick()
        lab.later(61)
    assert [state for state, _ in lab.shards(day)] == ["done", "done", "done", "leased"]
    assert lab.shards(day)[3] == ("leased", 1)  # by the order that is out now


def test_of_a_job_only_the_tasks_that_broke_are_charged_and_only_for_what_they_had_in_hand(
    lab: Any, planned: Any
) -> None:
    day = lab.day(12)
    lab.settings |= {"first_tasks": 3}
    order, _ = planned()
    assert order["array_size"] == 3
    lab.ended(order, "crash", 0)
    lab.ended(order, "infrastructure", 1)
    lab.ended(order, "done", 2)
    lab.cluster.only.become("FAILED")
    lab.tick()
    attempts = [tried for _, tried in lab.shards(day)]
    assert [attempts[place] for place in range(0, 12, 3)] == [1, 1, 0, 0]  # the first two of its share
    assert [attempts[place] for place in range(1, 12, 3)] == [0, 0, 0, 0]  # it never started
    assert [attempts[place] for place in range(2, 12, 3)] == [1, 1, 1, 1]  # it tried them all


def test_an_order_that_cannot_be_written_is_blocked_with_its_sentence_and_the_others_go_on(
    lab: Any, planned: Any, waits: Any
) -> None:
    lab.days(2, 1)

    def told(order: Any) -> dict[str, str]:
        if order.date == "2025-01-01":
            raise BadSetting("/audio/a,b cannot be shown to an image")
        return {}

    report = scheduler.tick(replace(lab.world(), variables=told))
    assert waits(report, "blocked")[0].startswith("zurich 2025-01-01: /audio/a,b cannot be shown to an image")
    assert lab.states() == ["blocked", "submitted"]
    assert lab.rows("SELECT state::text, attempts FROM shards ORDER BY id")[0] == ("ready", 0)


def test_an_order_for_tasks_with_a_ledger_that_was_never_asked_is_given_anew_as_a_plan(lab: Any) -> None:
    """Images were set meanwhile: what waits to be asked again would look for a ledger that its image must not reach."""
    lab.day(1)
    lab.cluster.answers.append("refused")
    lab.tick()
    assert lab.states() == ["blocked"]
    lab.settings["ledger_on_nodes"] = False
    lab.later(61)
    lab.tick()
    assert [(order["state"], order["mode"]) for order in lab.orders()] == [
        ("replaced", "ledger"),
        ("submitted", "plan"),
    ]


def test_a_job_that_never_ran_was_no_attempt_at_its_shards(lab: Any, planned: Any) -> None:
    """Withdrawn while it waited, again and again: a shard that nobody read has not failed."""
    day = lab.day(2, max_attempts=2)
    for number in range(4):
        lab.tick(partition=f"p{number}")
        assert lab.states()[-1] == "submitted"
        lab.tick(partition=f"p{number + 1}")
        lab.tick(partition=f"p{number + 1}")
        lab.later(6)
    assert {attempts for _, attempts in lab.shards(day)} <= {0, 1}
    assert {state for state, _ in lab.shards(day)} <= {"ready", "leased"}
    assert lab.states()[:4] == ["replaced"] * 4


def test_a_job_that_ran_again_and_again_uses_the_attempts_up(lab: Any, planned: Any) -> None:
    day = lab.day(1, max_attempts=2)
    for _ in range(2):
        order, _ = planned()
        lab.ended(order, "crash", reason="segmentation fault")
        lab.cluster.last.become("FAILED")
        lab.tick()
        lab.later(1000)
    assert lab.shards(day)[0][0] == "failed"
    assert lab.state(day) == DayState.COMPLETED_WITH_ERRORS


def test_refused_orders_use_no_attempts_up(lab: Any, planned: Any) -> None:
    day = lab.day(2, max_attempts=2)
    lab.cluster.answers.extend(["refused"] * 5)
    for _ in range(5):
        lab.tick()
        assert lab.shards(day) == [("ready", 0)] * 2  # and anybody may work them meanwhile
        lab.later(3601)
    order, ids = planned()
    assert (order["state"], len(ids)) == ("submitted", 2)
    assert lab.shards(day) == [("leased", 1)] * 2
    held = lab.rows("SELECT id, epoch FROM shards ORDER BY id")
    assert [(one.id, one.epoch) for one in lab.job_folder(order).order().shards] == held


def test_an_order_that_never_arrived_uses_no_attempt_up(lab: Any, planned: Any) -> None:
    day = lab.day(2)
    lab.cluster.answers.append("dropped")
    lab.tick()
    assert lab.shards(day) == [("leased", 1)] * 2
    lab.later(121)
    lab.tick()
    assert lab.states() == ["failed"]
    assert lab.shards(day) == [("ready", 0)] * 2


def test_a_refused_plan_whose_shards_somebody_else_has_done_is_over(lab: Any, planned: Any) -> None:
    day = lab.day(2)
    lab.cluster.answers.append("refused")
    lab.tick()
    lab.work(day)
    lab.later(61)
    lab.tick()
    assert lab.states() == ["replaced"]
    assert lab.cluster.calls["submit"] == 1


def test_a_job_is_over_only_when_all_its_parts_are_recorded(lab: Any, planned: Any) -> None:
    day = lab.day(3)
    order, ids = planned()
    lab.publish(order, *ids)
    lab.ended(order, "done")
    lab.cluster.only.become("COMPLETED")
    clock = itertools.count(0, 2).__next__  # each look at the clock is two seconds later, and three are allowed
    seen = []
    while lab.states() == ["submitted"]:
        lab.tick(clock=clock)
        seen.append((lab.value("SELECT count(*) FROM parts"), lab.states()))
        assert len(seen) < 10
    assert len(seen) > 1
    assert [states for recorded, states in seen if recorded < 3] == [["submitted"]] * (len(seen) - 1)
    assert lab.states() == ["succeeded"]
    assert [state for state, _ in lab.shards(day)] == ["done"] * 3
    assert not (lab.job_folder(order).path / ORDER).exists()


# More parts than a tick has time for.


def test_recording_that_takes_long_becomes_one_job(lab: Any, planned: Any, waits: Any) -> None:
    lab.day(3)
    order, ids = planned()
    lab.cluster.only.become("RUNNING")
    lab.publish(order, *ids)
    jumps = itertools.count(0, 10).__next__
    for _ in range(3):  # they reach the ledger by now
        lab.tick(clock=jumps, ledger_on_nodes=True)
    assert [(one["kind"], one["state"]) for one in lab.orders()] == [("process", "running"), ("ingest", "submitted")]
    assert lab.cluster.last.name.startswith("ds-ingest-")
    assert not lab.cluster.last.spec.gpu

    lab.cluster.last.become("COMPLETED")
    lab.ended(lab.orders()[1], "done")
    lab.tick(ledger_on_nodes=True)
    assert lab.states() == ["running", "succeeded"]
    assert lab.value("SELECT count(*) FROM parts") == 3


def test_recording_that_somebody_cancelled_is_not_ordered_again_within_the_hour(
    lab: Any, planned: Any, waits: Any
) -> None:
    lab.day(3)
    order, ids = planned()
    lab.cluster.only.become("RUNNING")
    lab.publish(order, *ids)
    jumps = itertools.count(0, 10).__next__
    lab.tick(clock=jumps, ledger_on_nodes=True)
    lab.cluster.last.become("CANCELLED")
    report = lab.tick(clock=jumps, ledger_on_nodes=True)
    assert waits(report, "not ordered") == ["ingest: somebody cancelled the last one within the hour"]
    assert [one["state"] for one in lab.orders() if one["kind"] == "ingest"] == ["cancelled"]


def test_where_no_job_reaches_the_ledger_the_ticks_go_on_recording(lab: Any, planned: Any, waits: Any) -> None:
    lab.day(3)
    order, ids = planned()
    lab.publish(order, *ids)
    report = lab.tick(clock=itertools.count(0, 10).__next__)
    assert waits(report, "goes on") == ["ingest: more than one tick has time for, and no job reaches the ledger"]
    assert len(lab.orders()) == 1


# What a tick leaves behind.


def test_a_tick_leaves_its_report_with_its_owner(lab: Any) -> None:
    lab.day()
    report = lab.tick()
    [(owner, kept)] = lab.rows("SELECT owner, report FROM ticks")
    assert owner == "me"
    assert kept["saw"] == report.saw
    assert [line["what"] for line in kept["did"]] == ["submitted"]


def test_of_two_waiting_masters_the_later_is_taken_back(lab: Any) -> None:
    lab.days(2)
    lab.tick()
    first, second = lab.cluster.jobs
    first.name = second.name = "ds-master"
    scheduler.tick(lab.world(user="ada"))
    assert lab.cluster.cancelled == [(second.id, True)]


def test_shards_that_wait_for_their_retry_are_ordered_when_their_time_comes(lab: Any) -> None:
    day = lab.day(1)
    [leased] = lab.claim(day)
    lab.tick()
    assert lab.orders() == []
    shards.release(lab.connection, leased.id, leased.epoch)
    lab.tick()
    assert lab.states() == ["submitted"]


def test_a_tick_tells_which_parts_it_did_not_record_and_whether_it_looked_at_all(lab: Any, planned: Any) -> None:
    lab.day(3)
    order, ids = planned()
    broken, *_ = lab.publish(order, *ids)
    broken.write_bytes(broken.read_bytes()[:-9])

    def told() -> Any:
        return lab.value("SELECT jsonb_build_array(report -> 'parts_left', report -> 'parts_all') FROM ticks")

    lab.tick(clock=itertools.count(0, 10).__next__)
    assert told() == [{"zurich 2025-01-01": len(ids)}, False], "the time was up before the first"
    lab.tick()
    assert told() == [{"zurich 2025-01-01": 1}, True]
    broken.unlink()
    lab.tick()
    assert told() == [{}, True]


def test_a_tick_tells_what_room_there_is(lab: Any) -> None:
    world = replace(lab.world(), room=lambda: {"disks": [{"folder": "/data"}]})
    scheduler.tick(world)
    assert lab.value("SELECT report -> 'room' FROM ticks") == {"disks": [{"folder": "/data"}]}


def test_whoever_looks_for_parts_again_in_the_same_tick_knows_better() -> None:
    report = Report()
    report.left("zurich 2025-01-01", 3)
    report.left("zurich 2025-01-01", 0)
    assert report.parts_left == {}
