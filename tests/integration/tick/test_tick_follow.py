"""What becomes of orders: lost answers, silence, verdicts of three witnesses, and what somebody cancelled."""

from __future__ import annotations

import dataclasses
from datetime import date
from typing import Any

import pytest

from db import days
from db.states import DayState
from hpc.job_folder import ORDER, SUPERSEDED

# A lost answer.


def test_a_lost_answer_is_found_by_its_token_and_never_asked_for_again(lab: Any, waits: Any, did: Any) -> None:
    lab.day()
    lab.cluster.answers.append("lost")
    assert len(waits(lab.tick(), "no answer")) == 1
    assert (lab.order()["state"], lab.order()["scheduler_id"]) == ("intent", None)
    lab.later(10_000)  # however late: it is in the queue
    report = lab.tick()
    assert did(report, "found") == ["zurich 2025-01-01: job 101: the answer to its sbatch was lost"]
    assert (lab.order()["state"], lab.order()["scheduler_id"]) == ("submitted", "101")
    lab.tick()
    assert lab.cluster.calls["submit"] == 1
    assert lab.cluster.cancelled == []


def test_a_lost_answer_is_found_by_what_its_tasks_wrote_when_the_queue_has_forgotten_it(lab: Any) -> None:
    day = lab.day()
    lab.cluster.answers.append("lost")
    lab.tick()
    lab.cluster.only.purged = True
    assert lab.work(day) == 8
    lab.ended(lab.order(), "done")
    lab.began(lab.order(), 0, job="101")
    for task in range(4):
        record = lab.job_folder(lab.order()).records()[task]
        lab.job_folder(lab.order()).ended(dataclasses.replace(record, job="101"))
    lab.later(10_000)
    lab.tick()
    assert (lab.order()["state"], lab.order()["scheduler_id"]) == ("succeeded", "101")
    assert lab.cluster.calls["submit"] == 1


def test_within_its_grace_nothing_happens_to_an_order_without_an_answer(lab: Any, waits: Any) -> None:
    lab.day()
    lab.cluster.answers.append("dropped")
    lab.tick()
    before = lab.order()
    lab.later(119)
    report = lab.tick()
    assert [line.partition(":")[0] for line in waits(report, "no answer yet")] == ["zurich 2025-01-01"]
    assert report.did == []
    after = lab.order()
    assert (after["state"], after["token"]) == ("intent", before["token"])
    assert lab.cluster.calls["submit"] == 1
    assert (lab.job_folder(after).path / ORDER).exists()


def test_an_order_that_never_arrived_is_given_anew_under_another_token(lab: Any, did: Any) -> None:
    lab.day()
    lab.cluster.answers.append("dropped")
    lab.tick(backoff_seconds=1)
    lab.later(121)
    report = lab.tick(backoff_seconds=1)
    assert [line.partition(":")[0] for line in did(report, "gave up")] == ["zurich 2025-01-01"]
    lab.later(1)
    lab.tick(backoff_seconds=1)
    old, new = lab.orders()
    assert (old["state"], new["state"]) == ("failed", "submitted")
    assert old["token"] != new["token"]
    assert lab.cluster.only.name.endswith(new["token"])
    folder = lab.job_folder(old).path
    assert not (folder / ORDER).exists()
    assert (folder / SUPERSEDED).exists()


def test_a_stray_of_an_order_that_was_given_up_is_taken_back_when_it_appears(lab: Any, did: Any) -> None:
    """Its answer was lost, and for two minutes the queue did not show it either."""
    lab.day()
    lab.cluster.answers.append("lost")
    lab.tick(backoff_seconds=1)
    stray = lab.cluster.only
    stray.purged = True
    lab.later(121)
    lab.tick(backoff_seconds=1)
    lab.later(2)
    lab.tick(backoff_seconds=1)
    assert lab.states() == ["failed", "submitted"]
    stray.purged = False
    report = lab.tick(backoff_seconds=1)
    assert did(report, "took back") == ["job 101: its order is over"]
    assert lab.cluster.cancelled == [("101", True)]
    assert lab.states() == ["failed", "submitted"]
    lab.tick(backoff_seconds=1)
    assert lab.cluster.calls["cancel"] == 1


def test_a_stray_that_runs_already_is_left_to_leave_by_itself(lab: Any) -> None:
    lab.day()
    lab.cluster.answers.append("lost")
    lab.tick()
    lab.cluster.only.purged = True
    lab.later(121)
    lab.tick()
    lab.cluster.only.purged = False
    lab.cluster.only.become("RUNNING")
    lab.tick()
    assert lab.cluster.calls["cancel"] == 0


