"""Reprocessing by reason: what is chosen and why, what is refused, and that exactly what was shown is what runs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from psycopg.sql import SQL, Identifier

from db import days, formats, parts, plans, redo
from db.connect import Connection
from db.errors import BadData, IllegalMove, LeaseLost
from db.plans import Criterion, NothingChosen, Selection, Wish
from db.roles import Roles

LEASE = timedelta(seconds=60)
KEY = b"n" * 16
EVERYTHING = Selection((Criterion("all"),))


def ids(made: Any, *names: str) -> list[int]:
    return sorted(made.ids[name] for name in names)


def chosen(made: Any, plan_id: int) -> list[int]:
    return [row["id"] for row in plans.recordings(made.connection, plan_id)]


def draw(made: Any, selection: Selection = EVERYTHING, **given: Any) -> plans.Plan:
    wish = {"who": "me", "why": "", "run_key": KEY, "receipt": {"engine": "new"}} | given
    drawn = plans.draw(made.connection, selection, Wish(**wish))
    plan = plans.get(made.connection, drawn.id)
    plans.move(made.connection, plan, "open", actor="me")
    return plans.get(made.connection, plan.id)


def result(made: Any, name: str, **given: Any) -> dict[str, Any]:
    """A recording's new outcome as ingest writes it; text=None: it failed."""
    row = made.connection.execute("SELECT ordinal, sha256 FROM recordings WHERE id = %s", [made.ids[name]]).fetchone()
    said = {
        **row, "outcome": "speech", "language": "fr", "language_probability": None, "text": "bonjour", "word_count": 1,
        "words": formats.pack([]), "transcript_flags": [], "failure_class": None, "failure_reason": None,
        "seconds": 99.0, "flags": ["multichannel"],
    } | given  # fmt: skip
    if said["text"] is None:
        said |= {"outcome": None, "failure_class": "engine_error", "failure_reason": "it was told to"}
    return said


def record(
    made: Any, plan: plans.Plan, leased: Any, *results: Mapping[str, Any], sealed: bool = True, key: bytes = KEY
) -> parts.Recorded:
    name = f"{leased.id}-{leased.epoch}-{hashlib.sha256(repr((plan.id, results, sealed)).encode()).hexdigest()[:16]}"
    part = parts.Part(name, leased.id, leased.epoch, hashlib.sha256(name.encode()).digest(), 1, key, {"engine": "new"})
    return redo.record(made.connection, part, plan.id, results, sealed=sealed, actor="w")


def claim(made: Any, plan: plans.Plan, count: int = 9) -> list[Any]:
    return redo.claim(made.connection, owner="w", count=count, lease=LEASE, plan_id=plan.id)


def current(made: Any, name: str) -> tuple[str, str | None, int | None]:
    row = made.connection.execute(
        "SELECT r.state, t.text, t.version FROM recordings r LEFT JOIN transcripts t ON t.id = r.current_id"
        " WHERE r.id = %s",
        [made.ids[name]],
    ).fetchone()
    return tuple(row.values())


# --- what is chosen -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("only", "names"),
    [
        ((), ("calm", "hello", "hostile", "silence", "quarantined", "injection")),
        (("quarantined",), ("quarantined",)),
        (("error=truncated",), ("quarantined",)),
        (("language=de",), ("hostile",)),
        (("language=DE",), ("hostile",)),
        (("language=de", "quarantined"), ("hostile", "quarantined")),
        (("duration>13",), ("injection",)),
        (("duration<10.5",), ("calm", "hello")),
        (("model!=demo/asr.en",), ("calm", "hello", "hostile", "silence", "injection")),
        (("flag=repetition",), ("hello",)),
        (("suspect",), ("hello", "hostile")),
        (("lang-mismatch",), ("hostile",)),
    ],
)
def test_each_reason_finds_its_recordings_and_no_unsealed_one(
    a_day: Any, answer: Callable[..., Any], only: tuple[str, ...], names: tuple[str, ...]
) -> None:
    for name, flag in (("hello", "repetition"), ("hostile", "language")):
        a_day.connection.execute(
            "INSERT INTO flags SELECT current_id, %s, day_id, 2.5, NULL FROM recordings WHERE id = %s",
            [flag, a_day.ids[name]],
        )
    words = [word for one in only for word in ("--only", one)]
    told = answer("--set", "engine.name=echo", "reprocess", "--site", "zurich", *words, "--dry-run")
    assert told["recordings"] == len(names)
    assert chosen(a_day, told["plan"]) == ids(a_day, *names)
    reasons = {row["reason"].partition("=")[0].rstrip("<>0123456789.") for row in told["reasons"]}
    spelled = {one.partition("=")[0].rstrip("<>0123456789.!") for one in only} or {"asked for"}
    assert reasons == {{"suspect": "flag", "lang-mismatch": "flag"}.get(one, one) for one in spelled}
    assert told["failed_shards"] == 1, "what was never read whole is told of"


