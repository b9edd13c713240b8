"""How a transfer can end otherwise than well, and what a mover can want: each a state with its sentence, no storm."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from db import days, listings, transfers
from db.session import Session
from db.states import DayState, TransferState
from hpc.errors import NeedsConsent, NeedsLogin, NoAnswer, SubmissionUnknown
from hpc.model import Progress

ON = date(2025, 1, 31)
HOUR = 3600.0


def archive(slot: str) -> str:
    return f"0_{ON}_{slot}.tar.xz"


# How a transfer can end


def test_a_lost_answer_makes_no_second_task(dock: Any) -> None:
    dock.slots(2)
    dock.mover.lost = 2
    dock.tick()
    dock.tick()
    dock.tick()
    assert dock.mover.calls["submit"] == 3
    assert len(dock.mover.tasks) == 1
    assert dock.transfers() == ["active"]


def test_two_ticks_at_once_make_one_transfer(dock: Any) -> None:
    dock.slots(2)
    other = Session(dock.dsn, application="other")
    dock.mover.trouble["submit"] = NoAnswer("slow")
    dock.tick()
    del dock.mover.trouble["submit"]
    dock.tick(session=other)
    dock.tick()
    other.close()
    assert len(dock.mover.tasks) == 1
    assert dock.transfers() == ["active"]


def test_a_submission_that_is_known_no_more_is_given_another_name_before_it_is_asked_again(dock: Any) -> None:
    dock.slots(1)
    dock.mover.trouble["submit"] = SubmissionUnknown("kept too long")
    dock.tick()
    first = dock.rows("SELECT submission_id FROM transfers")
    dock.later(HOUR)
    del dock.mover.trouble["submit"]
    dock.tick()
    assert dock.rows("SELECT submission_id FROM transfers") != [first]
    assert len(dock.mover.tasks) == 1


def test_an_expired_deadline_fetches_what_is_missing(dock: Any) -> None:
    dock.slots(3)
    dock.arrive(archive("00_10"), state=TransferState.EXPIRED, message="it was not done by its deadline")
    assert dock.transfers() == ["expired"]
    dock.later(HOUR)
    dock.tick()
    assert [move.files for move in dock.mover.tasks.values()][1] == ((archive("00_10"), archive("00_10")),)


def test_a_full_destination_waits_and_is_not_charged(dock: Any) -> None:
    dock.rules["attempts"] = 1
    dock.slots(2)
    dock.arrive(archive("00_00"), state=TransferState.OVER_QUOTA, message="the destination is full: quota")
    assert dock.transfers() == ["over_quota"]
    assert dock.state == DayState.TRANSFERRING
    assert dock.rows("SELECT max(tries) FROM files") == [0]
    dock.later(HOUR)
    dock.arrive()
    assert dock.state == DayState.READY_TO_PROCESS


def test_a_task_that_is_known_no_more_is_told_by_what_is_here(dock: Any) -> None:
    dock.slots(3)
    dock.tick()
    dock.mover.work([archive("00_10")])
    dock.mover.said.clear()
    dock.tick()
    assert dock.transfers() == ["unknown"]
    assert len(dock.files("arrived")) == 2
    assert dock.files("missing") == [archive("00_10")]


def test_a_cancelled_task_holds_its_day_until_a_person_releases_it(dock: Any) -> None:
    dock.slots(2)
    dock.arrive(archive("00_00"), state=TransferState.CANCELLED, message="it was cancelled")
    assert dock.state == DayState.HELD
    assert "dayscribe days release" in dock.message
    dock.later(100 * HOUR)
    dock.tick()
    assert dock.mover.calls["submit"] == 1
    days.release(dock.connection, dock.day, actor="a person")
    dock.arrive()
    assert dock.state == DayState.READY_TO_PROCESS


def test_a_paused_task_says_so_and_goes_on_by_itself(dock: Any) -> None:
    dock.slots(1)
    dock.tick()
    [task] = dock.mover.tasks
    dock.mover.said[task] = Progress(TransferState.PAUSED, "an administrator has paused it")
    report = dock.tick()
    assert dock.transfers() == ["paused"]
    assert ("paused", "an administrator has paused it") in [
        (line.what, line.detail.split("; ")[-1]) for line in report.waits
    ]
    dock.mover.said[task] = Progress(TransferState.ACTIVE)
    dock.tick()
    assert dock.transfers() == ["active"]


def test_a_task_that_outlives_its_deadline_is_told_to_stop(dock: Any) -> None:
    dock.slots(1)
    dock.tick()
    dock.later(26 * HOUR)
    dock.tick()
    assert len(dock.mover.cancelled) == 1


# Trouble with the mover


@pytest.mark.parametrize(
    "error, state", [(NeedsLogin("log in"), "needs_login"), (NeedsConsent("consent"), "needs_consent")]
)
def test_a_mover_that_wants_a_person_is_asked_seldom_and_says_so(dock: Any, error: Exception, state: str) -> None:
    dock.slots(1)
    dock.tick()
    dock.mover.trouble["look"] = error
    dock.tick()
    assert dock.transfers() == [state]
    asked = dock.mover.calls["look"]
    for _ in range(5):
        report = dock.tick()
    assert dock.mover.calls["look"] == asked  # no storm
    assert [line.what for line in report.waits] == [state.replace("_", " ")]
    del dock.mover.trouble["look"]
    transfers.forget_troubles(dock.connection, "globus", "me")  # somebody logged in
    dock.tick()
    assert dock.transfers() == ["active"]
    assert transfers.troubles(dock.connection) == []


def test_a_listing_that_wants_a_login_leaves_the_day_pending_and_backs_off_twice_as_long_each_time(dock: Any) -> None:
    dock.slots(1)
    dock.source.trouble = NeedsLogin("log in")
    waits = []
    for _ in range(3):
        dock.tick()
        [found] = transfers.troubles(dock.connection)
        waits.append((found["retry_at"] - datetime.now(UTC)).total_seconds())
        dock.connection.execute("UPDATE troubles SET retry_at = clock_timestamp()")
    assert dock.state == DayState.PENDING
    assert waits[1] > 1.5 * waits[0]
    assert waits[2] > 1.5 * waits[1]


def test_a_silent_mover_is_asked_once_a_tick_for_all_its_transfers(dock: Any) -> None:
    dock.slots(1)
    dock.put(f"0_{ON}_00_00_comments.parquet")
    dock.tick()
    dock.mover.trouble["look"] = NoAnswer("the line went dead")
    asked = dock.mover.calls["look"]
    dock.tick()
    assert dock.mover.calls["look"] == asked + 1
    assert dock.transfers() == ["active", "active"]


def test_the_transfers_of_somebody_else_are_left_alone(dock: Any) -> None:
    dock.slots(1)
    dock.tick(user="somebody")
    dock.mover.work()
    dock.tick(user="me")
    assert dock.mover.calls["look"] == 0
    dock.tick(user="somebody")
    assert dock.state == DayState.READY_TO_PROCESS


def test_a_day_for_which_there_is_no_room_waits_and_says_how_much_is_wanting(dock: Any) -> None:
    dock.slots(2)
    asked: list[tuple[int, int]] = []
    dock.room = lambda _site, size, files: asked.append((size, files)) or "no room"  # type: ignore[func-returns-value]
    report = dock.tick()
    assert asked == [(200, 2)]
    assert dock.state == DayState.PENDING
    assert dock.message == "no room"
    assert [line.what for line in report.waits] == ["no room"]
    dock.room = lambda _site, _size, _files: None
    dock.later(HOUR)
    dock.arrive()
    assert dock.state == DayState.READY_TO_PROCESS


def test_work_that_takes_long_is_left_to_a_job(dock: Any) -> None:
    dock.slots(1)
    dock.mover.prompt = False
    dock.tick()
    assert not dock.whole
    assert dock.mover.calls["submit"] == 0
    dock.tick(works=True)
    assert dock.mover.calls["submit"] == 1


def test_more_files_than_a_transfer_takes_come_in_several_one_after_the_other(dock: Any) -> None:
    dock.rules["files_at_once"] = 4
    dock.slots(10)
    for _ in range(3):
        dock.arrive()
        listings.look_again(dock.connection, dock.day.id, timedelta(0))
    assert sorted(len(move.files) for move in dock.mover.tasks.values()) == [2, 4, 4]
    dock.tick()
    assert dock.state == DayState.READY_TO_PROCESS


@pytest.mark.parametrize("error", [NeedsLogin("log in"), NoAnswer("the line went dead")])
def test_a_day_that_could_not_be_ordered_is_ordered_when_its_mover_is_well_again(dock: Any, error: Exception) -> None:
    dock.slots(2)
    dock.mover.trouble["new_submission"] = error
    dock.tick()
    assert dock.transfers() == []
    del dock.mover.trouble["new_submission"]
    dock.later(HOUR)
    dock.arrive()
    assert dock.state == DayState.READY_TO_PROCESS


def test_files_that_vanish_at_the_source_before_they_came_are_missing_by_name_and_doubted_once(dock: Any) -> None:
    dock.slots(3)
    dock.tick()
    for name in ("00_00", "00_10"):
        (dock.far / archive(name)).unlink()
    dock.mover.work()
    dock.tick()
    dock.later(HOUR)
    dock.tick()
    assert dock.state == DayState.TRANSFERRING  # a source may be wrong once
    assert dock.slot("00_10") == "listed_but_missing"
    assert f"{archive('00_00')} (slot 00_00, its source lists it no more)" in dock.message
    dock.later(7 * HOUR)
    dock.tick()
    assert dock.state == DayState.TRANSFER_FAILED
    assert "1 of 3 archives arrived" in dock.message


def test_files_that_come_back_to_their_source_are_fetched_after_all(dock: Any) -> None:
    dock.slots(2)
    dock.tick()
    for path in dock.far.iterdir():
        path.unlink()
    dock.mover.work()
    dock.tick()
    dock.later(HOUR)
    dock.tick()
    dock.slots(2)
    dock.later(7 * HOUR)
    dock.arrive()
    assert dock.state == DayState.READY_TO_PROCESS


def test_what_is_here_stays_here_when_the_source_lets_it_go(dock: Any) -> None:
    dock.slots(3)
    dock.arrive(archive("00_20"))
    for name in ("00_00", "00_10"):
        (dock.far / archive(name)).unlink()
    dock.later(HOUR)
    dock.arrive()
    assert dock.state == DayState.READY_TO_PROCESS
    assert dock.shards() == 3
    assert dock.slot("00_00") == "arrived"


def test_one_persons_missing_login_blocks_nobody_else(dock: Any) -> None:
    dock.slots(1)
    dock.tick(user="me")
    dock.source.trouble = NeedsLogin("log in")
    listings.look_again(dock.connection, dock.day.id, timedelta(0))
    dock.tick(user="somebody")
    dock.source.trouble = None
    dock.mover.work()
    dock.tick(user="me")
    assert dock.state == DayState.READY_TO_PROCESS


@pytest.mark.parametrize(
    "point", ["listing.intx", "days.listed", "transfer.intended", "transfer.asking", "transfer.answered"]
)
def test_an_old_day_is_not_lost_sight_of_when_a_tick_ends_in_the_middle(
    dock: Any, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """No pause is cut short here: what was begun is due at once."""
    dock.slots(2)
    with monkeypatch.context() as armed:
        armed.setenv("DAYSCRIBE_FAULTS_ARMED", "yes")
        armed.setenv("DAYSCRIBE_FAULT", f"{point}:raise")
        armed.setattr("db.faults._seen", {})
        with pytest.raises(RuntimeError):
            dock.tick()
    dock.tick()
    dock.arrive()
    assert dock.state == DayState.READY_TO_PROCESS
    assert len(dock.mover.tasks) == 1


@pytest.mark.parametrize("point", ["transfer.verifying", "transfer.settled", "transfer.opened", "transfer.closed"])
@pytest.mark.parametrize("end", ["gap", "cancelled", "whole"])
def test_what_follows_of_a_transfer_follows_although_the_tick_that_looks_at_it_ends(
    dock: Any, monkeypatch: pytest.MonkeyPatch, point: str, end: str
) -> None:
    dock.slots(3)
    dock.tick()
    state = TransferState.CANCELLED if end == "cancelled" else TransferState.SUCCEEDED
    dock.mover.work([] if end == "whole" else [archive("00_10")], state=state)
    with monkeypatch.context() as armed:
        armed.setenv("DAYSCRIBE_FAULTS_ARMED", "yes")
        armed.setenv("DAYSCRIBE_FAULT", f"{point}:raise")
        armed.setattr("db.faults._seen", {})
        with suppress(RuntimeError):
            dock.tick()
    dock.tick()
    if end == "cancelled":
        assert dock.state == DayState.HELD
        return
    if end == "gap":
        dock.later(HOUR)
        dock.arrive()
    assert dock.state == DayState.READY_TO_PROCESS
    assert dock.shards() == 3