def test_a_scheduler_that_does_not_answer_one_order_is_not_asked_for_the_next(lab: Any, waits: Any) -> None:
    lab.days(3)
    lab.cluster.answers.append("lost")
    report = lab.tick()
    assert lab.cluster.calls["submit"] == 1
    assert len(waits(report, "not asked")) == 2
    lab.tick()
    assert lab.cluster.calls["submit"] == 3
    assert lab.states() == ["submitted"] * 3


def test_an_order_that_its_tick_never_came_to_ask_for_is_asked_for_by_the_next(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.day()
    monkeypatch.setenv("DAYSCRIBE_FAULTS_ARMED", "yes")
    monkeypatch.setenv("DAYSCRIBE_FAULT", "order.intended:raise")
    monkeypatch.setattr("db.faults._seen", {})
    with pytest.raises(RuntimeError):
        lab.tick()
    assert (lab.order()["state"], lab.order()["asked"]) == ("intent", None)
    monkeypatch.delenv("DAYSCRIBE_FAULTS_ARMED")
    lab.tick()
    assert lab.states() == ["submitted"]
    assert lab.cluster.calls["submit"] == 1


# Silence.


def test_silence_closes_nothing_orders_nothing_and_touches_no_shard(lab: Any, waits: Any) -> None:
    lab.day()
    lab.tick()
    lab.cluster.only.become("RUNNING")
    lab.tick()
    lab.day(on=date(2025, 2, 1))
    lab.cluster.silent, before = True, lab.untouched()
    for _ in range(3):
        report = lab.tick(vanish_seconds=0.001, grace_seconds=0.001)
    assert waits(report, "no orders") == ["scheduler: it does not answer (squeue: no answer in time)"]
    assert lab.states() == ["unknown"]
    assert lab.order()["message"] == "squeue: no answer in time"
    assert lab.order()["missing_since"] is None
    assert lab.untouched() == before
    assert lab.cluster.calls["submit"] == 1
    assert lab.cluster.calls["cancel"] == 0

    lab.cluster.silent = False
    lab.tick()
    assert lab.states() == ["running", "submitted"]
    assert lab.orders()[0]["message"] is None


def test_in_silence_an_order_without_an_answer_is_not_given_up(lab: Any) -> None:
    lab.day()
    lab.cluster.answers.append("lost")
    lab.tick()
    lab.cluster.silent = True
    lab.later(10_000)
    lab.tick()
    assert lab.states() == ["intent"]
    lab.cluster.silent = False
    lab.tick()
    assert lab.states() == ["submitted"]
    assert lab.cluster.calls["submit"] == 1


def test_silence_does_not_make_a_withdrawn_order_a_live_one(lab: Any) -> None:
    lab.day()
    lab.tick(partition="old")
    lab.cluster.only.become("RUNNING", 0)
    lab.tick(partition="new")
    lab.cluster.silent = True
    lab.tick(partition="new")
    assert lab.states() == ["draining", "unknown"]


# Verdicts.


def test_a_job_whose_witnesses_all_say_so_has_succeeded(lab: Any) -> None:
    day = lab.day()
    lab.tick()
    lab.cluster.only.become("RUNNING")
    lab.tick()
    assert lab.states() == ["running"]
    assert lab.work(day) == 8
    lab.ended(lab.order(), "done")
    lab.cluster.only.become("COMPLETED")
    lab.tick()
    order = lab.order()
    assert (order["state"], order["fruitful"]) == ("succeeded", True)
    assert order["exit_record"]["scheduler"] == {"COMPLETED": 4}
    assert order["exit_record"]["exit_records"] == {"done": 4}
    assert order["exit_record"]["ledger"] == {"open_shards": 0, "fruitful": True}
    assert lab.state(day) == DayState.COMPLETED
    assert lab.rows("SELECT ended_as FROM job_tasks") == ["done"] * 4
    assert not (lab.job_folder(order).path / ORDER).exists()


@pytest.mark.parametrize("lacks", ["scheduler", "record", "ledger"])
def test_a_job_that_one_witness_speaks_against_has_not_succeeded(lab: Any, lacks: str) -> None:
    day = lab.day()
    lab.tick()
    lab.work(day, 7 if lacks == "ledger" else 8)
    lab.ended(lab.order(), "done", *(range(3) if lacks == "record" else range(4)))
    lab.cluster.only.become("COMPLETED")
    if lacks == "scheduler":
        lab.cluster.only.become("OUT_OF_MEMORY", 2)
    lab.tick()
    assert lab.orders()[0]["state"] == "failed"
    assert len(lab.orders()) == (2 if lacks == "ledger" else 1)  # a fruitful one: what is left is ordered at once


def test_a_job_that_nobody_knows_any_more_is_unknown_for_a_while_and_then_failed(lab: Any, waits: Any) -> None:
    day = lab.day()
    lab.tick()
    lab.work(day)
    lab.ended(lab.order(), "done", 0, 1, 2)  # the record of one task is missing
    lab.began(lab.order(), 3)
    lab.cluster.only.purged = True
    [told] = waits(lab.tick(), "unknown")
    assert told == "zurich 2025-01-01: the scheduler knows it no longer (accounting is off)"
    lab.later(890)
    lab.tick()
    assert lab.states() == ["unknown"]
    lab.later(11)
    lab.tick()
    order = lab.order()
    assert order["state"] == "failed"
    assert order["exit_record"]["scheduler"] == "does not know it any more"
    assert order["exit_record"]["exit_records"] == {"done": 3, "no exit record": 1}
    assert lab.rows("SELECT ended_as FROM job_tasks ORDER BY task") == ["done"] * 3 + ["vanished"]


def test_a_job_that_vanished_before_it_said_a_word_has_failed_and_its_day_is_ordered_again(lab: Any) -> None:
    lab.day()
    lab.tick(vanish_seconds=0.001, backoff_seconds=0.001)
    lab.cluster.only.purged = True
    lab.tick(vanish_seconds=0.001)
    assert lab.states() == ["unknown"]
    lab.later(1)
    lab.tick(vanish_seconds=0.001)
    assert lab.states() == ["failed"]
    lab.later(61)
    lab.tick()
    assert lab.states() == ["failed", "submitted"]


def test_time_without_an_answer_is_not_time_without_the_job(lab: Any) -> None:
    """An hour passes in silence, and says nothing against a job that the next look misses for a moment."""
    lab.day()
    lab.tick()
    lab.cluster.silent = True
    lab.tick()
    lab.later(3600)
    lab.tick()
    lab.cluster.silent = False
    lab.cluster.only.purged = True
    lab.tick()
    assert lab.states() == ["unknown"]
    lab.cluster.only.purged = False
    lab.tick()
    assert lab.states() == ["submitted"]
    assert lab.order()["missing_since"] is None


def test_a_forgotten_job_whose_records_are_all_there_need_not_be_waited_for(lab: Any) -> None:
    day = lab.day()
    lab.tick()
    lab.work(day)
    lab.ended(lab.order(), "done")
    lab.cluster.only.purged = True
    lab.tick()
    assert lab.states() == ["succeeded"]


def test_accounting_is_believed_when_the_queue_has_forgotten(lab: Any) -> None:
    lab.day()
    lab.cluster.accounting = True
    lab.tick()
    lab.cluster.only.become("TIMEOUT")
    lab.cluster.only.purged = True
    lab.tick()
    order = lab.order()
    assert (order["state"], order["exit_record"]["scheduler"]) == ("failed", {"TIMEOUT": 4})


def test_a_job_that_was_renamed_is_followed_by_its_id(lab: Any) -> None:
    lab.day()
    lab.tick()
    lab.cluster.only.name = "somebody-renamed-me"
    lab.cluster.only.become("RUNNING")
    lab.tick()
    assert lab.states() == ["running"]
    lab.cluster.only.become("FAILED")
    lab.tick()
    assert lab.states() == ["failed"]


def test_a_job_that_will_not_start_by_itself_says_so(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.day()
    lab.tick()
    held = [dataclasses.replace(line, reason="JobHeldUser") for line in lab.cluster.only.lines()]
    monkeypatch.setattr(type(lab.cluster.only), "lines", lambda _: held)
    lab.tick()
    assert (lab.order()["state"], lab.order()["message"]) == ("submitted", "it will not start by itself: JobHeldUser")


# Cancelled by somebody.


@pytest.mark.parametrize("accounting", [True, False])
def test_a_day_whose_job_somebody_cancelled_is_held_until_it_is_released(lab: Any, did: Any, accounting: bool) -> None:
    day = lab.day()
    lab.cluster.accounting = accounting
    lab.tick()
    lab.cluster.only.become("RUNNING", 0)
    lab.tick()
    lab.cluster.only.become("CANCELLED")
    report = lab.tick()
    assert lab.states() == ["cancelled"]
    assert lab.state(day) == DayState.HELD
    assert "dayscribe days release 2025-01-01" in lab.message(day)
    assert len(did(report, "held")) == 1
    lab.later(100_000)
    lab.tick()
    assert lab.cluster.calls["submit"] == 1

    days.release(lab.connection, days.by_id(lab.connection, day.id), actor="ada")
    lab.tick()
    assert lab.states() == ["cancelled", "submitted"]


def test_a_cancelled_job_of_a_day_that_is_done_holds_nothing(lab: Any) -> None:
    day = lab.day()
    lab.tick()
    lab.work(day)
    lab.cluster.only.become("CANCELLED")
    lab.tick()
    assert lab.states() == ["cancelled"]
    assert lab.state(day) == DayState.COMPLETED
