"""`dayscribe plans`: what is to be made again, how far that is, and a person's word on it."""

from __future__ import annotations

import getpass
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from hpc.cli.display import Column, clock
from hpc.cli.options import App, answering

if TYPE_CHECKING:
    from db.plans import Plan
    from db.session import Session

SHOWN = ("id", "site", "date", "shard", "meta_id", "outcome", "reasons", "failure_class")  # of a recording


@click.group()
def command() -> None:
    """Look at plans, pause them, or end them."""


@command.command("list")
@click.option("--live", is_flag=True, help="Only those that are not over.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many at most.")
@answering
def list_plans(app: App, /, *, live: bool, limit: int) -> None:
    """List plans, the newest first."""
    from db import plans
    from hpc import wiring

    with wiring.session(app.settings) as session:
        rows = session(plans.latest, every=not live, limit=limit)
    told = [
        row
        | {"done": row["shards"] - row["open_shards"], "audio": clock(row["seconds"]), "key": row["run_key"].hex()[:12]}
        for row in rows
    ]
    columns = [
        Column("id", right=True),
        Column("stage"),
        Column("state"),
        Column("recordings", right=True),
        Column("audio", right=True),
    ]
    columns += [
        Column("done", "archives", right=True),
        Column("shards", "of", right=True),
        Column("key"),
        Column("who"),
        Column("why"),
    ]
    app.display.table(told, columns, empty="There are no such plans; dayscribe reprocess draws one.")


@command.command()
@click.argument("plan_id", metavar="PLAN", type=click.IntRange(1))
@click.option("--recordings", "every", is_flag=True, help="Each recording of it, with its reasons and what came of it.")
@answering
def show(app: App, /, *, plan_id: int, every: bool) -> None:
    """Show a plan: what it is of, what it costs, how far it is."""
    from db import plans, redo
    from hpc import wiring
    from hpc.cli.reprocess import changed, foreseen

    with wiring.session(app.settings) as session:
        plan = session(plans.get, plan_id)
        if every:
            app.display.pages(_recordings(session, plan_id), [Column(name) for name in SHOWN])
            return
        days, counts = session(plans.by_day, plan_id), session(plans.outcomes, plan_id)
        failed = [shard for shard in session(plans.shards, plan_id) if shard["state"] == "failed"]
        reasons, awaited = session(plans.by_reason, plan_id), session(plans.awaited, plan_id)
        adoption = session(redo.adoption, plan)
    told: dict[str, Any] = {
        "plan": plan.id, "stage": plan.stage, "state": plan.state, "who": plan.who, "why": plan.why,
        "key": plan.run_key.hex(),
        "drawn": plan.created, "began": plan.started, "ended": plan.finished, "keep_current": plan.keep_current,
        "forced": plan.forced, **counts,
    }  # fmt: skip
    if app.as_json:
        more = {
            "estimate": plan.estimate,
            "foreseen": plan.foreseen(),
            "summary": plan.summary,
            "receipt": plan.receipt,
            "selection": plan.selection,
        }
        app.display.record(
            told
            | more
            | {
                "awaited": awaited,
                "adoption": adoption,
                "days": days,
                "reasons": reasons,
                "failed_archives": [_failed(one) for one in failed],
            }
        )
        return
    told |= _cost(plan)
    if adoption is not None and plan.state in (plans.DONE, plans.CANCELLED):
        told["readers"] = _seen(plan_id, adoption)
    if awaited["archives"]:
        told["waits for"] = f"{awaited['archives']} archives that were let go, {awaited['moving']} of them on their way"
    if changes := (plan.summary or {}).get("changes"):
        told["changes"] = changed(changes)
    if compared := foreseen(plan):
        told["foreseen"] = compared
    app.display.record(told)
    counted = [Column(name, right=True) for name in ("recordings", "remade", "known", "failed")]
    app.display.table(days, [Column("site"), Column("date"), Column("shards", "archives", right=True), *counted])
    app.display.table(reasons, [Column("site"), Column("date"), Column("reason"), Column("recordings", right=True)])
    if failed:
        columns = [
            Column("site"),
            Column("date"),
            Column("name", "failed archive"),
            Column("failure_class", "class"),
            Column("failure_reason"),
        ]
        app.display.table([_failed(one) for one in failed], columns)


def _cost(plan: Plan) -> dict[str, Any]:
    """The dry run's lines of what it costs, by the stored estimate; none if drawing it ended before there was one."""
    from hpc.cli.reprocess import costs
    from hpc.reprocess import Estimate, Source

    if "source" not in plan.estimate:
        return {}
    return costs(plan, Estimate(**dict(plan.estimate) | {"source": Source(**plan.estimate["source"])}))


def _seen(plan_id: int, adoption: Mapping[str, int]) -> str:
    """What readers see of a trial that is over."""
    if adoption["moved"]:
        said = f"see its version of {adoption['seen']} of the {adoption['moved']} recordings that were adopted"
    else:
        said = "see what they saw"
    left = f"; let them see {adoption['left']} that it made: dayscribe plans adopt {plan_id}"
    return said + (left if adoption["left"] else "")


def _failed(shard: dict[str, Any]) -> dict[str, Any]:
    return {name: shard[name] for name in ("site", "date", "name", "failure_class", "failure_reason")}


def _recordings(session: Session, plan_id: int) -> Iterator[list[dict[str, Any]]]:
    """Page by page: a plan may have millions, and no more than a page is held."""
    from db import plans

    after = 0
    while rows := session(plans.page, plan_id, after):
        yield [{name: row[name] for name in SHOWN} | {"reasons": ", ".join(row["reasons"])} for row in rows]
        after = rows[-1]["id"]


@command.command()
@click.argument("plan_id", metavar="PLAN", type=click.IntRange(1))
@answering
def pause(app: App, /, *, plan_id: int) -> None:
    """Claim nothing more of a plan; what is at work ends well."""
    _move(app, plan_id, "pause")


@command.command()
@click.argument("plan_id", metavar="PLAN", type=click.IntRange(1))
@answering
def resume(app: App, /, *, plan_id: int) -> None:
    """Go on with a paused plan.

    Of a plan that is done it takes up what failed.
    """
    _move(app, plan_id, "resume")


@command.command()
@click.argument("plan_id", metavar="PLAN", type=click.IntRange(1))
@answering
def cancel(app: App, /, *, plan_id: int) -> None:
    """End a plan; what it made so far stays."""
    _move(app, plan_id, "cancel")


@command.command()
@click.argument("plan_id", metavar="PLAN", type=click.IntRange(1))
@answering
def adopt(app: App, /, *, plan_id: int) -> None:
    """Let readers see what a trial made, all at once.

    A trial is a plan that was drawn with --keep-current.
    """
    from db import plans, redo
    from hpc import wiring

    with wiring.session(app.settings) as session:
        plan = session(plans.get, plan_id)
        moved = session(redo.adopt, plan, actor=getpass.getuser())
    app.display.record({"plan": plan_id, "recordings": moved})


def _move(app: App, plan_id: int, verb: str) -> None:
    from db import plans
    from hpc import reprocess, wiring

    with wiring.session(app.settings) as session:
        if verb == "resume":
            session(reprocess.miss_purged, plan_id)
        session(plans.move, session(plans.get, plan_id), verb, actor=getpass.getuser())
        app.display.record({"plan": plan_id, "state": session(plans.get, plan_id).state})
