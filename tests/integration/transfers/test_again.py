"""A plan reads what was let go: it is fetched again, is the same or is refused, and is let go again afterwards."""

from __future__ import annotations

import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from db import alerts, days, formats, listings, parts, plans, redo, samples, shards, sites, transfers
from db.connect import connect
from db.plans import Criterion, Plan, Selection, Wish
from db.states import DayState, TransferState
from hpc.errors import NoAnswer
from hpc.tick.again import give_up
from hpc.tick.report import Report
from hpc.tick.tidying import tidy_staging

LEASE = timedelta(minutes=1)
HOUR = 3600.0
ON = "2025-01-31"


def archive(slot: str) -> str:
    return f"0_{ON}_{slot}.tar.xz"


def spoken(ordinal: int, content: bytes) -> dict[str, Any]:
    return {
        "ordinal": ordinal, "meta_id": f"clip{ordinal}", "name": b"clip.mp3", "size": 1,
        "sha256": hashlib.sha256(content).digest(), "seconds": 9.0, "flags": [], "outcome": "speech", "language": "de",
        "language_probability": None, "text": "guten tag", "words": formats.pack([]), "word_count": 2,
        "transcript_flags": [], "failure_class": None, "failure_reason": None,
    }  # fmt: skip


def part(leased: Any, key: bytes) -> parts.Part:
    name = f"{leased.id}-{leased.epoch}-{key.hex()[:8]}"
    return parts.Part(name, leased.id, leased.epoch, hashlib.sha256(name.encode()).digest(), 1, key, {"key": key.hex()})


def worked(dock: Any, count: int) -> None:
    """A day of so many archives with a recording in each, sealed as they were read, and let go since."""
    dock.slots(count)
    dock.arrive()
    for leased in shards.claim(dock.connection, owner="w", count=count, lease=LEASE):
        data = (dock.here / leased.name).read_bytes()
        seal = parts.SealRow(hashlib.sha256(data).digest(), len(data), 1)
        parts.record(dock.connection, part(leased, b"1" * 16), [spoken(0, data)], seal, actor="w")
    assert dock.state == DayState.COMPLETED
    tidy(dock, 31)
    assert here(dock) == []


def tidy(dock: Any, days_later: int = 0) -> None:
    """The tick lets go, a day after it last looked."""
    dock.connection.execute(
        "UPDATE days SET finished = finished - make_interval(days => %s), tidy_at = tidy_at - interval '1 day'",
        [days_later],
    )
    tidy_staging(dock.porter(), Report())


def here(dock: Any) -> list[str]:
    return sorted(path.name for path in dock.here.iterdir()) if dock.here.is_dir() else []


def draw(dock: Any, key: bytes = b"2" * 16, **given: Any) -> Plan:
    wish = Wish(who="me", why="", run_key=key, receipt={"key": key.hex()})
    drawn = plans.draw(dock.connection, Selection((Criterion("all"),), **given), wish)
    return plans.get(dock.connection, drawn.id)


def opened(dock: Any, key: bytes = b"2" * 16, **given: Any) -> Plan:
    plan = draw(dock, key, **given)
    plans.move(dock.connection, plan, "open", actor="me")
    return plan


def claim(dock: Any, plan: Plan) -> list[Any]:
    return redo.claim(dock.connection, owner="w", count=9, lease=LEASE, plan_id=plan.id)


def redone(dock: Any, plan: Plan) -> list[str]:
    """What of the plan can be claimed now is made; the archives that were read."""
    names = []
    for leased in claim(dock, plan):
        data = (dock.here / leased.name).read_bytes()
        parted = part(leased, plan.run_key)
        redo.record(dock.connection, parted, plan.id, [spoken(0, data)], sealed=True, actor="w")
        names.append(leased.name)
    return names


def state(dock: Any, plan: Plan) -> str:
    return plans.get(dock.connection, plan.id).state


def waiting(dock: Any) -> None:
    """Until another session waits for a row that this one holds."""
    asked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    give_up_at, pause = time.monotonic() + 20, threading.Event()
    with connect(dock.dsn) as third:
        while third.execute(asked).fetchone()["count"] < 1:  # type: ignore[index]
            assert time.monotonic() < give_up_at, "nobody waits"
            pause.wait(0.01)


