"""The porter: a day is all there or its gaps have names, one task for one wish, and nothing is asked for in a storm."""

from __future__ import annotations

import hashlib
from datetime import date, timedelta
from typing import Any

import pytest

from db import days, listings, shards, transfers
from db.states import DayState, TransferState
from hpc.errors import NoAnswer, SourceMissing
from hpc.model import Checksum, Progress, RemoteFile

ON = date(2025, 1, 31)
HOUR = 3600.0


def archive(slot: str) -> str:
    return f"0_{ON}_{slot}.tar.xz"


def test_a_day_is_listed_ordered_moved_and_ready(dock: Any) -> None:
    dock.slots(4)
    first = dock.tick()
    assert dock.state == DayState.TRANSFERRING
    assert dock.slot("00_10") == "listed"
    assert dock.slot("23_50") == "absent_at_source"
    assert dock.shards() == 0
    assert [line.what for line in first.did] == ["listed", "transfer"]
    dock.mover.work()
    dock.tick()
    assert dock.state == DayState.READY_TO_PROCESS
    assert dock.message == "4 archives arrived"
    assert dock.slot("00_10") == "arrived"
    assert dock.shards() == 4
    assert dock.transfers() == ["succeeded"]


def test_a_tick_asks_a_task_once_and_waits_for_nothing(dock: Any) -> None:
    dock.slots(2)
    dock.tick()
    assert dock.mover.calls == {"new_submission": 1, "submit": 1}
    for number in range(1, 4):
        dock.tick()
        assert dock.mover.calls["look"] == number
    assert dock.source.listed == 1
    assert dock.mover.calls["submit"] == 1


def test_143_of_144_archives_leave_the_day_incomplete_and_name_the_slot_and_the_file(dock: Any) -> None:
    dock.slots(144)
    missing = archive("17_20")
    dock.arrive(missing)
    assert dock.state == DayState.TRANSFERRING
    assert dock.files("missing") == [missing]
    assert dock.slot("17_20") == "listed_but_missing"
    assert "143 of 144 archives arrived" in dock.message
    assert missing in dock.message
    assert "slot 17_20" in dock.message
    assert dock.shards() == 0  # nothing is worked of a day that has a gap which may still be closed


def test_what_is_missing_is_fetched_again_and_nothing_else(dock: Any) -> None:
    dock.slots(6)
    dock.arrive(archive("00_20"))
    dock.later(HOUR)
    dock.tick()
    _, second = dock.mover.tasks.values()
    assert second.files == ((archive("00_20"), archive("00_20")),)
    dock.mover.work()
    dock.tick()
    assert dock.state == DayState.READY_TO_PROCESS
    assert dock.shards() == 6


def test_a_file_that_never_comes_ends_in_transfer_failed_with_its_name_and_a_retry_leads_on(dock: Any) -> None:
    dock.rules["attempts"] = 2
    dock.slots(3)
    for _ in range(2):
        dock.arrive(archive("00_10"))
        dock.later(12 * HOUR)
    assert dock.state == DayState.TRANSFER_FAILED
    assert archive("00_10") in dock.message
    submitted = dock.mover.calls["submit"]
    dock.later(100 * HOUR)
    dock.tick()
    assert dock.mover.calls["submit"] == submitted  # a person has to look first
    shards.retry(dock.connection, dock.day, actor="a person")
    dock.arrive()
    assert dock.state == DayState.READY_TO_PROCESS


def test_a_person_may_go_on_without_what_did_not_come_and_the_gap_keeps_its_name(dock: Any) -> None:
    dock.rules["attempts"] = 1
    dock.slots(3)
    dock.arrive(archive("00_10"))
    assert dock.state == DayState.TRANSFER_FAILED
    assert transfers.waive(dock.connection, dock.day, actor="a person", reason="lost for good") == [
        archive("00_10").encode()
    ]
    days.move(dock.connection, dock.day.id, DayState.READY_TO_PROCESS, actor="a person")
    dock.porter().conclude(dock.tick(), dock.day)
    assert dock.shards() == 2
    assert dock.slot("00_10") == "listed_but_missing"


def test_archives_gate_the_day_and_companions_join_it_whenever_they_come(dock: Any) -> None:
    dock.slots(2)
    dock.put(f"0_{ON}_00_00_comments.parquet", f"0_{ON}_00_10_comments.parquet")
    dock.tick()
    archives, companions = dock.mover.tasks
    dock.mover.work([])
    dock.mover.said[companions] = Progress(TransferState.ACTIVE)  # these are still under way
    for name in (f"0_{ON}_00_00_comments.parquet", f"0_{ON}_00_10_comments.parquet"):
        (dock.here / name).unlink()
    dock.tick()
    assert dock.state == DayState.READY_TO_PROCESS
    assert dock.slot("00_00", "comments") == "listed"
    days.move(dock.connection, dock.day.id, DayState.PROCESSING, actor="worker")
    dock.mover.work()
    dock.tick()
    assert dock.slot("00_00", "comments") == "arrived"
    assert dock.state == DayState.PROCESSING  # nothing is reopened or held up
    assert archives in dock.mover.said


