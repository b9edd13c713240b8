"""`dayscribe days`, `ingest` and `status` on a real ledger: what they print, what they change, how they end."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from db import days, events, shards, sites
from db.states import Finding
from hpc.cli import gap_map

Call = Callable[..., int]


pytestmark = pytest.mark.usefixtures("undisturbed")

# --- days -------------------------------------------------------------------------------------------------------------


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
    "command",
    [
        ("days", "show"), ("days", "hold"), ("run", "--dry-run"), ("work",), ("quality",), ("export", "--out", "out"),
        ("deliver", "--target", "out"), ("sample", "draw", "some"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_without_a_site_a_command_takes_the_only_one_and_of_several_none(
    call: Call, ledger: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path, command: tuple[str, ...]
) -> None:
    command, day = tuple(str(tmp_path) if word == "out" else word for word in command), ("--date", "2025-01-31")
    sites.put(ledger, "zurich", location=str(tmp_path))
    call(*command, *day)
    assert "which site" not in capsys.readouterr().err
    sites.put(ledger, "basel", location=str(tmp_path))
    assert call(*command, *day) == 78
    assert "ay which site: --site NAME (known: basel, zurich)" in capsys.readouterr().err


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


def test_days_are_told_in_the_order_of_the_calendar(answer: Callable[..., Any], ledger: Any) -> None:
    site = sites.put(ledger, "zurich", location="/data")
    days.add(ledger, site.id, [date(2025, 3, 1), date(2024, 12, 31), date(2025, 2, 1)])

    assert [row["date"] for row in answer("days", "list")] == ["2024-12-31", "2025-02-01", "2025-03-01"]


# --- ingest -----------------------------------------------------------------------------------------------------------


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


# --- status -----------------------------------------------------------------------------------------------------------


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
