"""Claims under epochs: one holder at a time, a lapsed one replaced in the claim, a stale one refused everywhere."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Any

import pytest

from db import days, events, faults, shards
from db.connect import Connection, connect
from db.errors import LeaseLost, LedgerAway
from db.states import DayState

LEASE = timedelta(seconds=60)


def test_eight_workers_claim_every_shard_once(books: Any, dsn: str) -> None:
    books.day(*(f"{n:03}" for n in range(40)))
    start = threading.Barrier(8)

    def work(number: int) -> list[int]:
        mine = []
        with connect(dsn) as connection:
            start.wait()
            while got := shards.claim(connection, owner=f"w{number}", count=2, lease=LEASE):
                mine += [leased.id for leased in got]
        return mine

    with ThreadPoolExecutor(8) as pool:
        claimed = [shard for mine in pool.map(work, range(8)) for shard in mine]
    assert len(claimed) == len(set(claimed)) == 40
    assert books.rows("SELECT DISTINCT epoch, attempts FROM shards") == [(1, 1)]


def test_a_claim_says_where_the_files_are_and_what_is_known(books: Any) -> None:
    day = books.day("a", on=date(2025, 3, 4))
    first = books.one()
    books.record(first, [0, 1])
    books.lapse(first)
    again = books.one(owner="two")
    assert (again.day_id, again.site, again.date, again.name) == (day.id, "zurich", date(2025, 3, 4), "a")
    assert (again.paths, again.staged) == ((b"a",), "/audio")
    assert list(again.known) == [0, 1]


def test_a_lapsed_lease_is_rescued_in_the_claim_and_the_epoch_rises(books: Any) -> None:
    books.day("a")
    first = books.one()
    assert books.claim(owner="two") == []
    books.lapse(first)
    second = books.one(owner="two")
    assert (second.id, first.epoch, second.epoch) == (first.id, 1, 2)
    assert books.shard(second) == ("leased", 2, 2)


def test_the_oldest_day_comes_first(books: Any) -> None:
    for day in (3, 1, 2):
        books.day("x", on=date(2025, 1, day))
    assert [leased.date.day for leased in books.claim(5)] == [1, 2, 3]


def test_a_claim_may_be_of_one_day_only(books: Any) -> None:
    books.day("x", on=date(2025, 1, 1))
    wanted = books.day("x", on=date(2025, 1, 2))
    got = shards.claim(books.connection, owner="one", count=5, lease=LEASE, day_id=wanted.id)
    assert [leased.date for leased in got] == [wanted.date]


def test_whether_a_claim_would_find_something_is_said_without_one(books: Any) -> None:
    """What is held, waits for its retry or is another day's is not for now; what is to be given up is."""

    def waits(of: days.Day | None = None) -> bool:
        before = books.everything()
        said = shards.waits(books.connection, day_id=None if of is None else of.id)
        assert books.everything() == before
        return said

    assert not waits()
    day, other = books.day("a", max_attempts=1), books.day(on=date(2025, 1, 2))
    assert (waits(), waits(day), waits(other)) == (True, True, False)
    days.hold(books.connection, day, actor="me", message="looking")
    assert not waits()
    days.release(books.connection, day, actor="me")
    leased = books.one()
    assert not waits()
    books.lapse(leased)
    assert (waits(), waits(day)) == (True, True)
    assert books.claim() == []  # its attempts are used up, and it is given up
    assert not waits()


def test_a_lapsed_lease_of_a_day_that_goes_on_waits_and_a_retry_that_is_not_due_does_not(books: Any) -> None:
    day = books.day("a")
    first = books.one()
    books.lapse(first)
    assert shards.waits(books.connection, day_id=day.id)
    again = books.one()
    failure, wait = ("engine_lost", "it died"), timedelta(minutes=5)
    shards.put_back(books.connection, again.id, again.epoch, failure=failure, wait=wait, actor="one")
    assert not shards.waits(books.connection)


def test_the_first_claim_moves_the_day(books: Any) -> None:
    day = books.day("a", "b")
    books.claim()
    assert books.state(day) == DayState.PROCESSING
    books.claim()
    assert [row["what"] for row in events.of_day(books.connection, day.id)].count("day.processing") == 1


def test_nothing_of_a_held_day_is_claimed(books: Any) -> None:
    day = books.day("a", "b")
    first = books.one()
    days.hold(books.connection, day, actor="me", message="looking")
    books.lapse(first)
    assert books.claim(5) == []
    days.release(books.connection, day, actor="me")
    assert len(books.claim(5)) == 2