def test_a_plan_is_of_the_days_names_order_and_number_that_were_asked_for(
    a_day: Any, answer: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    echo = ("--set", "engine.name=echo", "reprocess")
    told = answer(*echo, "--date", "2025-01-30", "--dry-run")
    assert chosen(a_day, told["plan"]) == ids(a_day, "calm")
    told = answer(*echo, "--from", "2025-01-30", "--to", "2025-01-31", "--order", "newest", "--limit", "5", "--dry-run")
    assert chosen(a_day, told["plan"]) == ids(a_day, "hello", "hostile", "silence", "quarantined", "injection")
    told = answer(*echo, "--site", "zurich", "--limit", "1", "--dry-run")
    assert chosen(a_day, told["plan"]) == ids(a_day, "calm")
    names = tmp_path / "names.txt"
    names.write_text(f"silence\n\n{a_day.ids['calm']}\nnobody's\nsilence\n")
    told = answer(*echo, "--recordings", str(names), "--dry-run")
    assert chosen(a_day, told["plan"]) == ids(a_day, "calm", "silence")
    assert told["unknown_names"] == ["nobody's"]


@pytest.mark.parametrize(
    "refusal",
    [
        ((), 2, "say which"),
        (("--date", "2025-01-31", "--from", "2025-01-30"), 2, "--date is one day"),
        (("--from", "2025-02-01", "--to", "2025-01-30"), 2, "before it begins"),
        (("--site", "zurich", "--force"), 2, "--force needs --reason"),
        (("--plan", "1", "--only", "suspect"), 2, "as it was drawn"),
        (("--site", "zurich", "--only", "wrong"), 2, "'wrong' is none of"),
        (("--site", "zurich", "--only", "error=nonsense"), 2, "there is no such class"),
        (("--site", "zurich", "--only", "flag=nonsense"), 2, "there is no such flag"),
        (("--site", "zurich", "--only", "language=German"), 2, "is no language"),
        (("--site", "zurich", "--only", "run!=1b"), 65, "at least 6 digits"),
        (("--site", "zurich", "--only", "duration>long"), 2, "no number of seconds"),
        (("--site", "zurich", "--only", "missing"), 65, "dayscribe days retry"),
        (("--date", "1999-01-01"), 65, "no day in this selection"),
        (("--site", "geneva"), 65, "geneva"),
        (("--plan", "77"), 65, "no plan 77"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do(
    a_day: Any,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    refusal: tuple[tuple[str, ...], int, str],
) -> None:
    words, code, said = refusal
    assert call("--set", "engine.name=echo", "reprocess", *words) == code
    assert said in " ".join(capsys.readouterr().err.split())
    assert a_day.connection.execute("SELECT count(*) AS n FROM plans").fetchone()["n"] == 0


def test_what_has_been_made_under_this_key_is_not_made_again_unless_forced(a_day: Any) -> None:
    key = hashlib.md5(b"key").digest()  # of the day's own transcripts
    with pytest.raises(NothingChosen, match="5 recordings were chosen, and all of them have been made"):
        draw(a_day, run_key=key)
    plan = draw(a_day, Selection((Criterion("quarantined"),)), run_key=key)
    assert chosen(a_day, plan.id) == ids(a_day, "quarantined"), "what failed may be tried again under the same key"
    forced = draw(a_day, Selection((Criterion("language", "de"),)), run_key=key, forced=True, why="another GPU")
    [leased] = claim(a_day, forced)
    assert record(a_day, forced, leased, result(a_day, "hostile"), key=key).settled
    assert current(a_day, "hostile") == ("transcribed", "bonjour", 2)


# --- what runs ----------------------------------------------------------------------------------------------------


def test_readers_see_the_old_until_all_that_is_planned_of_an_archive_is_there(a_day: Any) -> None:
    plan = draw(a_day, Selection((Criterion("all"),), start=a_day.open.date))
    [leased] = claim(a_day, plan)
    wanted = {"hello", "hostile", "silence", "quarantined", "injection"}
    before = {name: current(a_day, name) for name in wanted}
    assert leased.wanted == set(leased.known) == {0, 1, 2, 3, 4}
    first = [result(a_day, name) for name in ("hello", "hostile", "quarantined")]
    assert record(a_day, plan, leased, *first, sealed=False) == parts.Recorded(new=True, settled=False, stale=False)
    assert record(a_day, plan, leased, *first, sealed=False) == parts.Recorded(new=False, settled=False, stale=False)
    assert {name: current(a_day, name) for name in wanted} == before
    assert not record(a_day, plan, leased, result(a_day, "silence", text="", outcome="no_speech")).settled, (
        "one is left"
    )
    assert {name: current(a_day, name) for name in wanted} == before
    assert record(a_day, plan, leased, result(a_day, "injection", text=None)).settled
    assert current(a_day, "hello") == ("transcribed", "bonjour", 2)
    assert current(a_day, "quarantined") == ("transcribed", "bonjour", 1)
    lengths = a_day.connection.execute(
        "SELECT seconds FROM recordings WHERE id = ANY (%s) ORDER BY ordinal", [ids(a_day, "hello", "quarantined")]
    ).fetchall()
    assert [row["seconds"] for row in lengths] == [10.0, 99.0], "what nobody could decode has a length now"
    assert current(a_day, "silence") == ("no_speech", "", 2)
    assert current(a_day, "injection") == before["injection"], "a failing new run changes nothing that readers see"
    now = plans.get(a_day.connection, plan.id)
    assert now.state == "done"
    assert now.summary is not None
    assert {name: now.summary[name] for name in ("remade", "failed", "left")} == {"remade": 4, "failed": 1, "left": 0}
    assert days.by_id(a_day.connection, a_day.open.id).state == a_day.open.state


def test_a_finished_days_summary_follows_what_readers_see_and_its_state_does_not(a_day: Any) -> None:
    plan = draw(a_day, Selection((Criterion("all"),), start=a_day.done.date, stop=a_day.done.date))
    [leased] = claim(a_day, plan)
    assert record(a_day, plan, leased, result(a_day, "calm", text="", outcome="no_speech", language=None)).settled
    day = days.by_id(a_day.connection, a_day.done.id)
    assert day.summary == days.tally(a_day.connection, day.id)
    assert (day.summary["transcribed"], day.summary["no_speech"]) == (0, 1)  # type: ignore[index]
    assert (day.state, day.finished) == (a_day.done.state, a_day.done.finished)


def test_exactly_what_was_shown_is_what_runs_though_the_ledger_changed_meanwhile(a_day: Any) -> None:
    plan = draw(a_day, Selection((Criterion("language", "de"), Criterion("longer", 13.0))))
    other = draw(a_day, Selection((Criterion("language", "de"),)))  # the same key
    third = draw(a_day, Selection((Criterion("longer", 13.0),)), run_key=b"o" * 16)
    shown = chosen(a_day, plan.id)
    assert shown == ids(a_day, "hostile", "injection")
    [leased] = claim(a_day, other)
    assert record(a_day, other, leased, result(a_day, "hostile")).settled
    [leased] = claim(a_day, third)
    assert record(a_day, third, leased, result(a_day, "injection", text="autre"), key=b"o" * 16).settled
    assert plans.outcomes(a_day.connection, plan.id)["changed"] == 2
    [leased] = claim(a_day, plan)
    assert leased.wanted == {4}, "what another plan made under this key is not made again"
    stranger = record(a_day, plan, leased, result(a_day, "hello"), result(a_day, "injection"))
    assert stranger.settled
    assert chosen(a_day, plan.id) == shown
    of_hello = "SELECT count(*) AS n FROM transcripts WHERE recording_id = %s"
    assert a_day.connection.execute(of_hello, [a_day.ids["hello"]]).fetchone()["n"] == 1, (
        "what was not shown is not made"
    )
    counts = plans.outcomes(a_day.connection, plan.id)
    assert (counts["remade"], counts["known"], counts["left"]) == (1, 1, 0)


def test_a_trial_is_kept_beside_what_readers_see_until_it_is_adopted(a_day: Any, answer: Callable[..., Any]) -> None:
    plan = draw(a_day, Selection((Criterion("language", "de"),)), keep_current=True)
    before = current(a_day, "hostile")
    [leased] = claim(a_day, plan)
    with pytest.raises(IllegalMove, match="is open"):
        redo.adopt(a_day.connection, plan, actor="me")
    a_day.connection.execute("UPDATE shards SET judged = 1")
    assert record(a_day, plan, leased, result(a_day, "hostile")).settled
    assert current(a_day, "hostile") == before
    judged = a_day.connection.execute("SELECT judged FROM shards WHERE id = %s", [leased.id]).fetchone()["judged"]
    assert judged is None, "a trial's versions are judged, too"
    assert answer("plans", "adopt", str(plan.id)) == {"plan": plan.id, "recordings": 1}
    assert current(a_day, "hostile") == ("transcribed", "bonjour", 2)
    assert answer("plans", "adopt", str(plan.id)) == {"plan": plan.id, "recordings": 0}


def test_only_a_trial_can_be_adopted(a_day: Any) -> None:
    plan = draw(a_day, Selection((Criterion("language", "de"),)))
    [leased] = claim(a_day, plan)
    assert record(a_day, plan, leased, result(a_day, "hostile")).settled
    with pytest.raises(IllegalMove, match="no trial"):
        redo.adopt(a_day.connection, plan, actor="me")
    assert redo.adoption(a_day.connection, plan) is None


def test_what_a_plan_that_was_given_up_has_made_is_seen_with_the_next_and_not_made_again(a_day: Any) -> None:
    first = draw(a_day, Selection((Criterion("all"),), start=a_day.open.date))
    [leased] = claim(a_day, first)
    assert not record(a_day, first, leased, result(a_day, "hello"), sealed=False).settled
    plans.move(a_day.connection, first, "cancel", actor="me")
    second = draw(a_day, Selection((Criterion("all"),), start=a_day.open.date))
    assert second.recordings == 5, "what is there and not seen is in it"
    [leased] = claim(a_day, second)
    assert leased.wanted == {1, 2, 3, 4}, "and not to be made"
    rest = [result(a_day, name) for name in ("hostile", "silence", "quarantined", "injection")]
    assert not record(a_day, second, leased, *rest, sealed=False).settled
    redo.release(a_day.connection, leased.id, leased.epoch, plan_id=second.id)
    assert claim(a_day, second) == [], "nothing of it is left to make: it is settled, and nothing is read"
    assert {current(a_day, name)[1] for name in ("hello", "hostile", "silence")} == {"bonjour"}
    counts = plans.outcomes(a_day.connection, second.id)
    assert (counts["remade"], counts["known"]) == (4, 1)
    assert plans.get(a_day.connection, second.id).state == "done"


def test_a_claim_goes_on_until_there_is_something_to_read(a_day: Any) -> None:
    """A worker that got nothing would leave, and its job would look fruitless."""
    slow = draw(a_day)
    quick = draw(a_day, Selection((Criterion("all"),), start=a_day.done.date, stop=a_day.done.date))
    [leased] = claim(a_day, quick)
    assert record(a_day, quick, leased, result(a_day, "calm")).settled
    [leased] = claim(a_day, slow, count=1)
    assert leased.id != slow.id
    assert leased.wanted == {0, 1, 2, 3, 4}


def test_recordings_with_other_bytes_than_before_are_refused_whole(a_day: Any) -> None:
    plan = draw(a_day)
    leased = claim(a_day, plan)[1]
    wrong = result(a_day, "hostile", sha256=b"x" * 32)
    with pytest.raises(BadData, match="other bytes"):
        record(a_day, plan, leased, result(a_day, "hello"), wrong, sealed=False)
    assert (
        a_day.connection.execute("SELECT count(*) AS n FROM transcripts WHERE plan_id IS NOT NULL").fetchone()["n"] == 0
    )


def test_a_worker_whose_lease_was_taken_over_settles_nothing_and_its_results_are_welcome(a_day: Any) -> None:
    plan = draw(a_day, Selection((Criterion("language", "de"),)))
    [old] = claim(a_day, plan)
    a_day.connection.execute("UPDATE plan_shards SET lease_until = now() - interval '1 second'")
    [new] = claim(a_day, plan)
    assert new.epoch == old.epoch + 1
    late = record(a_day, plan, old, result(a_day, "hostile"))
    assert (late.new, late.settled, late.stale) == (True, False, True)
    assert current(a_day, "hostile")[2] == 1
    with pytest.raises(LeaseLost):
        redo.release(a_day.connection, old.id, old.epoch, plan_id=plan.id)
    assert record(a_day, plan, new).settled
    assert current(a_day, "hostile") == ("transcribed", "bonjour", 2)


def test_audio_that_is_gone_is_told_before_and_fails_its_archive_only(
    a_day: Any, answer: Callable[..., Any], call: Callable[..., int]
) -> None:
    echo = ("--set", "engine.name=echo", "--set", "engine.language=fr")
    told = answer(*echo, "reprocess", "--date", "2025-01-30", "--dry-run", "--reason", "a trial")
    source = told["estimate"]["source"]
    assert (source["gone"], source["gone_bytes"], source["gone_days"]) == (1, 1000, ["zurich 2025-01-30"])
    assert call(*echo, "reprocess", "--plan", str(told["plan"]), "--here") == 65
    plan = answer("plans", "show", str(told["plan"]))
    assert (plan["state"], plan["left"], plan["why"]) == ("done", 1, "a trial")
    [failed] = plan["failed_archives"]
    assert failed["failure_class"] == "source_missing"
    assert current(a_day, "calm")[2] == 1
    assert answer("plans", "resume", str(told["plan"]))["state"] == "open"


def test_a_plans_recordings_are_shown_page_by_page_and_each_once(
    a_day: Any, answer: Callable[..., Any], call: Callable[..., int], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    plan = draw(a_day)
    asked, whole = [], plans.page

    def page(connection: Connection, plan_id: int, after: int) -> list[dict[str, Any]]:
        asked.append(after)
        return whole(connection, plan_id, after, limit=2)

    monkeypatch.setattr(plans, "page", page)
    told = answer("plans", "show", str(plan.id), "--recordings")
    planned = a_day.connection.execute(
        "SELECT recording_id AS id FROM plan_recordings WHERE plan_id = %s ORDER BY recording_id", [plan.id]
    ).fetchall()
    assert [row["id"] for row in told] == [row["id"] for row in planned]
    assert len(told) > 2
    assert len(asked) == len(told) // 2 + 1 + len(told) % 2, "no page was asked for twice, and none is larger"
    capsys.readouterr()
    assert call("plans", "show", str(plan.id), "--recordings") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(told) + 1, "the headings stand once"
    assert lines[0].split() == ["id", "site", "date", "shard", "meta", "id", "outcome", "reasons", "failure", "class"]


def test_without_a_dry_run_a_plan_is_opened_at_once_and_a_program_reads_one_document(
    a_day: Any, answer: Callable[..., Any]
) -> None:
    told = answer("--set", "engine.name=echo", "reprocess", "--date", "2025-01-30")
    assert (told["state"], told["recordings"], told["left"]) == ("open", 1, 1)
    assert answer("--set", "engine.name=echo", "reprocess", "--plan", str(told["plan"])) == told
    nothing = answer("--set", "engine.name=echo", "reprocess", "--date", "2025-01-30", "--only", "quarantined")
    assert (nothing["plan"], nothing["recordings"]) == (None, 0)


def test_a_plan_drawn_for_other_settings_is_refused_with_what_differs(
    a_day: Any, answer: Callable[..., Any], call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    told = answer("--set", "engine.name=echo", "reprocess", "--site", "zurich", "--dry-run")
    assert (
        call("--set", "engine.name=echo", "--set", "engine.language=fr", "reprocess", "--plan", str(told["plan"])) == 78
    )
    assert "options.language auto → fr" in capsys.readouterr().err
    assert plans.get(a_day.connection, told["plan"]).state == "drawn"


def test_a_person_pauses_resumes_and_cancels_and_what_makes_no_sense_is_refused(
    a_day: Any, answer: Callable[..., Any], call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    plan = draw(a_day)
    assert answer("plans", "pause", str(plan.id)) == {"plan": plan.id, "state": "paused"}
    assert claim(a_day, plan) == []
    assert call("plans", "pause", str(plan.id)) == 65
    assert answer("plans", "resume", str(plan.id))["state"] == "open"
    assert answer("plans", "cancel", str(plan.id))["state"] == "cancelled"
    assert claim(a_day, plan) == []
    assert call("plans", "resume", str(plan.id)) == 65
    assert "is cancelled" in capsys.readouterr().err
    [listed] = answer("plans", "list")
    assert (listed["id"], listed["state"], listed["recordings"]) == (plan.id, "cancelled", 6)
    assert answer("plans", "list", "--live") == []


def test_what_failed_of_a_finished_plan_is_taken_up_again_and_nothing_else(a_day: Any) -> None:
    plan = draw(a_day, Selection((Criterion("language", "de"), Criterion("longer", 13.0))))
    [leased] = claim(a_day, plan)
    assert record(a_day, plan, leased, result(a_day, "hostile"), result(a_day, "injection", text=None)).settled
    plans.move(a_day.connection, plans.get(a_day.connection, plan.id), "resume", actor="me")
    third = draw(a_day, Selection((Criterion("language", "fr"),)), run_key=b"o" * 16)
    [moved_on] = claim(a_day, third)
    assert record(a_day, third, moved_on, result(a_day, "hostile", text="autre"), key=b"o" * 16).settled
    [leased] = claim(a_day, plan)
    assert record(a_day, plan, leased, result(a_day, "injection")).settled
    assert current(a_day, "injection") == ("transcribed", "bonjour", 2)
    assert current(a_day, "hostile") == ("transcribed", "autre", 3), "what another plan made since stays"


@pytest.mark.parametrize("recorder", ["worker", "scheduler"])
def test_a_plan_is_drawn_and_recorded_by_whoever_has_the_role_for_it(a_day: Any, roles: Roles, recorder: str) -> None:
    """A tick records what tasks without a ledger made."""
    become = SQL("SET ROLE {}")
    a_day.connection.execute(become.format(Identifier(roles.scheduler)))
    plan = draw(a_day, Selection((Criterion("language", "de"), Criterion("quarantined"))))
    a_day.connection.execute(become.format(Identifier(getattr(roles, recorder))))
    [leased] = claim(a_day, plan)
    assert record(a_day, plan, leased, result(a_day, "hostile"), result(a_day, "quarantined")).settled
    a_day.connection.execute("RESET ROLE")
    assert current(a_day, "quarantined") == ("transcribed", "bonjour", 1)
    assert plans.get(a_day.connection, plan.id).state == "done"


def test_an_empty_answer_to_a_plan_is_no_news(ledger: Connection) -> None:
    assert plans.latest(ledger) == []
    with pytest.raises(plans.NoSuchPlan, match="dayscribe plans list"):
        plans.get(ledger, 1)