def gave_up(dock: Any) -> list[str]:
    report = Report()
    porter = dock.porter()
    give_up(porter.session, porter.rules, report, actor="me")
    return [line.detail for line in report.did]


def test_what_an_open_plan_reads_is_fetched_again_worked_and_let_go_again(dock: Any) -> None:
    worked(dock, 3)
    slots, before = dock.slot("00_10"), dock.day
    dock.tick()
    assert dock.transfers() == ["succeeded"], "nobody wants it"
    plan = opened(dock)
    assert plans.awaited(dock.connection, plan.id) == {"archives": 3, "bytes": 300, "moving": 0}
    assert not redo.waits(dock.connection, plan_id=plan.id)
    assert redo.next_lapse(dock.connection, plan_id=plan.id) is None, "no worker waits for a transfer"
    assert redo.backlog(dock.connection) == []
    assert claim(dock, plan) == []
    dock.tick()
    assert plans.awaited(dock.connection, plan.id)["moving"] == 3
    tidy(dock)
    dock.mover.work()
    dock.tick()
    assert here(dock) == [archive("00_00"), archive("00_10"), archive("00_20")]
    assert plans.awaited(dock.connection, plan.id) == {"archives": 0, "bytes": 0, "moving": 0}
    [work] = redo.backlog(dock.connection)
    assert work.shards == 3
    tidy(dock)
    assert len(here(dock)) == 3, "a plan reads it"
    assert redone(dock, plan) == here(dock)
    assert state(dock, plan) == "done"
    tidy(dock)
    assert here(dock) == []
    assert dock.files("removed") == [archive("00_00"), archive("00_10"), archive("00_20")]
    after = dock.day
    assert (after.state, after.revision, dock.slot("00_10")) == (before.state, before.revision, slots)
    dock.tick()
    assert dock.transfers() == ["succeeded", "succeeded"]


def test_only_what_the_plan_reads_is_fetched_and_what_is_here_is_claimed_meanwhile(dock: Any) -> None:
    worked(dock, 3)
    first = opened(dock, limit=1)
    dock.arrive()
    assert here(dock) == [archive("00_00")]
    second = opened(dock, b"3" * 16, limit=2)
    assert redone(dock, second) == [archive("00_00")]
    assert redone(dock, first) == [archive("00_00")]
    assert state(dock, second) == "open"
    dock.arrive()
    assert redone(dock, second) == [archive("00_10")]
    assert [len(move.files) for move in dock.mover.tasks.values()] == [3, 1, 1]


@pytest.mark.parametrize("verb", ["pause", "cancel"])
def test_a_plan_that_is_not_open_has_nothing_fetched(dock: Any, verb: str) -> None:
    worked(dock, 2)
    draw(dock, b"3" * 16)
    plan = opened(dock)
    plans.move(dock.connection, plan, verb, actor="me")
    dock.tick()
    assert dock.transfers() == ["succeeded"]
    if verb == "pause":
        plans.move(dock.connection, plan, "resume", actor="me")
        dock.arrive()
        assert len(redone(dock, plan)) == 2


def test_of_a_plan_that_is_cancelled_meanwhile_nothing_more_is_fetched_and_what_came_is_let_go(dock: Any) -> None:
    worked(dock, 3)
    dock.rules["files_at_once"] = 2
    plan = opened(dock)
    dock.tick()
    plans.move(dock.connection, plan, "cancel", actor="me")
    dock.mover.work()
    tidy(dock)
    assert here(dock) == [archive("00_00"), archive("00_10")], "nobody removes what a mover is writing"
    dock.tick()
    dock.tick()
    assert here(dock) == [archive("00_00"), archive("00_10")], "what was under way came to its end"
    tidy(dock)
    assert here(dock) == []
    dock.tick()
    assert dock.transfers() == ["succeeded", "succeeded"]
    assert dock.rows("SELECT tidied IS NOT NULL FROM days") == [True]


