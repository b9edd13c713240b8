"""The commands over the ledger, each against a real one: what they print, what they change, how they end."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from db import days, events, formats, shards, sites
from db.connect import connect
from db.migrate import MIGRATIONS, SPEAKS, initialise
from db.roles import Roles
from db.states import DayState, Finding, RecordingState, ShardState
from hpc import export, layout
from hpc.cli import days as days_command
from hpc.cli import export as export_command
from hpc.cli import gap_map, main
from hpc.cli import show as show_command
from hpc.cli import sites as sites_command
from hpc.cli.display import Display

Call = Callable[..., int]
STEPS = sorted(path.stem for path in MIGRATIONS.glob("*.sql"))
TOKEN = "0123456789abcdef0123456789abcdef"


pytestmark = pytest.mark.usefixtures("undisturbed")


# --- days ------------------------------------------------------------------------------------------------------------


def test_days_add_makes_the_site_on_the_way_and_a_second_time_adds_nothing(
    answer: Callable[..., Any], ledger: Any, tmp_path: Path
) -> None:
    made = ("--site", "basel", "--location", str(tmp_path), "--time-zone", "Europe/Zurich", "--slot-minutes", "30")
    first = answer("days", "add", "2025-01-30..2025-02-02", *made)
    again = answer("days", "add", "--from", "2025-01-30", "--to", "2025-02-03", "--site", "basel")

    assert first == [{"site": "basel", "first": "2025-01-30", "last": "2025-02-02", "days": 4, "new": 4}]
    assert again == [{"site": "basel", "first": "2025-01-30", "last": "2025-02-03", "days": 5, "new": 1}]
    site = sites.get(ledger, "basel")
    assert (site.location, site.time_zone, site.slot_minutes) == (str(tmp_path), "Europe/Zurich", 30)


def test_days_add_without_a_site_takes_the_only_one_and_no_grid_is_none(
    answer: Callable[..., Any], ledger: Any, tmp_path: Path
) -> None:
    answer("days", "add", "2025-01-30", "--site", "loose", "--location", str(tmp_path), "--no-grid")

    assert answer("days", "add", "2025-01-31")[0]["site"] == "loose"
    assert sites.get(ledger, "loose").slot_minutes is None


def test_days_add_reads_a_queue_file_of_several_sites(answer: Callable[..., Any], ledger: Any, tmp_path: Path) -> None:
    for name in ("zurich", "basel"):
        sites.put(ledger, name, location="/data")
    queue = tmp_path / "queue.csv"
    queue.write_text(
        "year, month, day, location\n2025, jan, 30, zurich\n2025, 2, 1, Basel # later\n2025, 1, 31, zurich\n"
    )

    added = answer("days", "add", "--file", str(queue))

    assert added == [
        {"site": "zurich", "first": "2025-01-30", "last": "2025-01-31", "days": 2, "new": 2},
        {"site": "basel", "first": "2025-02-01", "last": "2025-02-01", "days": 1, "new": 1},
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("2025-01-31", "--from", "2025-01-30"), (2, "in one way")),
        ((), (2, "in one way")),
        (("--from", "2025-01-31"), (2, "go together")),
        (("2025-02-30",), (2, "not in the calendar")),
        (("2025-01-31", "--no-grid"), (2, "--location")),
        (("2025-01-31", "--location", "/x"), (2, "--site")),
        (("2025-01-31", "--site", "x", "--location", "/x", "--time-zone", "Mars/Base"), (2, "no time zone")),
        (("2025-01-31", "--site", "x", "--location", "/x", "--no-grid", "--slot-minutes", "5"), (2, "exclude")),
        (("2025-01-31", "--site", "Bad Name", "--location", "/x"), (65, "lower-case")),
        (("2025-01-31", "--site", "nowhere"), (65, "no site is called 'nowhere'; known: none yet")),
        (("2025-01-31",), (78, "Say which site")),
        (("--file", "missing.csv"), (65, "cannot be read")),
    ],
)
def test_days_add_refuses_what_it_cannot_mean(
    call: Call, ledger: Any, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], expected: tuple[int, str]
) -> None:
    assert call("days", "add", *arguments) == expected[0]
    assert expected[1] in capsys.readouterr().err
    assert days.find(ledger) == []


def test_days_list_filters_and_tells_each_days_summary(answer: Callable[..., Any], a_day: Any) -> None:
    both = answer("days", "list")
    [done] = answer("days", "list", "--state", "completed", "--site", "zurich")

    assert [day["date"] for day in both] == ["2025-01-30", "2025-01-31"]
    assert (done["date"], done["summary"]["transcribed"]) == ("2025-01-30", 1)
    assert answer("days", "list", "--from", "2025-02-01") == []


def test_days_show_maps_the_slots_and_groups_the_failures(
    call: Call, a_day: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("days", "show", "2025-01-31", "--site", "zurich") == 0
    said = capsys.readouterr().out.splitlines()

    assert "     :00   :10   :20   :50" in said
    assert "00   Tm    F     w" in said
    assert "12   --" in said
    assert "23                     a" in said
    assert any(line.startswith("truncated") and "it ends early <script>" in line for line in said)
    assert any("archive_damaged" in line and "cut at byte 512" in line for line in said)
    assert any("shard.failed" in line for line in said)


def test_a_slots_marks_tell_absent_empty_and_missing_apart() -> None:
    def slot(name: str, finding: Finding, shard: str | None = None, kind: str = "archive") -> dict[str, Any]:
        return {"slot": name, "kind": kind, "finding": finding.value, "shard_state": shard}

    row = [
        slot("07_00", Finding.ABSENT_AT_SOURCE),
        slot("07_10", Finding.EMPTY),
        slot("07_20", Finding.LISTED_BUT_MISSING),
        slot("07_30", Finding.EXPECTED),
        *(slot("07_40", Finding.ARRIVED, kind=kind) for kind in ("archive", "metadata", "subtitles", "comments")),
        slot("07_50", Finding.ARRIVED, "done"),
    ]
    line = gap_map.gap_map(row).splitlines()[1]
    assert line == "07   -     0     !     ?     amsc  T"


def test_days_show_in_json_has_every_slot_and_event(answer: Callable[..., Any], a_day: Any) -> None:
    said = answer("days", "show", "2025-01-31")

    assert (said["tally"]["quarantined"], len(said["slots"])) == (1, 7)
    assert said["events"][0]["what"].startswith(("shard.", "day."))


def test_a_hold_and_its_release_are_remembered_with_their_reasons(
    call: Call, answer: Callable[..., Any], a_day: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    held = answer("days", "hold", "2025-01-31", "--reason", "the disk is full")
    assert (held["state"], held["message"]) == ("held", "the disk is full")
    assert a_day.lease(a_day.connection, a_day.open.id, 1) == []
    assert call("days", "hold", "2025-01-31") == 65
    assert "held already" in capsys.readouterr().err

    released = answer("days", "release", "2025-01-31", "--reason", "a new disk")

    assert (released["state"], released["message"]) == ("processing", None)
    assert call("days", "release", "2025-01-31") == 65
    told = [row["detail"].get("message") for row in events.of_day(a_day.connection, a_day.open.id, limit=3)]
    assert told == ["a new disk", None, "the disk is full"]


def test_a_retry_makes_failed_shards_ready_again_and_nothing_else(answer: Callable[..., Any], a_day: Any) -> None:
    assert answer("days", "retry", "2025-01-31", "--reason", "fetched again")["shards"] == 1
    states = [row["state"] for row in shards.of_day(a_day.connection, a_day.open.id)]
    assert states == ["done", "ready", "leased", "ready"]
    assert answer("days", "retry", "2025-01-31")["shards"] == 0


@pytest.mark.parametrize("command", ["show", "hold", "release", "retry"])
def test_a_day_that_is_not_in_the_ledger_is_bad_data(
    call: Call, a_day: Any, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert call("days", command, "1999-01-01") == 65
    assert "dayscribe days add 1999-01-01 --site zurich" in capsys.readouterr().err


# --- ingest ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def waiting(a_day: Any) -> list[Path]:
    """Two parts that no worker recorded: one of an open shard, and the seal of another."""
    [last] = a_day.lease(a_day.connection, a_day.open.id, 1)
    return [
        a_day.publish(last, [a_day.said(last.id, 0, b"a.mp3", "from the part")], sealed=False),
        a_day.publish(last, [a_day.said(last.id, 0, b"a.mp3", "from the part")], sealed=True),
    ]


def test_ingest_takes_what_the_ledger_lacks_once(answer: Callable[..., Any], a_day: Any, waiting: list[Path]) -> None:
    first, again = answer("ingest"), answer("ingest")

    assert first == {"taken": 2, "known": 3, "refused": 0, "settled_shards": 1}
    assert again == {"taken": 0, "known": 5, "refused": 0, "settled_shards": 0}
    assert shards.of_day(a_day.connection, a_day.open.id)[3]["state"] == "done"


def test_ingest_names_a_damaged_part_and_goes_on(
    call: Call, a_day: Any, waiting: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = sorted(waiting)[0]
    damaged.write_bytes(damaged.read_bytes()[:-9])

    assert call("ingest", "2025-01-30..2025-01-31", "--site", "zurich", "--json") == 65
    out, err = capsys.readouterr()
    assert {key: json.loads(out)[key] for key in ("taken", "refused")} == {"taken": 1, "refused": 1}
    assert f"{damaged}: {damaged.name} is not a whole part" in err


def test_ingest_looks_only_where_it_is_told(answer: Callable[..., Any], a_day: Any, waiting: list[Path]) -> None:
    assert answer("ingest", "2025-01-30")["taken"] == 0
    assert answer("ingest", "--site", "zurich", "2025-01-31")["taken"] == 2


# --- status ----------------------------------------------------------------------------------------------------------


def test_status_tells_states_open_days_and_leases(
    call: Call, answer: Callable[..., Any], a_day: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    said = answer("status")

    assert [(row["status"], row["count"]) for row in said["states"]] == [("completed", 1), ("processing", 1)]
    assert [(day["date"], day["tally"]["open_shards"]) for day in said["open"]] == [("2025-01-31", 2)]
    [lease] = said["leases"]
    assert (lease["owner"], lease["slot"]) == ("worker-1", "00_20")
    assert 0 < lease["seconds_left"] <= 120
    assert call("status") == 0
    shown = capsys.readouterr().out
    assert "2 of 4 shards (50 %)" in shown
    assert " s left" in shown


# --- show ------------------------------------------------------------------------------------------------------------


def test_show_tells_a_recording_by_its_id_or_its_own_name(
    call: Call, a_day: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    for which in (str(a_day.ids["hello"]), "7000000000000000001"):
        assert call("show", which) == 0
        said.append(capsys.readouterr().out)

    assert said[0] == said[1]
    assert "   0:00.00 –  0:03.00  hello wide world\n" in said[0]
    assert "en (75 %)" in said[0]
    assert "engine echo" in said[0]
    assert "play count" in said[0]


def test_show_says_why_a_recording_has_no_words(call: Call, a_day: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("show", str(a_day.ids["quarantined"])) == 0
    assert "quarantined, truncated: it ends early" in capsys.readouterr().out
    assert call("show", "unsealed") == 0
    shown = capsys.readouterr().out
    assert "its shard is not sealed yet" in shown
    assert "future" not in shown
    assert call("show", str(a_day.ids["quarantined"]), "--format", "srt") == 65
    assert "has no transcript: quarantined, truncated" in capsys.readouterr().err


@pytest.mark.parametrize("kind", formats.KINDS)
def test_show_prints_each_format(call: Call, a_day: Any, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    assert call("show", "7000000000000000001", "--format", kind) == 0
    said = capsys.readouterr().out

    if kind == "json":
        assert json.loads(said)["receipt"]["engine"] == "echo"
        assert json.loads(said)["segments"][0]["words"][1]["word"] == "wide"
    else:
        assert "hello wide world" in said


def test_show_lists_versions_and_answers_in_json(answer: Callable[..., Any], a_day: Any) -> None:
    [version] = answer("show", "7000000000000000001", "--versions")
    said = answer("show", "7000000000000000001", "--day", "2025-01-31", "--site", "zurich")

    assert (version["version"], version["current"], version["word_count"]) == (1, True, 3)
    assert (said["id"], said["text"]) == (a_day.ids["hello"], "hello wide world")


def test_show_asks_which_when_a_name_is_not_enough(
    call: Call, a_day: Any, waiting: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    a_day.connection.execute("UPDATE recordings SET meta_id = 'twin' WHERE meta_id LIKE '700000000000000000_'")

    assert call("show", "twin") == 65
    said = capsys.readouterr().err
    assert "3 recordings are called 'twin'" in said
    assert f"  {a_day.ids['hello']}: zurich 2025-01-31 0_2025-01-31_00_00.tar.xz" in said
    assert call("show", "twin", "--day", "2025-01-30") == 0
    assert call("show", "nobody") == 65
    assert "no recording 'nobody'" in capsys.readouterr().err


def test_an_id_of_the_ledger_goes_before_a_name_that_looks_like_one(answer: Callable[..., Any], a_day: Any) -> None:
    a_day.connection.execute(
        "UPDATE recordings SET meta_id = %s WHERE id = %s", (str(a_day.ids["calm"]), a_day.ids["hello"])
    )

    assert answer("show", str(a_day.ids["calm"]))["text"] == "yesterday was calm"


# --- search ----------------------------------------------------------------------------------------------------------


def test_search_always_ends_with_its_denominator_and_the_unfinished_days(
    call: Call, answer: Callable[..., Any], a_day: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    said = answer("search", "hello")
    assert [hit["recording_id"] for hit in said["hits"]] == [a_day.ids["hello"], a_day.ids["hostile"]]

    assert call("search", "wide") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "    hello <<wide>> world"
    assert lines[-2:] == [
        "1 of 4 transcripts; 1 recordings hold no speech, 1 are quarantined, 1 not sealed yet.",
        "Not finished: zurich 2025-01-31 (processing).",
    ]
    assert call("search", "wide", "--to", "2025-01-30", "--site", "zurich") == 0
    assert capsys.readouterr().out == (
        "0 of 1 transcripts; 0 recordings hold no speech, 0 are quarantined, 0 not sealed yet.\n"
    )


def test_search_finds_by_language_and_refuses_an_unknown_site(
    call: Call, answer: Callable[..., Any], a_day: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    found = answer("search", "hello", "--language", "de", "--only-language", "de")

    assert [hit["recording_id"] for hit in found["hits"]] == [a_day.ids["hostile"]]
    assert call("search", "hello", "--site", "nowhere") == 65
    assert "known: zurich" in capsys.readouterr().err


def test_what_was_found_is_bold_on_a_terminal_and_nothing_else_can_be() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    Display(stdout=terminal).passage("a <<b\x1b[31m>> \u202ec", marks=("<<", ">>"))

    assert terminal.getvalue() == "a \x1b[1mb\\x1b[31m\x1b[22m \\u202ec\x1b[0m\n"


# --- export ----------------------------------------------------------------------------------------------------------


def test_export_writes_finished_days_and_says_of_how_many(
    answer: Callable[..., Any], a_day: Any, tmp_path: Path
) -> None:
    [row] = answer("export", "2025-01-30", "--out", str(tmp_path / "out"))

    assert (row["rows"], row["of"], row["partial"], row["metadata_rows"]) == (1, 1, False, None)
    assert pq.read_table(row["path"])["text"].to_pylist() == ["yesterday was calm"]


def test_export_refuses_an_unfinished_day_before_it_writes_any(
    call: Call, a_day: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"

    assert call("export", "2025-01-30..2025-01-31", "--out", str(out)) == 75
    assert "2025-01-31 (processing)" in capsys.readouterr().err
    assert call("export", "2025-01-29..2025-01-30", "--out", str(out)) == 65
    assert "has no 2025-01-29" in capsys.readouterr().err
    assert not out.exists()
    assert call("export", "2025-01-30..2025-01-31", "--out", str(out), "--partial", "--format", "vtt") == 0
    assert sorted(path.name for path in (out / "zurich").iterdir()) == ["2025-01-30_vtt", "2025-01-31_vtt"]


def test_the_names_that_commands_spell_for_their_help_are_the_real_ones() -> None:
    visible = [state.value for state in RecordingState if state is not RecordingState.PROVISIONAL]

    assert export_command.FORMATS == export.KINDS
    assert list(export_command.STATES) == visible
    assert show_command.FORMATS == formats.KINDS
    assert tuple(state.value for state in DayState) == days_command.STATES
    assert set(gap_map.ARCHIVES) == {state.value for state in ShardState}
    assert set(gap_map.FINDINGS) == {finding.value for finding in Finding} - {"arrived"}
    assert tuple(gap_map.KINDS) == sites_command.KINDS == layout.KINDS


# --- db --------------------------------------------------------------------------------------------------------------


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


# --- serve -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def served(a_day: Any, tmp_path: Path) -> Iterator[Callable[..., tuple[str, subprocess.Popen[str]]]]:
    """Starts `dayscribe serve` on a free port; returns its address and its process."""
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **environment: str) -> tuple[str, subprocess.Popen[str]]:
        program = str(Path(sys.executable).parent / "dayscribe")
        process = subprocess.Popen(
            [program, "--set", f"ledger.dsn={a_day.dsn}", "serve", "--port", "0", "--json", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=os.environ | environment,
        )
        running.append(process)
        assert process.stdout is not None
        lines: list[str] = []
        while not lines or lines[-1] != "}\n":
            lines.append(process.stdout.readline())
            assert lines[-1], process.communicate()[1]
        return json.loads("".join(lines))["address"], process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def get(address: str, token: str | None = None) -> tuple[int, str]:
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_serve_answers_every_route_and_ends_well_on_sigterm(served: Any, a_day: Any, tmp_path: Path) -> None:
    for trap in ("monitor.py", "db.py", "gunicorn.conf.py", "json.py"):
        (tmp_path / trap).write_text("raise SystemExit('a file of the folder we were started in')\n")
    address, process = served()

    hello = a_day.ids["hello"]
    for path in (
        "/healthz", "/readyz", "/pipeline/status", "/api/v1/openapi.json", "/api/v1/days",
        "/api/v1/days/zurich/2025-01-31", "/api/v1/days/zurich/2025-01-31/recordings", f"/api/v1/recordings/{hello}",
        *(f"/api/v1/recordings/{hello}.{kind}" for kind in formats.KINDS), "/api/v1/search?q=hello",
        "/", "/days/zurich/2025-01-31", f"/recordings/{hello}", "/search?q=hello", "/cluster", "/plans", "/health",
    ):  # fmt: skip
        assert (path, get(address + path)[0]) == (path, 200)
    assert get(f"{address}/nowhere")[0] == 404
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert said.splitlines() == [f"The dashboard is at {address}/, the API at {address}/api/v1/days."]


def test_serve_to_other_machines_wants_a_token_and_then_asks_for_it(
    served: Any, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "some.host.example"):
        assert call("serve", "--host", host, "--port", "0") == 78
        assert "has no token" in capsys.readouterr().err
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o644)
    monkeypatch.setenv("DAYSCRIBE_API_TOKEN_FILE", "token")
    assert call("serve", "--port", "0") == 78
    assert "can be read by others" in capsys.readouterr().err

    file.chmod(0o600)
    address, process = served("--host", "0.0.0.0")
    address = address.replace("0.0.0.0", "127.0.0.1")
    assert [get(f"{address}/api/v1/days")[0], get(f"{address}/api/v1/days", TOKEN)[0]] == [401, 200]
    command_line = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    assert TOKEN.encode() not in command_line


def test_serve_says_when_the_port_is_taken(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert call("serve", "--port", str(taken.getsockname()[1])) == 78
    assert "Address already in use" in capsys.readouterr().err


def test_serve_logs_in_as_whom_the_monitors_own_setting_says(served: Any, a_day: Any, roles: Roles) -> None:
    with connect(a_day.dsn) as connection:
        initialise(connection, roles)
    address, _ = served(DAYSCRIBE_MONITOR_DSN=a_day.dsn.replace("user=dayscribe", f"user={roles.monitor}"))

    for path in ("/readyz", "/pipeline/status", "/api/v1/days/zurich/2025-01-31", "/api/v1/search?q=hello"):
        assert get(address + path)[0] == 200
    assert json.loads(get(f"{address}/api/v1/recordings/{a_day.ids['hello']}")[1])["text"] == "hello wide world"


def test_days_are_told_in_the_order_of_the_calendar(answer: Callable[..., Any], ledger: Any) -> None:
    site = sites.put(ledger, "zurich", location="/data")
    days.add(ledger, site.id, [date(2025, 3, 1), date(2024, 12, 31), date(2025, 2, 1)])

    assert [row["date"] for row in answer("days", "list")] == ["2024-12-31", "2025-02-01", "2025-03-01"]
