"""`dayscribe digest`: what was finished, what failed by class, who is needed, what is under way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from db.connect import Connection


def test_it_tells_of_what_happened_since_and_of_what_is_under_way(
    answer: Callable[..., Any], a_day: Any, ledger: Connection
) -> None:
    told = answer("digest")
    assert told["finished"] == [
        {
            "site": "zurich", "date": "2025-01-30", "state": "completed", "recordings": 1, "transcribed": 1,
            "no_speech": 0, "quarantined": 0,
        }
    ]  # fmt: skip
    assert [(one["what"], one["class"], one["count"]) for one in told["failed"]] == [
        ("shards", "archive_damaged", 1),
        ("recordings", "truncated", 1),
    ]
    [going] = told["under_way"]
    assert (going["date"], going["settled"], going["shards"], going["at_work"]) == ("2025-01-31", 2, 4, 1)
    assert going["seconds_left"] > 0
    assert told["needs_a_person"] == []


def test_what_lies_before_is_left_out(answer: Callable[..., Any], a_day: Any, ledger: Connection) -> None:
    ledger.execute("UPDATE days SET finished = now() - interval '30 hours' WHERE finished IS NOT NULL")
    assert answer("digest")["finished"] == []
    assert len(answer("digest", "--since", "2d")["finished"]) == 1
    assert len(answer("digest", "--since", "2020-01-01")["finished"]) == 1
    assert answer("digest", "--since", "2099-01-01")["finished"] == []


def test_what_needs_a_person_comes_with_its_command(
    call: Callable[..., int], a_day: Any, ledger: Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger.execute("UPDATE days SET state = 'processing_failed', message = E'no\\n\\x1b[2J' WHERE date = '2025-01-31'")
    assert call("digest") == 0
    said = capsys.readouterr().out
    assert "dayscribe days retry 2025-01-31 --site zurich" in said
    assert "\x1b" not in said
    assert "zurich 2025-01-30: completed, 1 transcribed of 1 recordings, 0 quarantined" in said


def test_it_goes_by_the_ways_of_the_alerts(
    call: Callable[..., int], a_day: Any, both: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*both.settings, "digest", "--send") == 0
    assert both.counts == (1, 1)
    assert both.post.mails[0]["Subject"] == "dayscribe: 1 days finished"
    assert "Under way:" in both.post.mails[0].get_content()
    both.hook.status = 503
    assert call(*both.settings, "digest", "--send") == 75
    assert "503" in capsys.readouterr().err
    assert call("digest", "--send") == 78


def test_plans_that_were_done_since_and_those_that_are_not_over_are_told(
    answer: Callable[..., Any],
    call: Callable[..., int],
    a_day: Any,
    ledger: Connection,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert answer("digest")["plans"] == []
    echo = ("--set", "engine.name=echo", "reprocess", "--date", "2025-01-30", "--reason", "look\x1bagain")
    plan = answer(*echo)["plan"]
    assert call("digest") == 0
    assert f"plan {plan} (transcribe, look\\x1bagain): open, 0 of 1 recordings are settled" in capsys.readouterr().out
    ledger.execute(
        """UPDATE plans SET state = 'done', finished = now(), summary = '{"remade": 1, "known": 0, "failed": 0}'"""
    )
    [told] = answer("digest")["plans"]
    assert (told["plan"], told["state"], told["remade"], told["recordings"]) == (plan, "done", 1, 1)
    assert call("digest") == 0
    assert "done, 1 of 1 recordings were made again, 0 failed" in capsys.readouterr().out
    ledger.execute("UPDATE plans SET finished = now() - interval '2 days'")
    assert answer("digest")["plans"] == []


@pytest.mark.parametrize("since", ["", "0h", "24", "yesteryear", "2025-02-30", "99999999d"])
def test_a_time_that_is_none_is_refused(call: Callable[..., int], since: str) -> None:
    assert call("digest", "--since", since) == 2
