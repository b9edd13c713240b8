"""What is doubtful is no answer: one bad day, name or word ends no tick, and what cannot be seen is not missing."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest

from db import days, listings, shards, sites, transfers
from db.states import DayState, TransferState
from hpc.config import load
from hpc.errors import BadSetting, MoverTrouble
from hpc.model import Progress, RemoteFile
from hpc.wiring import movers

ON = date(2025, 1, 31)
HOUR = 3600.0


def archive(slot: str) -> str:
    return f"0_{ON}_{slot}.tar.xz"


def test_one_closed_folder_holds_up_no_other_day(dock: Any) -> None:
    days.add(dock.connection, dock.site.id, [date(2025, 1, 30)])
    dock.slots(1)
    listing = dock.source.listing

    def closed(day: date) -> Any:
        if day != ON:
            raise MoverTrouble("403: the folder is closed")
        return listing(day)

    dock.source.listing = closed
    dock.tick()
    dock.mover.work()
    dock.tick()
    assert dock.state == DayState.READY_TO_PROCESS
    assert transfers.troubles(dock.connection) == []


@pytest.mark.parametrize("name, size", [("\ud800.mp3", 5), ("x" * 9000, 5), ("a.mp3", -1), ("a.mp3", 2**70)])
def test_what_no_file_can_be_called_ends_no_tick(
    dock: Any, monkeypatch: pytest.MonkeyPatch, name: str, size: int
) -> None:
    monkeypatch.setattr(dock.source, "listing", lambda _day: [RemoteFile(name, size)])
    dock.tick()
    assert dock.state == DayState.PENDING
    assert "its source lists" in dock.message


def test_whatever_a_mover_says_ends_no_tick(dock: Any) -> None:
    dock.slots(2)
    dock.tick()
    [task] = dock.mover.tasks
    dock.mover.said[task] = Progress(TransferState.FAILED, "a\0b \ud800", skipped=("caf\udce9.mp3",))
    dock.tick()
    assert dock.transfers() == ["failed"]
    dock.mover.trouble["new_submission"] = ZeroDivisionError("a bug of ours")
    dock.later(HOUR)
    report = dock.tick()
    assert [line.what for line in report.waits] == ["failed"]


def test_a_host_that_does_not_show_staging_takes_nothing_for_missing(dock: Any) -> None:
    dock.slots(2)
    dock.tick()
    dock.mover.work()
    away = dock.here.parents[1].rename(dock.folder / "unmounted")
    dock.here.parents[1].mkdir()
    report = dock.tick()
    assert [line.what for line in report.waits] == ["not seen"]
    assert dock.files("missing") == []
    dock.here.parents[1].rmdir()
    away.rename(dock.here.parents[1])
    dock.tick()
    assert dock.state == DayState.READY_TO_PROCESS


def test_our_own_cancel_of_an_overdue_task_holds_nothing(dock: Any) -> None:
    dock.slots(2)
    dock.tick()
    dock.later(26 * HOUR)
    dock.tick()
    dock.mover.work([archive("00_10")], state=TransferState.CANCELLED)
    dock.tick()
    assert dock.transfers() == ["expired"]
    assert dock.state == DayState.TRANSFERRING


def test_a_source_is_never_its_own_staging(dock: Any) -> None:
    """Else the only copy would be let go as if it were one."""
    staging = dock.folder / "far" / "zurich"
    settings = load(None, [f"transfer.staging={dock.folder / 'far'}", f"home={dock.folder}"])
    for location in (staging, staging / "{date}", dock.folder / "far"):
        site = sites.put(dock.connection, "zurich", location=str(location), route={"how": "copy"})
        with pytest.raises(BadSetting, match="that is where their source is"):
            movers.staged(settings, site, ON)
    fine = sites.put(dock.connection, "zurich", location=str(dock.folder / "elsewhere"), route={"how": "copy"})
    assert movers.staged(settings, fine, ON) == staging / str(ON)


def test_an_archive_that_is_packed_anew_at_its_source_is_not_worked_twice(dock: Any) -> None:
    dock.slots(2)
    dock.arrive()
    (dock.far / archive("00_00")).rename(dock.far / archive("00_00").replace(".xz", ".gz"))
    listings.look_again(dock.connection, dock.day.id, timedelta(0))
    dock.arrive()
    assert dock.shards() == 2
    assert [row["finding"] for row in days.slots(dock.connection, dock.day.id) if row["kind"] == "archive"].count(
        "arrived"
    ) == 2


def test_an_empty_loose_file_is_here_for_whoever_works_its_shard(dock: Any) -> None:
    dock.slots(1)
    (dock.far / archive("00_10")).touch()
    dock.arrive()
    assert (dock.here / archive("00_10")).stat().st_size == 0
    assert dock.slot("00_10") == "empty"


def test_a_day_that_was_listed_and_vanished_is_not_empty(dock: Any) -> None:
    dock.room = lambda _site, _size, _files: "no room"
    dock.slots(2)
    dock.tick()
    for path in dock.far.iterdir():
        path.unlink()
    for _ in range(3):
        dock.later(20 * HOUR)
        dock.tick()
    assert dock.state == DayState.TRANSFER_FAILED
    assert archive("00_00") in dock.message


def test_a_day_with_nothing_here_cannot_be_accepted_and_a_retry_fetches_what_was_waived(dock: Any) -> None:
    dock.rules["attempts"] = 1
    dock.slots(2)
    dock.arrive(archive("00_00"))
    assert dock.state == DayState.TRANSFER_FAILED
    transfers.waive(dock.connection, dock.day, actor="a person", reason="gone")
    days.move(dock.connection, dock.day.id, DayState.READY_TO_PROCESS, actor="a person")
    shards.retry(dock.connection, dock.day, actor="a person")
    dock.arrive()
    assert dock.slot("00_00") == "arrived"


def failed_and_retried(dock: Any) -> None:
    """Three shards: the first is worked, the other two failed, and a person has them made ready again."""
    dock.slots(3)
    dock.arrive()
    leased = shards.claim(dock.connection, owner="w", count=3, lease=timedelta(minutes=1))
    dock.connection.execute(
        "UPDATE shards SET state = 'done', owner = NULL, lease_until = NULL, sealed = now(), seal_recordings = 0,"
        " seal_sha256 = sha256('') WHERE id = %s",
        [leased[0].id],
    )
    for shard in leased[1:]:
        shards.fail(dock.connection, shard.id, shard.epoch, failure=("x", "y"), actor="w", discard=True)
    assert shards.retry(dock.connection, dock.day, actor="me") == 2


def test_what_a_purge_took_before_it_was_worked_comes_again_and_nothing_else(dock: Any) -> None:
    failed_and_retried(dock)
    for slot in ("00_00", "00_10"):
        (dock.here / archive(slot)).unlink()
    dock.tick()
    assert dock.files("missing") == [archive("00_10")]
    assert dock.amiss() == ["it had arrived, and is here no more"]
    assert [pair[0] for pair in list(dock.mover.tasks.values())[-1].files] == [archive("00_10")]
    dock.mover.work()
    dock.tick()
    assert (dock.here / archive("00_10")).exists()
    assert dock.files("arrived") == [archive(slot) for slot in ("00_00", "00_10", "00_20")]
    assert (dock.shards(), dock.state) == (3, DayState.READY_TO_PROCESS)
    assert len(shards.claim(dock.connection, owner="w", count=3, lease=timedelta(minutes=1))) == 2


def test_what_this_host_does_not_show_is_not_lost(dock: Any) -> None:
    failed_and_retried(dock)
    dock.here.parents[1].rename(dock.folder / "unmounted")
    dock.here.parents[1].mkdir()
    dock.tick()
    assert (dock.files("missing"), len(dock.mover.tasks)) == ([], 1)
