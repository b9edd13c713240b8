"""Staged audio is let go after a while: only copies, and only what is sealed and accounted for."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest

from db import deliveries, listings, shards
from db.states import DayState
from hpc.tick.report import Report
from hpc.tick.tidying import tidy_staging

ON = date(2025, 1, 31)
HOUR = 3600.0


def archive(slot: str) -> str:
    return f"0_{ON}_{slot}.tar.xz"


# What is let go


def finished(dock: Any, count: int) -> list[Any]:
    """A day of so many archives, each read to its end and sealed, a month ago; the last one is damaged."""
    dock.slots(count)
    dock.arrive()
    leased = shards.claim(dock.connection, owner="w", count=count, lease=timedelta(minutes=1))
    for one in leased[:-1]:
        dock.connection.execute(
            "UPDATE shards SET state = 'done', owner = NULL, lease_until = NULL, sealed = now(), seal_recordings = 0,"
            " seal_sha256 = sha256('') WHERE id = %s",
            [one.id],
        )
    last = leased[-1]
    shards.fail(dock.connection, last.id, last.epoch, failure=("archive_damaged", "a bit"), actor="w", discard=True)
    assert dock.state == DayState.COMPLETED_WITH_ERRORS
    return leased


def tidy(dock: Any, days_later: int) -> Any:
    dock.connection.execute("UPDATE days SET finished = finished - make_interval(days => %s)", [days_later])
    report = Report()
    tidy_staging(dock.porter(), report)
    return report


def test_staged_archives_are_let_go_after_a_while_but_for_what_is_not_sealed(dock: Any) -> None:
    finished(dock, 3)
    tidy(dock, 29)
    assert len(list(dock.here.iterdir())) == 3
    report = tidy(dock, 2)
    assert [path.name for path in dock.here.iterdir()] == [archive("00_20")]
    assert [line.what for line in report.did] == ["let go"]
    assert dock.files("removed") == [archive("00_00"), archive("00_10")]
    assert len(list(dock.far.iterdir())) == 3


def test_what_was_let_go_is_not_fetched_again(dock: Any) -> None:
    finished(dock, 2)
    tidy(dock, 31)
    listings.look_again(dock.connection, dock.day.id, timedelta(0))
    submitted = dock.mover.calls["submit"]
    dock.tick()
    assert dock.mover.calls["submit"] == submitted
    assert dock.slot("00_00") == "arrived"


def test_nothing_is_let_go_of_a_shard_with_a_recording_unaccounted_for(dock: Any) -> None:
    finished(dock, 2)
    dock.connection.execute("UPDATE shards SET seal_recordings = 7 WHERE state = 'done'")
    tidy(dock, 31)
    assert len(list(dock.here.iterdir())) == 2


def test_files_that_are_worked_where_they_lie_are_never_removed(dock: Any) -> None:
    finished(dock, 2)
    dock.connection.execute("UPDATE sites SET route = '{}'")
    tidy(dock, 31)
    assert len(list(dock.here.iterdir())) == 2


@pytest.mark.parametrize("point", ["tidy.marked", "tidy.removed"])
def test_a_removal_that_is_interrupted_is_finished_by_the_next(
    dock: Any, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    finished(dock, 3)
    with monkeypatch.context() as armed:
        armed.setenv("DAYSCRIBE_FAULTS_ARMED", "yes")
        armed.setenv("DAYSCRIBE_FAULT", f"{point}:raise")
        monkeypatch.setattr("db.faults._seen", {})
        with pytest.raises(RuntimeError):
            tidy(dock, 31)
    tidy(dock, 0)
    assert [path.name for path in dock.here.iterdir()] == [archive("00_20")]
    assert dock.rows("SELECT count(*) FROM files WHERE state = 'removed' AND reason IS NULL") == [2]


def test_audio_that_somebody_wants_delivered_stays_until_it_is(dock: Any) -> None:
    finished(dock, 2)
    deliveries.want(
        dock.connection, dock.day.id, "/archive", parts=False, audio=True, partial=False, again=False, owner="me"
    )
    tidy(dock, 31)
    assert len(list(dock.here.iterdir())) == 2
    dock.connection.execute("UPDATE deliveries SET state = 'failed', message = 'given up'")
    tidy(dock, 0)
    assert len(list(dock.here.iterdir())) == 1


def sampled(dock: Any, slot: str) -> None:
    """A recording of this archive is in a sample that people still have to judge."""
    for statement in (
        "INSERT INTO runs (key, digest, receipt) VALUES (decode(repeat('00', 16), 'hex'), sha256(''), '{}')",
        "INSERT INTO parts (name, shard_id, epoch, run_id, sha256, size, recordings, state) SELECT 'p', s.id, 1, u.id,"
        f" sha256(''), 1, 1, 'sealed' FROM shards s, runs u WHERE s.name = '{archive(slot)}'",
        "INSERT INTO recordings (shard_id, ordinal, day_id, meta_id, name, size, sha256, state, failure_class,"
        " failure_reason, part_id) SELECT s.id, 0, s.day_id, 'a', 'a', 1, sha256(''), 'quarantined', 'empty', 'none',"
        " p.id FROM parts p JOIN shards s ON s.id = p.shard_id",
        "UPDATE shards s SET seal_recordings = 1 FROM parts p WHERE p.shard_id = s.id",
        "INSERT INTO samples (name, who, seed, strata, selection) VALUES ('first', 'me', 0, '{}', '{}')",
        "INSERT INTO sample_recordings (sample_id, place, recording_id, stratum, population)"
        " SELECT m.id, 1, r.id, 'all', 1 FROM samples m, recordings r",
    ):
        dock.connection.execute(statement)


def test_audio_that_people_still_have_to_judge_stays_until_its_sample_is_released(dock: Any) -> None:
    finished(dock, 4)
    sampled(dock, "00_10")
    tidy(dock, 31)
    assert sorted(path.name for path in dock.here.iterdir()) == [archive("00_10"), archive("00_30")]
    assert dock.rows("SELECT tidied IS NULL AND tidy_at > now() FROM days") == [True]

    dock.connection.execute("UPDATE samples SET released = now()")
    tidy(dock, 0)
    assert len(list(dock.here.iterdir())) == 2  # not looked at before its time
    dock.connection.execute("UPDATE days SET tidy_at = now()")
    tidy(dock, 0)
    assert [path.name for path in dock.here.iterdir()] == [archive("00_30")]
    assert dock.rows("SELECT tidied IS NOT NULL FROM days") == [True]


def test_a_sample_of_files_that_are_worked_where_they_lie_is_not_looked_at_every_day(dock: Any) -> None:
    finished(dock, 2)
    sampled(dock, "00_00")
    dock.connection.execute("UPDATE sites SET route = '{}'")
    tidy(dock, 31)
    assert len(list(dock.here.iterdir())) == 2
    assert dock.rows("SELECT tidied IS NOT NULL FROM days") == [True]


def test_staged_audio_stays_while_a_plan_has_it_to_make_again(dock: Any) -> None:
    finished(dock, 4)
    for statement in (
        "INSERT INTO plans (state, selection, who, run_key, receipt, recordings, seconds)"
        " VALUES ('open', '{}', 'me', decode(repeat('00', 16), 'hex'), '{}', 1, 1)",
        "INSERT INTO plan_shards (plan_id, shard_id, day_id, place, recordings) SELECT p.id, s.id, s.day_id, 1, 1"
        f" FROM plans p, shards s WHERE s.name = '{archive('00_10')}'",
    ):
        dock.connection.execute(statement)
    tidy(dock, 31)
    assert sorted(path.name for path in dock.here.iterdir()) == [archive("00_10"), archive("00_30")]
    assert dock.rows("SELECT tidied IS NULL AND tidy_at > now() FROM days") == [True]
    dock.connection.execute("UPDATE plan_shards SET state = 'done'")
    dock.connection.execute("UPDATE days SET tidy_at = now()")
    tidy(dock, 0)
    assert [path.name for path in dock.here.iterdir()] == [archive("00_30")]
