"""`dayscribe globus`: a person logs in once over any terminal, and what is wanting is said with what mends it."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from db import sites
from db.states import DayState

PROGRAM = Path(sys.executable).with_name("dayscribe")


@pytest.fixture
def person(lab: Any) -> Any:
    """The lab, with a person's login instead of a service account."""
    lab.said = [word for word in lab.said if not word.startswith("globus.secret_file")]
    lab.said.append(f"globus.client_id={lab.globus.auth.client_id}")
    return lab


def command(lab: Any, *words: str) -> list[str]:
    return [str(PROGRAM), *(part for said in lab.said for part in ("--set", said)), *words]


def run(lab: Any, *words: str) -> tuple[int, str]:
    done = subprocess.run(command(lab, *words), capture_output=True, text=True, check=False, env=os.environ)
    return done.returncode, done.stdout + done.stderr


def log_in(lab: Any, *words: str) -> tuple[int, int, str]:
    """Opens each address that is shown, as a person does in a browser, and brings the code back: exit code, how often,
    and all that was said."""
    with subprocess.Popen(
        command(lab, "globus", "login", *words), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, env=os.environ,
    ) as process:  # fmt: skip
        said, opened = "", 0
        assert process.stdin is not None
        assert process.stdout is not None
        for line in process.stdout:
            said += line
            if address := re.search(r"http://\S+/authorize\?\S+", line):
                opened += 1
                process.stdin.write(lab.globus.auth.code_for(address[0]) + "\n")
                process.stdin.flush()
    return process.returncode, opened, said


def store(lab: Any) -> Path:
    [found] = (lab.folder / "home" / "globus").glob("*/tokens-*.json")
    return Path(found)


def test_a_person_logs_in_once_and_ticks_go_on_from_then(person: Any) -> None:
    person.slots(2)
    report = person.tick()
    assert [line.what for line in report.waits] == ["needs login"]
    code, opened, said = log_in(person)
    assert (code, opened) == (0, 1), said
    assert "somebody@example.org" in said
    person.arrive()
    assert person.state == DayState.READY_TO_PROCESS
    assert log_in(person)[:2] == (0, 0)  # nobody is asked twice


def test_the_login_is_the_owners_alone_and_names_him(person: Any) -> None:
    log_in(person)
    found = store(person)
    assert stat.S_IMODE(found.stat().st_mode) == 0o600
    assert stat.S_IMODE(found.parent.stat().st_mode) == 0o700
    assert found.name == f"tokens-{__import__('getpass').getuser()}.json"
    found.chmod(0o640)
    code, said = run(person, "globus", "check")
    assert code == 78
    assert f"chmod 600 {found}" in said


def test_a_mapped_collection_is_asked_for_from_the_start_and_remembered(person: Any) -> None:
    person.slots(1)
    person.far.mapped = True
    code, opened, said = log_in(person)
    assert (code, opened) == (0, 2), said  # once to see the collections, once for the consent that one wants
    assert sites.get(person.connection, "zurich").route["data_access"] == [person.far.id]
    person.arrive()
    assert person.state == DayState.READY_TO_PROCESS
    code, opened, _ = log_in(person, "--force")
    assert (code, opened) == (0, 1)  # from now on in one go


def test_a_login_is_renewed_by_itself_and_survives_a_kill_while_it_is_written(person: Any) -> None:
    person.slots(2)
    log_in(person)
    person.tick()
    person.globus.auth.expire()
    person.globus.transfer.wait()
    person.tick()
    assert person.state == DayState.READY_TO_PROCESS
    json.loads(store(person).read_text())
    assert list(store(person).parent.glob(".new-*")) == []


def test_a_login_that_was_taken_back_waits_for_a_person_and_goes_on_after_the_next(person: Any) -> None:
    person.slots(2)
    log_in(person)
    person.tick()
    person.globus.auth.revoke()
    from hpc.sources.globus.access import _transfer_client

    _transfer_client.cache_clear()  # as the next tick's process has none
    report = person.tick()
    assert [line.what for line in report.waits] == ["needs login"]
    assert person.transfers() == ["needs_login"]
    code, opened, said = log_in(person, "--force")
    assert (code, opened) == (0, 1), said
    _transfer_client.cache_clear()
    person.globus.transfer.wait()
    person.tick()
    assert person.state == DayState.READY_TO_PROCESS


def test_a_login_that_nobody_answers_ends_in_a_sentence(person: Any) -> None:
    done = subprocess.run(
        command(person, "globus", "login"), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    wrong = subprocess.run(
        command(person, "globus", "login"), input="not a code\n", capture_output=True, text=True, check=False
    )
    assert wrong.returncode == 78
    assert "dayscribe globus login" in wrong.stderr


def test_without_an_application_it_is_said_how_one_is_registered(lab: Any) -> None:
    lab.said = [word for word in lab.said if not word.startswith("globus.")]
    code, said = run(lab, "globus", "login")
    assert code == 78
    assert "docs/how-to/globus.md" in said


def test_check_finds_everything_well_and_leaves_nothing_behind(lab: Any) -> None:
    lab.slots(1)
    code, said = run(lab, "globus", "check", "--date", "2025-01-31")
    assert code == 0, said
    assert "0_2025-01-31_00_00.tar.xz" in said
    assert list((lab.near.root / "staging").iterdir()) == []


@pytest.mark.parametrize(
    "wrong, words",
    [
        ("mapped", "dayscribe globus login"),
        ("empty", "dayscribe sites show"),
        ("readonly", "Globus"),
        ("elsewhere", "--destination-folder"),
        ("unknown", "app.globus.org"),
        ("secret", "dayscribe globus login"),
    ],
)
def test_check_names_what_is_wanting_and_what_mends_it(lab: Any, wrong: str, words: str) -> None:
    lab.slots(1)
    if wrong == "mapped":
        lab.near.mapped = True
    elif wrong == "empty":
        (lab.month / "0_2025-01-31_00_00.tar.xz").unlink()
    elif wrong == "readonly":
        lab.near.readonly = True
    elif wrong == "elsewhere":
        (lab.near.root / "other").mkdir()
        lab.route["destination_folder"] = "/other"
        lab.add()
    elif wrong == "unknown":
        del lab.globus.transfer.collections[lab.near.id]
    else:
        lab.globus.auth.secret = "another"
    code, said = run(lab, "--debug", "globus", "check", "--date", "2025-01-31")
    assert code == 78, said
    assert words in said
    assert lab.globus.auth.secret not in said


def test_no_secret_and_no_token_is_in_the_ledger_or_a_log(person: Any) -> None:
    person.slots(1)
    log_in(person)
    person.arrive()
    tokens = [*person.globus.auth.tokens, *person.globus.auth.refresh]
    assert len(tokens) > 2
    told = str([person.connection.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES])
    told += run(person, "globus", "check")[1] + run(person, "--debug", "transfers", "list", "--json")[1]
    assert [token for token in tokens if token in told] == []


TABLES = ("sites", "days", "transfers", "events", "troubles", "files")
