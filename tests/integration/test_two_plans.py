"""Two plans over one archive, at the same time: each comes to its end, in whatever order their rows are met."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from db import formats, parts, plans, redo
from db.connect import Connection, connect
from db.plans import Criterion, Selection, Wish

PAUSED_AT = 4711  # an advisory lock: whoever writes a transcript of the plan under test waits for it
GERMAN = Selection((Criterion("language", "de"),))


def draw(made: Any, key: bytes, selection: Selection | None = None, **given: Any) -> plans.Plan:
    chosen = selection or Selection((Criterion("all"),), start=made.open.date)
    drawn = plans.draw(
        made.connection, chosen, Wish(who="me", why="", run_key=key, receipt={"key": key.hex()}, **given)
    )
    plans.move(made.connection, plans.get(made.connection, drawn.id), "open", actor="me")
    return plans.get(made.connection, drawn.id)


def claim(made: Any, plan: plans.Plan) -> Any:
    [leased] = redo.claim(made.connection, owner="w", count=9, lease=timedelta(seconds=60), plan_id=plan.id)
    return leased


def record(
    connection: Connection, made: Any, plan: plans.Plan, leased: Any, *names: str, sealed: bool
) -> parts.Recorded:
    """A part of the plan with these recordings."""
    results = []
    for name in names:
        row = connection.execute("SELECT ordinal, sha256 FROM recordings WHERE id = %s", [made.ids[name]]).fetchone()
        assert row is not None
        results.append({
            **row, "outcome": "speech", "language": "fr", "language_probability": None, "text": "bonjour",
            "word_count": 1, "words": formats.pack([]), "transcript_flags": [], "failure_class": None,
            "failure_reason": None, "seconds": 9.0, "flags": [],
        })  # fmt: skip
    name = f"{leased.id}-{leased.epoch}-{plan.id}-{'-'.join(names)}"
    part = parts.Part(name, leased.id, leased.epoch, bytes(32), 1, plan.run_key, plan.receipt)
    return redo.record(connection, part, plan.id, results, sealed=sealed, actor="w")


def waiting(made: Any, count: int) -> None:
    """Until so many sessions of this ledger wait for a lock."""
    asked = "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    give_up, pause = time.monotonic() + 20, threading.Event()
    while made.connection.execute(asked).fetchone()["n"] < count:
        assert time.monotonic() < give_up, "nobody waits"
        pause.wait(0.01)


@contextmanager
def halfway(made: Any, plan: plans.Plan) -> Iterator[None]:
    """Whoever records something of this plan stops inside of his transaction until the end of the block."""
    for statement in (
        "CREATE FUNCTION stop_here() RETURNS trigger LANGUAGE plpgsql AS"
        f" 'BEGIN PERFORM pg_advisory_xact_lock_shared({PAUSED_AT}); RETURN NULL; END'",
        f"CREATE TRIGGER stops AFTER INSERT ON transcripts FOR EACH ROW WHEN (NEW.plan_id = {plan.id})"
        " EXECUTE FUNCTION stop_here()",
    ):
        made.connection.execute(statement)
    with connect(made.dsn) as holder, holder.transaction():
        holder.execute("SELECT pg_advisory_xact_lock(%s)", [PAUSED_AT])
        yield


@pytest.fixture
def at_once(a_day: Any) -> Iterator[Callable[..., Future[parts.Recorded]]]:
    """Records in a session and a thread of its own."""
    with ThreadPoolExecutor(2) as pool:

        def start(*given: Any, **named: Any) -> Future[parts.Recorded]:
            def run() -> parts.Recorded:
                with connect(a_day.dsn) as connection:
                    return record(connection, a_day, *given, **named)

            return pool.submit(run)

        yield start


def test_a_part_that_ends_an_archive_and_a_part_of_another_plan_over_it_do_not_wait_for_each_other(
    a_day: Any, at_once: Callable[..., Future[parts.Recorded]]
) -> None:
    one, other = draw(a_day, b"1" * 16), draw(a_day, b"2" * 16)
    mine, theirs = claim(a_day, one), claim(a_day, other)
    record(a_day.connection, a_day, one, mine, "hello", "hostile", "silence", "quarantined", sealed=False)
    with halfway(a_day, one):
        last = at_once(one, mine, "injection", sealed=True)
        waiting(a_day, 1)
        first = at_once(other, theirs, "hello", "injection", sealed=False)
        waiting(a_day, 2)
    assert last.result(20).settled, "it moves the recordings of its earlier parts, which the other has met first"
    assert first.result(20).new
    assert plans.get(a_day.connection, one.id).state == "done"


def adopted(made: Any) -> Callable[[Connection], Any]:
    """A trial that is done, and how it is adopted."""
    plan = draw(made, b"1" * 16, keep_current=True)
    record(made.connection, made, plan, claim(made, plan), *ORDERED, sealed=True)
    return lambda connection: redo.adopt(connection, plan, actor="me")


def settled(made: Any) -> Callable[[Connection], Any]:
    """A plan of which all is made and nothing seen, and the claim that finds it so."""
    plan = draw(made, b"1" * 16)
    leased = claim(made, plan)
    record(made.connection, made, plan, leased, *ORDERED, sealed=False)
    redo.release(made.connection, leased.id, leased.epoch, plan_id=plan.id)
    lease = timedelta(seconds=60)
    return lambda connection: redo.claim(connection, owner="w", count=1, lease=lease, plan_id=plan.id)


ORDERED = ("hello", "hostile", "silence", "quarantined", "injection")


@pytest.mark.parametrize("way", [adopted, settled])
def test_whoever_lets_readers_see_an_archive_takes_its_recordings_in_the_order_of_all(
    a_day: Any, way: Callable[[Any], Callable[[Connection], Any]]
) -> None:
    then = way(a_day)
    first, last = a_day.ids["hello"], a_day.ids["injection"]
    # Its row moves to the end of the table, and the server goes through that as it lies: it finds this one last.
    a_day.connection.execute("UPDATE recordings SET seconds = seconds WHERE id = %s", [first])
    held = "SELECT id FROM recordings WHERE id = %s FOR NO KEY UPDATE NOWAIT"
    with connect(a_day.dsn) as mine, connect(a_day.dsn) as theirs, ThreadPoolExecutor(1) as pool:
        for detour in ("nestloop", "indexscan", "bitmapscan"):
            theirs.execute(f"SET enable_{detour} = off")
        with mine.transaction():
            mine.execute(held, [first])
            moving = pool.submit(then, theirs)
            waiting(a_day, 1)
            assert mine.execute(held, [last]).fetchone(), "who waits for the first one has not taken the last"
        moving.result(20)
    seen = "SELECT count(*) AS n FROM recordings r JOIN transcripts t ON t.id = r.current_id WHERE t.language = 'fr'"
    assert a_day.connection.execute(seen).fetchone()["n"] == len(ORDERED)
