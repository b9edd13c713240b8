"""What Prometheus is told: the ledger's numbers at the moment of the scrape, and no word from outside as a label."""

from __future__ import annotations

from collections import Counter
from typing import Any

from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from db import jobs, plans


def scraped(client: FlaskClient) -> dict[tuple[str, ...], float]:
    """(name, label value, …) → number."""
    answer = client.get("/metrics")
    assert (answer.status_code, answer.mimetype) == (200, "text/plain")
    return {
        (sample.name.removeprefix("dayscribe_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_the_gauges_are_the_ledgers_numbers(client: FlaskClient, a_day: Any) -> None:
    told = scraped(client)

    rows = a_day.connection.execute("SELECT state FROM days").fetchall()
    days = Counter(("days", "zurich", row["state"]) for row in rows)
    assert {key: number for key, number in told.items() if key[0] == "days"} == days
    assert told["shards_leased",] == 1
    assert told["recordings", "transcribed"] == a_day.done.summary["transcribed"] > 0
    assert told["last_output_age_seconds",] >= 0
    assert told["database_bytes",] > 1_000_000


def test_a_lapsed_lease_and_a_pause_are_told_at_the_next_scrape(client: FlaskClient, a_day: Any) -> None:
    before = scraped(client)
    a_day.connection.execute("UPDATE shards SET lease_until = now() - interval '1 hour' WHERE state = 'leased'")
    jobs.pause(a_day.connection, why='an "upgrade"\n# TYPE x', who="<script>")
    after = scraped(client)

    assert (before["leases_lapsed",], after["leases_lapsed",]) == (0, 1)
    assert (before["scheduling_paused",], after["scheduling_paused",]) == (0, 1)
    assert after["oldest_lapsed_lease_seconds",] >= 3600
    assert "upgrade" not in client.get("/metrics").text


def test_plans_are_counted_by_state_until_they_are_over(client: FlaskClient, a_day: Any) -> None:
    for state in ("drawn", "drawn", "open", "paused", "done", "cancelled"):
        a_day.connection.execute(
            "INSERT INTO plans (state, selection, who, run_key, receipt, recordings, seconds, summary, finished)"
            " VALUES (%s, '{}', 'somebody', decode(repeat('00', 16), 'hex'), '{}', 0, 0, %s, now())",
            [state, "{}" if state == "done" else None],
        )
    told = {key[1]: number for key, number in scraped(client).items() if key[0] == "plans"}
    assert told == {"drawn": 2, "open": 1, "paused": 1}
    assert sum(told.values()) == len(plans.latest(a_day.connection, every=False))


def test_an_age_of_a_tick_is_told_once_there_was_one(client: FlaskClient, a_day: Any) -> None:
    assert ("tick_age_seconds",) not in scraped(client)
    jobs.put_tick(a_day.connection, owner="<b>ada", host="login-1", took_ms=5, report={})

    assert 0 <= scraped(client)["tick_age_seconds",] < 600
    assert "ada" not in client.get("/metrics").text
    assert client.get("/metrics?site=zurich").status_code == 400
