"""Sites and days whose files have to come: the commands, what they show, and what they refuse."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from db import days, sites
from db.connect import Connection, connect
from hpc.cli import main

ID = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
OTHER = "3f2504e0-4f89-41d3-9a0c-0305e82c3302"
DAY = "2025-03-30"


class Shell:
    """Commands over a fresh ledger, in this process."""

    def __init__(self, dsn: str, connection: Connection, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.connection, self.folder, self.capsys = connection, folder, capsys
        self.always = ["--set", f"ledger.dsn={dsn}", "--set", f"home={folder / 'home'}", "--set", "engine.name=echo"]

    def __call__(self, *words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as left:
            main.main([*self.always, *words])
        said = self.capsys.readouterr()
        assert isinstance(left.value.code, int)
        return left.value.code, said.out + said.err

    def told(self, *words: str) -> Any:
        code, said = self(*words, "--json")
        assert code == 0, said
        return json.loads(said)


@pytest.fixture
def shell(
    fresh_ledger: Callable[[], AbstractContextManager[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Shell]:
    with fresh_ledger() as dsn, connect(dsn) as connection:
        yield Shell(dsn, connection, tmp_path, capsys)


def lay(folder: Path, *slots: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for slot in slots:
        (folder / f"0_{DAY}_{slot}.tar.xz").write_bytes(b"x" * 50)


def test_a_site_by_globus_says_where_its_files_lie_and_where_they_go(shell: Shell) -> None:
    words = ("--location", "/audio", "--folder", "{site}_{year}_{monthname}/prepped_data", "--collection", ID)
    shell.told("sites", "add", "zurich", *words, "--destination", OTHER, "--time-zone", "Europe/Zurich")
    told = shell.told("sites", "show", "zurich", "--date", DAY)
    assert told["folder at the source"] == "/audio/zurich_2025_march/prepped_data"
    assert told["folder here"].endswith(f"staging/zurich/{DAY}")
    assert told["clock"] == "The clocks go forward: 02_00 to 02_50 never come, 138 slots."
    assert sites.get(shell.connection, "zurich").route == {"how": "globus", "collection": ID, "destination": OTHER}
    [row] = shell.told("sites", "list")
    assert (row["site"], row["files"], row["trouble"]) == ("zurich", "globus", None)


def test_a_dry_run_shows_the_site_and_writes_nothing(shell: Shell) -> None:
    told = shell.told(
        "sites", "add", "zurich", "--location", str(shell.folder), "--archive", "{date}.{slot}.tar", "--dry-run"
    )
    assert any(value.endswith(".tar") for key, value in told.items() if key.startswith("archive"))
    assert sites.every(shell.connection) == []


@pytest.mark.parametrize(
    "words, says",
    [
        (["--collection", "not-an-id", "--destination", ID], "no id of a Globus collection"),
        (["--collection", ID], "name both"),
        (["--collection", ID, "--destination", OTHER, "--copy"], "do not go with it"),
        (["--destination", ID], "--collection, --copy or --link"),
        (["--copy", "--staging", "relative"], "no absolute folder"),
        (["--copy", "--staging", "/a/../b"], "no absolute folder"),
        (["--time-zone", "Mars/Base"], "not a time zone"),
        (["--archive", "{date}.tar"], "does not say the slot"),
        (["--folder", "../{site}"], "'..'"),
        (["--no-grid", "--slot-minutes", "5"], "exclude each other"),
    ],
)
def test_what_makes_no_sense_is_said_before_anything_is_written(shell: Shell, words: list[str], says: str) -> None:
    code, said = shell("sites", "add", "zurich", "--location", "/audio", *words)
    assert code in (2, 78)
    assert says in said
    assert sites.every(shell.connection) == []


def test_a_site_is_copied_shown_relisted_and_goes_on_without_what_is_missing(shell: Shell) -> None:
    far = shell.folder / "far"
    lay(far, "00_00", "00_10")
    shell.told("sites", "add", "zurich", "--location", str(far), "--copy", "--time-zone", "Europe/Zurich")
    (far / f"0_{DAY}_00_10.tar.xz").chmod(0)
    shell.told("days", "add", DAY)
    shell.connection.execute("UPDATE files SET tries = 4")
    code, said = shell("run", DAY)
    told = shell.told("days", "show", DAY)
    assert [row["kind"] for row in told["files"]] == ["archive"]
    assert told["clock"].startswith("The clocks go forward")
    [archives] = told["files"]
    if code == 75:  # not as root, to whom every file is open
        assert archives["arrived"] == 1
        [missing] = told["missing"]
        assert (missing["slot"], missing["name"]) == ("00_10", f"0_{DAY}_00_10.tar.xz")
    else:
        assert archives["arrived"] == 2, said


def test_accept_needs_a_reason_and_names_what_is_waived(shell: Shell) -> None:
    far = shell.folder / "far"
    lay(far, "00_00", "00_10")
    shell.told("sites", "add", "zurich", "--location", str(far), "--copy")
    shell.told("days", "add", DAY)
    shell("run", DAY, "--dry-run")
    assert shell("days", "accept", DAY)[0] == 2
    day = days.get(shell.connection, "zurich", days.find(shell.connection)[0]["date"])
    shell.connection.execute("DELETE FROM shards")
    shell.connection.execute("UPDATE days SET state = 'transfer_failed'")
    shell.connection.execute("UPDATE files SET shard = NULL")
    shell.connection.execute(
        "UPDATE files SET state = 'missing', reason = 'it did not arrive', arrived = NULL WHERE slot = '00_10'"
    )
    told = shell.told("days", "accept", DAY, "--reason", "the recorder was off")
    assert (told["state"], told["waived"]) == ("ready_to_process", 1)
    assert [row["state"] for row in shell.connection.execute("SELECT state FROM shards")] == ["ready"]
    history = [row["what"] for row in shell.told("days", "show", DAY)["events"]]
    assert "day.waived" in history
    assert day.site == "zurich"


def test_relist_has_the_next_tick_look(shell: Shell) -> None:
    far = shell.folder / "far"
    lay(far, "00_00")
    shell.told("sites", "add", "zurich", "--location", str(far), "--link")
    shell("run", DAY, "--dry-run")
    shell.connection.execute("UPDATE days SET look_at = NULL")
    shell.told("days", "relist", DAY)
    assert shell.connection.execute("SELECT look_at <= now() AS due FROM days").fetchone() == {"due": True}


def test_transfers_are_listed_and_one_that_is_over_cannot_be_stopped(shell: Shell) -> None:
    far = shell.folder / "far"
    lay(far, "00_00")
    shell.told("sites", "add", "zurich", "--location", str(far), "--copy")
    shell("run", DAY, "--dry-run")
    [row] = shell.told("transfers", "list", "--date", DAY)
    assert (row["what"], row["state"], row["files"], row["expected_files"]) == ("archives", "succeeded", 1, 1)
    for within, rows in (
        (("--from", DAY, "--to", DAY), [row]),
        (("--from", "2025-03-31"), []),
        (("--to", "2025-03-29"), []),
    ):
        assert shell.told("transfers", "list", *within) == rows, within
    assert shell.told("transfers", "list", "--live") == []
    code, said = shell("transfers", "cancel", str(row["id"]))
    assert code == 65
    assert "transfers list --live" in said
