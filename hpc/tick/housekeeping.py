"""What a tick does in the ledger alone: rescue, record, list, close; each for a few seconds, the rest by a job."""

from __future__ import annotations

from datetime import date

from db import days, jobs, listings, redo, shards
from db.errors import BadData, LedgerAway, NeedsConfiguration
from db.states import OPEN
from hpc.stages.ingest import waiting
from hpc.stages.publish import folder_of
from hpc.tick.again import give_up
from hpc.tick.report import Report
from hpc.tick.tidying import tidy_staging
from hpc.tick.world import World
from hpc.triage import enrich_open, judge_lately

PAGE = 5_000  # days of a state looked at in one tick


def rescue(world: World, report: Report) -> None:
    """End what no worker will end: shards whose last allowed worker vanished, days that nobody closed."""
    if given_up := world.session(shards.give_up_exhausted, actor=world.user):
        report.done("gave up", f"{given_up} shards", "every worker that took them ended before it recorded anything")
    if given_up := world.session(redo.give_up_exhausted, actor=world.user):
        report.done(
            "gave up", f"{given_up} shards of plans", "every worker that took them ended before it recorded anything"
        )
    if closed := world.session(redo.close_stuck, actor=world.user):
        report.done("closed", f"{closed} plans", "their last shard had settled")
    if closed := world.session(jobs.close_stuck_days, actor=world.user):
        report.done("closed", f"{closed} days", "their last shard had settled")
    if judged := judge_lately(world.session, seconds=world.rules.ingest_seconds, clock=world.clock):
        report.done("judged", f"{judged} shards", "their evidence is new")
    if judged := enrich_open(world.session, seconds=world.rules.ingest_seconds, clock=world.clock):
        report.done("judged", f"{judged} shards of plans", "somebody wants their flags anew")


def record_parts(world: World, report: Report) -> bool:
    """Record the parts of open days that workers could not record; False when there was not the time for all."""
    deadline = world.clock() + world.rules.ingest_seconds
    for state in sorted(OPEN):
        for row in world.session(days.find, state=state.value, limit=PAGE):
            if not ingest_day(world, report, row["site"], row["date"], deadline=deadline):
                return False
    for row in world.session(redo.days_open, limit=PAGE):
        if not ingest_day(world, report, row["site"], row["date"], plan=row["plan_id"], deadline=deadline):
            return False
    return True


def ingest_day(
    world: World, report: Report, site: str, on: date, *, plan: int | None = None, deadline: float | None = None
) -> bool:
    """Record what waits of one day, or of what a plan made of it; False when the time was up before all was. A part
    that is refused is told of."""
    deadline = world.clock() + world.rules.ingest_seconds if deadline is None else deadline
    folder = folder_of(world.results, site, on, plan)
    if not folder.is_dir():
        return True
    taken = refused = 0
    left = world.session(lambda connection: list(waiting(connection, [folder])))
    for path in left:
        if world.clock() > deadline:
            break
        try:
            world.ingest(path)
        except LedgerAway:
            raise
        except BadData as error:
            report.waiting("refused", path.name, str(error))
            refused += 1
        taken += 1
    if taken > refused:
        report.done("recorded", f"{site} {on}", f"{taken - refused} parts")
    report.left(f"{site} {on}" + ("" if plan is None else f" (plan {plan})"), len(left) - taken + refused)
    return taken == len(left)


def carry(world: World, report: Report) -> bool:
    """Follow the transfers under way and list what has to be moved; False when there was not the time for all."""
    followed = world.porter.follow(report, seconds=world.porter.rules.verify_seconds)
    listed = world.porter.list_due(report, seconds=world.rules.list_seconds)
    give_up(world.session, world.porter.rules, report, actor=world.user)
    tidy_staging(world.porter, report)
    return listed and followed


def list_days(world: World, report: Report) -> bool:
    """List the days that are only known by their date; False when there was not the time for all."""
    deadline = world.clock() + world.rules.list_seconds
    if added := world.discover(report):
        report.done("discovered", f"{added} days")
    for row in world.session(listings.pending_at_hand, limit=PAGE):
        if world.clock() >= deadline:
            return False
        about = f"{row['site']} {row['date']}"
        try:
            report.done("listed", about, f"{world.register(row['site'], row['date'])} shards")
        except (BadData, NeedsConfiguration) as error:  # of this site; the others go on
            report.waiting("not listed", about, str(error))
    return True
