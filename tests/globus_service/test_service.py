"""The loopback Globus is what the real SDK and the real CLI take it for: tokens, files, tasks, and it alone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import globus_sdk
import pytest
from fixtures import Desk, patient
from globus_sdk import DeleteData, GlobusAppConfig, TransferClient, UserApp
from globus_sdk.login_flows import CommandLineLoginFlowManager

SERVICE = Path(__file__).with_name("globus_full.py")


@pytest.fixture
def person(globus_service: Any, tmp_path: Path) -> Iterator[Callable[[], TransferClient]]:
    """A person's client: each call is a new process's, with the tokens that lie in the file."""
    opened: list[Any] = []

    class Browser(CommandLineLoginFlowManager):
        def print_authorize_url(self, authorize_url: str) -> None:
            self.code = globus_service.code_for(authorize_url)

        def prompt_for_code(self) -> str:
            return str(self.code)

    def client() -> TransferClient:
        storage = globus_sdk.token_storage.JSONTokenStorage(tmp_path / "tokens.json")
        config = GlobusAppConfig(token_storage=storage, request_refresh_tokens=True, login_flow_manager=Browser)
        app = UserApp("test", client_id=globus_service.auth.client_id, config=config)
        made = patient(TransferClient(app=app))
        opened.extend([made, app])
        return made

    yield client
    for one in opened:
        one.close()


# --- tokens -----------------------------------------------------------------------------------------------------------


def test_a_wrong_secret_is_an_error_of_auth_and_not_of_transfer(desk: Desk) -> None:
    desk.service.auth.secret = "another"
    with pytest.raises(globus_sdk.AuthAPIError) as error:
        desk.client.get_submission_id()
    assert error.value.http_status == 401


def test_access_tokens_that_expire_are_renewed_by_the_service_account(desk: Desk) -> None:
    desk.client.get_submission_id()
    desk.service.auth.expire()
    desk.client.get_submission_id()
    assert desk.service.asked("POST", "/oauth2/token$") == 2


def test_a_person_logs_in_by_a_code_and_the_next_process_finds_the_tokens(person: Any, desk: Desk) -> None:
    person().get_submission_id()
    person().get_submission_id()
    assert desk.service.asked("POST", "/oauth2/token$") == 1
    assert {owner for owner, _ in desk.service.auth.refresh.values()} == {desk.service.auth.identity}


def test_the_code_is_shown_by_the_authorize_address_to_whoever_opens_it(desk: Desk) -> None:
    client = globus_sdk.NativeAppAuthClient(desk.service.auth.client_id)
    client.oauth2_start_flow(requested_scopes="openid urn:globus:auth:scope:transfer.api.globus.org:all")
    with urlopen(client.oauth2_get_authorize_url()) as answer:
        code = answer.read().decode().split()[-1]
    tokens = client.oauth2_exchange_code_for_tokens(code)
    assert set(tokens.by_resource_server) == {"auth.globus.org", "transfer.api.globus.org"}
    assert tokens.decode_id_token()["sub"] == desk.service.auth.identity
    with pytest.raises(globus_sdk.AuthAPIError, match="invalid_grant"):
        client.oauth2_exchange_code_for_tokens(code)
    client.close()


@pytest.mark.parametrize("rotates", [False, True])
def test_a_persons_tokens_are_renewed_as_often_as_they_expire(person: Any, desk: Desk, rotates: bool) -> None:
    client = person()
    desk.service.auth.rotates = rotates
    for _ in range(3):
        client.get_submission_id()
        desk.service.auth.expire()
    assert len(set(desk.service.auth.tokens)) == 4


def test_tokens_of_a_short_life_are_renewed_before_they_are_used(desk: Desk) -> None:
    desk.service.auth.life = 30  # the SDK renews a minute before the end
    for _ in range(3):
        desk.client.get_submission_id()
    assert desk.service.asked("POST", "/oauth2/token$") == 4  # the first is old as soon as it is there


def test_a_refresh_token_that_was_revoked_is_an_invalid_grant(person: Any, desk: Desk) -> None:
    person().get_submission_id()
    desk.service.auth.revoke_refresh()
    desk.service.auth.expire()
    with pytest.raises(globus_sdk.AuthAPIError) as error:
        person().get_submission_id()
    assert (error.value.http_status, error.value.raw_json) == (400, {"error": "invalid_grant"})
    assert (error.value.code, error.value.messages) == (None, [])


def test_a_logout_revokes_what_the_process_held(person: Any, desk: Desk) -> None:
    client = person()
    client.get_submission_id()
    client._app.logout()
    assert desk.service.auth.refresh == {}


def test_who_the_person_is_can_be_asked(desk: Desk) -> None:
    client = globus_sdk.AuthClient(app=desk.app, app_scopes=["openid", "profile", "email"])
    assert client.userinfo()["sub"] == desk.service.auth.client_id
    client.close()


def test_a_mapped_collection_wants_a_consent_and_says_which(desk: Desk) -> None:
    desk.far.mapped = True
    with pytest.raises(globus_sdk.TransferAPIError) as error:
        desk.client.operation_ls(desk.far.id)
    assert (error.value.http_status, error.value.code) == (403, "ConsentRequired")
    [scope] = error.value.info.consent_required.required_scopes
    assert f"[*https://auth.globus.org/scopes/{desk.far.id}/data_access]" in scope
    desk.client.add_app_data_access_scope(desk.far.id)
    desk.app.login(force=True)  # a service account's SDK does not see that the token it has is too little
    assert desk.client.operation_ls(desk.far.id).http_status == 200


# --- files and tasks --------------------------------------------------------------------------------------------------


def test_files_move_and_are_told_with_their_checksums(desk: Desk) -> None:
    desk.write("a", "b")
    task = desk.submit("a", "b", verify_checksum=True)
    assert desk.service.wait_for(task)["status"] == "SUCCEEDED"
    told = {row["source_path"]: row for row in desk.client.paginated.task_successful_transfers(task).items()}
    assert set(told) == {"/a", "/b"}
    assert (told["/a"]["checksum_algorithm"], len(told["/a"]["checksum"])) == ("MD5", 32)
    assert desk.got("a") == (desk.far.root / "a").read_bytes()


def test_without_verification_no_checksum_is_told(desk: Desk) -> None:
    desk.write("a")
    task = desk.submit("a")
    desk.service.wait_for(task)
    assert [row.get("checksum") for row in desk.client.task_successful_transfers(task)] == [None]


def test_more_files_than_a_page_holds_are_told_by_markers(desk: Desk) -> None:
    names = [f"{number:03}" for number in range(250)]
    desk.write(*names)
    task = desk.submit(*names)
    desk.service.wait_for(task)
    assert len(list(desk.client.paginated.task_successful_transfers(task).items())) == 250
    assert desk.service.asked("GET", "/successful_transfers$") == 3


def test_a_folder_moves_whole_but_for_what_its_filters_leave_out(desk: Desk) -> None:
    desk.write("day/a.tar.xz", "day/deep/b.tar.xz", "day/notes.txt")
    order = desk.order("day", recursive=True)
    order.add_filter_rule("*.tar.xz", method="include", type="file")
    order.add_filter_rule("*", method="exclude", type="file")
    desk.service.wait_for(desk.client.submit_transfer(order)["task_id"])
    here = desk.near.root / "in" / "day"
    assert sorted(path.name for path in here.rglob("*") if path.is_file()) == ["a.tar.xz", "b.tar.xz"]


@pytest.mark.parametrize("level", ["exists", "size", "mtime", "checksum"])
def test_what_is_here_already_is_skipped_by_the_level_that_was_asked_for(desk: Desk, level: Any) -> None:
    desk.write("a")
    desk.service.wait_for(desk.submit("a"))
    again = desk.service.wait_for(desk.submit("a", sync_level=level))
    assert (again["files_skipped"], again["files_transferred"]) == (1, 0)


def test_a_submission_that_is_repeated_is_one_task(desk: Desk) -> None:
    desk.write("a")
    order = desk.order("a")
    first, second = desk.client.submit_transfer(order), desk.client.submit_transfer(order)
    assert (first["code"], second["code"]) == ("Accepted", "Duplicate")
    assert first["task_id"] == second["task_id"]


def test_tasks_are_found_by_status_by_label_and_by_id(desk: Desk) -> None:
    desk.write("a")
    over, other = desk.submit("a", label="one"), desk.submit("a", label="two")
    desk.service.wait_for(over)
    desk.service.wait_for(other)
    desk.service.transfer.hold("three")
    active = desk.submit("a", label="three")

    def ids(**asked: Any) -> set[str]:
        return {row["task_id"] for row in desk.client.paginated.task_list(limit=1, filter=asked).items()}

    assert ids(status="ACTIVE") == {active}
    assert ids(status=["SUCCEEDED", "FAILED"]) == {over, other}
    assert ids(label="one") == ids(task_id=over) == {over}


def test_a_task_is_relabelled_held_and_cancelled(desk: Desk) -> None:
    desk.write("a")
    desk.service.transfer.hold("a day")
    task = desk.submit("a")
    desk.service.transfer.hold("another")
    desk.client.update_task(task, {"DATA_TYPE": "task", "label": "another"})
    assert desk.client.get_task(task)["label"] == "another"
    assert desk.client.cancel_task(task)["code"] == "Canceled"
    assert desk.client.get_task(task)["fatal_error"]["code"] == "CANCELED"
    assert desk.client.cancel_task(task)["code"] == "TaskComplete"


def test_half_a_file_can_be_seen_while_it_moves(desk: Desk) -> None:
    desk.write("a")
    desk.service.transfer.halfway.add("a")
    task = desk.submit("a")
    desk.service.wait_for(task, lambda told: told["bytes_transferred"])
    assert len(desk.got("a")) == 300
    desk.service.transfer.release()
    desk.service.wait_for(task)
    assert len(desk.got("a")) == 600


def test_a_task_that_is_cancelled_in_the_middle_of_a_file_claims_nothing(desk: Desk) -> None:
    desk.write("a")
    desk.service.transfer.halfway.add("a")
    task = desk.submit("a")
    desk.service.wait_for(task, lambda told: told["bytes_transferred"])
    desk.client.cancel_task(task)
    assert list(desk.client.task_successful_transfers(task)) == []
    assert [event["code"] for event in desk.client.task_event_list(task)] == ["CANCELED", "STARTED"]


def test_folders_are_listed_looked_at_made_renamed_and_deleted(desk: Desk) -> None:
    desk.write("b", "a", "c.txt")
    client, far = desk.client, desk.far.id
    client.operation_mkdir(far, "/new")
    client.operation_rename(far, "/new", "/newer")
    assert client.operation_stat(far, "/newer")["type"] == "dir"
    assert [row["name"] for row in client.operation_ls(far, orderby=["name DESC"], filter="type:file")] == [
        "c.txt", "b", "a",
    ]  # fmt: skip
    assert [row["name"] for row in client.operation_ls(far, limit=2, offset=1)] == ["b", "c.txt"]
    with pytest.raises(globus_sdk.TransferAPIError, match="already exists"):
        client.operation_mkdir(far, "/newer")
    data = DeleteData(endpoint=far, recursive=True)
    data.add_item("/newer")
    data.add_item("/a")
    assert desk.service.wait_for(client.submit_delete(data)["task_id"])["status"] == "SUCCEEDED"
    assert sorted(path.name for path in desk.far.root.iterdir()) == ["b", "c.txt"]
    assert client.get_endpoint(far)["display_name"] == "far"


def test_a_listing_of_a_million_files_is_made_only_as_far_as_it_is_read(desk: Desk) -> None:
    made = count()
    desk.far.entries = lambda _: (
        {"name": f"{number:07}", "type": "file", "size": number, "DATA_TYPE": "file"}
        for number in islice(made, 1_000_000)
    )
    rows = desk.client.operation_ls(desk.far.id, limit=500, offset=1000)
    assert [rows["DATA"][0]["name"], len(rows["DATA"]), rows["has_next_page"]] == ["0001000", 500, True]
    assert next(made) < 2000
    desk.far.entries = lambda _: iter(())
    assert list(desk.client.operation_ls(desk.far.id)) == []


# --- alone, and the CLI -----------------------------------------------------------------------------------------------


def test_it_runs_alone_and_says_in_one_line_how_it_is_reached(tmp_path: Path) -> None:
    words = [sys.executable, SERVICE, "--folder", tmp_path, "--collection", "lab", "--harm", "a=flip"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as alone:
        assert alone.stdout is not None
        said = json.loads(alone.stdout.readline())
        with urlopen(said["url"] + ".well-known/openid-configuration") as answer:
            assert json.load(answer)["issuer"] == said["url"]
        alone.terminate()
    assert set(said["collections"]) == {"lab"}
    assert said["environment"]["GLOBUS_SDK_SERVICE_URL_AUTH"] == said["url"]


def test_the_real_command_lists_moves_waits_and_shows(desk: Desk, globus_cli: Any) -> None:
    desk.write("a")
    listed = globus_cli("ls", f"{desk.far.id}:/")
    assert listed.stdout.split() == ["a"], listed.stderr
    said = globus_cli("transfer", f"{desk.far.id}:/a", f"{desk.near.id}:/in/a", "--jmespath", "task_id", "-F", "unix")
    task = said.stdout.strip()
    desk.service.wait_for(task)
    assert globus_cli("task", "wait", task).returncode == 0
    assert "SUCCEEDED" in globus_cli("task", "show", task).stdout
    assert desk.got("a") == (desk.far.root / "a").read_bytes()
