"""Recordings made again from a later stage on: flags judged anew (enrich), which needs neither audio nor a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from psycopg.sql import SQL, Identifier

from db import flags, metadata, plans, redo, rejudge
from db.errors import LeaseLost
from db.plans import Criterion, NothingChosen, Selection
from db.roles import Roles
from db.session import Session
from hpc import reprocess
from hpc.triage import RULES, enrich, enrich_open, judge_day
from hpc.triage.enrich import LEASE, judge_again
from hpc.triage.shard import look
from hpc.wiring import runs

ENRICH = ("reprocess", "--site", "zurich", "--stage", "enrich")
HELLO, HOSTILE = "7000000000000000001", "7000000000000000002"
NOTHING = {"gained": 0, "lost": 0, "other": 0}


@pytest.fixture
def session(dsn: str) -> Iterator[Session]:
    made = Session(dsn, application="test")
    yield made
    made.close()


@pytest.fixture(autouse=True)
def stale(a_day: Any, session: Session) -> None:
    """All is judged; and then there is a flag that is so no longer, one is missing, and one has another number."""
    row = dict.fromkeys(metadata.COLUMNS) | {"text_language": "ja"}
    metadata.put(a_day.connection, a_day.open.id, [(one, *row.values()) for one in (HELLO, HOSTILE)])
    for day in (a_day.open, a_day.done):
        judge_day(session, day.id)
    assert [row["flag"] for row in all_flags(a_day)] == ["language", "language"]
    put = "INSERT INTO flags SELECT current_id, 'gap', day_id, 9.0, 'of older rules' FROM recordings WHERE id = %s"
    a_day.connection.execute(put, [a_day.ids["calm"]])
    alter = "{} flags f {} recordings r WHERE f.transcript_id = r.current_id AND r.id = %s"
    a_day.connection.execute(SQL(alter).format(SQL("DELETE FROM"), SQL("USING")), [a_day.ids["hello"]])
    a_day.connection.execute(SQL(alter).format(SQL("UPDATE"), SQL("SET value = 0.1 FROM")), [a_day.ids["hostile"]])


def forget(a_day: Any) -> None:
    """As after an upgrade to other rules."""
    a_day.connection.execute("UPDATE shards SET judged = NULL")


def draw(session: Session, *criteria: Criterion, **given: Any) -> plans.Plan:
    """An open plan of stage enrich."""
    how = {"who": "me", "why": "a test", "stage": "enrich"} | given
    drawn = session(plans.draw, Selection(criteria or (Criterion("all"),)), wish(**how))
    session(plans.move, session(plans.get, drawn.id), "open", actor="me")
    return session(plans.get, drawn.id)


def wish(**how: Any) -> plans.Wish:
    return reprocess.wish(runs.judging_run(why=how["why"]), **how)


def go() -> bool:
    return False


def all_flags(a_day: Any) -> list[dict[str, Any]]:
    return a_day.connection.execute("SELECT * FROM flags ORDER BY transcript_id, flag").fetchall()  # type: ignore[no-any-return]


def everything_else(a_day: Any) -> list[Any]:
    """All that judging may not touch."""
    shown = "SELECT to_jsonb(x) - 'judged' AS x FROM {} x ORDER BY 1"
    tables = ("days", "shards", "recordings", "transcripts", "parts", "runs", "metadata")
    return [row["x"] for table in tables for row in a_day.connection.execute(SQL(shown).format(Identifier(table)))]


def marks(a_day: Any) -> list[int | None]:
    rows = a_day.connection.execute("SELECT judged FROM shards WHERE sealed IS NOT NULL ORDER BY id")
    return [row["judged"] for row in rows]


def outcomes(a_day: Any, plan_id: int) -> dict[str, str | None]:
    names = {number: name for name, number in a_day.ids.items()}
    return {names[row["id"]]: row["outcome"] for row in plans.recordings(a_day.connection, plan_id)}


def claim(a_day: Any, plan: plans.Plan) -> list[Any]:
    return redo.claim(a_day.connection, owner="w", count=9, lease=LEASE, plan_id=plan.id)


def test_enriching_judges_what_is_stored_says_what_changed_and_a_second_run_has_nothing_to_do(
    a_day: Any, answer: Callable[..., Any]
) -> None:
    forget(a_day)
    before = everything_else(a_day)
    shown = answer(*ENRICH, "--dry-run")
    assert (shown["stage"], shown["recordings"], shown["state"]) == ("enrich", 5, "drawn")
    cost = shown["estimate"]
    assert (cost["engine_hours"], cost["disk_bytes"], cost["tasks"], cost["source"]["archives"]) == (0.0, 0, 0, 0)
    assert marks(a_day) == [None, None], "a dry run judges nothing"
    told = answer("reprocess", "--plan", str(shown["plan"]), "--here")
    assert (told["stage"], told["state"], told["left"], told["failed"]) == ("enrich", "done", 0, 0)
    assert told["changes"] == {"gap": NOTHING | {"lost": 1}, "language": {"gained": 1, "lost": 0, "other": 1}}
    changed, same = dict.fromkeys(("calm", "hello", "hostile"), "remade"), dict.fromkeys(("silence", "injection"))
    assert outcomes(a_day, shown["plan"]) == changed | dict.fromkeys(same, "known")
    assert marks(a_day) == [RULES, RULES]
    assert everything_else(a_day) == before, "no text, state, version or word of a transcript is touched"
    assert [(row["flag"], round(row["value"], 2)) for row in all_flags(a_day)] == [("language", 0.75)] * 2

    found = all_flags(a_day)
    events = a_day.connection.execute("SELECT count(*) AS n FROM events").fetchone()["n"]
    again = answer("reprocess", "--plan", str(shown["plan"]), "--here")
    assert (again["state"], again["summary"]["changes"]) == ("done", told["changes"])
    nothing = answer(*ENRICH)
    assert (nothing["plan"], nothing["recordings"], nothing["known"]) == (None, 0, 5)
    assert all_flags(a_day) == found
    assert a_day.connection.execute("SELECT count(*) AS n FROM events").fetchone()["n"] == events
    assert answer("plans", "show", str(shown["plan"]))["stage"] == "enrich"


def test_page_and_api_tell_the_stage_and_what_changed(a_day: Any, session: Session, client: Any) -> None:
    plan = draw(session, forced=True)
    assert enrich(session, plan.id, stop=go) == 2
    told = client.get(f"/api/v1/plans/{plan.id}").get_json()
    assert (told["stage"], told["summary"]["changes"]["gap"]) == ("enrich", NOTHING | {"lost": 1})
    page = " ".join(client.get(f"/plans/{plan.id}").get_data(as_text=True).split())
    assert "flags are judged anew, from what is stored" in page
    assert '<tr><td>gap</td><td class="number">0</td><td class="number">1</td><td class="number">0</td></tr>' in page
    assert "<td>enrich</td><td>done</td>" in client.get("/plans").get_data(as_text=True)


def test_exactly_what_was_shown_is_judged_and_a_shard_of_which_it_is_a_part_keeps_its_mark(
    a_day: Any, session: Session
) -> None:
    with pytest.raises(NothingChosen, match="judged by these rules"):
        draw(session, Criterion("language", "de"))
    plan = draw(session, Criterion("language", "de"), forced=True)
    assert enrich(session, plan.id, stop=go) == 1
    assert outcomes(a_day, plan.id) == {"hostile": "remade"}
    assert marks(a_day) == [RULES, RULES], "the rest is as judged as it was"
    assert sorted(row["flag"] for row in all_flags(a_day)) == ["gap", "language"], "the rest is as flagged as it was"
    forget(a_day)
    plan = draw(session, Criterion("language", "de"))
    assert enrich(session, plan.id, stop=go) == 1
    assert outcomes(a_day, plan.id) == {"hostile": "known"}
    assert marks(a_day) == [None, None], "and what nobody judged still waits for it"


def test_evidence_that_comes_while_a_plan_judges_is_not_missed(a_day: Any, session: Session) -> None:
    plan = draw(session, Criterion("language", "de"), forced=True)
    [leased] = claim(a_day, plan)
    turn = flags.take(a_day.connection, leased.id)
    assert turn is not None
    told = look(a_day.connection, turn, only=leased.wanted)
    row = dict.fromkeys(metadata.COLUMNS) | {"text_language": "de"}
    metadata.put(a_day.connection, a_day.open.id, [(HOSTILE, *row.values())])
    late = (a_day.connection, leased, turn, told.versions, told.flags)
    before = all_flags(a_day)
    assert not rejudge.settle(*late, rules=RULES, actor="w")
    assert (all_flags(a_day), outcomes(a_day, plan.id)) == (before, {"hostile": None})
    assert judge_again(a_day.connection, leased, actor="w")
    assert flags.of_recording(a_day.connection, a_day.ids["hostile"]) == []
    assert marks(a_day)[1] is None, "what came is of the whole shard, and the rest of it is still to be judged"


def test_a_judge_whose_lease_was_taken_over_writes_nothing(a_day: Any, session: Session) -> None:
    plan = draw(session, forced=True)
    old = claim(a_day, plan)
    a_day.connection.execute("UPDATE plan_shards SET lease_until = now() - interval '1 second'")
    new = claim(a_day, plan)
    before = all_flags(a_day)
    with pytest.raises(LeaseLost):
        judge_again(a_day.connection, old[0], actor="old")
    assert all_flags(a_day) == before
    assert all(judge_again(a_day.connection, one, actor="new") for one in new)
    assert session(plans.get, plan.id).state == "done"
    with pytest.raises(LeaseLost):
        judge_again(a_day.connection, old[0], actor="old")


def test_a_tick_judges_open_plans_for_as_long_as_it_may_and_orders_no_job_for_them(
    a_day: Any, session: Session
) -> None:
    plan = draw(session, forced=True)
    assert redo.backlog(a_day.connection) == [], "no GPU waits for it"
    session(plans.move, plan, "pause", actor="me")
    assert enrich_open(session, seconds=60) == 0
    session(plans.move, plan, "resume", actor="me")
    ticking = iter(range(100))
    assert enrich_open(session, seconds=1.5, clock=lambda: float(next(ticking))) == 1
    assert session(plans.get, plan.id).state == "open"
    assert enrich_open(session, seconds=60) == 1
    assert session(plans.get, plan.id).state == "done"
    assert enrich_open(session, seconds=60) == 0


def test_archives_that_were_let_go_are_neither_waited_for_nor_fetched_again_nor_kept(
    a_day: Any, session: Session
) -> None:
    a_day.connection.execute(
        "INSERT INTO files (day_id, path, kind, state, size, since, seen, shard) SELECT day_id, paths[1], 'archive',"
        " 'removed', size, 0, 0, name FROM shards WHERE sealed IS NOT NULL"
    )
    before = a_day.connection.execute("SELECT look_at FROM days ORDER BY id").fetchall()
    plan = draw(session, forced=True)
    assert plans.awaited(a_day.connection, plan.id)["archives"] == 0
    assert a_day.connection.execute("SELECT look_at FROM days ORDER BY id").fetchall() == before
    assert enrich(session, plan.id, stop=go) == 2
    assert session(plans.get, plan.id).state == "done"


def test_what_cannot_be_judged_fails_its_own_archive_and_is_taken_up_again(a_day: Any, session: Session) -> None:
    plan = draw(session, forced=True)
    words = "UPDATE transcripts SET words = %s WHERE recording_id = %s"
    [row] = a_day.connection.execute("SELECT words FROM transcripts WHERE recording_id = %s", [a_day.ids["hello"]])
    a_day.connection.execute(words, [b"torn", a_day.ids["hello"]])
    assert enrich(session, plan.id, stop=go) == 1
    done = session(plans.get, plan.id)
    assert done.summary is not None
    assert (done.state, done.summary["failed_shards"], done.summary["left"]) == ("done", 1, 4)
    [failed] = [one for one in session(plans.shards, plan.id) if one["state"] == "failed"]
    assert "cannot be judged" in failed["failure_reason"]
    a_day.connection.execute(words, [row["words"], a_day.ids["hello"]])
    session(plans.move, done, "resume", actor="me")
    assert enrich(session, plan.id, stop=go) == 1
    assert outcomes(a_day, plan.id)["hello"] == "remade"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--keep-current",), 2, "--stage enrich makes none"),
        (("--date", "2025-01-31", "--plan", "1"), 2, "as it was drawn"),
    ],
)
def test_what_makes_no_sense_of_a_stage_is_refused(
    call: Callable[..., int], capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, said: str
) -> None:
    assert call(*ENRICH, *words) == code
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_plan_of_other_rules_is_refused_with_what_differs(
    a_day: Any, session: Session, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    how = {"who": "me", "why": "", "stage": "enrich", "forced": False}
    run = runs.judging_run(why="")
    older = type(run)(b"o" * 16, dict(run.receipt) | {"rules": RULES - 1})
    forget(a_day)
    drawn = session(plans.draw, Selection((Criterion("all"),)), reprocess.wish(older, **how))
    assert call("reprocess", "--plan", str(drawn.id), "--here") == 78
    assert f"rules {RULES - 1} → {RULES}" in capsys.readouterr().err
    assert session(plans.get, drawn.id).state == "drawn"


@pytest.mark.parametrize("judge", ["worker", "scheduler"])
def test_a_plan_is_judged_by_whoever_has_the_role_for_it(
    a_day: Any, session: Session, roles: Roles, judge: str
) -> None:
    plan = draw(session, forced=True)
    session.connection().execute(SQL("SET ROLE {}").format(Identifier(getattr(roles, judge))))
    assert enrich(session, plan.id, stop=go) == 2
    assert plans.get(a_day.connection, plan.id).state == "done"


@pytest.mark.parametrize(
    ("languages", "names"),
    [
        (None, {"calm", "hello", "hostile", "injection"}),
        (("de", "fr"), {"hostile"}),
        (("en",), {"calm", "hello", "injection"}),
        ((), set()),
    ],
)
def test_what_is_aligned_says_something_in_a_language_that_there_is_an_aligner_for(
    a_day: Any, session: Session, languages: tuple[str, ...] | None, names: set[str]
) -> None:
    able = plans.Alignable(None, languages=languages)
    everything = Selection((Criterion("all"),))
    found = session(plans.texts, everything, able)
    assert sum(text["recordings"] for text in found) == len(names)
    if not names:
        return
    [text] = found
    able = plans.Alignable(text["key"][:8], text["forced_by"], languages)
    how = plans.Wish("me", "", b"n" * 16, {"text": text}, stage="align", alignable=able)
    drawn = session(plans.draw, everything, how)
    assert outcomes(a_day, drawn.id) == dict.fromkeys(names)
