"""Parts: recorded once, hidden until the seal, welcome from any epoch but sealing only from the present one."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from db import days, faults, parts, search, shards, transcripts
from db.connect import Connection, connect
from db.errors import BadData, LeaseLost
from db.roles import Roles
from db.states import DayState
from db.transcripts import Scope

MINUTE = timedelta(minutes=1)


def visible(books: Any, day: days.Day) -> tuple[int, int, int]:
    """What search, page and tally show."""
    hits = search.search(books.connection, search.Question("hello")).hits
    return (
        len(hits),
        len(transcripts.page(books.connection, day.id)),
        days.tally(books.connection, day.id)["recordings"],
    )


def test_results_are_hidden_until_the_seal_and_then_current_together(
    books: Any, speech: Callable[..., Any], failure: Callable[..., Any]
) -> None:
    day = books.day("a")
    leased = books.one()
    first = books.record(leased, [speech(0), speech(1, "")])
    assert (first.new, first.settled, first.stale) == (True, False, False)
    assert visible(books, day) == (0, 0, 0)
    assert transcripts.denominator(books.connection, Scope())["unsealed"] == 2
    [hidden] = transcripts.find(books.connection, "clip0")
    assert (hidden["state"], hidden["text"], hidden["segments"]) == ("provisional", None, None)
    last = books.record(leased, [failure(2)], seal=3)
    assert last.settled
    assert visible(books, day) == (1, 3, 3)
    assert books.rows("SELECT state, current_id IS NULL FROM recordings ORDER BY ordinal") == [
        ("transcribed", False),
        ("no_speech", False),
        ("quarantined", True),
    ]
    assert books.rows("SELECT state FROM parts") == ["sealed", "sealed"]
    assert books.rows("SELECT state, sealed IS NULL, seal_recordings FROM shards") == [("done", False, 3)]


def test_the_seal_shows_itself_to_others_all_at_once(books: Any, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each point inside the sealing transaction another session still sees nothing; after it, everything."""
    day = books.day("a")
    leased = books.one()
    seen: dict[str, tuple[int, int, int]] = {}
    with connect(dsn) as other:
        onlooker = type(books)(other)
        monkeypatch.setattr(faults, "point", lambda name: seen.update({name: visible(onlooker, day)}))
        books.record(leased, [0, 1], seal=2)
        assert onlooker.state(day) == DayState.COMPLETED
    assert seen == {
        "record.before": (0, 0, 0),
        "record.intx": (0, 0, 0),
        "seal.intx": (0, 0, 0),
        "settle.intx": (0, 0, 0),
        "record.committed": (2, 2, 2),
    }


def test_recording_a_part_twice_changes_nothing(books: Any) -> None:
    books.day("a")
    leased = books.one()
    books.record(leased, [0, 1], seal=2, name="p")
    before = books.everything()
    again = books.record(leased, [0, 1], seal=2, name="p")
    assert (again.new, again.settled, again.stale) == (False, False, False)
    assert books.everything() == before


def test_the_same_name_with_other_bytes_is_refused(books: Any, speech: Callable[..., Any]) -> None:
    books.day("a")
    leased = books.one()
    books.record(leased, [0], name="p")
    before = books.everything()
    with pytest.raises(parts.PartConflict, match="part p is recorded with other bytes"):
        books.record(leased, [speech(0, "something else")], name="p", content=b"other")
    assert books.everything() == before


def test_a_part_of_no_shard_is_refused(books: Any) -> None:
    books.day("a")
    leased = books.one()
    with pytest.raises(BadData, match="which this ledger does not have"):
        parts.record(
            books.connection, parts.Part("p", leased.id + 1, 1, b"s" * 32, 1, b"k" * 16, {}), [], None, actor="x"
        )


def test_results_of_a_stale_epoch_are_taken_and_the_first_wins(books: Any, speech: Callable[..., Any]) -> None:
    books.day("a")
    stale = books.one()
    books.lapse(stale)
    present = books.one(owner="two")
    books.record(present, [speech(0, "from the second")])
    late = books.record(stale, [speech(0, "from the first"), speech(1, "from the first")])
    assert (late.new, late.settled, late.stale) == (True, False, True)
    assert books.record(present, [speech(1, "from the second")], seal=2).settled
    assert books.rows("SELECT text FROM transcripts t JOIN recordings r ON r.current_id = t.id ORDER BY ordinal") == [
        "from the second",
        "from the first",
    ]


def test_a_stale_epoch_never_seals(books: Any) -> None:
    day = books.day("a")
    stale = books.one()
    books.lapse(stale)
    present = books.one(owner="two")
    late = books.record(stale, [0], seal=1)
    assert (late.settled, late.stale) == (False, True)
    assert books.shard(present) == ("leased", 2, 2)  # nor is it progress of the present one
    assert visible(books, day) == (0, 0, 0)


