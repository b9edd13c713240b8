"""Plans and the tick: one order for what a plan has of a day, after the days that wait, and few at once."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest

from db import days, plans, redo
from db.plans import Alignable, Criterion, Selection, Wish
from db.states import DayState
from hpc import scheduler
from hpc.feeds.plan import PlanFeed
from hpc.job_folder import FailedShard, Superseded
from hpc.model import Recording, Result, Seal, Segment, Transcript
from hpc.stages.align import transcript_from
from hpc.stages.publish import Header, write_part

KEY = b"n" * 16
LEASE = timedelta(seconds=60)


def draw(lab: Any, *, opened: bool = True, **given: Any) -> plans.Plan:
    """A plan of everything in the ledger, to be made under another key."""
    wanted: dict[str, Any] = {"who": "me", "why": "a better model", "run_key": KEY, "receipt": {"engine": "new"}}
    wish = Wish(**wanted | {"max_attempts": 3} | given)
    drawn = plans.draw(lab.connection, Selection((Criterion("all"),)), wish)
    plan = plans.get(lab.connection, drawn.id)
    if opened:
        plans.move(lab.connection, plan, "open", actor="me")
    return plans.get(lab.connection, drawn.id)


def worked(lab: Any, count: int = 3, number: int = 1) -> list[days.Day]:
    """Days that are done."""
    made: list[days.Day] = lab.days(number, count)
    for day in made:
        assert lab.work(day) == count
    return made


def publish(lab: Any, order: dict[str, Any], *shard_ids: int, key: bytes = KEY) -> None:
    """What tasks without a ledger leave behind: a part of each shard, with its end."""
    said = lab.job_folder(order).order()
    for planned in said.shards:
        if planned.id in shard_ids:
            header = Header(
                said.site, said.day, planned.id, planned.name, planned.epoch, key.hex(), {"engine": "new"}, 0.5,
                said.plan_id,
            )  # fmt: skip
            recording = Recording(planned.id, 0, b"clip0.mp3", 1, hashlib.sha256(b"0").digest())
            result = Result(recording, Transcript("de", (Segment("hallo", 0.0, 2.0),)), 2.0)
            write_part(lab.folder / "results", header, [result], Seal(planned.id, b"s" * 32, 1000, 1, b"c" * 32))


def seen(lab: Any) -> list[str]:
    """The languages that readers see."""
    return lab.rows(  # type: ignore[no-any-return]
        "SELECT t.language FROM recordings r JOIN transcripts t ON t.id = r.current_id ORDER BY r.id"
    )


@pytest.fixture
def apart(lab: Any) -> Any:
    """Jobs reach no ledger."""
    lab.settings["ledger_on_nodes"] = False
    return lab


def test_a_drawn_plan_gets_no_job_and_an_open_one_an_order_for_its_day(lab: Any, did: Any) -> None:
    [day] = worked(lab)
    plan = draw(lab, opened=False)
    lab.tick()
    assert lab.orders() == []
    plans.move(lab.connection, plan, "open", actor="me")
    report = lab.tick()
    assert [line.partition(":")[0] for line in did(report, "submitted")] == [f"zurich 2025-01-01 (plan {plan.id})"]
    order = lab.order()
    assert (order["kind"], order["plan_id"], order["day_id"], order["mode"]) == ("redo", plan.id, day.id, "ledger")
    assert lab.cluster.only.name == f"ds-redo-2025-01-01-{order['token']}"
    assert lab.cluster.only.spec.nice > 0
    assert lab.job_folder(order).order().run_key == KEY.hex()
    lab.tick()
    assert len(lab.orders()) == 1
    assert lab.state(day) == DayState.COMPLETED


def test_days_that_were_never_transcribed_come_first_and_plans_have_a_cap(lab: Any, waits: Any) -> None:
    worked(lab, number=3)
    new = lab.day(
        8, on=days.get(lab.connection, "zurich", lab.rows("SELECT max(date) FROM days")[0]).date + timedelta(1)
    )
    draw(lab)
    report = lab.tick(most_tasks=1, first_tasks=1)
    assert [order["day_id"] for order in lab.orders()] == [new.id]
    lab.tick(plan_tasks=2, first_tasks=1)
    assert sorted(order["kind"] for order in lab.orders()) == ["process", "redo", "redo"]
    report = lab.tick(plan_tasks=2, first_tasks=1)
    assert waits(report, "later") == ["zurich 2025-01-03 (plan 1): 2 tasks of plans are out"]


def test_a_refused_order_of_a_plan_waits_behind_days_when_it_is_asked_for_again(lab: Any) -> None:
    worked(lab)
    draw(lab)
    lab.cluster.answers.append("refused")
    lab.tick()
    assert lab.states() == ["blocked"]
    new = lab.day(8, on=date(2025, 2, 1))
    lab.later(3600)
    lab.tick(first_tasks=1)
    assert [job.name.split("-")[1] for job in lab.cluster.jobs] == ["2025", "redo"]
    assert lab.orders()[1]["day_id"] == new.id


def test_a_dry_run_says_what_plans_would_get_and_changes_nothing(lab: Any, waits: Any) -> None:
    worked(lab)
    plan = draw(lab)
    report = scheduler.preview(lab.world())
    assert [line.partition(":")[0] for line in waits(report, "would submit")] == [f"zurich 2025-01-01 (plan {plan.id})"]
    assert lab.orders() == []


def test_what_tasks_without_a_ledger_made_of_a_plan_is_recorded_and_seen_an_archive_at_a_time(
    apart: Any, did: Any
) -> None:
    [day] = worked(apart)
    plan = draw(apart)
    apart.tick()
    order = apart.order()
    ids = [one.id for one in apart.job_folder(order).order().shards]
    assert len(ids) == 3
    assert [one.wanted for one in apart.job_folder(order).order().shards] == [(0,), (0,), (0,)]
    assert redo.claim(apart.connection, owner="other", count=9, lease=LEASE, plan_id=plan.id) == []
    apart.cluster.only.become("RUNNING")
    publish(apart, order, *ids[:2])
    report = apart.tick()
    assert did(report, "recorded") == ["zurich 2025-01-01: 2 parts"]
    assert seen(apart) == ["de", "de", "en"]
    publish(apart, order, ids[2])
    apart.ended(order, "done")
    apart.cluster.only.become("COMPLETED")
    apart.tick()
    assert seen(apart) == ["de", "de", "de"]
    now = plans.get(apart.connection, plan.id)
    assert (now.state, now.summary["remade"], now.summary["failed_shards"]) == ("done", 3, 0)  # type: ignore[index]
    assert apart.states() == ["succeeded"]
    assert apart.state(day) == DayState.COMPLETED
    assert apart.events("day.processing") == 1, "plans never move a day"
    apart.tick()
    assert len(apart.orders()) == 1


def test_a_part_made_under_another_key_than_its_plan_is_refused(apart: Any, waits: Any) -> None:
    worked(apart)
    draw(apart)
    apart.tick()
    order = apart.order()
    publish(apart, order, apart.job_folder(order).order().shards[0].id, key=b"o" * 16)
    report = apart.tick()
    [told] = waits(report, "refused")
    assert "another key" in told
    assert seen(apart) == ["en", "en", "en"]


def test_leases_of_a_plan_are_renewed_while_its_job_lives_and_given_back_when_it_ends(apart: Any) -> None:
    worked(apart)
    plan = draw(apart)
    apart.tick()
    left = "SELECT extract(epoch FROM lease_until - now())::float8 FROM plan_shards WHERE state = 'leased'"
    apart.connection.execute("UPDATE plan_shards SET lease_until = now() + interval '1 minute'")
    apart.tick()
    assert min(apart.rows(left)) > 3000
    order = apart.order()
    failed = apart.job_folder(order).order().shards[0]
    apart.job_folder(order).fail(FailedShard(failed.id, failed.epoch, "archive_damaged", "it is cut", discard=True))
    apart.ended(order, "data")
    apart.cluster.only.become("FAILED")
    apart.tick(backoff_seconds=3600)
    told = apart.rows("SELECT state, attempts, failure_class FROM plan_shards ORDER BY place")
    assert told[0][0::2] == ("failed", "archive_damaged")
    assert [state for state, *_ in told[1:]] == ["ready", "ready"]
    assert seen(apart) == ["en", "en", "en"], "a failing plan changes nothing that a reader sees"
    assert plans.get(apart.connection, plan.id).state == "open"


def test_a_paused_plan_gives_its_waiting_tasks_back_and_gets_them_again(lab: Any, did: Any) -> None:
    worked(lab)
    plan = draw(lab)
    lab.tick()
    plans.move(lab.connection, plan, "pause", actor="me")
    report = lab.tick()
    assert [line.rpartition(": ")[2] for line in did(report, "took back")] == ["its plan is paused"]
    lab.tick()
    assert lab.states() == ["replaced"]
    assert redo.claim(lab.connection, owner="w", count=9, lease=LEASE, plan_id=plan.id) == []
    plans.move(lab.connection, plan, "resume", actor="me")
    lab.tick()
    assert lab.states() == ["replaced", "submitted"]


def test_tasks_without_a_ledger_begin_nothing_more_of_a_plan_that_is_paused(apart: Any) -> None:
    worked(apart)
    plan = draw(apart)
    apart.tick(first_tasks=1)
    folder = apart.job_folder(apart.order())
    feed = PlanFeed(folder.order(), folder, task=0, published=lambda _: ({}, False), may_claim=lambda: True)
    assert [lease.wanted for lease in feed.claim(1)] == [{0}]
    apart.cluster.only.become("RUNNING")
    plans.move(apart.connection, plan, "pause", actor="me")
    apart.tick()
    assert not feed.waits()
    assert feed.claim(9) == []


def test_a_job_that_somebody_cancels_pauses_its_plan_and_holds_no_day(lab: Any, did: Any) -> None:
    [day] = worked(lab)
    plan = draw(lab)
    lab.tick()
    lab.cluster.only.become("CANCELLED")
    report = lab.tick()
    assert did(report, "paused") == [
        f"plan {plan.id}: job 101 was cancelled by somebody; go on with: dayscribe plans resume {plan.id}"
    ]
    assert plans.get(lab.connection, plan.id).state == "paused"
    assert lab.state(day) == DayState.COMPLETED
    lab.tick()
    assert len(lab.orders()) == 1


def test_a_plan_whose_jobs_record_nothing_again_and_again_is_paused(lab: Any, did: Any) -> None:
    worked(lab)
    plan = draw(lab)
    for _ in range(2):
        lab.tick(attempts=2, backoff_seconds=1)
        lab.fruitless("drawn for other settings")
        report = lab.tick(attempts=2, backoff_seconds=3600)
        lab.connection.execute("UPDATE jobs SET finished = finished - interval '1 hour'")
    [told] = did(report, "paused")
    assert "drawn for other settings" in told
    assert plans.get(lab.connection, plan.id).state == "paused"


def test_two_plans_of_one_day_have_their_jobs_one_after_the_other(lab: Any) -> None:
    [day] = worked(lab)
    first = draw(lab)
    wish = Wish(who="me", why="", run_key=b"m" * 16, receipt={"engine": "third"})
    second = plans.draw(lab.connection, Selection((Criterion("all"),)), wish)
    plans.move(lab.connection, plans.get(lab.connection, second.id), "open", actor="me")
    lab.tick()
    assert [order["plan_id"] for order in lab.orders()] == [first.id]
    for leased in redo.claim(lab.connection, owner="w", count=9, lease=LEASE, plan_id=first.id, day_id=day.id):
        redo.fail(
            lab.connection, leased.id, leased.epoch, failure=("x", "y"), actor="w", discard=False, plan_id=first.id
        )
    lab.ended(lab.order(), "done")
    lab.cluster.only.become("COMPLETED")
    lab.tick()
    assert [order["plan_id"] for order in lab.orders()] == [first.id, second.id]


def test_shards_whose_last_allowed_worker_vanished_are_given_up_and_the_plan_is_closed(lab: Any, did: Any) -> None:
    worked(lab, 1)
    plan = draw(lab)
    for _ in range(3):
        assert redo.claim(lab.connection, owner="w", count=9, lease=LEASE, plan_id=plan.id)
        lab.connection.execute("UPDATE plan_shards SET lease_until = now() - interval '1 second'")
    report = lab.tick()
    assert did(report, "gave up") == [
        "1 shards of plans: every worker that took them ended before it recorded anything"
    ]
    now = plans.get(lab.connection, plan.id)
    assert (now.state, now.summary["failed_shards"], now.summary["left"]) == ("done", 1, 1)  # type: ignore[index]


TEXT = {"key": "6b" * 16, "forced_by": 0, "models": []}


@pytest.mark.parametrize("ledger_on_nodes", [True, False])
def test_a_job_that_aligns_is_told_whose_texts_and_what_was_said_where_it_cannot_ask(
    lab: Any, ledger_on_nodes: bool
) -> None:
    lab.settings["ledger_on_nodes"] = ledger_on_nodes
    worked(lab)
    plan = draw(lab, stage="align", alignable=Alignable(TEXT["key"]), receipt={"text": TEXT})  # type: ignore[arg-type]
    assert plan.recordings == 3
    lab.tick(first_tasks=1)
    folder = lab.job_folder(lab.order())
    assert folder.order().text == TEXT
    assert folder.order().run_key == KEY.hex()
    told = [said["text"] for said in lab.rows("SELECT jsonb_build_object('text', text) FROM transcripts")]
    if ledger_on_nodes:
        leased = redo.claim(lab.connection, owner="w", count=9, lease=LEASE, plan_id=plan.id)
        assert [transcript_from(one.said[0]).text for one in leased] == told
        assert list(folder.path.glob("said-*")) == []
        return
    feed = PlanFeed(folder.order(), folder, task=0, published=lambda _: ({}, False), may_claim=lambda: True)
    leases = feed.claim(9)
    assert [transcript_from(lease.said[0]).text for lease in leases if lease.said] == told
    assert [
        lease.said
        for lease in PlanFeed(
            replace(folder.order(), text=None), folder, task=0, published=lambda _: ({}, False), may_claim=lambda: True
        ).claim(9)
    ] == [None] * 3, "and a job that hears is told nothing"
    for path in folder.path.glob("said-*"):
        assert path.stat().st_mode & 0o777 == 0o600, "texts are for nobody else"
    folder.supersede()
    assert list(folder.path.glob("said-*")) == [], "and lie there for no longer than they are needed"
    with pytest.raises(Superseded):
        folder.said(folder.given().shards[0])
