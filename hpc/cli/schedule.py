"""`dayscribe schedule`: one tick of the master scheduler, and the pause for all."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from hpc.cli.display import Column
from hpc.cli.options import App, answering


@click.command()
@click.option("--once", is_flag=True, help="One tick, and return; so it is without this word, too.")
@click.option(
    "--exchange", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="FOLDER",
    help="Ask for SLURM's commands in files of FOLDER: somebody outside of our image runs them.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say what would be ordered; change nothing.")
@click.option("--drain", metavar="REASON", help="Order nothing more, take back what waits; what runs goes on.")
@click.option("--resume", is_flag=True, help="End a --drain.")
@answering
def command(app: App, /, *, once: bool, exchange: Path | None, dry_run: bool, drain: str | None, resume: bool) -> None:
    """Look at days and jobs, do what can be done now.

    Lists days, orders one job array for each that has work, follows the jobs, records what they published, and says
    what it saw, what it did, and why it did nothing. As often as you like, from cron, scrontab or a job that submits
    itself (slurm/0_master_scheduler.sh); several at once are harmless.
    """
    del once  # there is no other way; the word makes a crontab read well
    from db import jobs
    from hpc import wiring
    from hpc.scheduler import preview, tick

    if (drain is not None) + resume + dry_run > 1:
        raise click.UsageError("--drain, --resume and --dry-run exclude each other.")
    with wiring.session(app.settings, application="dayscribe-schedule") as session:
        if drain is not None and not session(jobs.pause, who=getpass.getuser(), why=drain):
            app.display.say("Scheduling is paused already.")
        if resume and not session(jobs.resume):
            app.display.say("Scheduling was not paused.")
        world = wiring.world(app.settings, session, exchange=exchange)
        report = preview(world) if dry_run else tick(world)
    if app.as_json:
        app.display.record({"saw": report.saw, "did": report.did, "waits": report.waits})
        return
    app.display.record(report.saw)
    _show(app, "did", report.did)
    _show(app, "waits", report.waits)


def _show(app: App, title: str, lines: list[Any]) -> None:
    rows: list[Mapping[str, Any]] = [{title: line.what, "what": line.about, "why": line.detail} for line in lines]
    if rows:
        app.display.text("\n")
        app.display.table(rows, [Column(title), Column("what"), Column("why")])