def test_a_stale_seal_after_the_end_changes_nothing_but_its_own_row(books: Any, speech: Callable[..., Any]) -> None:
    books.day("a")
    stale = books.one()
    books.lapse(stale)
    books.record(books.one(owner="two"), [0], seal=1)
    before = books.everything()
    late = books.record(stale, [speech(0, "late"), speech(7, "of no archive")], seal=8)
    assert (late.new, late.settled, late.stale) == (True, False, True)
    after = books.everything()
    assert books.rows("SELECT state FROM parts ORDER BY id") == ["sealed", "discarded"]
    assert len(after.pop("parts")) == len(before.pop("parts")) + 1
    assert after == before


@pytest.mark.parametrize(
    "ordinals", [[0, 2], [0], [0, 1, 2, 3], [1, 2, 3]], ids=["a gap", "too few", "too many", "shifted"]
)
def test_a_seal_that_does_not_add_up_is_refused_and_the_results_stay(books: Any, ordinals: list[int]) -> None:
    day = books.day("a")
    leased = books.one()
    refused = books.record(leased, ordinals, seal=3)
    assert (refused.new, refused.settled, refused.stale) == (True, False, False)
    assert books.shard(leased) == ("leased", 1, 0)
    assert books.rows("SELECT DISTINCT state FROM recordings") == ["provisional"]
    assert books.value("SELECT detail FROM events WHERE what = 'seal.refused'") == {
        "read": 3,
        "accounted": len(ordinals),
        "same": True,
        "epoch": 1,
    }
    assert books.state(day) == DayState.PROCESSING


def test_a_seal_over_other_bytes_than_were_recorded_is_refused(books: Any, speech: Callable[..., Any]) -> None:
    """A frozen worker comes late with what it had read before the archive was replaced, and is the first."""
    books.day("a")
    stale = books.one()
    books.lapse(stale)
    present = books.one(owner="two")
    assert books.record(stale, [speech(0, "of the old archive", content=b"old")]).stale
    seen = hashlib.sha256(b"".join(speech(ordinal)["sha256"] for ordinal in range(2))).digest()
    refused = books.record(present, [0, 1], seal=2, contents=seen)
    assert (refused.settled, refused.stale) == (False, False)
    assert books.value("SELECT detail -> 'same' FROM events WHERE what = 'seal.refused'") is False
    failure = ("seal_refused", "it does not add up")
    where = (books.connection, present.id, present.epoch)
    shards.put_back(*where, failure=failure, wait=timedelta(0), actor="two")
    assert books.one(owner="three").known[0] == speech(0, content=b"old")["sha256"]  # the next reading will say so


def test_a_seal_over_the_recorded_bytes_settles(books: Any, speech: Callable[..., Any]) -> None:
    books.day("a")
    seen = hashlib.sha256(b"".join(speech(ordinal)["sha256"] for ordinal in range(2))).digest()
    assert books.record(books.one(), [1, 0], seal=2, contents=seen).settled


def test_an_archive_without_recordings_is_sealed_too(books: Any) -> None:
    day = books.day("a")
    assert books.record(books.one(), [], seal=0).settled
    assert books.state(day) == DayState.COMPLETED


def test_a_damaged_archive_takes_its_provisional_results_along(books: Any) -> None:
    day = books.day("a")
    leased = books.one()
    books.record(leased, [0, 1])
    damaged = ("archive_damaged", "a bit is wrong")
    shards.fail(books.connection, leased.id, leased.epoch, failure=damaged, actor="one", discard=True)
    assert books.rows("SELECT id FROM recordings") == books.rows("SELECT id FROM transcripts") == []
    assert books.rows("SELECT state FROM parts") == ["discarded"]
    assert books.state(day) == DayState.COMPLETED_WITH_ERRORS
    assert books.value("SELECT detail ->> 'discarded' FROM events WHERE what = 'shard.failed'") == "2"


def test_what_was_read_of_a_damaged_archive_stays_thrown_away(books: Any) -> None:
    """A worker that was frozen meanwhile comes late with its part, before and after a retry."""
    day = books.day("a")
    stale = books.one()
    books.lapse(stale)
    present = books.one(owner="two")
    damaged = ("archive_damaged", "a bit is wrong")
    shards.fail(books.connection, present.id, present.epoch, failure=damaged, actor="two", discard=True)
    assert books.record(stale, [0], seal=1).stale
    shards.retry(books.connection, day, actor="me")
    again = books.one(owner="three")
    assert books.record(stale, [1]).stale
    assert books.rows("SELECT id FROM recordings") == []
    assert books.rows("SELECT state FROM parts") == ["discarded", "discarded"]
    assert books.record(again, [0, 1], seal=2).settled


def test_a_discard_under_a_stale_epoch_or_after_the_seal_throws_nothing_away(books: Any) -> None:
    """Asked of the database itself: the worker's role may call it."""
    books.day("a")
    stale = books.one()
    books.record(stale, [0])
    books.lapse(stale)
    present = books.one(owner="two")
    discard = "SELECT discard_provisional(%s, %s)"
    assert books.value(discard, stale.id, stale.epoch) == 0
    assert books.value("SELECT count(*) FROM recordings") == 1
    books.record(present, [1], seal=2)
    assert books.value(discard, present.id, present.epoch) == 0
    assert books.value("SELECT count(*) FROM recordings WHERE state = 'transcribed'") == 2


