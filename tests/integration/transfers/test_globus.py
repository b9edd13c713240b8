"""The fault menu: the real globus-sdk, a loopback Globus that misbehaves, and the end that each fault must have."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from globus_auth import ApiError

from db import days, listings, sites, transfers
from db.states import DayState
from hpc.config import load
from hpc.tick.report import Report
from hpc.wiring import movers

ON = date(2025, 1, 31)
SITE = "zurich"
LS, SUBMIT, TASK = "/ls$", "/transfer$", "/task/[^/]+$"


def archive(slot: str) -> str:
    return f"0_{ON}_{slot}.tar.xz"


def test_a_day_of_144_archives_comes_whole_and_every_byte_is_verified(lab: Any) -> None:
    lab.slots(144)
    (lab.month / f"0_{ON + timedelta(days=1)}_00_00.tar.xz").write_bytes(b"tomorrow's")
    (lab.month / "notes.txt").write_text("none of ours")
    lab.arrive()
    assert lab.state == DayState.READY_TO_PROCESS
    assert len(list(lab.here.iterdir())) == 144
    [gaps] = listings.gaps(lab.connection, lab.day.id)
    assert (gaps["expected"], gaps["arrived"], gaps["verified"]) == (144, 144, 144)


def test_what_is_asked_of_globus_is_said_on_purpose(lab: Any) -> None:
    lab.slots(1)
    lab.tick()
    [task] = lab.globus.transfer.tasks.values()
    said = {name: task.data.get(name) for name in ("verify_checksum", "encrypt_data", "fail_on_quota_errors")}
    assert said == {"verify_checksum": True, "encrypt_data": True, "fail_on_quota_errors": True}
    assert task.data["skip_source_errors"] is True
    assert task.data["sync_level"] == 3
    assert str(ON) in task.data["label"]
    assert transfers.latest(lab.connection)[0]["owner"] in task.data["label"]


@pytest.mark.parametrize("what", ["lost", "dropped"])
def test_an_answer_that_is_lost_leaves_one_task(lab: Any, what: str) -> None:
    lab.slots(2)
    lab.globus.fault("POST", SUBMIT, what, times=4)
    for _ in range(4):
        lab.tick()
    lab.globus.transfer.wait()
    lab.tick()
    assert lab.tasks == 1
    assert lab.state == DayState.READY_TO_PROCESS


def test_a_submission_that_globus_forgot_is_named_anew(lab: Any) -> None:
    lab.slots(1)
    lab.globus.fault("POST", SUBMIT, "dropped", times=3)
    lab.tick()
    assert lab.transfers() == ["intent"]
    lab.globus.transfer.submissions.clear()
    lab.arrive()
    assert lab.tasks == 1
    assert lab.state == DayState.READY_TO_PROCESS


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_globus_is_asked_again_once_or_twice_and_then_by_the_next_tick(lab: Any, status: int) -> None:
    lab.slots(1)
    lab.globus.fault("GET", LS, ApiError(status, "Busy", retry_after=0), times=1)
    lab.tick()
    assert lab.state == DayState.TRANSFERRING  # the SDK's own second try
    lab.globus.transfer.wait()
    lab.globus.fault("GET", TASK, ApiError(status, "Busy", retry_after=0), times=3)
    report = lab.tick()
    assert [line.what for line in report.waits] == ["no answer"]
    assert lab.transfers() == ["active"]
    lab.tick()
    assert lab.state == DayState.READY_TO_PROCESS


def test_a_listing_that_times_out_is_no_empty_day(lab: Any) -> None:
    lab.slots(1)
    fault = lab.globus.fault("GET", LS, "slow", times=3)
    report = lab.tick("globus.seconds=0.2")
    fault.go.set()
    assert [line.what for line in report.waits] == ["not listed"]
    assert lab.state == DayState.PENDING
    lab.later(hours=1)
    lab.arrive()
    assert lab.state == DayState.READY_TO_PROCESS


def test_a_listing_that_is_empty_is_believed_the_second_time(lab: Any) -> None:
    lab.tick()
    assert lab.state == DayState.PENDING
    lab.later(hours=7)
    lab.tick()
    assert lab.state == DayState.COMPLETED


def test_a_folder_that_is_not_there_is_said_to_be_missing(lab: Any) -> None:
    lab.month.rmdir()
    lab.tick()
    lab.later(days=3)
    lab.tick()
    assert lab.state == DayState.PENDING
    assert "not found" in (lab.day.message or "")


def test_tokens_that_expire_in_mid_day_are_renewed_without_a_word(lab: Any) -> None:
    lab.slots(2)
    lab.tick()
    lab.globus.auth.expire()
    lab.globus.transfer.wait()
    lab.tick()
    assert lab.state == DayState.READY_TO_PROCESS


def test_a_secret_that_is_taken_back_needs_a_login_and_makes_no_storm(lab: Any) -> None:
    lab.slots(1)
    lab.tick()
    lab.globus.auth.revoke()
    lab.globus.auth.secret = "another"
    lab.tick()
    assert lab.transfers() == ["needs_login"]
    calls = len(lab.globus.calls)
    for _ in range(5):
        report = lab.tick()
    assert len(lab.globus.calls) == calls
    assert [line.what for line in report.waits] == ["needs login"]
    assert "dayscribe globus login" in report.waits[0].detail


def test_a_mapped_collection_without_consent_is_said_with_the_command_that_mends_it(lab: Any) -> None:
    lab.slots(1)
    lab.far.mapped = True
    report = lab.tick()
    assert [line.what for line in report.waits] == ["needs consent"]
    assert "dayscribe globus login" in report.waits[0].detail
    lab.route["data_access"] = [lab.far.id]
    lab.add()
    lab.later(days=1)
    lab.arrive()
    assert lab.state == DayState.READY_TO_PROCESS


def test_a_pause_by_an_administrator_is_told_and_ends_by_itself(lab: Any) -> None:
    lab.slots(1)
    lab.globus.transfer.hold()
    lab.tick()
    lab.near.paused = "the file system is being mended"
    lab.globus.transfer.release()
    lab.globus.transfer.wait()
    report = lab.tick()
    assert lab.transfers() == ["paused"]
    assert "being mended" in report.waits[0].detail
    lab.near.paused = None
    lab.globus.transfer.touch()
    [task] = lab.globus.transfer.tasks
    lab.globus.wait_for(task)
    lab.tick()
    assert lab.state == DayState.READY_TO_PROCESS


@pytest.mark.parametrize("wrong", [{"quota": 4000}, {"full": True}])
def test_a_destination_without_room_is_told_and_tried_again_without_a_charge(lab: Any, wrong: dict[str, Any]) -> None:
    lab.slots(3)
    for name, value in wrong.items():
        setattr(lab.near, name, value)
    lab.arrive()
    assert lab.transfers() == ["over_quota"]
    assert lab.state == DayState.TRANSFERRING
    assert "full" in (lab.day.message or "") or "missing" in (lab.day.message or "")
    lab.near.quota, lab.near.full = None, False
    lab.later(hours=1)
    lab.arrive()
    assert lab.state == DayState.READY_TO_PROCESS
    assert lab.whole()


def test_a_deadline_that_passes_leads_to_a_transfer_of_what_is_missing(lab: Any) -> None:
    lab.slots(3)
    lab.globus.transfer.hold()
    lab.tick("transfer.deadline_hours=0.0001")
    lab.globus.transfer.wait()
    lab.tick()
    assert lab.transfers() == ["expired"]
    lab.globus.transfer.release()
    lab.later(hours=1)
    lab.arrive()
    assert lab.state == DayState.READY_TO_PROCESS


def test_one_file_that_cannot_be_read_at_the_source_is_named_and_holds_up_no_other(lab: Any) -> None:
    lab.slots(6)
    lab.far.unreadable = {archive("00_20")}
    report = lab.arrive()
    assert lab.state == DayState.TRANSFERRING
    assert lab.amiss() == [f"{archive('00_20')}: it was listed and did not arrive"]
    [told] = [line.detail for line in report.did if line.what == "transfer succeeded"]
    assert f"left out at the source: {archive('00_20')}" in told
    lab.far.unreadable = set()
    lab.later(hours=1)
    lab.arrive()
    assert lab.state == DayState.READY_TO_PROCESS


@pytest.mark.parametrize(
    "harm, reason",
    [
        ("omit", "did not arrive"),
        ("truncate", "bytes arrived"),
        ("longer", "bytes arrived"),
        ("flip", "its md5 is not the one that was sent"),
    ],
)
def test_succeeded_is_not_believed(lab: Any, harm: str, reason: str) -> None:
    lab.slots(4)
    lab.globus.transfer.harm = {archive("00_10"): harm}
    lab.arrive()
    assert lab.transfers() == ["succeeded"]
    assert lab.state == DayState.TRANSFERRING
    [told] = lab.amiss()
    assert told.startswith(archive("00_10"))
    assert reason in told
    lab.globus.transfer.harm = {}
    lab.later(hours=1)
    lab.arrive()
    assert lab.state == DayState.READY_TO_PROCESS
    assert lab.whole()


def test_a_file_that_changes_between_its_listing_and_its_move_arrives_as_it_is_in_the_end(lab: Any) -> None:
    lab.slots(3)

    def grow(path: Path) -> None:
        if path.name == archive("00_10") and path.stat().st_size < 4000:
            path.write_bytes(path.read_bytes() * 2)

    lab.globus.transfer.before_move = grow
    lab.arrive()
    assert lab.state == DayState.TRANSFERRING
    lab.later(hours=1)
    lab.arrive()
    assert lab.state == DayState.READY_TO_PROCESS
    assert lab.whole()


def test_a_task_that_globus_knows_no_more_is_told_by_what_arrived(lab: Any) -> None:
    lab.slots(2)
    lab.tick()
    lab.globus.transfer.wait()
    lab.globus.transfer.tasks.clear()
    lab.tick()
    assert lab.transfers() == ["unknown"]
    assert lab.state == DayState.READY_TO_PROCESS


def test_a_task_that_somebody_cancels_holds_its_day(lab: Any) -> None:
    lab.slots(2)
    lab.globus.transfer.hold()
    lab.tick()
    [task] = lab.globus.transfer.tasks.values()
    lab.globus.transfer.cancel(task)
    lab.tick()
    assert lab.transfers() == ["cancelled"]
    assert lab.state == DayState.HELD


def test_a_destination_that_may_not_be_written_fails_with_its_reason(lab: Any) -> None:
    lab.slots(1)
    lab.near.readonly = True
    report = lab.arrive()
    assert lab.transfers() == ["failed"]
    assert "may not be written" in next(line.detail for line in report.did if line.what == "transfer failed")


def test_thirty_days_in_flight_cost_one_question_each_and_no_more(lab: Any) -> None:
    dates = [ON - timedelta(days=back) for back in range(30)]
    for on in dates:
        month = lab.far.root / "audio" / f"zurich_{on:%Y_%B}".lower() / "prepped_data"
        month.mkdir(parents=True, exist_ok=True)
        (month / f"0_{on}_00_00.tar.xz").write_bytes(b"x" * 100)
    days.add(lab.connection, sites.get(lab.connection, SITE).id, dates)
    lab.globus.transfer.hold()
    lab.tick()
    assert lab.transfers() == ["active"] * 30
    assert lab.globus.asked("GET", LS) == lab.globus.asked("POST", SUBMIT) == 30
    lab.globus.calls.clear()
    lab.tick()
    assert len(lab.globus.calls) == lab.globus.asked("GET", TASK) == 30


def test_a_listing_of_many_pages_is_taken_in_whole(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpc.sources.globus.PAGE", 50)
    lab.slots(144)
    lab.tick()
    assert lab.globus.asked("GET", LS) == 3
    [gaps] = listings.gaps(lab.connection, lab.day.id)
    assert gaps["expected"] == 144


def test_a_listing_that_breaks_off_on_its_second_page_changes_nothing(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpc.sources.globus.PAGE", 50)
    lab.slots(144)
    whole = lab.globus._command

    def breaking(found: Any, what: str, query: dict[str, str], said: dict[str, Any]) -> Any:
        if query.get("offset") == "50":
            raise ApiError(500, "Internal", "broken")
        return whole(found, what, query, said)

    monkeypatch.setattr(lab.globus, "_command", breaking)
    lab.tick()
    assert lab.state == DayState.PENDING
    assert listings.gaps(lab.connection, lab.day.id) == []


def test_days_are_discovered_once_an_hour_and_a_silent_source_holds_up_nothing(lab: Any) -> None:
    today = datetime.now(UTC).date()
    for on in (today, today - timedelta(days=2)):
        month = lab.far.root / "audio" / f"zurich_{on:%Y_%B}".lower() / "prepped_data"
        month.mkdir(parents=True, exist_ok=True)
        (month / f"0_{on}_00_00.tar.xz").write_bytes(b"x")
    settings = load(None, lab.said)
    lab.globus.fault("GET", LS, "dropped", times=99)
    report = Report()
    assert movers.discover(settings, lab.session, report) == 0
    assert [line.what for line in report.waits] == ["not discovered"]
    lab.globus.faults.clear()
    assert movers.discover(settings, lab.session, report) == 0  # not yet again
    lab.connection.execute("UPDATE sites SET discovered = NULL")
    assert movers.discover(settings, lab.session, report) == 2


def test_what_room_there_is_is_told_with_the_budget_and_each_folders_disk(lab: Any) -> None:
    lab.slots(3, size=3200)
    lab.arrive()
    settings = load(None, [*lab.said, "transfer.budget_gb=2", "transfer.budget_files=10"])

    told = movers.standing(settings, lab.session)
    staged = {"bytes": 9600, "files": 3, "coming_bytes": 0, "coming_files": 0}
    assert (told["staged"], told["budget_bytes"], told["budget_files"]) == (staged, 2 * 10**9, 10)
    folders = [disk["folder"] for disk in told["disks"]]
    assert folders == [str(settings.results_folder), str(settings.staging_folder)]
    assert all(disk["bytes"] >= disk["free_bytes"] > 0 for disk in told["disks"])
    without = movers.standing(load(None, lab.said), lab.session)
    assert (without["budget_bytes"], without["budget_files"]) == (None, None)