def test_a_listing_that_grows_raises_the_revision_and_fetches_only_what_is_new(dock: Any) -> None:
    dock.slots(2)
    dock.arrive()
    assert dock.day.revision == 0
    dock.put(archive("09_00"), f"0_{ON}_00_00_comments.parquet")
    listings.look_again(dock.connection, dock.day.id, timedelta(0))
    dock.tick()
    assert dock.day.revision == 1
    *_, new, late = dock.mover.tasks.values()
    assert new.files == ((archive("09_00"), archive("09_00")),)
    assert [source for source, _ in late.files] == [f"0_{ON}_00_00_comments.parquet"]
    dock.mover.work()
    dock.tick()
    assert dock.shards() == 3
    dock.later(1000 * HOUR)
    dock.tick()
    assert dock.day.revision == 1


def test_a_finished_day_is_opened_again_by_an_archive_that_came_late(dock: Any) -> None:
    dock.slots(1)
    dock.arrive()
    [leased] = shards.claim(dock.connection, owner="w", count=1, lease=timedelta(minutes=1))
    shards.fail(dock.connection, leased.id, leased.epoch, failure=("archive_damaged", "a bit"), actor="w", discard=True)
    assert dock.state == DayState.COMPLETED_WITH_ERRORS
    dock.put(archive("09_00"))
    listings.look_again(dock.connection, dock.day.id, timedelta(0))
    dock.arrive()
    assert dock.state == DayState.READY_TO_PROCESS


def test_an_archive_that_changed_after_it_was_worked_is_told_of_and_not_read_again(dock: Any) -> None:
    dock.slots(2)
    dock.arrive()
    dock.put(archive("00_00"), size=999)
    listings.look_again(dock.connection, dock.day.id, timedelta(0))
    report = dock.tick()
    assert [line.what for line in report.waits] == ["changed"]
    assert dock.mover.calls["submit"] == 1
    assert dock.rows("SELECT count(*) FROM events WHERE what = 'listing.changed'") == [1]


def test_what_is_listed_while_a_transfer_is_under_way_comes_with_the_next_one(dock: Any) -> None:
    dock.slots(2)
    dock.tick()
    dock.put(archive("09_00"), f"0_{ON}_00_00_comments.parquet")
    listings.look_again(dock.connection, dock.day.id, timedelta(0))
    dock.tick()
    assert dock.transfers() == ["active", "active"]  # the new companion need not wait, the archive does
    dock.mover.work()
    dock.tick()
    dock.mover.work()
    dock.tick()
    assert dock.state == DayState.READY_TO_PROCESS
    assert dock.shards() == 3


def test_a_companion_that_did_not_come_is_fetched_again_although_its_day_is_old_and_ready(dock: Any) -> None:
    dock.slots(1)
    late = f"0_{ON}_00_00_comments.parquet"
    dock.put(late)
    dock.arrive(late)
    assert dock.state == DayState.READY_TO_PROCESS
    assert dock.slot("00_00", "comments") == "listed_but_missing"
    dock.later(HOUR)
    dock.arrive()
    assert dock.slot("00_00", "comments") == "arrived"
    dock.later(1000 * HOUR)
    listed = dock.source.listed
    dock.tick()
    assert dock.source.listed == listed  # an old day is left in peace once all is here


# What must not be taken for something else


def test_a_source_that_fails_is_no_empty_day(dock: Any) -> None:
    dock.slots(2)
    dock.source.trouble, dock.source.halfway = NoAnswer("the line went dead"), True
    report = dock.tick()
    assert dock.state == DayState.PENDING
    assert dock.files("listed") == []  # half a listing is none
    assert [line.what for line in report.waits] == ["not listed"]
    assert "the line went dead" in dock.message
    dock.source.trouble = None
    dock.later(HOUR)
    dock.arrive()
    assert dock.state == DayState.READY_TO_PROCESS


def test_a_listing_that_fails_halfway_makes_nothing_gone(dock: Any) -> None:
    dock.slots(4)
    dock.arrive()
    dock.source.trouble, dock.source.halfway = NoAnswer("the line went dead"), True
    listings.look_again(dock.connection, dock.day.id, timedelta(0))
    dock.tick()
    assert len(dock.files("arrived")) == 4