def test_a_discard_whose_failure_is_refused_is_undone(books: Any) -> None:
    books.day("a")
    leased = books.one()
    books.record(leased, [0])
    shards.release(books.connection, leased.id, leased.epoch)
    before = books.everything()
    with pytest.raises(LeaseLost):
        shards.fail(books.connection, leased.id, leased.epoch, failure=("x", "y"), actor="one", discard=True)
    assert books.everything() == before


def test_two_workers_with_the_same_receipt_do_not_wait_for_each_other(
    books: Any, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One stands inside its transaction until the other has finished its own."""
    books.day("a", "b")
    first, second = books.claim(2)
    inside, done = threading.Event(), threading.Event()

    def stop(name: str) -> None:
        if name == "record.intx" and threading.current_thread() is not threading.main_thread():
            inside.set()
            assert done.wait(30)

    monkeypatch.setattr(faults, "point", stop)

    def record() -> parts.Recorded:
        with connect(dsn) as connection:
            recorded: parts.Recorded = type(books)(connection).record(first, [0])
            return recorded

    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(record)
        assert inside.wait(30)
        assert books.record(second, [0]).new
        done.set()
        assert slow.result().new
    assert books.value("SELECT count(*) FROM runs") == 1


def test_a_worker_s_rights_are_enough_for_its_whole_way(books: Any, roles: Roles, ledger: Connection) -> None:
    """Claim, renew, record, discard, fail, seal and close, with the grants of the worker's role and no more."""
    day = books.day("a", "b", "c", "d")
    ledger.execute(SQL("SET ROLE {}").format(Identifier(roles.worker)))
    good, damaged, later, back = books.claim(4)
    assert shards.renew(ledger, [(good.id, good.epoch)], lease=MINUTE) == {good.id}
    books.record(damaged, [0])
    shards.fail(ledger, damaged.id, damaged.epoch, failure=("archive_damaged", "x"), actor="one", discard=True)
    shards.put_back(ledger, later.id, later.epoch, failure=("x", "y"), wait=MINUTE, actor="one")
    shards.release(ledger, back.id, back.epoch)
    assert books.record(good, [0], seal=1).settled
    assert books.record(books.one(), [0], seal=1).settled
    ledger.execute("RESET ROLE")
    ledger.execute("UPDATE shards SET ready_at = now()")
    ledger.execute(SQL("SET ROLE {}").format(Identifier(roles.worker)))
    assert books.record(books.one(), [], seal=0).settled
    assert books.state(day) == DayState.COMPLETED_WITH_ERRORS


IMPOSSIBLE = [
    ("days", "state = 'done'", "days_state_check"),
    ("days", "state = 'held'", "held_remembers_where_from"),
    ("days", "held_from = 'pending'", "held_remembers_where_from"),
    ("days", "state = 'completed', summary = NULL", "finished_has_its_summary"),
    ("shards", "state = 'leased'", "leased_has_an_owner"),
    ("shards", "state = 'done', sealed = NULL, seal_sha256 = NULL, seal_recordings = NULL", "done_is_sealed"),
    ("shards", "state = 'failed'", "failed_says_why"),
    ("shards", "seal_sha256 = NULL", "seal_is_whole"),
    ("shards", "seal_sha256 = 'short'", "shards_seal_sha256_check"),
    ("recordings", "state = 'quarantined'", "quarantine_is_a_failure"),
    ("recordings", "current_id = NULL", "success_is_a_transcript"),
    ("recordings", "failure_class = 'x'", "failure_says_why"),
    ("recordings", "state = 'provisional'", "provisional_is_not_current"),
    ("recordings", "ordinal = -1", "recordings_ordinal_check"),
    ("transcripts", "text = ''", "empty_text_means_no_speech"),
    ("transcripts", "outcome = 'no_speech'", "empty_text_means_no_speech"),
    ("transcripts", "language = 'English'", "transcripts_language_check"),
    ("parts", "state = 'lost'", "parts_state_check"),
    ("runs", "key = 'short'", "runs_key_check"),
    ("sites", "name = '../etc'", "sites_name_check"),
]


def test_the_database_refuses_impossible_states(books: Any) -> None:
    books.day("a")
    books.record(books.one(), [0], seal=1)
    assert [(table, change, _refused(books, f"UPDATE {table} SET {change}")) for table, change, _ in IMPOSSIBLE] == (
        IMPOSSIBLE
    )


def test_events_are_append_only(books: Any) -> None:
    books.day("a")
    before = books.rows("SELECT * FROM events")
    assert before
    for change in ("UPDATE events SET what = 'x'", "DELETE FROM events", "TRUNCATE events"):
        with pytest.raises(psycopg.errors.RaiseException, match="events are append-only"):
            books.connection.execute(change)
    assert books.rows("SELECT * FROM events") == before


def _refused(books: Any, change: str) -> str | None:
    """The rule by which the database refuses this change; None when it allows it."""
    with books.connection.transaction(force_rollback=True):
        try:
            books.connection.execute(change)
        except psycopg.errors.CheckViolation as refused:
            return refused.diag.constraint_name
    return None