def test_what_a_job_was_to_copy_is_not_copied_for_a_plan_that_was_cancelled_before(dock: Any) -> None:
    worked(dock, 2)
    dock.mover.prompt = False
    plan = opened(dock)
    dock.tick()
    submitted = dock.mover.calls["submit"]
    plans.move(dock.connection, plan, "cancel", actor="me")
    dock.tick(works=True)
    assert dock.mover.calls["submit"] == submitted
    assert dock.transfers() == ["succeeded", "cancelled"]
    dock.mover.prompt = True
    again = opened(dock, b"3" * 16)
    dock.arrive()
    assert len(redone(dock, again)) == 2, "nobody's will was against it"


def test_what_somebody_cancels_at_the_mover_is_not_fetched_against_his_will(dock: Any) -> None:
    worked(dock, 2)
    plan = opened(dock)
    dock.arrive(archive("00_10"), state=TransferState.CANCELLED)
    dock.later(24 * HOUR)
    dock.tick()
    assert dock.transfers() == ["succeeded", "cancelled"]
    assert dock.state == DayState.COMPLETED
    [told] = gave_up(dock)
    assert told.startswith(f"{archive('00_10')} was let go and did not come again")
    assert redone(dock, plan) == [archive("00_00")]
    assert state(dock, plan) == "done"
    plans.move(dock.connection, plan, "resume", actor="me")
    dock.arrive()
    assert redone(dock, plan) == [archive("00_10")]


def test_a_source_with_other_bytes_of_the_same_size_is_told_and_never_read(dock: Any) -> None:
    worked(dock, 2)
    dock.rules["attempts"] = 2
    (dock.far / archive("00_10")).write_bytes(b"x" * 100)
    plan = opened(dock)
    dock.arrive()
    assert dock.amiss() == ["its sha256 is not that of the archive that was transcribed first"]
    assert redone(dock, plan) == [archive("00_00")]
    assert gave_up(dock) == [], "it may have been harmed on its way"
    dock.later(HOUR)
    dock.arrive()
    [told] = gave_up(dock)
    assert "its sha256 is not that of the archive that was transcribed first" in told
    [failed] = [one for one in plans.shards(dock.connection, plan.id) if one["state"] == "failed"]
    assert (failed["name"], failed["failure_class"]) == (archive("00_10"), "source_missing")
    assert state(dock, plan) == "done"
    tidy(dock)
    assert here(dock) == [], "neither is the wrong one kept"
    assert dock.amiss() == []
    assert dock.slot("00_10") == "arrived"


def test_a_source_with_another_size_is_told_and_nothing_of_it_is_moved(dock: Any) -> None:
    worked(dock, 2)
    (dock.far / archive("00_10")).write_bytes(b"x" * 101)
    plan = opened(dock)
    assert gave_up(dock) == [], "nobody has looked yet"
    dock.arrive()
    assert here(dock) == [archive("00_00")]
    [told] = gave_up(dock)
    assert "its source has 101 bytes now, 100 were transcribed" in told
    [failed] = [one for one in plans.shards(dock.connection, plan.id) if one["state"] == "failed"]
    assert failed["failure_class"] == "archive_damaged"


def test_a_source_without_it_is_believed_the_second_time_hours_later(dock: Any) -> None:
    worked(dock, 2)
    (dock.far / archive("00_10")).rename(dock.folder / "away")
    plan = opened(dock)
    report = dock.tick()
    assert [line.detail for line in report.waits if line.what == "gone"] == [
        "its source lists 1 file no more that a plan reads; that is looked at again"
    ]
    dock.mover.work()
    dock.tick()
    assert redone(dock, plan) == [archive("00_00")]
    assert gave_up(dock) == []
    dock.later(7 * HOUR)
    dock.tick()
    [told] = gave_up(dock)
    assert told.startswith(f"{archive('00_10')} was let go, and its source lists it no more")
    assert state(dock, plan) == "done"
    assert dock.slot("00_10") == "arrived", "it was worked all the same"

    (dock.folder / "away").rename(dock.far / archive("00_10"))
    plans.move(dock.connection, plan, "resume", actor="me")
    dock.arrive()
    assert redone(dock, plan) == [archive("00_10")]


def test_a_source_that_was_wrong_once_is_believed_when_it_lists_it_again(dock: Any) -> None:
    worked(dock, 1)
    (dock.far / archive("00_00")).rename(dock.folder / "away")
    plan = opened(dock)
    dock.tick()
    (dock.folder / "away").rename(dock.far / archive("00_00"))
    dock.later(7 * HOUR)
    dock.arrive()
    assert gave_up(dock) == []
    assert redone(dock, plan) == [archive("00_00")]


