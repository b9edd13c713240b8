"""`dayscribe work`: one worker, for whatever is open."""

from __future__ import annotations

from datetime import date

import click

from hpc.cli.display import clock
from hpc.cli.options import DAY, App, answering


@click.command()
@click.option("--day", type=DAY, help="Work this day only.")
@click.option("--site", metavar="NAME", help="The day's site.")
@answering
def command(app: App, day: date | None, site: str | None) -> None:
    """Work open shards until there are none.

    Leases shards of the oldest open days from the ledger, a few at a time. SIGTERM, SIGINT or SIGUSR1 finishes the
    batch in hand, gives the rest back, and ends with exit code 75: run it again.
    """
    from db import days, sites
    from hpc import wiring
    from hpc.cli.work_here import work_until_done
    from hpc.errors import BadSetting

    if (day is None) != (site is None):
        raise BadSetting("--day and --site go together; without them the worker takes whatever is open")
    with wiring.session(app.settings, application="dayscribe-worker") as session:
        only = None if site is None or day is None else session(days.get, session(sites.get, site).name, day)
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
