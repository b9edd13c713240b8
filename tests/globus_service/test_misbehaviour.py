"""The loopback Globus breaks as it is told to, as often as it is told to, and the real SDK sees what it should."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from threading import Thread
from typing import Any

import globus_sdk
import pytest
from fixtures import RETRIES, Desk
from globus_auth import ApiError


@pytest.mark.parametrize(("what", "code"), [("lost", "Duplicate"), ("dropped", "Accepted")])
def test_an_answer_that_is_lost_is_asked_for_again_by_the_sdk_and_is_one_task(desk: Desk, what: str, code: str) -> None:
    desk.write("a")
    order = desk.order("a")
    desk.service.fault("POST", "/transfer$", what)
    assert desk.client.submit_transfer(order)["code"] == code
    assert len(desk.service.transfer.tasks) == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_service_is_asked_again_and_then_believed(desk: Desk, status: int) -> None:
    desk.service.fault("GET", "/submission_id$", ApiError(status, "Busy", retry_after=1), times=RETRIES)
    desk.client.get_submission_id()
    desk.service.fault("GET", "/submission_id$", ApiError(status, "Busy"), times=RETRIES + 1)
    with pytest.raises(globus_sdk.TransferAPIError) as error:
        desk.client.get_submission_id()
    assert error.value.http_status == status


def test_an_error_is_answered_as_often_as_was_said(desk: Desk) -> None:
    desk.service.fault("GET", "/submission_id$", ApiError(403, "PermissionDenied", "no"), times=2)
    for _ in range(2):
        with pytest.raises(globus_sdk.TransferAPIError, match="PermissionDenied"):
            desk.client.get_submission_id()
    desk.client.get_submission_id()


def test_a_call_that_hangs_is_a_time_out_or_a_late_answer(desk: Desk) -> None:
    desk.client.get_submission_id()
    first = desk.service.hang("GET", "/ls$", times=RETRIES + 1)
    with desk.client.transport.tune(http_timeout=0.2), pytest.raises(globus_sdk.GlobusTimeoutError):
        desk.client.operation_ls(desk.far.id)
    first.go.set()
    late = desk.service.hang("GET", "/ls$")
    answers: list[int] = []
    asking = Thread(target=lambda: answers.append(desk.client.operation_ls(desk.far.id).http_status))
    asking.start()
    late.go.set()
    asking.join()
    assert answers == [200]
    desk.service.hang("GET", "/ls$", seconds=0.01)
    assert desk.client.operation_ls(desk.far.id).http_status == 200


def test_a_pause_stops_tasks_and_operations_until_it_is_lifted(desk: Desk) -> None:
    desk.write("a")
    desk.service.transfer.hold()
    task = desk.submit("a")
    desk.near.paused = "the disks are moved"
    desk.service.transfer.release()
    desk.service.wait_for(task, lambda told: told["is_paused"])
    assert desk.client.task_pause_info(task)["destination_pause_message"] == "the disks are moved"
    with pytest.raises(globus_sdk.TransferAPIError, match="the disks are moved"):
        desk.client.operation_ls(desk.near.id)
    desk.near.paused = None
    desk.service.transfer.touch()
    assert desk.service.wait_for(task)["status"] == "SUCCEEDED"


@pytest.mark.parametrize(
    ("wrong", "code"), [({"quota": 100}, "QUOTA_EXCEEDED"), ({"full": True}, "NO_SPACE")], ids=["quota", "full"]
)
def test_without_room_a_task_fails_at_once_or_waits_for_room_as_it_was_asked(
    desk: Desk, wrong: dict[str, Any], code: str
) -> None:
    desk.write("a")
    for name, value in wrong.items():
        setattr(desk.near, name, value)
    failed = desk.service.wait_for(desk.submit("a", fail_on_quota_errors=True))
    assert failed["fatal_error"]["code"] == code
    task = desk.submit("a")
    assert desk.service.wait_for(task, lambda told: told["faults"])["nice_status"] == code
    desk.near.quota, desk.near.full = None, False
    desk.service.transfer.touch()
    assert desk.service.wait_for(task)["status"] == "SUCCEEDED"


def test_a_missing_file_holds_its_task_until_it_comes(desk: Desk) -> None:
    task = desk.submit("a")
    assert desk.service.wait_for(task, lambda told: told["faults"])["status"] == "ACTIVE"
    assert desk.client.task_event_list(task)["DATA"][0]["code"] == "FILE_NOT_FOUND"
    desk.write("a")
    desk.service.transfer.touch()
    assert desk.service.wait_for(task)["status"] == "SUCCEEDED"


def test_a_missing_file_ends_its_task_at_the_deadline(desk: Desk) -> None:
    task = desk.submit("a", deadline=datetime.now(UTC) + timedelta(seconds=0.3))
    assert desk.service.wait_for(task)["fatal_error"]["code"] == "EXPIRED"


def test_a_missing_file_is_skipped_where_that_was_asked(desk: Desk) -> None:
    desk.write("b")
    task = desk.submit("a", "b", skip_source_errors=True)
    assert desk.service.wait_for(task)["status"] == "SUCCEEDED"
    [row] = desk.client.paginated.task_skipped_errors(task).items()
    assert (row["source_path"], row["error_code"]) == ("/a", "FILE_NOT_FOUND")


@pytest.mark.parametrize(
    ("harm", "size"), [("truncate", 300), ("flip", 600), ("longer", 601), ("omit", None)],
)  # fmt: skip
def test_a_harmed_file_is_told_as_succeeded(desk: Desk, harm: str, size: int | None) -> None:
    desk.write("a", "b")
    desk.service.transfer.harm = {"a": harm}
    assert desk.service.wait_for(desk.submit("a", "b", verify_checksum=True))["status"] == "SUCCEEDED"
    arrived = desk.near.root / "in" / "a"
    assert (arrived.stat().st_size if arrived.exists() else None) == size
    assert size is None or desk.got("a") != desk.got("b")


def test_a_source_that_changes_before_its_move_arrives_changed(desk: Desk) -> None:
    desk.write("a")
    desk.service.transfer.before_move = lambda path: path.write_bytes(b"later")
    desk.service.wait_for(desk.submit("a"))
    assert desk.got("a") == b"later"


def test_what_is_not_known_is_not_found_and_what_is_malformed_is_refused(desk: Desk) -> None:
    for ask in (desk.client.get_task, desk.client.task_event_list, desk.client.cancel_task, desk.client.operation_ls):
        with pytest.raises(globus_sdk.TransferAPIError) as error:
            ask("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
        assert error.value.http_status == 404
    with pytest.raises(globus_sdk.TransferAPIError) as error:
        desk.client.post("/v0.10/transfer", data={"DATA_TYPE": "transfer"})
    assert error.value.http_status == 400
