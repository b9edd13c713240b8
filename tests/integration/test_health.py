"""Health: leases, room and parts as the last tick saw them, on its page, in the API and in the banner of each page."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask.testing import FlaskClient

from db import jobs
from db.errors import NeedsConfiguration
from monitor import create_app

PAGES = ("/", "/days/zurich/2025-01-31", "/search", "/cluster", "/plans", "/health")
ROOM = {
    "staged": {"bytes": 600_000_000, "files": 30, "coming_bytes": 300_000_000, "coming_files": 10},
    "budget_bytes": 1_000_000_000,
    "budget_files": 50,
    "disks": [
        {"folder": "/data/<b>", "bytes": 10**12, "free_bytes": 25 * 10**10, "files": 10**6, "free_files": 9},
        {"folder": "/far", "bytes": None, "free_bytes": None, "files": None, "free_files": None},
    ],
}


def words(client: FlaskClient, path: str) -> str:
    answer = client.get(path)
    assert (path, answer.status_code) == (path, 200)
    return " ".join(re.sub(r"<[^>]+>", " ", answer.text).split())


def lapse(a_day: Any, minutes: float) -> None:
    """The lease that is held ran out so long ago."""
    a_day.connection.execute(
        "UPDATE shards SET lease_until = clock_timestamp() - %s * interval '1 minute' WHERE state = 'leased'", [minutes]
    )


def tick(a_day: Any, **report: Any) -> None:
    jobs.put_tick(a_day.connection, owner="ada", host="login-1", took_ms=5, report=report)


def test_room_is_told_against_the_budget_as_the_last_tick_saw_it(client: FlaskClient, a_day: Any) -> None:
    assert client.get("/api/v1/health").get_json()["room"] == []
    assert "No tick has told of it yet." in words(client, "/health")
    tick(a_day, room=ROOM)

    [told] = client.get("/api/v1/health").get_json()["room"]
    assert {name: told[name] for name in ROOM} == ROOM
    assert (told["owner"], told["host"]) == ("ada", "login-1")
    shown = words(client, "/health")
    assert (
        "600.0 MB in 30 files are staged, 300.0 MB in 10 are on their way; the budget is 1.0 GB in 50 files." in shown
    )
    assert "90 % of the budget, staged and coming" in shown
    assert "80 % of the files that the budget allows" in shown
    assert "/data/&lt;b&gt; 250.0 GB 25 % 9" in shown
    assert "/far not seen – –" in shown


def test_without_a_budget_or_files_to_move_only_disks_are_told(client: FlaskClient, a_day: Any) -> None:
    tick(a_day, room=ROOM | {"staged": None, "budget_bytes": None, "budget_files": None})
    shown = words(client, "/health")
    assert "250.0 GB" in shown
    assert "budget" not in shown.partition("Room")[2]


def test_parts_that_are_not_recorded_are_counted_and_said_to_be_more_where_not_all_was_looked_at(
    client: FlaskClient, a_day: Any
) -> None:
    for report, told, shown in (
        ({"parts_left": {"zurich 2025-01-31": 3, "zurich 2025-01-30": 4}, "parts_all": False}, (7, False), "7 or more"),
        ({"parts_left": {}, "parts_all": True}, (0, True), "5 ms 0"),
        ({}, (None, False), "5 ms –"),  # an older program's
    ):
        tick(a_day, **report)
        [one] = client.get("/api/v1/health").get_json()["ticks"]
        assert (one["parts_left"], one["parts_all"]) == told
        assert shown in words(client, "/health")


def test_the_oldest_lapsed_lease_is_told_a_plans_too(client: FlaskClient, a_day: Any) -> None:
    assert "lapsed leases 0" in words(client, "/health")
    lapse(a_day, 90)
    assert "lapsed leases 1 the oldest ran out 1 h 30 min ago" in words(client, "/health")
    lease_a_plans_shard(a_day, minutes=180)
    told = client.get("/api/v1/health").get_json()["leases"]
    assert (told["held"], told["lapsed"]) == (2, 2)
    assert "the oldest ran out 3 h ago" in words(client, "/health")


def lease_a_plans_shard(a_day: Any, minutes: float) -> None:
    a_day.connection.execute(
        "WITH p AS (INSERT INTO plans (state, selection, who, run_key, receipt, recordings, seconds)"
        " VALUES ('open', '{}', 'ada', decode(repeat('00', 16), 'hex'), '{}', 1, 0) RETURNING id)"
        " INSERT INTO plan_shards (plan_id, shard_id, day_id, place, recordings, state, owner, lease_until)"
        " SELECT p.id, s.id, s.day_id, 1, 1, 'leased', 'worker', clock_timestamp() - %s * interval '1 minute'"
        " FROM p, shards s WHERE s.state = 'done' LIMIT 1",
        [minutes],
    )


def test_every_page_tells_of_leases_that_nobody_took_over(client: FlaskClient, a_day: Any) -> None:
    lapse(a_day, 59)
    for path in PAGES:
        assert "sign of life" not in words(client, path).partition("findings")[0].partition("Health")[0], path
    lapse(a_day, 61)
    for path in PAGES:
        assert "no sign of life for more than 60 minutes, and that nobody took over: 1." in words(client, path), path
    first = client.get("/plans")
    lapse(a_day, 61.5)
    assert client.get("/plans", headers={"If-None-Match": first.headers["ETag"]}).status_code == 304
    a_day.connection.execute(
        "UPDATE shards SET state = 'ready', owner = NULL, lease_until = NULL WHERE state = 'leased'"
    )
    lease_a_plans_shard(a_day, minutes=61)
    assert "nobody took over: 1." in words(client, "/search")


def test_from_when_on_something_is_amiss_is_as_the_settings_say(a_day: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TICK_MINUTES", "5"), ("SILENT_HOURS", "0.5"), ("LAPSED_MINUTES", "10.0")):
        monkeypatch.setenv(f"DAYSCRIBE_ALERT__{name}", value)
    client = create_app(a_day.dsn).test_client()
    tick(a_day)
    a_day.connection.execute("UPDATE ticks SET began = began - interval '6 minutes'")
    a_day.connection.execute("UPDATE parts SET recorded = now() - interval '31 minutes'")
    a_day.connection.execute("UPDATE days SET created = now() - interval '1 day'")
    a_day.connection.execute("SET session_replication_role = replica")
    a_day.connection.execute("UPDATE events SET at = at - interval '1 day'")
    lapse(a_day, 11)

    amiss = {one["name"] for one in client.get("/api/v1/health").get_json()["findings"] if not one["well"]}
    assert amiss == {"stale_tick", "no_output", "lapsed_lease"}
    shown = words(client, "/")
    assert "No tick for more than 5 minutes" in shown
    assert "no sign of life for more than 10 minutes" in shown
    for name in ("TICK_MINUTES", "SILENT_HOURS", "LAPSED_MINUTES"):
        monkeypatch.delenv(f"DAYSCRIBE_ALERT__{name}")
    usual = create_app(a_day.dsn).test_client()
    assert all(one["well"] for one in usual.get("/api/v1/health").get_json()["findings"])
    assert "No tick" not in words(usual, "/")


@pytest.mark.parametrize("said", ["", "soon", "0", "-1", "nan", "inf", "1e300"])
def test_a_limit_that_is_none_is_refused_when_the_application_is_made(
    said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAYSCRIBE_ALERT__TICK_MINUTES", said)
    with pytest.raises(NeedsConfiguration, match="DAYSCRIBE_ALERT__TICK_MINUTES is a number of minutes above 0"):
        create_app("")
