"""The process that renews leases, for real: it renews, says what is lost, stops when nothing moves, and is replaced."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from db.connect import Connection
from db.session import Session
from db.shards import renew
from hpc.feeds.ledger.renewer import Renewer

LEASE = timedelta(seconds=1)
NEVER = timedelta(hours=1)


@contextmanager
def renewing(dsn: str, *, stall: timedelta = NEVER) -> Iterator[Renewer]:
    renewer = Renewer(dsn, require_tls=True, lease=LEASE, stall=stall, renew=renew)
    try:
        yield renewer
    finally:
        renewer.close()


def until_of(books: Any, leased: Any) -> Any:
    return books.value("SELECT lease_until FROM shards WHERE id = %s", leased.id)


def test_what_is_held_is_renewed_until_it_is_dropped(books: Any, dsn: str) -> None:
    books.day("a", "b")
    first, second = books.claim(2, lease=LEASE)
    began = until_of(books, first), until_of(books, second)
    with renewing(dsn) as renewer:
        renewer.hold(first.id, first.epoch)
        renewer.hold(second.id, second.epoch)
        books.until(lambda: until_of(books, first) > began[0] and until_of(books, second) > began[1])
        renewer.drop(first.id, first.epoch)
        renewer.drop(second.id, second.epoch - 1)  # an old lease of a shard that came back
        books.lapse(first, second)
        books.until(lambda: books.value("SELECT lease_until > now() FROM shards WHERE id = %s", second.id))
        assert books.value("SELECT lease_until < now() FROM shards WHERE id = %s", first.id)
        assert renewer.lost() == set()


def test_what_another_has_taken_is_told(books: Any, dsn: str) -> None:
    books.day("a")
    mine = books.one()
    books.lapse(mine)
    theirs = books.one(owner="two")
    with renewing(dsn) as renewer:
        renewer.hold(mine.id, mine.epoch)
        books.until(lambda: renewer.lost() == {mine.id})
        renewer.hold(theirs.id, theirs.epoch)  # it comes back to us
        assert renewer.lost() == set()


def test_nothing_is_renewed_once_nothing_moves(books: Any, dsn: str) -> None:
    books.day("a")
    leased = books.one()
    with renewing(dsn, stall=timedelta(0)) as renewer:
        renewer.hold(leased.id, leased.epoch)
        books.lapse(leased)
        assert books.one(owner="two").epoch == 2


def test_a_renewer_that_is_killed_is_replaced(books: Any, dsn: str) -> None:
    books.day("a")
    leased = books.one()
    with renewing(dsn) as renewer:
        renewer.hold(leased.id, leased.epoch)
        [child] = _children()
        os.kill(child, signal.SIGKILL)
        books.until(lambda: renewer.lost() == set() and _children() not in ([], [child]))
        books.lapse(leased)
        books.until(lambda: books.value("SELECT lease_until > now() FROM shards WHERE id = %s", leased.id))


def test_the_signals_of_the_whole_group_do_not_end_it(books: Any, dsn: str) -> None:
    books.day("a")
    leased = books.claim(lease=LEASE)[0]
    began = until_of(books, leased)
    with renewing(dsn) as renewer:
        renewer.hold(leased.id, leased.epoch)
        books.until(lambda: until_of(books, leased) > began)
        [child] = _children()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            os.kill(child, number)
        again = until_of(books, leased)
        books.until(lambda: until_of(books, leased) > again)
        assert _children() == [child]


def test_a_session_is_used_by_one_thread_at_a_time(dsn: str) -> None:
    """A worker may claim in one thread and record in another; a transaction is the connection's, not a thread's."""
    session = Session(dsn, application="test")
    inside, most = [0], [0]
    start = threading.Barrier(4)

    def transact(connection: Connection) -> None:
        with connection.transaction():
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            connection.execute("SELECT pg_sleep(0.01)")
            inside[0] -= 1

    def work(_: int) -> None:
        start.wait()
        for _ in range(5):
            session(transact)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [None] * 4
    session.close()
    assert most == [1]


def _children() -> list[int]:
    """The renewers of this process, by their ids."""
    from multiprocessing import active_children

    return [process.pid for process in active_children() if process.name == "renewer" and process.pid]
