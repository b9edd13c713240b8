"""`dayscribe ingest`: parts that were published while the ledger was away become rows."""

from __future__ import annotations

import getpass
from collections.abc import Collection
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpc.cli.options import App, answering, days_options, site_filter

if TYPE_CHECKING:
    from db.connect import Connection
    from db.session import Session
    from hpc.cli.display import Progress


@click.command()
@days_options(required=False)
@site_filter
@answering
def command(app: App, /, days: tuple[date, ...] | None, *, site: str | None) -> None:
    """Record published parts that the ledger lacks.

    Workers do this themselves; this is for what they published while the ledger was away. Twice changes nothing. A
    damaged part is named and the rest goes on; the exit code is then 65.
    """
    from db import sites
    from db.errors import BadData
    from hpc import wiring

    with wiring.session(app.settings, application="dayscribe-ingest") as session:
        if site is not None:
            session(sites.get, site)
        folders = list(folders_of_parts(app.settings.results_folder, site, days))
        with app.display.progress("ingest", unit="parts") as bar:
            told = record_all(app, session, folders, bar)
    app.display.record(told)
    if told["refused"]:
        raise BadData(f"{told['refused']} parts were refused; move them away and run their days again")


def folders_of_parts(results: Path, site: str | None, days: Collection[date] | None) -> list[Path]:
    """The folders of parts that are asked for; their names are our own (SITE/DATE/parts, SITE/DATE/plans/7)."""
    wanted = None if days is None else {on.isoformat() for on in days}
    found = []
    for day in sorted({parts.parent for parts in results.glob("*/*/parts")}):
        if site in (None, day.parent.name) and (wanted is None or day.name in wanted):
            found += [day / "parts", *sorted(day.glob("plans/*"))]
    return found


def record_all(app: App, session: Session, folders: list[Path], bar: Progress) -> dict[str, int]:
    """Record what waits in these folders; a part that is refused is told of, and the rest goes on."""
    from db.errors import BadData
    from hpc.stages.ingest import ingest
    from hpc.stages.publish import parts_in

    told = {"taken": 0, "known": 0, "refused": 0, "settled_shards": 0}
    total = 0
    for folder in folders:
        day = folder.parent if folder.name == "parts" else folder.parent.parent
        new = session(_unknown, folder)
        told["known"] += sum(1 for _ in parts_in(folder)) - len(new)
        bar.update(total=(total := total + len(new)), note=f"{day.parent.name} {day.name}")
        for path in new:
            try:
                recorded = session(ingest, path, actor=getpass.getuser())
            except BadData as error:
                app.display.warn(f"{path}: {error}")
                told["refused"] += 1
            else:
                told["taken" if recorded.new else "known"] += 1
                told["settled_shards"] += recorded.settled
            bar.advance()
    return told


def _unknown(connection: Connection, folder: Path) -> list[Path]:
    from hpc.stages.ingest import waiting

    return list(waiting(connection, [folder]))
