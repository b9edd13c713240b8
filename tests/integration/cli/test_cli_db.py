"""`dayscribe db`: a ledger is made, looked at, left alone; ones own server is started and stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from db.migrate import MIGRATIONS, SPEAKS
from hpc.cli import main

STEPS = sorted(path.stem for path in MIGRATIONS.glob("*.sql"))


pytestmark = pytest.mark.usefixtures("undisturbed")


def run_with(dsn: str, *arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main.main(["--set", f"ledger.dsn={dsn}", *arguments])
    assert isinstance(left.value.code, int)
    return left.value.code


def test_db_init_makes_a_ledger_and_a_second_time_changes_nothing(
    empty_dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_with(empty_dsn, "status") == 78
    assert "dayscribe db init" in capsys.readouterr().err
    told = []
    for command in (("db", "init"), ("db", "init"), ("db", "migrate"), ("db", "status")):
        assert run_with(empty_dsn, *command, "--json") == 0
        told.append(json.loads(capsys.readouterr().out))

    assert [step for step in told[0]["made"] if not step.startswith("role ")] == STEPS
    assert told[1:3] == [{"made": [], "schema": len(STEPS)}, {"applied": [], "schema": len(STEPS)}]
    assert (told[3]["schema"], told[3]["speaks"], told[3]["to_apply"]) == (
        len(STEPS),
        f"{SPEAKS[0]} to {SPEAKS[-1]}",
        [],
    )
    assert "dayscribe_worker" in told[3]["roles"]


def test_db_init_with_a_single_role_asks_for_no_others(empty_dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_with(empty_dsn, "db", "init", "--single-role", "--json") == 0
    out, err = capsys.readouterr()

    assert json.loads(out) == {"made": STEPS, "schema": len(STEPS)}
    assert "ledger.single_role = true" in err


def test_db_status_of_a_database_without_a_ledger_says_what_is_to_come(
    empty_dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_with(empty_dsn, "db", "status", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["schema"], said["to_apply"]) == (0, STEPS)


@pytest.mark.parametrize("command", ["start", "stop"])
def test_a_server_of_others_is_neither_started_nor_stopped(
    dsn: str, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert run_with(dsn, "db", command) == 78
    assert "others start and stop" in capsys.readouterr().err


def test_an_absent_ledger_is_a_matter_of_trying_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_with(f"host={tmp_path} dbname=x", "status") == 75
    assert "cannot be reached" in capsys.readouterr().err


def test_ones_own_server_is_made_looked_at_stopped_and_started(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def own(*arguments: str) -> dict[str, Any]:
        with pytest.raises(SystemExit) as left:
            main.main(["--set", f"home={tmp_path / 'a home'}", "db", *arguments, "--json"])
        assert left.value.code == 0, capsys.readouterr().err
        told: dict[str, Any] = json.loads(capsys.readouterr().out)
        return told

    try:
        before = own("status")
        assert (before["running"], before["kind"]) == (False, "a server of one's own")
        assert "schema" not in before
        assert own("init")["schema"] == len(STEPS)
        assert (own("status")["running"], own("status")["schema"]) == (True, len(STEPS))
        assert own("stop") == {"running": False}
        assert own("status")["running"] is False
        assert own("start")["running"] is True
    finally:
        own("stop")
