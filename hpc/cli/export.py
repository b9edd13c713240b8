"""`dayscribe export`: days as files for other programs."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpc.cli.display import Column
from hpc.cli.options import DAYS, App, answering, chosen_site, site_option

if TYPE_CHECKING:
    from db.days import Day
    from db.session import Session

FORMATS = ("parquet", "json", "txt", "srt", "vtt", "tsv")  # hpc.export.KINDS, without importing it for --help
STATES = ("transcribed", "no_speech", "quarantined")


@click.command()
@click.argument("days", type=DAYS)
@site_option
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="The folder to write to.")
@click.option("--format", "kind", type=click.Choice(FORMATS), default="parquet", show_default=True, help="The format.")
@click.option("--state", type=click.Choice(STATES), help="Only recordings in this state.")
@click.option("--partial", is_flag=True, help="Unfinished days too, as they are now; the file says so.")
@answering
def command(
    app: App, /, days: tuple[date, ...], *, site: str | None, out: Path, kind: str, state: str | None, partial: bool
) -> None:
    """Write days as Parquet, or as a file a recording.

    DAYS is one day, or FIRST..LAST. Parquet is one file a day, with a row a recording, words and metadata in it; the
    other formats are a folder a day, with an index. A day that is not finished is refused with exit code 75.
    """
    from hpc import wiring
    from hpc.export import export_day

    with wiring.session(app.settings, application="dayscribe-export") as session:
        wanted = _wanted(session, chosen_site(session, site).name, days, partial=partial)
        rows = []
        for day in wanted:
            with app.display.progress(f"{day.site} {day.date}", unit="recordings") as bar:
                made = session(export_day, day, out, kind=kind, state=state, partial=partial, advance=bar.advance)
            of = made.denominator["recordings"]
            row = {"date": day.date, "path": made.path, "rows": made.recordings, "of": of, "partial": made.partial}
            rows.append(row | {"metadata_rows": made.metadata_rows, "denominator": made.denominator})
    counts = [Column(key, right=True) for key in ("rows", "of", "metadata_rows")]
    app.display.table(rows, [Column("date"), *counts, Column("partial"), Column("path")])


def _wanted(session: Session, site: str, dates: tuple[date, ...], *, partial: bool) -> list[Day]:
    """The days, all of them looked at before the first is written."""
    from db import days
    from db.errors import BadData
    from hpc.export import UnfinishedDay

    known = {row["date"] for row in session(days.find, site=site, start=dates[0], stop=dates[-1], limit=len(dates))}
    if missing := [str(on) for on in dates if on not in known]:
        raise BadData(f"{site} has no {', '.join(missing[:5])} in the ledger{_more(missing)}")
    found = [session(days.get, site, on) for on in dates]
    if not partial and (open_ := [f"{day.date} ({day.state})" for day in found if not days.is_finished(day)]):
        raise UnfinishedDay(
            f"{site} is not finished: {', '.join(open_[:5])}{_more(open_)}; export it later, or with --partial what"
            " there is now"
        )
    return found


def _more(names: list[str]) -> str:
    return f" and {len(names) - 5} more" if len(names) > 5 else ""
