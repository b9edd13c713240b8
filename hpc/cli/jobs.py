"""`dayscribe jobs`: what was ordered, and what the scheduler, the tasks and the ledger say of it."""

from __future__ import annotations

from datetime import date
from typing import Any

import click

from hpc.cli.display import Column
from hpc.cli.options import App, answering, period_options, site_filter


@click.group()
def command() -> None:
    """Look at the jobs that ticks ordered."""


@command.command("list")
@period_options
@site_filter
@click.option("--live", is_flag=True, help="Only jobs that are not over.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many at most.")
@answering
def list_jobs(app: App, /, *, first: date | None, last: date | None, site: str | None, live: bool, limit: int) -> None:
    """List jobs, newest first, with the last tick of each user."""
    from db import jobs
    from hpc import wiring

    with wiring.session(app.settings) as session:
        rows = session(jobs.latest, site=site, start=first, stop=last, only_live=live, limit=limit)
        ticks, paused = session(jobs.ticks), session(jobs.paused)
    if app.as_json:
        about = [{key: value for key, value in row.items() if key != "report"} for row in ticks]
        app.display.record({"jobs": rows, "ticks": about, "paused": paused})
        return
    columns = [Column(key) for key in ("id", "site", "date", "kind", "state", "scheduler_id")]
    columns += [Column("tasks", right=True), Column("scheduler_says"), Column("message")]
    empty = "No job is live." if live else "No jobs yet: dayscribe schedule --once."
    app.display.table(rows, columns, empty=empty)
    for row in ticks:
        app.display.say(f"last tick of {row['owner']} on {row['host']}: {row['seconds_ago']:.0f} s ago")
    if paused:
        app.display.say(f"scheduling is paused by {paused['who']}: {paused['why']}")


@command.command()
@click.argument("job", type=int)
@answering
def show(app: App, /, job: int) -> None:
    """Show one job: its witnesses, and every start of its tasks."""
    from db import jobs
    from hpc import wiring

    with wiring.session(app.settings) as session:
        found = session(jobs.one, job)
    starts: list[dict[str, Any]] = found.pop("starts")
    if app.as_json:
        app.display.record(found | {"starts": starts})
        return
    keys = ("id", "site", "date", "kind", "state", "owner", "mode", "token", "scheduler_id", "array_size", "message")
    app.display.record(
        {key: found[key] for key in keys} | {"witnesses": found["exit_record"], "asked": found["settings"]}
    )
    if starts:
        app.display.text("\n")
        columns = ("task", "restart", "node", "scheduler_says", "ended_as", "exit_code", "began", "ended", "reason")
        rows = [row | {"reason": (row["record"] or {}).get("reason")} for row in starts]
        app.display.table(rows, [Column(key) for key in columns])
