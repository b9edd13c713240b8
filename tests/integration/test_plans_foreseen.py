"""What a plan was expected to cost, against what it then cost: in the command, the API and the page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from psycopg.types.json import Jsonb

from db import plans
from db.plans import Criterion, NothingChosen, Selection, Wish
from hpc import reprocess
from hpc.cli.reprocess import foreseen
from hpc.sections import SlurmSettings

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
        {"of": "engine", "expected": 1800, "was": 1500, "error": pytest.approx(0.2), "says": "20 % too much"},
        {"of": "whole", "expected": 5400, "was": 7200, "error": pytest.approx(-0.25), "says": "25 % too little"},
    ]
    assert client.get(f"/api/v1/plans/{plan}").get_json()["foreseen"] == wanted
    assert answer("plans", "show", str(plan))["foreseen"] == wanted
    assert foreseen(plans.get(a_day.connection, plan)) == (
        "of the engine 0:30:00 expected, it was 0:25:00 (expected 20 % too much),"
        " from opening to end 1:30:00 expected, it was 2:00:00 (expected 25 % too little)"
    )
    assert "it was 25\u202fmin (expected 20 % too much)" in client.get(f"/plans/{plan}").text


@pytest.mark.parametrize(
    ("estimate", "summary", "minutes"),
    [
        (HOURS, None, None),
        (UNKNOWN, '{"engine_seconds": 3}', 1),
        (HOURS, "{}", 0),
        ('{"engine_hours": 0.0001, "finish_hours": null}', '{"engine_seconds": 0.2}', 1),
    ],
    ids=["not done", "nothing was measured before", "nothing was to do", "both are less than a second"],
)
def test_nothing_is_compared_before_both_are_known(
    client: FlaskClient, a_day: Any, estimate: str, summary: str | None, minutes: float | None
) -> None:
    plan = a_plan(a_day.connection, estimate=estimate, summary=summary, minutes=minutes)

    assert client.get(f"/api/v1/plans/{plan}").get_json()["foreseen"] == []
    assert "were expected" not in client.get(f"/plans/{plan}").text


def test_an_estimate_that_was_far_off_says_how_many_times(a_day: Any) -> None:
    far = '{"engine_hours": 0.01, "finish_hours": 10}'
    plan = a_plan(a_day.connection, estimate=far, summary='{"engine_seconds": 360}', minutes=6)
    assert [one["says"] for one in plans.get(a_day.connection, plan).foreseen()] == [
        "10 times too little",
        "100 times too much",
    ]


# --- what it is going to cost ----------------------------------------------------------------------------------------


def drawn(made: Any, *criteria: Criterion, **given: Any) -> plans.Plan:
    wish = {"who": "me", "why": "", "run_key": b"n" * 16, "receipt": {"engine": "new"}} | given
    return plans.get(made.connection, plans.draw(made.connection, Selection(criteria), Wish(**wish)).id)


def estimated(made: Any, *criteria: Criterion) -> reprocess.Estimate:
    """Where two seconds of audio took a second of the engine."""
    made.connection.execute(
        """UPDATE days SET summary = '{"audio_seconds": 200, "engine_seconds": 100}' WHERE id = %s""", [made.done.id]
    )
    return reprocess.estimate(made.connection, drawn(made, *criteria), SlurmSettings())


def test_what_is_there_and_not_seen_costs_nothing_and_is_told(a_day: Any) -> None:
    """As after a trial, or a plan that was given up."""
    english, seconds = Criterion("language", "en"), "SELECT seconds::float8 AS long FROM recordings WHERE id = %s"
    before = estimated(a_day, english)
    a_day.connection.execute(
        "INSERT INTO transcripts (recording_id, version, run_id, run_key, part_id, outcome, text, words, word_count)"
        " SELECT recording_id, 9, run_id, decode(repeat('6e', 16), 'hex'), part_id, outcome, text, words, word_count"
        " FROM transcripts WHERE recording_id = %s",
        [a_day.ids["hello"]],
    )
    told = estimated(a_day, english)

    long = a_day.connection.execute(seconds, [a_day.ids["hello"]]).fetchone()["long"]
    assert (before.there_already, told.there_already, told.unmeasured) == (0, 1, 0)
    assert before.engine_hours is not None and told.engine_hours is not None
    assert 3600 * (before.engine_hours - told.engine_hours) == pytest.approx(long / 2, abs=0.01)
    assert told.disk_bytes < before.disk_bytes


def test_recordings_of_unknown_length_are_counted_beside_the_cost_and_ask_for_no_more_time_than_others(
    a_day: Any,
) -> None:
    told, others = (estimated(a_day, Criterion(*kind)) for kind in (("quarantined",), ("language", "en")))
    assert (told.engine_hours, told.unmeasured, others.unmeasured) == (0.0, 1, 0)
    assert told.task_minutes == others.task_minutes < SlurmSettings().minutes_most


def test_a_model_is_known_by_what_it_is_whatever_name_it_has(a_day: Any) -> None:
    def models(name: str, digest: str) -> list[dict[str, str]]:
        return [{"name": name, "kind": "asr", "digest": digest}]

    a_day.connection.execute("UPDATE runs SET receipt = receipt || %s", [Jsonb({"models": models("/a/path", "one")})])
    other = Criterion("not_model", "demo/asr.en")
    with pytest.raises(NothingChosen):
        drawn(a_day, other, receipt={"models": models("demo/asr.en", "one")})
    assert drawn(a_day, other, receipt={"models": models("demo/asr.en", "two")}).recordings == 5
    assert drawn(a_day, other, receipt={"models": models("another", "one")}).recordings == 5
