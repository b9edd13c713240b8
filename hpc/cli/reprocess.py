"""`dayscribe reprocess`: says exactly what would be made again, and why; then makes exactly that."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from hpc.cli.display import Column, clock
from hpc.cli.options import App, answering, period_options, site_filter

if TYPE_CHECKING:
    from db.plans import Alignable, Criterion, Drawn, Plan, Selection
    from db.session import Session
    from hpc.model import Run
    from hpc.reprocess import Estimate


STAGES = ("transcribe", "align", "enrich", "export")


class Only(click.ParamType["Criterion"]):
    """A reason for which recordings are chosen."""

    name = "reason"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Criterion:
        from db.errors import DayscribeError
        from hpc.reprocess import criterion

        try:
            return criterion(value)
        except DayscribeError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - the names are the library's
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        from hpc.reprocess import FORMS

        return [CompletionItem(form) for form in FORMS if form.startswith(incomplete)]


@click.command()
@period_options
@site_filter
@click.option(
    "--recordings", "names", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Only these: a file with an id of the ledger, or a file name's stem, a line.",
)  # fmt: skip
@click.option(
    "--only", "only", type=Only(), multiple=True,
    help="failed, quarantined, suspect, lang-mismatch, flag=NAME, error=CLASS, model!=NAME, run!=RUN, language=CODE, "
    "duration>SECONDS or duration<SECONDS; repeated: any of them. Without: all that were made otherwise.",
)  # fmt: skip
@click.option(
    "--stage", type=click.Choice(STAGES), default="transcribe", show_default=True,
    help="From where on: transcribe makes all anew; align times the words of texts that stay, without the speech model;"
    " enrich judges flags anew from what is stored, without audio; export sends delivered days that have changed.",
)  # fmt: skip
@click.option("--text-of", metavar="RUN", help="Of align: only texts of this run, by the first digits of its key.")
@click.option(
    "--order",
    type=click.Choice(["oldest", "newest"]),
    default="oldest",
    show_default=True,
    help="Which days come first.",
)
@click.option("--limit", type=click.IntRange(1), help="At most so many recordings.")
@click.option("--force", is_flag=True, help="Also what has been made under this very key; needs --reason.")
@click.option("--reason", default="", metavar="TEXT", help="Why; kept with the plan.")
@click.option("--keep-current", is_flag=True, help="A trial: readers go on seeing what they see.")
@click.option("--dry-run", is_flag=True, help="Store the plan and show it; nothing is made.")
@click.option("--plan", "plan_id", type=click.IntRange(1), help="Run this stored plan: exactly what was shown.")
@click.option("--here", is_flag=True, help="In this process, now; the tick's jobs may help.")
@answering
def command(app: App, /, *, plan_id: int | None, here: bool, dry_run: bool, **asked: Any) -> None:
    """Make recordings again, by reason.

    Draws a plan: which recordings, why, what they cost. It is stored; `--dry-run` ends there, and `--plan ID` runs it
    later. Without either it is opened at once. What has been made under the present settings is never made again; where
    readers see something else, they see that. Old transcripts stay what readers see until an archive's new ones are all
    there. A day's state does not change.
    """
    from db import plans
    from hpc import login_nodes, wiring

    if here and not dry_run:
        login_nodes.refuse(app.settings.login_nodes, "a worker")
    _check(plan_id, dry_run, asked)
    if asked["stage"] == "export":
        from hpc.cli.reprocess_export import export_again

        export_again(app, asked, dry_run=dry_run, here=here)
        return
    with wiring.session(app.settings) as session:
        plan = None if plan_id is None else session(plans.get, plan_id)
        if plan is not None:
            run = _run_of(app, plan)
        else:
            try:
                plan, run = _draw(app, session, asked, dry_run=dry_run, here=here)
            except plans.NothingChosen as nothing:
                app.display.say(str(nothing))
                if app.as_json:
                    app.display.record({"plan": None, "recordings": 0, "known": nothing.known, **nothing.missing})
                return
        if not dry_run:
            _run(app, session, plan, run, here=here)


def _run_of(app: App, plan: Plan) -> Run:
    """The receipt of what would be made of a plan now."""
    from db import plans
    from hpc.wiring import runs

    if plan.text is not None:
        return runs.aligning_run(app.settings, plan.text, why=plan.why)[1]
    return runs.judging_run(why="") if plan.stage == plans.ENRICH else runs.run_of(app.settings, why="")[1]


def _check(plan_id: int | None, dry_run: bool, asked: dict[str, Any]) -> None:
    others = any(value for name, value in asked.items() if name not in ("order", "stage"))
    if plan_id is not None and (dry_run or others or asked["stage"] != "transcribe"):
        raise click.UsageError("--plan runs a plan as it was drawn; leave everything else but --here out")
    if asked["force"] and not asked["reason"].strip():
        raise click.UsageError("--force needs --reason TEXT: the plan keeps it")
    if asked["keep_current"] and asked["stage"] == "enrich":
        raise click.UsageError("--keep-current makes versions for a trial; --stage enrich makes none")
    if asked["text_of"] and asked["stage"] != "align":
        raise click.UsageError("--text-of says whose texts --stage align is of")
    where = ("first", "last", "site", "names")
    if plan_id is None and not any(asked[name] for name in where):
        raise click.UsageError("say which: --date DAY, --from DAY --to DAY, --site NAME or --recordings FILE")


def _made_as(app: App, session: Session, chosen: Selection, asked: dict[str, Any]) -> tuple[Run, Alignable | None]:
    """What would be made now of what is chosen; of word times also of which texts."""
    from db import plans
    from hpc import reprocess
    from hpc.wiring import runs

    why = asked["reason"]
    if asked["stage"] == plans.ALIGN:
        able = runs.alignable(app.settings, asked["text_of"])
        text = reprocess.text_of(session(plans.texts, chosen, able), able)
        able = replace(able, key=text["key"], forced_by=text["forced_by"])
        return runs.aligning_run(app.settings, text, why=why)[1], able
    if asked["stage"] == plans.ENRICH:
        return runs.judging_run(why=why), None
    return runs.run_of(app.settings, why=why)[1], None


def _draw(app: App, session: Session, asked: dict[str, Any], *, dry_run: bool, here: bool) -> tuple[Plan, Run]:
    from db import plans, sites
    from hpc import reprocess

    if asked["site"]:
        session(sites.get, asked["site"])
    chosen = reprocess.selection(
        asked["only"], site=asked["site"], start=asked["first"], stop=asked["last"],
        names=None if asked["names"] is None else _names(asked["names"]), newest_first=asked["order"] == "newest",
        limit=asked["limit"],
    )  # fmt: skip
    run, able = _made_as(app, session, chosen, asked)
    wish = reprocess.wish(
        run, who=getpass.getuser(), why=asked["reason"].strip(), forced=asked["force"],
        keep_current=asked["keep_current"], max_attempts=app.settings.worker.max_attempts,
        stage=asked["stage"], alignable=able,
    )  # fmt: skip
    drawn = session(plans.draw, chosen, wish)
    plan = session(plans.get, drawn.id)
    estimate = session(reprocess.estimate, plan, app.settings.slurm)
    for name in drawn.unknown_names[:10]:
        app.display.warn(f"no recording of these days is named {name!r}")
    if dry_run or not app.as_json:  # a program reads one document
        show(app, session, plan, estimate, drawn)
    if dry_run:
        app.display.say(f"run exactly this: dayscribe reprocess --plan {plan.id}{' --here' if here else ''}")
    return plan, run


def _names(path: Path) -> tuple[str, ...]:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return tuple(dict.fromkeys(stripped for line in lines if (stripped := line.strip().replace("\0", ""))))


def show(app: App, session: Session, plan: Plan, estimate: Estimate, drawn: Drawn) -> None:
    """The plan as a person reads it: per day and reason, then what it costs."""
    from db import plans

    rows = session(plans.by_reason, plan.id)
    told: dict[str, Any] = {
        "plan": plan.id, "stage": plan.stage, "state": plan.state, "recordings": plan.recordings,
        "audio_seconds": plan.seconds,
        "key": plan.run_key.hex(), "keep_current": plan.keep_current, "forced": plan.forced, "why": plan.why,
        "estimate": estimate.as_dict(), "known": drawn.known, "unknown_names": list(drawn.unknown_names),
        **drawn.missing,
    }  # fmt: skip
    if app.as_json:
        app.display.record(told | {"reasons": rows})
        return
    columns = [
        Column("site"),
        Column("date"),
        Column("reason"),
        Column("recordings", right=True),
        Column("audio", right=True),
    ]
    app.display.table([row | {"audio": clock(row["seconds"] or 0.0)} for row in rows], columns)
    app.display.record(_in_words(plan, estimate, drawn))


def _in_words(plan: Plan, estimate: Estimate, drawn: Drawn) -> dict[str, Any]:
    """What was drawn and what was not, then what it costs, in lines."""
    from db import plans

    said: dict[str, Any] = {
        "plan": f"{plan.id} ({plan.state})",
        "stage": plan.stage,
        "recordings": plan.recordings,
    }
    if drawn.known:
        how = "by these rules" if plan.stage == plans.ENRICH else "under this very key"
        said["made already"] = f"{drawn.known} more, {how}: nothing to do"
    if drawn.missing["failed_shards"]:
        said["not in it"] = f"{drawn.missing['failed_shards']} failed shards (dayscribe days retry)"
    if drawn.missing["unjudged_shards"] and plan.stage != plans.ENRICH:
        said["not judged"] = f"{drawn.missing['unjudged_shards']} archives: flags may be missing (dayscribe quality)"
    return said | costs(plan, estimate)


def costs(plan: Plan, estimate: Estimate) -> dict[str, Any]:
    """What a plan costs, and what its readers see, in lines."""
    from db import plans

    source = estimate.source
    said: dict[str, Any] = {"audio": clock(plan.seconds)}
    if estimate.there_already:
        said["there already"] = (
            f"{estimate.there_already} of them, under this very key: readers see these, none is made"
        )
    if plan.stage == plans.ENRICH:
        return said | {"cost": f"no GPU: {estimate.basis}", "readers": "see the same texts; their flags may change"}
    hours = estimate.engine_hours
    said["cost"] = estimate.basis if hours is None else f"{clock(hours * 3600)} of the engine, by {estimate.basis}"
    if estimate.unmeasured:
        said["cost"] += f"; and {estimate.unmeasured} recordings whose length nobody knows"
    said["disk"] = f"{_size(estimate.disk_bytes)} of results"
    said["read"] = f"{source.archives} archives, {_size(source.bytes)}"
    if source.again:
        by = " and ".join(source.again_by)
        said["let go"] = f"{source.again} archives ({_size(source.again_bytes)}) must be fetched again (by {by})"
    if source.gone:
        days = ", ".join(source.gone_days[:5]) + (" …" if len(source.gone_days) > 5 else "")
        said["gone for good"] = f"{source.gone} archives ({_size(source.gone_bytes)}), which will fail: {days}"
    hours = estimate.finish_hours
    finish = "" if hours is None else f", done {clock(hours * 3600)} after the first starts"
    said["on SLURM"] = f"{estimate.tasks} tasks of {estimate.task_minutes} minutes{finish}"
    said["readers"] = (
        "go on seeing what they see" if plan.keep_current else "see an archive's new version once it is whole"
    )
    if plan.stage == plans.ALIGN:
        said["text"] = "stays as it is; its words get new times"
    return said


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}" if unit != "bytes" else f"{count:.0f} bytes"
        count /= 1000
    return f"{count:.1f} GB"


def _run(app: App, session: Session, plan: Plan, run: Run, *, here: bool) -> None:
    from db import plans
    from hpc import reprocess

    before = session(plans.outcomes, plan.id)
    if not session(reprocess.begin, plan, run, actor=getpass.getuser()):
        app.display.say(f"plan {plan.id} is done, nothing is to do: {_made(plan.summary or {}, plan.stage)}")
        if app.as_json:
            app.display.record({"plan": plan.id, "state": plan.state, "summary": plan.summary})
        _tell_of_failures(plan, plan.summary or {})
        return
    if before["changed"]:
        app.display.say(
            f"since it was drawn, {before['changed']} of its recordings got another current transcript; they are made"
            " all the same, unless it is of this key"
        )
    if not here:
        then = "judge it" if plan.stage == plans.ENRICH else "give it jobs, after the days that wait"
        app.display.say(f"plan {plan.id} is open: the next ticks {then}")
        awaited = session(plans.awaited, plan.id)
        if awaited["archives"]:
            app.display.say(f"{awaited['archives']} archives of it were let go, and are fetched again first")
        if app.as_json:
            state = session(plans.get, plan.id).state
            app.display.record({"plan": plan.id, "state": state, "awaited": awaited, **before})
        return
    _work(app, session, plan)


def _work(app: App, session: Session, plan: Plan) -> None:
    from functools import partial

    from db import plans, redo
    from db.errors import TryAgain
    from hpc import wiring
    from hpc.cli.work_here import Piece, judge_piece, work_piece
    from hpc.errors import Interrupted
    from hpc.feeds.ledger.desk import of_plan
    from hpc.stages.publish import folder_of

    def halted() -> str | None:
        state = session(plans.get, plan.id).state
        return f"plan {plan.id} is {state}" if state in (plans.PAUSED, plans.CANCELLED) else None

    waits = [] if plan.stage == plans.ENRICH else wiring.fetch_again(app.settings, session, plan.id)
    days = session(plans.by_day, plan.id)
    shards = session(plans.shards, plan.id)
    piece = Piece(
        label=f"plan {plan.id}",
        shards=sum(shard["state"] in ("ready", "leased") for shard in shards),
        desk=of_plan(plan.id),
        folders=[folder_of(app.settings.results_folder, day["site"], day["date"], plan.id) for day in days],
        next_lapse=partial(redo.next_lapse, plan_id=plan.id),
        halted=halted,
    )
    if plan.stage == plans.ENRICH:
        seconds = judge_piece(app, session, plan.id, piece)
    else:
        why = plan.why or f"plan {plan.id}"
        seconds = work_piece(app, session, why=why, piece=piece, text=plan.text).seconds
    session(redo.close_stuck, actor=getpass.getuser())
    done = session(plans.get, plan.id)
    summary = dict(done.summary or session(plans.outcomes, plan.id))
    said = {"plan": done.id, "stage": done.stage, "state": done.state, **summary, "took": clock(seconds)}
    if plan.stage != plans.ENRICH:
        said["foreseen"] = done.foreseen() if app.as_json else foreseen(done) or "nothing was measured before"
    elif not app.as_json:
        said["changes"] = changed(summary.get("changes", {}))
    app.display.record(said)
    if done.state in (plans.PAUSED, plans.CANCELLED):
        raise Interrupted(f"Plan {plan.id} is {done.state}; what was finished is kept.")
    if done.state == plans.OPEN and (left := session(plans.awaited, plan.id)["archives"]):
        why = "; ".join(waits) or "the tick brings them"
        raise TryAgain(f"plan {plan.id} waits for {left} archives that were let go: {why}")
    _tell_of_failures(plan, summary)


def _tell_of_failures(plan: Plan, summary: Mapping[str, Any]) -> None:
    """In the exit code, too, as a day's command does."""
    from hpc.errors import QuarantinedRecordings

    if summary.get("failed") or summary.get("failed_shards"):
        raise QuarantinedRecordings(
            f"plan {plan.id}: {_made(summary, plan.stage)}; see: dayscribe plans show {plan.id}. Take up what failed:"
            f" dayscribe plans resume {plan.id}"
        )


def changed(changes: Mapping[str, Mapping[str, int]]) -> str:
    """What judging anew changed, as `repetition +2 -1, gap ~3`: gained, lost, with another number."""
    signs = (("gained", "+"), ("lost", "-"), ("other", "~"))
    told = (
        " ".join([flag, *(f"{sign}{counts[name]}" for name, sign in signs if counts[name])])
        for flag, counts in changes.items()
    )
    return ", ".join(told) or "no flag"


def foreseen(plan: Plan) -> str:
    """What was expected, and what it came to."""
    return ", ".join(
        f"{'of the engine' if one['of'] == 'engine' else 'from opening to end'} {clock(one['expected'])} expected,"
        f" it was {clock(one['was'])} (expected {one['says']})"
        for one in plan.foreseen()
    )


def _made(summary: Mapping[str, Any], stage: str) -> str:
    words = {"remade": "made again", "known": "there already", "failed": "failed", "failed_shards": "archives failed"}
    if stage == "enrich":
        words |= {"remade": "with other flags", "known": "as before"}
    return (
        ", ".join(f"{summary[name]} {word}" for name, word in words.items() if summary.get(name)) or "nothing was made"
    )
