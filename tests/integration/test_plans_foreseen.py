"""What a plan was expected to cost, against what it then cost: in the command, the API and the page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from db import plans
from hpc.cli.reprocess import foreseen

UNKNOWN = '{"engine_hours": null, "finish_hours": null}'
HOURS = '{"engine_hours": 0.5, "finish_hours": 1.5}'


def a_plan(ledger: Any, *, estimate: str, summary: str | None, minutes: float | None) -> int:
    """A plan as it stands in the ledger: done after so many minutes, or open."""
    row = ledger.execute(
        "INSERT INTO plans (state, selection, who, run_key, receipt, recordings, seconds, estimate, summary, started,"
        " finished) SELECT %(state)s, '{}', 'somebody', decode(repeat('00', 16), 'hex'), '{}', 0, 0, %(estimate)s,"
        " %(summary)s, began, began + %(minutes)s * interval '1 minute'"
        " FROM (SELECT now() - interval '1 day' AS began) b"
        " RETURNING id",
        {"state": "open" if summary is None else "done", "estimate": estimate, "summary": summary, "minutes": minutes},
    ).fetchone()
    return int(row["id"])


def test_a_plan_that_is_done_tells_how_wrong_its_estimate_was(
    client: FlaskClient, a_day: Any, answer: Callable[..., Any]
) -> None:
    plan = a_plan(a_day.connection, estimate=HOURS, summary='{"engine_seconds": 1500}', minutes=120)

    wanted = [
        {"of": "engine", "expected": 1800, "was": 1500, "error": pytest.approx(0.2)},
        {"of": "whole", "expected": 5400, "was": 7200, "error": pytest.approx(-0.25)},
    ]
    assert client.get(f"/api/v1/plans/{plan}").get_json()["foreseen"] == wanted
    assert answer("plans", "show", str(plan))["foreseen"] == wanted
    assert foreseen(plans.get(a_day.connection, plan)) == (
        "of the engine 0:30:00 expected, it was 0:25:00 (+20 %),"
        " from opening to end 1:30:00 expected, it was 2:00:00 (-25 %)"
    )
    assert "it was 25\u202fmin (+20 %)" in client.get(f"/plans/{plan}").text


@pytest.mark.parametrize(
    ("estimate", "summary", "minutes"),
    [
        (HOURS, None, None),
        (UNKNOWN, '{"engine_seconds": 3}', 1),
        (HOURS, "{}", 0),
    ],
    ids=["not done", "nothing was measured before", "nothing was to do"],
)
def test_nothing_is_compared_before_both_are_known(
    client: FlaskClient, a_day: Any, estimate: str, summary: str | None, minutes: float | None
) -> None:
    plan = a_plan(a_day.connection, estimate=estimate, summary=summary, minutes=minutes)

    assert client.get(f"/api/v1/plans/{plan}").get_json()["foreseen"] == []
    assert "were expected" not in client.get(f"/plans/{plan}").text