def test_a_hold_between_the_claim_and_the_day_s_move_stands(books: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    day = books.day("a")
    move = days.move

    def held_first(connection: Connection, *args: Any, **kwargs: Any) -> bool:
        days.hold(connection, day, actor="me", message="wait")
        return move(connection, *args, **kwargs)

    monkeypatch.setattr(days, "move", held_first)
    assert len(books.claim()) == 1
    assert books.state(day) == DayState.HELD


def test_a_shard_that_kills_its_workers_fails_and_closes_the_day(books: Any) -> None:
    day = books.day("a", max_attempts=2)
    for _ in range(2):
        books.lapse(books.one())
    assert books.claim() == []
    assert books.rows("SELECT state, failure_class, owner FROM shards") == [("failed", "attempts_exhausted", None)]
    closed = days.by_id(books.connection, day.id)
    assert closed.state == DayState.COMPLETED_WITH_ERRORS
    assert closed.summary is not None
    assert closed.summary["failed_shards"] == 1


def test_a_worker_that_comes_back_before_its_shard_is_given_up_keeps_it(
    books: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    books.day("a", max_attempts=1)
    mine = books.one()
    books.lapse(mine)
    lock = days.lock

    def back_first(connection: Connection, day_id: int) -> DayState:
        shards.renew(connection, [(mine.id, mine.epoch)], lease=LEASE)
        return lock(connection, day_id)

    monkeypatch.setattr(days, "lock", back_first)
    assert books.claim(owner="two") == []
    assert books.shard(mine) == ("leased", 1, 1)


def test_progress_resets_the_attempts(books: Any) -> None:
    books.day("a", max_attempts=2)
    for ordinal in range(5):
        leased = books.one()
        books.record(leased, [ordinal])
        books.lapse(leased)
    assert books.shard(leased) == ("leased", 5, 0)


def test_a_release_is_not_an_attempt(books: Any) -> None:
    books.day("a", max_attempts=2)
    for _ in range(5):
        leased = books.one()
        shards.release(books.connection, leased.id, leased.epoch)
    assert books.shard(leased) == ("ready", 5, 0)


def test_a_release_after_progress_buys_no_attempts(books: Any) -> None:
    books.day("a")
    leased = books.one()
    books.record(leased, [0])
    shards.release(books.connection, leased.id, leased.epoch)
    assert books.shard(leased) == ("ready", 1, 0)


def test_a_passing_failure_waits_and_the_last_allowed_one_fails_the_shard(books: Any) -> None:
    day = books.day("a", max_attempts=2)
    failure, soon = ("try_again", "the disk was away"), timedelta(0)
    for wait, state in ((timedelta(hours=1), "ready"), (soon, "failed")):
        leased = books.one()
        shards.put_back(books.connection, leased.id, leased.epoch, failure=failure, wait=wait, actor="one")
        assert books.shard(leased)[0] == state
        assert books.claim() == []
        books.connection.execute("UPDATE shards SET ready_at = now()")
    assert books.state(day) == DayState.COMPLETED_WITH_ERRORS


def test_next_lapse_is_the_next_moment_a_shard_can_be_claimed(books: Any) -> None:
    day = books.day("a")
    assert shards.next_lapse(books.connection, day.id) == 0.0
    leased = books.one()
    wait = shards.next_lapse(books.connection, day.id)
    assert wait is not None
    assert 50 < wait <= 60
    books.record(leased, [0], seal=1)
    assert shards.next_lapse(books.connection, day.id) is None


CLOSING: list[tuple[str, Callable[[Any, shards.Leased], object]]] = [
    (
        "fail",
        lambda b, s: shards.fail(b.connection, s.id, s.epoch, failure=("x", "y"), actor="stale", discard=False),
    ),
    (
        "fail and discard",
        lambda b, s: shards.fail(b.connection, s.id, s.epoch, failure=("x", "y"), actor="stale", discard=True),
    ),
    (
        "put back",
        lambda b, s: shards.put_back(b.connection, s.id, s.epoch, failure=("x", "y"), wait=timedelta(0), actor="stale"),
    ),
    ("release", lambda b, s: shards.release(b.connection, s.id, s.epoch)),
]


@pytest.mark.parametrize("settled", [False, True], ids=["while another works", "after another settled"])
@pytest.mark.parametrize("close", [each for _, each in CLOSING], ids=[name for name, _ in CLOSING])
def test_a_stale_epoch_cannot_close_a_shard(
    books: Any, close: Callable[[Any, shards.Leased], object], settled: bool
) -> None:
    books.day("a", "b")
    stale = books.one()
    books.record(stale, [0])
    books.lapse(stale)
    present = books.one(owner="two")
    assert present.id == stale.id
    if settled:
        books.record(present, [1], seal=2)
    before = books.everything()
    with pytest.raises(LeaseLost):
        close(books, stale)
    assert books.everything() == before


def test_a_stale_epoch_is_not_renewed(books: Any) -> None:
    books.day("a", "b")
    stale, other = books.claim(2)
    books.lapse(stale)
    present = books.one(owner="two")
    before = books.value("SELECT lease_until FROM shards WHERE id = %s", stale.id)
    held = [(stale.id, stale.epoch), (other.id, other.epoch)]
    assert shards.renew(books.connection, held, lease=timedelta(hours=1)) == {other.id}
    assert books.value("SELECT lease_until FROM shards WHERE id = %s", stale.id) == before
    assert shards.renew(books.connection, [(present.id, present.epoch)], lease=LEASE) == {present.id}


def test_a_lapsed_lease_that_nobody_took_is_still_its_holder_s(books: Any) -> None:
    books.day("a")
    mine = books.one()
    books.lapse(mine)
    assert shards.renew(books.connection, [(mine.id, mine.epoch)], lease=LEASE) == {mine.id}
    assert books.claim(owner="two") == []


def test_a_worker_frozen_inside_a_transaction_frees_the_others(
    books: Any, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped while it holds rows: the server ends its session, and whoever waited goes on."""
    books.day("a", "b")
    frozen, free = books.claim(2)
    inside, thaw = threading.Event(), threading.Event()

    def stop(name: str) -> None:
        if name == "settle.intx" and threading.current_thread() is not threading.main_thread():
            inside.set()
            assert thaw.wait(30)

    monkeypatch.setattr(faults, "point", stop)

    def freeze() -> None:
        with connect(dsn) as connection:
            connection.execute("SET idle_in_transaction_session_timeout = '300ms'")
            type(books)(connection).record(frozen, [0], seal=1)

    with ThreadPoolExecutor(1) as pool:
        stopped = pool.submit(freeze)
        assert inside.wait(30)
        assert books.record(free, [0], seal=1).settled  # needs the day's row, which the frozen one holds
        thaw.set()
        with pytest.raises(LedgerAway):
            stopped.result()
    assert books.shard(frozen) == ("leased", 1, 1)
