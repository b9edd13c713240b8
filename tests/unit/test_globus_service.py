"""The loopback Globus as its two clients see it, where tests/globus_service leaves off: logins, listings, the CLI."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import globus_sdk
import pytest
from fixtures import Desk, globus_cli, globus_desk, globus_program, globus_service
from globus_sdk.scopes import TransferScopes

__all__ = ["globus_cli", "globus_desk", "globus_program", "globus_service"]


@pytest.fixture
def desk(globus_desk: Desk) -> Desk:
    return globus_desk


@pytest.fixture
def native(globus_service: Any) -> Iterator[globus_sdk.NativeAppAuthClient]:
    made = globus_sdk.NativeAppAuthClient(globus_service.auth.client_id)
    made.retry_config.max_retries = 0
    yield made
    made.close()


# --- logins -----------------------------------------------------------------------------------------------------------


def test_a_code_is_worth_nothing_without_the_proof_of_who_asked_for_it(desk: Desk, native: Any) -> None:
    native.oauth2_start_flow(requested_scopes=TransferScopes.all)
    code = desk.service.code_for(native.oauth2_get_authorize_url())
    native.oauth2_start_flow(requested_scopes=TransferScopes.all)  # another flow has another proof
    with pytest.raises(globus_sdk.AuthAPIError, match="invalid_grant"):
        native.oauth2_exchange_code_for_tokens(code)


def test_a_code_is_good_once(desk: Desk, native: Any) -> None:
    native.oauth2_start_flow(requested_scopes=TransferScopes.all)
    code = desk.service.code_for(native.oauth2_get_authorize_url())
    native.oauth2_exchange_code_for_tokens(code)
    with pytest.raises(globus_sdk.AuthAPIError, match="invalid_grant"):
        native.oauth2_exchange_code_for_tokens(code)


@pytest.mark.parametrize("offline", [True, False])
def test_only_who_asks_for_it_is_given_a_token_to_renew_with(desk: Desk, native: Any, offline: bool) -> None:
    native.oauth2_start_flow(requested_scopes=TransferScopes.all, refresh_tokens=offline)
    said = native.oauth2_exchange_code_for_tokens(desk.service.code_for(native.oauth2_get_authorize_url()))
    token = said.by_resource_server["transfer.api.globus.org"]["refresh_token"]
    assert (token is not None) == offline
    if offline:
        renewed = native.oauth2_refresh_token(token).by_resource_server["transfer.api.globus.org"]
        assert renewed["access_token"] not in (None, said.by_resource_server["transfer.api.globus.org"]["access_token"])


def test_what_a_person_allows_at_the_login_is_a_consent_for_that_collection_alone(desk: Desk, native: Any) -> None:
    desk.far.mapped = desk.near.mapped = True
    wanted = TransferScopes.all.with_dependency(globus_sdk.scopes.GCSCollectionScopes(desk.far.id).data_access)
    native.oauth2_start_flow(requested_scopes=wanted)
    said = native.oauth2_exchange_code_for_tokens(desk.service.code_for(native.oauth2_get_authorize_url()))
    token = said.by_resource_server["transfer.api.globus.org"]["access_token"]
    client = globus_sdk.TransferClient(authorizer=globus_sdk.AccessTokenAuthorizer(token))
    assert client.operation_ls(desk.far.id).http_status == 200
    with pytest.raises(globus_sdk.TransferAPIError, match="ConsentRequired"):
        client.operation_ls(desk.near.id)
    client.close()


# --- listings ---------------------------------------------------------------------------------------------------------


def test_a_listing_is_told_in_pages_that_end(desk: Desk) -> None:
    desk.write(*(f"{number:02}" for number in range(10)))
    pages = [desk.client.operation_ls(desk.far.id, limit=4, offset=offset, orderby="name") for offset in (0, 4, 8, 12)]
    assert [[row["name"] for row in page] for page in pages] == [
        ["00", "01", "02", "03"], ["04", "05", "06", "07"], ["08", "09"], [],
    ]  # fmt: skip
    assert [page["has_next_page"] for page in pages] == [True, True, False, False]


def test_a_filter_by_name_and_by_type_leaves_out_the_rest_and_pages_are_of_what_is_left(desk: Desk) -> None:
    desk.write("0_a", "1_b", "0_c", "0_d", "0_folder/x")
    asked: dict[str, Any] = {"filter": "type:file/name:~0_*", "orderby": "name"}
    assert [row["name"] for row in desk.client.operation_ls(desk.far.id, **asked)] == ["0_a", "0_c", "0_d"]
    assert [row["name"] for row in desk.client.operation_ls(desk.far.id, limit=2, offset=2, **asked)] == ["0_d"]


def test_a_path_that_leads_out_of_the_collection_stays_in_it(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("mine")
    desk.write("a")
    assert [row["name"] for row in desk.client.operation_ls(desk.far.id, path="/../../..")] == ["a"]
    (desk.far.root / "out").symlink_to(tmp_path)
    with pytest.raises(globus_sdk.TransferAPIError, match="outside"):
        desk.client.operation_ls(desk.far.id, path="/out")


# --- tasks ------------------------------------------------------------------------------------------------------------


def test_a_submission_id_that_nobody_was_given_is_refused(desk: Desk) -> None:
    desk.write("a")
    order = desk.order("a", submission_id="6ba7b810-9dad-11d1-80b4-00c04fd430c8")
    with pytest.raises(globus_sdk.TransferAPIError, match="submission_id") as error:
        desk.client.submit_transfer(order)
    assert error.value.http_status == 400


def test_a_task_that_is_held_ends_at_its_deadline_and_keeps_what_it_moved(desk: Desk) -> None:
    desk.write("a", "b")
    desk.service.transfer.before_move = lambda path: desk.service.transfer.hold() if path.name == "a" else None
    task = desk.submit("a", "b", deadline=datetime.now(UTC) + timedelta(seconds=1))
    assert desk.service.wait_for(task)["fatal_error"]["code"] == "EXPIRED"
    assert [row["source_path"] for row in desk.client.task_successful_transfers(task)] == ["/a"]


def test_a_quota_is_for_all_that_lies_there(desk: Desk) -> None:
    desk.write("a", "b")
    desk.near.quota = 700  # of 600 bytes each
    assert desk.service.wait_for(desk.submit("a", fail_on_quota_errors=True))["status"] == "SUCCEEDED"
    assert desk.service.wait_for(desk.submit("b", fail_on_quota_errors=True))["nice_status"] == "QUOTA_EXCEEDED"


# --- the CLI, a second client -----------------------------------------------------------------------------------------


def test_the_command_moves_a_batch_and_shows_what_became_of_it(desk: Desk, globus_cli: Any, tmp_path: Path) -> None:
    desk.write("a", "two words", "deep/b")
    batch = tmp_path / "batch"
    batch.write_text("a in/a\n'two words' 'in/two words'\ndeep/b in/deep/b\n")
    said = globus_cli("transfer", f"{desk.far.id}:/", f"{desk.near.id}:/", "--batch", str(batch), "-F", "json")
    task = json.loads(said.stdout)["task_id"]
    assert globus_cli("task", "wait", task, "--timeout", "30", "--polling-interval", "1").returncode == 0
    shown = json.loads(globus_cli("task", "show", task, "-F", "json").stdout)
    assert (shown["status"], shown["files"], shown["files_transferred"]) == ("SUCCEEDED", 3, 3)
    assert desk.got("two words") == (desk.far.root / "two words").read_bytes()


def test_the_command_lists_as_the_sdk_does(desk: Desk, globus_cli: Any) -> None:
    desk.write("b", "a", "deep/c")
    said = json.loads(globus_cli("ls", f"{desk.far.id}:/", "-F", "json").stdout)
    assert {row["name"] for row in said["DATA"]} == {row["name"] for row in desk.client.operation_ls(desk.far.id)}
    assert globus_cli("ls", f"{desk.far.id}:/deep").stdout.split() == ["c"]


def test_the_command_fails_where_there_is_nothing(desk: Desk, globus_cli: Any) -> None:
    said = globus_cli("ls", f"{desk.far.id}:/none")
    assert said.returncode != 0
    assert "not found" in said.stderr
    assert globus_cli("task", "show", "6ba7b810-9dad-11d1-80b4-00c04fd430c8").returncode != 0


def test_the_command_cancels_a_task_that_the_sdk_started(desk: Desk, globus_cli: Any) -> None:
    desk.write("a")
    desk.service.transfer.hold()
    task = desk.submit("a")
    assert globus_cli("task", "cancel", task).returncode == 0
    assert desk.client.get_task(task)["fatal_error"]["code"] == "CANCELED"
    assert globus_cli("task", "wait", task, "--timeout", "30", "--polling-interval", "1").returncode != 0
