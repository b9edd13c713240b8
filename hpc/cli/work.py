"""`dayscribe work`: one worker, for whatever is open."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import click

from hpc.cli.display import clock
from hpc.cli.options import DAY, App, answering, chosen_site, site_option


@click.command()
@click.option("--date", "day", type=DAY, help="Work this day only.")
@site_option
@click.option(
    "--job", "folder", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER",
    help="Do a task of the job that a tick ordered; job scripts say this.",
)  # fmt: skip
@answering
def command(app: App, day: date | None, site: str | None, folder: Path | None) -> None:
    """Work open shards until there are none.

    Leases shards of the oldest open days from the ledger, a few at a time. SIGTERM, SIGINT or SIGUSR1 finishes what
    the engine holds, gives the rest back, and ends with exit code 75: run it again.
    """
    if folder is not None:
        from hpc.cli.work_in_job import work_in_job

        work_in_job(app, folder)
        return
    from db import days
    from hpc import login_nodes, wiring
    from hpc.cli.work_here import work_until_done
    from hpc.errors import BadSetting

    login_nodes.refuse(app.settings.login_nodes, "a worker")
    if day is None and site is not None:
        raise BadSetting("--site goes with --date; without them the worker takes whatever is open")
    with wiring.session(app.settings, application="dayscribe-worker") as session:
        only = None if day is None else session(days.get, chosen_site(session, site).name, day)
        worked = work_until_done(app, session, why="work", day=only)
    tally = worked.tally
    app.display.record(
        {
            "shards": tally.shards,
            "failed shards": tally.failed_shards,
            "transcribed": tally.transcribed,
            "no speech": tally.no_speech,
            "quarantined": tally.quarantined,
            "audio": clock(tally.audio_seconds),
            "took": clock(worked.seconds),
        }
    )
