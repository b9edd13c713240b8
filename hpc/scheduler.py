"""One tick of the master scheduler: it reads the world, moves what can move, and returns. Twice at once is harmless.

    look ──► follow ──► tidy ──► rescue, record, list ──► carry ─────────► order
    queue    jobs       strays   the ledger alone         what is far off   one array a day

The scheduler is asked once for everything, and accounting once for what the queue no longer shows. Without an answer
no order is given, closed or given up: silence is no news. What the ledger alone decides goes on.
"""

from __future__ import annotations

import socket
from dataclasses import asdict

from db import days, deliveries, jobs
from db.states import DayState, JobState
from hpc.jobs import Look
from hpc.tick.follow import Live, follow, tidy
from hpc.tick.housekeeping import carry, list_days, record_parts, rescue
from hpc.tick.report import Report
from hpc.tick.submit import Orders
from hpc.tick.world import World


def tick(world: World) -> Report:
    """Do what can be done now. The report says what was seen, what was done, and why nothing was."""
    began, report = world.clock(), Report()
    live = world.session(jobs.live)
    look = world.launcher.look([job.scheduler_id for job in live if job.owner == world.user and job.scheduler_id])
    recorded = record_parts(world, report)  # before jobs are closed: what they published is the third witness's
    report.parts_all = recorded
    going = follow(world, report, look, live)
    tidy(world, report, look)
    rescue(world, report)
    listed = list_days(world, report) & carry(world, report)
    wanted = bool(world.session(deliveries.due, world.user, limit=1))
    if look.queue is None:
        report.waiting("no orders", "scheduler", f"it does not answer ({look.trouble})")
    else:
        more = {"ingest": not recorded, "stage": not listed, "deliver": wanted}
        _order(world, report, going, more=[kind for kind, so in more.items() if so])
    report.saw, report.room = _seen(look, live, world.user), world.room()
    took = round((world.clock() - began) * 1000)
    world.session(jobs.put_tick, owner=world.user, host=socket.gethostname(), took_ms=took, report=asdict(report))
    return report


def preview(world: World) -> Report:
    """What a tick would order now; nothing is changed, and only the queue and accounting are asked."""
    report, live = Report(), world.session(jobs.live)
    look = world.launcher.look([job.scheduler_id for job in live if job.owner == world.user and job.scheduler_id])
    going = [Live(job, None) for job in live]
    Orders(world, report, going).preview()
    pending = world.session(days.find, state=DayState.PENDING.value)
    for row in pending:
        report.waiting("would list", f"{row['site']} {row['date']}")
    report.saw = _seen(look, live, world.user)
    return report


def _order(world: World, report: Report, going: list[Live], *, more: list[str]) -> None:
    """What there is to ask of the scheduler; `more` are the kinds of work for which a tick had not the time."""
    orders = Orders(world, report, going)
    orders.finish_withdrawals()
    paused = world.session(jobs.paused)
    if paused is not None:
        why = f"scheduling is paused by {paused['who']} since {paused['since']:%Y-%m-%d %H:%M}: {paused['why']}"
        report.waiting("paused", "scheduler", why)
        orders.withdraw_all(why)
        return
    orders.replace_changed()
    orders.withdraw_of_plans()
    orders.again()
    for kind in more:
        if world.rules.ledger_on_nodes:
            orders.cpu(kind)
        else:
            report.waiting("goes on", kind, "more than one tick has time for, and no job reaches the ledger")
    orders.for_days()
    orders.for_plans()


def _seen(look: Look, live: list[jobs.Job], user: str) -> dict[str, object]:
    active = sum(seen.tasks for seen in look.queue or () if seen.active)
    asked = "asked" if look.accounting is not None else "not needed"
    others = sum(job.owner != user for job in live)
    return {
        "queue": look.trouble or f"{active} active tasks",
        "accounting": look.accounting_trouble or asked,
        "orders": len(live) - others,
        "orders of others": others,
        "blocked": sum(job.state == JobState.BLOCKED for job in live),
    }