def test_a_source_that_does_not_answer_is_no_source_without_it(dock: Any) -> None:
    worked(dock, 1)
    (dock.far / archive("00_00")).write_bytes(b"other")
    plan = opened(dock)
    dock.tick()  # seen otherwise
    assert len(gave_up(dock)) == 1
    dock.put(archive("00_00"))
    plans.move(dock.connection, plan, "resume", actor="me")
    dock.source.trouble = NoAnswer("it is away")
    dock.tick()
    assert gave_up(dock) == [], "what it has now nobody knows"
    dock.source.trouble = None
    dock.later(HOUR)
    dock.arrive()
    assert redone(dock, plan) == [archive("00_00")]


def test_what_nothing_brings_here_any_more_fails_and_says_so(dock: Any) -> None:
    worked(dock, 1)
    dock.connection.execute("UPDATE sites SET route = '{}'")
    plan = opened(dock)
    [told] = gave_up(dock)
    assert "nothing brings the files of zurich here any more" in told
    assert state(dock, plan) == "done"


@pytest.mark.parametrize("point", ["tidy.marked", "tidy.removed"])
def test_what_was_marked_and_not_noted_is_removed_first_and_then_fetched(
    dock: Any, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """A tick that is late may remove what it has marked: nothing is brought to a place that somebody is clearing."""
    worked(dock, 1)
    plan = opened(dock)
    dock.arrive()
    plans.move(dock.connection, plan, "cancel", actor="me")
    with monkeypatch.context() as armed:
        armed.setenv("DAYSCRIBE_FAULTS_ARMED", "yes")
        armed.setenv("DAYSCRIBE_FAULT", f"{point}:raise")
        monkeypatch.setattr("db.faults._seen", {})
        with pytest.raises(RuntimeError):
            tidy(dock)
    again = opened(dock, b"3" * 16)
    dock.tick()
    assert dock.transfers() == ["succeeded", "succeeded"]
    assert claim(dock, again) == []
    tidy(dock)
    assert here(dock) == []
    dock.arrive()
    assert redone(dock, again) == [archive("00_00")]


def test_a_tick_that_was_late_removes_nothing_that_came_again_meanwhile(
    dock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its mark and its removal another tick removes what it marked, and a plan has it brought."""
    worked(dock, 1)
    first = opened(dock)
    dock.arrive()
    plans.move(dock.connection, first, "cancel", actor="me")
    again: list[Plan] = []

    def late(point: str) -> None:
        if point == "tidy.marked" and not again:
            again.append(opened(dock, b"3" * 16))
            tidy(dock)
            dock.arrive()

    monkeypatch.setattr("db.faults.point", late)
    tidy(dock)
    assert here(dock) == [archive("00_00")]
    assert redone(dock, again[0]) == [archive("00_00")]


def test_what_a_sample_keeps_is_kept_when_the_plan_is_done(dock: Any) -> None:
    worked(dock, 2)
    plan = opened(dock)
    dock.arrive()
    dock.connection.execute(
        "INSERT INTO samples (name, who, seed, strata, selection) VALUES ('first', 'me', 0, '{}', '{}')"
    )
    dock.connection.execute(
        "INSERT INTO sample_recordings (sample_id, place, recording_id, stratum, population)"
        " SELECT m.id, 1, r.id, 'all', 1 FROM samples m, recordings r JOIN shards s ON s.id = r.shard_id"
        " WHERE s.slot = '00_10'"
    )
    assert len(redone(dock, plan)) == 2
    tidy(dock)
    assert here(dock) == [archive("00_10")]
    samples.release(dock.connection, samples.get(dock.connection, "first"), actor="me")
    tidy(dock)
    assert here(dock) == []


def test_a_held_day_has_nothing_fetched_until_it_is_released(dock: Any) -> None:
    worked(dock, 1)
    dock.connection.execute("UPDATE days SET state = 'held', held_from = 'completed'")
    plan = opened(dock)
    dock.tick()
    assert dock.transfers() == ["succeeded"]
    assert gave_up(dock) == []
    days.release(dock.connection, dock.day, actor="me")
    dock.arrive()
    assert redone(dock, plan) == [archive("00_00")]


def test_what_a_failing_transfer_left_out_is_fetched_again_after_a_pause_and_told_meanwhile(dock: Any) -> None:
    worked(dock, 2)
    plan = opened(dock)
    dock.arrive(archive("00_10"))
    assert dock.amiss() == ["it was listed and did not arrive"]
    assert dock.state == DayState.COMPLETED
    assert dock.slot("00_10") == "arrived"
    dock.tick()
    assert len(dock.transfers()) == 2, "not at once"
    dock.later(61)
    dock.arrive()
    assert len(redone(dock, plan)) == 2


def test_the_first_day_that_waits_for_room_may_be_one_that_a_plan_reads_again(dock: Any) -> None:
    worked(dock, 1)
    assert alerts.wants_room(dock.connection, attempts=3) is None
    dock.room = lambda _site, _size, _files: "the disk is full"
    plan = opened(dock)
    report = dock.tick()
    assert [line.detail for line in report.waits if line.what == "no room"] == ["the disk is full"]
    found = alerts.wants_room(dock.connection, attempts=3)
    assert found is not None
    assert found["id"] == dock.day.id
    dock.connection.execute("UPDATE plan_shards SET reads_audio = false")
    assert alerts.wants_room(dock.connection, attempts=3) is None, "nobody fetches what is not read"
    dock.connection.execute("UPDATE plan_shards SET reads_audio = true")
    dock.room = lambda _site, _size, _files: None
    dock.later(1800)
    dock.arrive()
    assert redone(dock, plan) == [archive("00_00")]


def test_a_plan_that_is_opened_while_its_audio_is_let_go_has_it_kept(dock: Any) -> None:
    worked(dock, 1)
    first = opened(dock)
    dock.arrive()
    plans.move(dock.connection, first, "cancel", actor="me")
    second = draw(dock, b"3" * 16)
    with connect(dock.dsn) as other, ThreadPoolExecutor(1) as pool:
        with dock.connection.transaction():
            plans.move(dock.connection, second, "open", actor="me")
            letting_go = pool.submit(transfers.let_go, other, dock.day.id)
            waiting(dock)
        assert letting_go.result(20) == [], "it has waited for the plan, and seen it"
    assert redone(dock, second) == [archive("00_00")]


def test_a_day_is_not_called_tidied_over_a_transfer_that_was_just_ordered(dock: Any) -> None:
    worked(dock, 1)
    plan = draw(dock)
    with connect(dock.dsn) as other, ThreadPoolExecutor(1) as pool:
        with dock.connection.transaction():
            plans.move(dock.connection, plan, "open", actor="me")
            ordered = transfers.intend(
                dock.connection, dock.day.id, "archives", owner="me", submission=uuid4(), limit=9, attempts=3
            )
            assert ordered is not None
            calling = pool.submit(transfers.tidied, other, dock.day.id)
            waiting(dock)
        calling.result(20)
    assert dock.rows("SELECT tidied IS NULL FROM days") == [True]


def test_a_group_of_loose_files_is_read_again_once_each_of_them_is_here(dock: Any) -> None:
    sites.put(dock.connection, "zurich", location="/far", slot_minutes=None, route={"how": "copy"})
    dock.put("a.mp3", "b.mp3")
    dock.arrive()
    [leased] = shards.claim(dock.connection, owner="w", count=1, lease=LEASE)
    seal = parts.SealRow(bytes(32), 200, 2)
    parts.record(dock.connection, part(leased, b"1" * 16), [spoken(0, b"a"), spoken(1, b"b")], seal, actor="w")
    tidy(dock, 31)
    assert here(dock) == []
    plan = opened(dock)
    dock.arrive("b.mp3")
    assert here(dock) == ["a.mp3"]
    assert claim(dock, plan) == []
    dock.later(61)
    dock.arrive()
    [again] = claim(dock, plan)
    assert [len(again.paths), len(here(dock))] == [2, 2]


def test_a_young_days_next_listing_is_not_waited_for(dock: Any) -> None:
    worked(dock, 1)
    listings.look_again(dock.connection, dock.day.id, timedelta(hours=20))
    plan = opened(dock)
    dock.arrive()
    assert redone(dock, plan) == [archive("00_00")]
