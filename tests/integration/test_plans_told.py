"""What is told of a plan that is over: whether readers see what a trial made, and what a person may do with it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

from db import formats, parts, plans, redo
from db.plans import Criterion, Selection, Wish

KEY = b"n" * 16


def draw(made: Any, *, keep_current: bool = False) -> plans.Plan:
    """An open plan of one recording, `hostile`."""
    wish = Wish(who="me", why="", run_key=KEY, receipt={"engine": "new"}, keep_current=keep_current)
    plan = plans.get(made.connection, plans.draw(made.connection, Selection((Criterion("language", "de"),)), wish).id)
    plans.move(made.connection, plan, "open", actor="me")
    return plans.get(made.connection, plan.id)


def claim(made: Any, plan: plans.Plan) -> Any:
    [leased] = redo.claim(made.connection, owner="w", count=9, lease=timedelta(seconds=60), plan_id=plan.id)
    return leased


def record(made: Any, plan: plans.Plan, leased: Any, *, sealed: bool = True, failed: bool = False) -> parts.Recorded:
    """What came of it."""
    asked = "SELECT ordinal, sha256 FROM recordings WHERE id = %s"
    result = {
        **made.connection.execute(asked, [made.ids["hostile"]]).fetchone(), "outcome": None if failed else "speech",
        "language": "fr", "language_probability": None, "text": None if failed else "bonjour", "word_count": 1,
        "words": formats.pack([]), "transcript_flags": [], "failure_class": "engine_error" if failed else None,
        "failure_reason": "it was told to" if failed else None, "seconds": 9.0, "flags": [],
    }  # fmt: skip
    name = f"{leased.id}-{leased.epoch}-{hashlib.sha256(str(sealed).encode()).hexdigest()[:16]}"
    part = parts.Part(name, leased.id, leased.epoch, hashlib.sha256(name.encode()).digest(), 1, KEY, plan.receipt)
    return redo.record(made.connection, part, plan.id, [result], sealed=sealed, actor="w")


def test_a_trial_tells_whether_readers_see_it_and_offers_to_adopt_it_until_they_do(
    a_day: Any,
    answer: Callable[..., Any],
    call: Callable[..., int],
    client: FlaskClient,
    capsys: pytest.CaptureFixture[str],
) -> None:
    [row] = a_day.connection.execute("SELECT current_id FROM recordings WHERE id = %s", [a_day.ids["hostile"]])
    plan = draw(a_day, keep_current=True)
    shown, adopt = ("plans", "show", str(plan.id)), f"dayscribe plans adopt {plan.id}"

    def told() -> tuple[Any, str, str]:
        page, document = client.get(f"/plans/{plan.id}").text, client.get(f"/api/v1/plans/{plan.id}").get_json()
        assert (adopt in document["commands"]) == (adopt in page)
        assert document["adoption"] == answer(*shown)["adoption"]
        assert call(*shown) == 0
        return document["adoption"], page, " ".join(capsys.readouterr().out.split())

    leased = claim(a_day, plan)
    assert not record(a_day, plan, leased, sealed=False).settled
    adoption, page, _ = told()
    assert (adoption, adopt in page) == ({"left": 0, "moved": 0, "seen": 0}, False), "it is at work"

    assert record(a_day, plan, leased).settled
    adoption, page, text = told()
    assert adoption == {"left": 1, "moved": 0, "seen": 0}
    assert adopt in page
    assert "a trial, readers see what they saw" in page
    assert f"see what they saw; let them see 1 that it made: {adopt}" in text

    answer("plans", "adopt", str(plan.id))
    adoption, page, text = told()
    assert adoption == {"left": 0, "moved": 1, "seen": 1}
    assert adopt not in page
    assert "what they saw" not in page
    assert "a trial that was adopted" in page
    assert "readers see its version of 1 of the 1 recordings" in page
    assert "see its version of 1 of the 1 recordings that were adopted" in text

    a_day.connection.execute(
        "UPDATE recordings SET current_id = %s WHERE id = %s", [row["current_id"], a_day.ids["hostile"]]
    )
    assert told()[0] == {"left": 0, "moved": 1, "seen": 0}, "somebody may have moved it on since"


def test_a_plan_of_which_something_failed_offers_to_take_that_up(a_day: Any, client: FlaskClient) -> None:
    plan = draw(a_day)
    assert record(a_day, plan, claim(a_day, plan), failed=True).settled
    resume = f"dayscribe plans resume {plan.id}"
    assert resume in client.get(f"/plans/{plan.id}").text
    plans.move(a_day.connection, plan, "resume", actor="me")
    assert resume not in client.get(f"/plans/{plan.id}").text
