"""`dayscribe run`: one day, here and now."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Any

import click

from hpc.cli.display import Column, clock
from hpc.cli.options import App, answering, day_option, site_option


@click.command()
@day_option
@site_option
@click.option("--folder", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Where the audio lies.")
@click.option("--loose", is_flag=True, help="The folder holds loose audio files, not archives on a slot grid.")
@click.option("--dry-run", is_flag=True, help="List the day, and say what would be done.")
@answering
def command(app: App, /, day: date, *, site: str | None, folder: Path | None, loose: bool, dry_run: bool) -> None:
    """Transcribe one day on this machine.

    The day is listed at its source, what is not done yet is done, and a table says what came of it. With --folder the
    site is made on the way. Exit code 65 says that some recordings are quarantined.
    """
    from db import days
    from hpc import login_nodes, wiring
    from hpc.cli.work_here import quarantined, work_until_done

    login_nodes.refuse(app.settings.login_nodes, "a worker")
    with wiring.session(app.settings) as session:
        where = _site(session, site, folder, loose)
        registered = wiring.register(app.settings, session, where, day)
        for name in registered.changed:
            app.display.warn(f"{name} has another size than when it was listed first; it is not read again by itself")
        if dry_run:
            _show_open(app, session, registered.day.id)
            return
        if not days.is_finished(registered.day):
            work_until_done(app, session, why=f"run {where.name} {day}", day=registered.day)
        tally = session(days.tally, registered.day.id)
        state = session(days.by_id, registered.day.id).state
    show_tally(app, {"site": where.name, "date": day, "state": state} | tally)
    if error := quarantined(tally):
        raise error


def _site(session: Any, name: str | None, folder: Path | None, loose: bool) -> Any:
    from db import sites
    from hpc.errors import BadSetting

    if folder is not None:
        made = name or re.sub(r"[^a-z0-9_-]+", "-", folder.resolve().name.lower()).strip("-") or "here"
        made = made if made[0].isalpha() else f"site-{made}"
        grid = None if loose else 10
        known = {one.name: one for one in session(sites.every)}.get(made)
        if known is not None and known.route:
            raise BadSetting(f"the files of {made} come from elsewhere: leave --folder out, or name another --site")
        layout = None if known is None else known.layout
        return session(sites.put, made, location=str(folder.resolve()), slot_minutes=grid, layout=layout)
    if name is None:
        every = session(sites.every)
        if len(every) != 1:
            known = ", ".join(site.name for site in every) or "none yet"
            raise BadSetting(f"say which site: --site NAME (known: {known}), or --folder PATH to make one")
        return every[0]
    return session(sites.get, name)


def _show_open(app: App, session: Any, day_id: int) -> None:
    from db import shards

    rows = [row for row in session(shards.of_day, day_id) if row["state"] in ("ready", "leased")]
    columns = [Column("name"), Column("slot"), Column("size", "bytes", right=True), Column("state")]
    app.display.table(
        [{column.key: row[column.key] for column in columns} for row in rows], columns, empty="Nothing is left to do."
    )


def show_tally(app: App, tally: dict[str, Any]) -> None:
    """The day's end in a table of its own."""
    if app.as_json:
        app.display.record(tally)
        return
    app.display.record(
        {
            "day": f"{tally['site']} {tally['date']}",
            "state": tally["state"],
            "shards": f"{tally['shards']}, {tally['failed_shards']} failed",
            "recordings": tally["recordings"],
            "transcribed": tally["transcribed"],
            "no speech": tally["no_speech"],
            "quarantined": tally["quarantined"],
            "audio": clock(tally["audio_seconds"]),
        }
    )
    if tally["failures"]:
        columns = [Column("failure_class", "quarantined as"), Column("recordings", right=True), Column("example")]
        app.display.table(tally["failures"], columns)
    if tally["failed"]:
        app.display.table(
            tally["failed"],
            [Column("name", "failed shard"), Column("failure_class", "class"), Column("failure_reason")],
        )
