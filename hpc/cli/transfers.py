"""`dayscribe transfers`: what is on its way, and what came of what was."""

from __future__ import annotations

from datetime import date

import click

from hpc.cli.display import Column
from hpc.cli.options import App, answering, period_options, site_filter


@click.group()
def command() -> None:
    """Look at transfers, or stop one."""


@command.command("list")
@site_filter
@period_options
@click.option("--live", is_flag=True, help="Only those that are not over.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many at most.")
@answering
def list_transfers(
    app: App, /, *, site: str | None, first: date | None, last: date | None, live: bool, limit: int
) -> None:
    """List transfers, the newest first."""
    from db import transfers
    from hpc import wiring

    with wiring.session(app.settings) as session:
        rows = session(transfers.latest, site=site, start=first, stop=last, only_live=live, limit=limit)
    columns = [Column("id", right=True), Column("site"), Column("date"), Column("what"), Column("state")]
    columns += [
        Column("files", right=True),
        Column("expected_files", "of", right=True),
        Column("owner"),
        Column("message"),
    ]
    app.display.table(rows, columns, empty="There are no such transfers.")


@command.command()
@click.argument("transfer", type=click.IntRange(1))
@answering
def cancel(app: App, /, *, transfer: int) -> None:
    """Stop a transfer; its day is held until released."""
    from db import sites, transfers
    from db.errors import IllegalMove
    from db.transfers import NoSuchTransfer
    from hpc import wiring
    from hpc.wiring import movers

    with wiring.session(app.settings) as session:
        found = next(iter(session(transfers.live, transfer)), None)
        if found is None:
            raise NoSuchTransfer(f"no transfer {transfer} is under way; `dayscribe transfers list --live` shows those")
        mover = movers.mover(app.settings, session(sites.get, found.site), found.date)
        if found.task is None or not mover.prompt:
            raise IllegalMove(
                f"transfer {transfer} is no task of a service that could be stopped; nothing more of its day is begun"
                f" after: dayscribe days hold {found.date} --site {found.site}"
            )
        mover.cancel(found.task)
    app.display.record({"transfer": transfer, "site": found.site, "date": found.date, "task": found.task})
    app.display.say("The next tick looks at what has arrived, and holds the day.")