def test_a_missing_folder_is_no_empty_day_either(dock: Any) -> None:
    dock.source.trouble = SourceMissing("there is no folder /far")
    for _ in range(3):
        dock.tick()
        dock.later(100 * HOUR)
    assert dock.state == DayState.PENDING
    assert "no folder" in dock.message


def test_an_empty_day_is_believed_the_second_time_hours_later(dock: Any) -> None:
    dock.tick()
    assert dock.state == DayState.PENDING
    dock.tick()
    assert dock.state == DayState.PENDING
    assert dock.source.listed == 1
    dock.later(7 * HOUR)
    dock.tick()
    assert dock.state == DayState.COMPLETED
    assert "seen twice" in dock.message
    assert days.tally(dock.connection, dock.day.id)["shards"] == 0


def test_an_empty_day_that_fills_between_the_two_looks_is_a_day_like_any_other(dock: Any) -> None:
    dock.tick()
    dock.slots(2)
    dock.later(7 * HOUR)
    dock.arrive()
    assert dock.state == DayState.READY_TO_PROCESS


def test_an_empty_day_that_fills_after_it_was_believed_is_opened(dock: Any) -> None:
    dock.tick()
    dock.later(7 * HOUR)
    dock.tick()
    dock.slots(2)
    listings.look_again(dock.connection, dock.day.id, timedelta(0))
    dock.arrive()
    assert dock.state == DayState.READY_TO_PROCESS
    assert dock.shards() == 2


def test_companions_without_any_archive_make_no_day_ready(dock: Any) -> None:
    dock.put(f"0_{ON}_00_00_metadata.parquet")
    dock.arrive()
    assert dock.state == DayState.PENDING
    assert dock.slot("00_00", "metadata") == "arrived"


# "Succeeded" is an opinion


@pytest.mark.parametrize(
    "harm, reason",
    [
        (lambda path: path.unlink(), "did not arrive"),
        (lambda path: path.write_bytes(path.read_bytes()[:50]), "50 bytes arrived, 100 were listed"),
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), "101 bytes arrived, 100 were listed"),
        (lambda path: (path.unlink(), path.symlink_to("/etc/hostname")), "no regular file"),
        (lambda path: (path.unlink(), path.mkdir()), "no regular file"),
    ],
    ids=["gone", "short", "long", "a link", "a folder"],
)
def test_what_arrived_otherwise_than_it_was_listed_is_named(dock: Any, harm: Any, reason: str) -> None:
    dock.slots(3)
    dock.tick()
    dock.mover.work()
    harm(dock.here / archive("00_10"))
    dock.tick()
    assert dock.state == DayState.TRANSFERRING
    [told] = dock.amiss()
    assert reason in told
    assert dock.slot("00_10") == "listed_but_missing"


def test_one_flipped_bit_is_found_where_the_mover_tells_checksums(dock: Any) -> None:
    dock.slots(2)
    dock.tick()
    dock.mover.work()
    for path in dock.far.iterdir():
        dock.mover.sums[path.name] = Checksum("md5", hashlib.md5(path.read_bytes()).hexdigest())
    victim = dock.here / archive("00_10")
    data = bytearray(victim.read_bytes())
    data[57] ^= 1
    victim.write_bytes(data)
    dock.tick()
    assert dock.files("wrong") == [archive("00_10")]
    assert dock.rows("SELECT count(*) FROM files WHERE verified IS NOT NULL") == [1]
    assert "md5" in dock.amiss()[0]


def test_a_file_that_changed_at_its_source_meanwhile_arrives_as_it_is_now(dock: Any) -> None:
    dock.slots(2)
    dock.tick()
    dock.put(archive("00_10"), size=777)
    dock.mover.work()
    dock.tick()
    assert dock.files("wrong") == [archive("00_10")]
    dock.later(HOUR)
    dock.tick()
    dock.mover.work()
    dock.tick()
    assert dock.state == DayState.READY_TO_PROCESS
    assert dock.rows("SELECT size FROM files WHERE path = %s", archive("00_10").encode()) == [777]


def test_an_empty_archive_needs_no_transfer_and_is_marked_empty(dock: Any) -> None:
    dock.slots(2)
    (dock.far / archive("00_20")).touch()
    dock.arrive()
    assert dock.state == DayState.READY_TO_PROCESS
    assert dock.slot("00_20") == "empty"


@pytest.mark.parametrize("before", ["../", "a/../../", "/etc/"])
def test_a_name_that_leads_out_of_its_folder_is_refused(
    dock: Any, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    dock.slots(1)
    monkeypatch.setattr(dock.source, "listing", lambda _day: [RemoteFile(before + archive("00_30"), 5)])
    report = dock.tick()
    assert dock.state == DayState.PENDING
    assert "no name of a file" in report.waits[0].detail
    assert dock.rows("SELECT path FROM files") == []
