"""The alerts' rules, words and digest: pure functions of the ledger's facts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from db import digests
from db.alerts import Facts, Notice
from db.amiss import TITLES, Kind, Limits, in_words, judge
from db.printable import plain
from hpc.alerts import digest, words
from hpc.config import Settings
from hpc.message import Item
from hpc.wiring import alerts

LIMITS = Limits()
QUIET = Facts([], [], [], [], [], [], 0, None, None)
NOW = datetime(2025, 1, 31, 12, tzinfo=UTC)
HOUR = 3600.0


def tick(owner: str, hours: float, *, newest: bool = False, minds: bool = False) -> dict[str, Any]:
    return {"owner": owner, "host": "login1", "seconds_ago": hours * HOUR, "newest": newest, "minds": minds}


def notice(number: int, kind: str, subject: str = "zurich", *, over: bool = False) -> Notice:
    return Notice(number, 1, kind, subject, "a message", "dayscribe status", NOW, NOW if over else None)


def test_nothing_is_amiss_when_nothing_is() -> None:
    assert judge(QUIET, LIMITS) == []


def test_every_kind_has_its_title() -> None:
    assert set(TITLES) == set(Kind)


@pytest.mark.parametrize(
    ("row", "missed"),
    [
        (tick("ada", 0.4, newest=True), False),
        (tick("ada", 0.6, newest=True), True),
        (tick("ada", 9000, newest=False), False),  # who left long ago, while others tick
        (tick("ada", 9000, minds=True), True),  # but not while something of hers waits for it
    ],
)
def test_a_tick_is_missed_of_the_last_who_ticked_and_of_whose_work_waits(row: dict[str, Any], missed: bool) -> None:
    assert [one.kind for one in judge(replace(QUIET, ticks=[row]), LIMITS)] == ["stale_tick"] * missed


def test_nothing_came_out_for_a_day_is_amiss_only_while_work_is_open() -> None:
    assert judge(replace(QUIET, silent_seconds=23.9 * HOUR, open_work=1), LIMITS) == []
    [one] = judge(replace(QUIET, silent_seconds=25 * HOUR, open_work=3), LIMITS)
    assert (one.kind, one.fix) == ("no_output", "dayscribe jobs list")
    pause = {"who": "ada", "why": "an upgrade"}
    [paused] = judge(replace(QUIET, silent_seconds=25 * HOUR, open_work=3, paused=pause), LIMITS)
    assert "ada paused scheduling: an upgrade" in paused.message
    assert paused.fix == "dayscribe schedule --resume"


def test_a_site_that_waits_for_a_person_is_named_once() -> None:
    trouble = {"site": "zurich", "owner": "ada", "kind": "needs_consent", "message": "consent"}
    still = {"site": "zurich", "owner": "ada", "state": "needs_consent", "transfers": 3, "message": None}
    other = still | {"site": "basel", "state": "needs_login"}
    found = judge(replace(QUIET, troubles=[trouble], waits_for_a_person=[still, other]), LIMITS)
    assert [(one.subject, one.fix) for one in found] == [
        ("zurich of ada", "dayscribe globus login"),
        ("basel of ada", "dayscribe globus login"),
    ]
    [mover] = judge(replace(QUIET, troubles=[trouble | {"kind": "mover_trouble"}]), LIMITS)
    assert mover.fix == "dayscribe sites show zurich"


def test_a_finding_of_hostile_words_is_one_short_line() -> None:
    row = {"owner": "ada", "message": "a\nb\x1b[2J\u202e" + "x" * 5000, "jobs": 2, "id": 7}
    [one] = judge(replace(QUIET, blocked=[row]), LIMITS)
    assert len(one.subject) <= 100
    assert len(one.message) <= 500
    assert (one.subject + one.message).isprintable()


def test_the_gravest_comes_first_and_what_is_over_last() -> None:
    said = words.alert([notice(1, "failed_day"), notice(2, "blocked", over=True), notice(3, "stale_tick")])
    assert [(item.kind, item.over is not None) for item in said.items] == [
        ("stale_tick", False), ("failed_day", False), ("blocked", True),
    ]  # fmt: skip
    assert said.title == "dayscribe: 2 amiss, 1 over"
    assert "Over: Jobs are refused: zurich\n  since 2025-01-31 12:00 UTC, until 2025-01-31 12:00 UTC" in said.text
    assert "to mend it: dayscribe status" in said.text


def test_a_kind_of_another_version_is_said_all_the_same() -> None:
    assert words.alert([notice(1, "new_kind")]).title == "dayscribe: new kind: zurich"


def test_a_title_is_short_whatever_it_is_of() -> None:
    assert len(words.of_items([Item("failed_day", "x" * 900, "")]).title) == 120


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\r\nBcc: b", "a Bcc: b"), ("\x00\x1b", "\\x00\\x1b"), ("x" * 501, "x" * 499 + "…"), ("\ud800", "\\ud800")],
)
def test_what_came_from_outside_is_one_line_without_controls(text: str, shown: str) -> None:
    assert plain(text) == shown
    assert plain(shown) == shown


@pytest.mark.parametrize(
    ("seconds", "said"), [(-5, "0 minutes"), (60, "1 minutes"), (7200, "2 hours"), (180_000, "2 days")]
)
def test_a_length_of_time_is_said_in_words(seconds: float, said: str) -> None:
    assert in_words(seconds) == said


def day(**values: Any) -> dict[str, Any]:
    usual = {"site": "zurich", "date": date(2025, 1, 31), "state": "processing", "shards": 4, "settled": 1}
    return usual | {"bytes": 400.0, "settled_bytes": 100.0, "at_work": 2, "seconds": HOUR} | values


def test_the_time_left_is_that_of_the_pace_so_far_or_is_not_known() -> None:
    assert digest.seconds_left(day()) == 3 * HOUR
    for unknown in ({"settled_bytes": 0.0}, {"at_work": 0}, {"seconds": None}, {"state": "ready_to_process"}):
        assert digest.seconds_left(day(**unknown)) is None


def test_a_digest_shows_so_many_lines_and_says_how_many_more_there_are() -> None:
    rows = [day(date=date(2025, 1, 1) + timedelta(days=n), at_work=0) for n in range(40)]
    made = digest.digest(digests.Facts(NOW, [], [], [], [], [], rows, [], 5, 2), [])
    said = digest.text(made)
    assert said.count("nobody at work") == 30
    assert "- and 10 more" in said
    assert "Finished since 2025-01-31 12:00 UTC:\nnothing" in said
    assert "5 days wait for their turn, 2 are held." in said


def test_the_settings_begin_with_what_the_dashboard_goes_by() -> None:
    assert alerts.limits(Settings(home=Path("/nowhere"))) == Limits()
