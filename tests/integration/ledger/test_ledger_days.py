"""Days: closed exactly once with a summary that is right, held, released, retried, opened again by a new listing."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

import pytest

from db import days, events, faults, parts, shards
from db.connect import connect
from db.errors import IllegalMove
from db.states import DayState

VISIBLE = ("transcribed", "no_speech", "quarantined")


def fail(books: Any, leased: shards.Leased) -> None:
    failure = ("archive_damaged", "a bit is wrong")
    shards.fail(books.connection, leased.id, leased.epoch, failure=failure, actor="one", discard=True)


def recount(books: Any, day: days.Day) -> dict[str, Any]:
    """The summary, counted another way."""
    states = dict(books.rows("SELECT state, count(*) FROM recordings WHERE day_id = %s GROUP BY state", day.id))
    ends = dict(books.rows("SELECT state, count(*) FROM shards WHERE day_id = %s GROUP BY state", day.id))
    seconds = "SELECT seconds FROM recordings WHERE day_id = %s AND state <> 'provisional' AND seconds IS NOT NULL"
    return {
        "shards": sum(ends.values()),
        "open_shards": ends.get("ready", 0) + ends.get("leased", 0),
        "failed_shards": ends.get("failed", 0),
        "recordings": sum(states.get(state, 0) for state in VISIBLE),
        "unsealed": states.get("provisional", 0),
        **{state: states.get(state, 0) for state in VISIBLE},
        "audio_seconds": sum(books.rows(seconds, day.id)),
    }


def closings(books: Any, day: days.Day) -> list[str]:
    """The events that say that the day was closed, oldest first."""
    told = events.of_day(books.connection, day.id, limit=1000)
    return [row["what"] for row in reversed(told) if row["what"].startswith("day.completed")]


@pytest.mark.parametrize("point", ["record.intx", "settle.intx", "counted"])
def test_two_settlers_at_the_same_instant_close_the_day_once(
    books: Any, dsn: str, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """The first stands at `point` until the second is there too, or waits for a row that the first holds."""
    day = books.day("a", "b")
    leased = books.claim(2)
    there: list[str] = []
    close = days.close_if_done

    def meet(name: str) -> None:
        if name == point:
            there.append(name)
            if len(there) == 1:
                books.until(lambda: len(there) == 2 or books.somebody_waits())

    def count(*args: Any, **kwargs: Any) -> bool:
        closed = close(*args, **kwargs)
        meet("counted")
        return closed

    def settle(which: int) -> parts.Recorded:
        with connect(dsn) as connection:
            recorded: parts.Recorded = type(books)(connection).record(leased[which], [0], seal=1)
            return recorded

    monkeypatch.setattr(faults, "point", meet)
    monkeypatch.setattr(days, "close_if_done", count)
    with ThreadPoolExecutor(2) as pool:
        assert [recorded.settled for recorded in pool.map(settle, range(2))] == [True, True]
    assert books.state(day) == DayState.COMPLETED
    assert closings(books, day) == ["day.completed"]


def test_the_summary_is_what_a_recount_finds(books: Any, speech: Any, failure: Any) -> None:
    day = books.day("a", "b", "c")
    first, second, third = books.claim(3)
    books.record(first, [speech(0), speech(1, ""), failure(2)], seal=3)
    books.record(second, [speech(0), failure(1, "truncated", "cut"), failure(2, "truncated", "cut too")], seal=3)
    books.record(third, [speech(0)])
    fail(books, third)
    summary = days.by_id(books.connection, day.id).summary
    assert summary is not None
    assert {key: summary[key] for key in recount(books, day)} == recount(books, day)
    assert summary["failures"] == [
        {"failure_class": "truncated", "recordings": 2, "example": "cut"},
        {"failure_class": "empty", "recordings": 1, "example": "no samples"},
    ]
    assert summary["failed"] == [{"name": "c", "failure_class": "archive_damaged", "failure_reason": "a bit is wrong"}]
    assert summary["engine_seconds"] == 1.0  # of the two sealed parts
    assert summary == days.tally(books.connection, day.id)


@pytest.mark.parametrize(
    ("ends", "state"),
    [
        ("ss", DayState.COMPLETED),
        ("sq", DayState.COMPLETED_WITH_ERRORS),
        ("sf", DayState.COMPLETED_WITH_ERRORS),
        ("ff", DayState.COMPLETED_WITH_ERRORS),
    ],
)
def test_a_day_is_completed_only_without_exceptions(books: Any, failure: Any, ends: str, state: DayState) -> None:
    day = books.day("a", "b")
    for end, leased in zip(ends, books.claim(2), strict=True):
        assert books.state(day) == DayState.PROCESSING
        if end == "f":
            fail(books, leased)
        else:
            books.record(leased, [failure(0) if end == "q" else 0], seal=1)
    assert books.state(day) == state
    assert len(closings(books, day)) == 1


def test_the_last_shard_of_a_held_day_settles_and_the_release_closes_it(books: Any) -> None:
    day = books.day("a")
    leased = books.one()
    days.hold(books.connection, day, actor="me", message="looking")
    assert books.record(leased, [0], seal=1).settled
    assert books.state(day) == DayState.HELD
    days.release(books.connection, day, actor="me")
    closed = days.by_id(books.connection, day.id)
    assert closed.state == DayState.COMPLETED
    assert closed.summary == days.tally(books.connection, day.id)


def test_a_failing_shard_of_a_held_day_fails_and_the_release_closes_it(books: Any) -> None:
    day = books.day("a")
    leased = books.one()
    days.hold(books.connection, day, actor="me", message="looking")
    fail(books, leased)
    assert books.state(day) == DayState.HELD
    days.release(books.connection, day, actor="me")
    assert books.state(day) == DayState.COMPLETED_WITH_ERRORS


def test_a_hold_remembers_where_from_and_says_why(books: Any) -> None:
    day = books.day("a", "b")
    books.one()
    days.hold(books.connection, day, actor="me", message="a strange sound")
    held = days.by_id(books.connection, day.id)
    assert (held.state, held.message) == (DayState.HELD, "a strange sound")
    with pytest.raises(IllegalMove, match="is held already"):
        days.hold(books.connection, day, actor="me", message="again")
    days.release(books.connection, day, actor="me")
    assert books.state(day) == DayState.PROCESSING
    with pytest.raises(IllegalMove, match="is not held"):
        days.release(books.connection, day, actor="me")


def test_a_finished_day_may_be_held_and_keeps_its_summary(books: Any) -> None:
    day = books.day("a")
    books.record(books.one(), [0], seal=1)
    before = days.by_id(books.connection, day.id)
    days.hold(books.connection, day, actor="me", message="looking")
    days.release(books.connection, day, actor="me")
    assert days.by_id(books.connection, day.id) == before


def test_a_retry_opens_the_day_for_its_failed_shards_only(books: Any) -> None:
    day = books.day("a", "b")
    bad, good = books.claim(2)
    fail(books, bad)
    books.record(good, [0], seal=1)
    assert shards.retry(books.connection, day, actor="me") == 1
    assert books.state(day) == DayState.READY_TO_PROCESS
    again = books.one()
    assert (again.id, again.epoch) == (bad.id, 2)
    books.record(again, [0], seal=1)
    assert books.state(day) == DayState.COMPLETED
    assert closings(books, day) == ["day.completed_with_errors", "day.completed"]
    assert shards.retry(books.connection, day, actor="me") == 0
    assert books.state(day) == DayState.COMPLETED


def test_a_retry_goes_by_what_the_day_is_now(books: Any) -> None:
    """The caller looked at the day while it was still being worked."""
    day = books.day("a", "b")
    bad, good = books.claim(2)
    fail(books, bad)
    looked_at = days.by_id(books.connection, day.id)
    books.record(good, [0], seal=1)
    assert shards.retry(books.connection, looked_at, actor="me") == 1
    assert books.state(day) == DayState.READY_TO_PROCESS


def test_a_retry_of_a_day_that_is_open_already_adds_to_its_work(books: Any) -> None:
    day = books.day("a")
    fail(books, books.one())
    books.list_shards(day, "b")
    assert books.state(day) == DayState.READY_TO_PROCESS
    assert shards.retry(books.connection, day, actor="me") == 1
    assert len(books.claim(5)) == 2


def test_a_retry_of_a_held_day_is_refused_and_changes_nothing(books: Any) -> None:
    day = books.day("a")
    fail(books, books.one())
    days.hold(books.connection, day, actor="me", message="looking")
    before = books.everything()
    with pytest.raises(IllegalMove, match="is held; end that first: dayscribe days release"):
        shards.retry(books.connection, day, actor="me")
    assert books.everything() == before


def test_a_growing_listing_opens_a_finished_day_again(books: Any) -> None:
    day = books.day("a")
    books.record(books.one(), [0], seal=1)
    assert books.list_shards(day, "a") == 0
    assert books.state(day) == DayState.COMPLETED
    assert books.list_shards(day, "a", "b") == 1
    assert books.state(day) == DayState.READY_TO_PROCESS
    books.record(books.one(), [0], seal=1)
    closed = days.by_id(books.connection, day.id)
    assert closed.state == DayState.COMPLETED
    assert closed.summary is not None
    assert closed.summary["shards"] == 2


def test_a_shard_listed_while_the_last_one_settles_is_never_closed_over(
    books: Any, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settler has counted; the listing comes; whoever is second must see the first."""
    day = books.day("a")
    leased = books.one()
    close, listing = days.close_if_done, threading.Event()

    def count(*args: Any, **kwargs: Any) -> bool:
        closed = close(*args, **kwargs)
        listing.set()
        books.until(lambda: added.done() or books.somebody_waits())
        return closed

    def add() -> int:
        assert listing.wait(30)
        with connect(dsn) as connection:
            new: int = type(books)(connection).list_shards(day, "b")
            return new

    def settle() -> parts.Recorded:
        with connect(dsn) as connection:
            recorded: parts.Recorded = type(books)(connection).record(leased, [0], seal=1)
            return recorded

    monkeypatch.setattr(days, "close_if_done", count)
    with ThreadPoolExecutor(2) as pool:
        added = pool.submit(add)
        assert pool.submit(settle).result().settled
        assert added.result() == 1
    assert books.state(day) == DayState.READY_TO_PROCESS
    assert len(books.claim(5)) == 1


def test_a_move_may_be_bound_to_the_state_that_the_caller_saw(books: Any) -> None:
    """A listing that was frozen before its move must not open a day that others have finished meanwhile."""
    day = books.day("a")
    books.record(books.one(), [0], seal=1)
    ready = DayState.READY_TO_PROCESS
    assert not days.move(books.connection, day.id, ready, actor="listing", only_from=DayState.PENDING)
    assert books.state(day) == DayState.COMPLETED
    assert days.move(books.connection, day.id, ready, actor="me", only_from=DayState.COMPLETED)


def test_days_of_two_sites_do_not_mix(books: Any) -> None:
    here, there = books.day("a"), books.day("a", site="geneva")
    assert here.date == there.date == date(2025, 1, 1)
    for leased in books.claim(2):
        if leased.site == "zurich":
            books.record(leased, [0], seal=1)
    assert (books.state(here), books.state(there)) == (DayState.COMPLETED, DayState.PROCESSING)


def test_every_move_is_told_in_order(books: Any) -> None:
    day = books.day("a")
    books.record(books.one(), [0], seal=1)
    told = [row["what"] for row in reversed(events.of_day(books.connection, day.id))]
    assert told == ["day.ready_to_process", "day.processing", "shard.done", "day.completed"]
