"""`dayscribe export`: days as files for other programs, and frozen sets of them."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from db.states import QualityFlag
from hpc.cli.display import Column
from hpc.cli.export_days import Asked, wanted, warn_absent
from hpc.cli.options import LANGUAGE, App, answering, chosen_site, days_options

if TYPE_CHECKING:
    from db.session import Session

TABLES = ("parquet", "jsonl", "csv")  # hpc.export.KINDS, without importing it for --help
FORMATS = (*TABLES, "json", "txt", "srt", "vtt", "tsv")
STATES = ("transcribed", "no_speech", "quarantined")
FLAGS = (*(flag.value for flag in QualityFlag), "none")  # "none" as db.reports.UNFLAGGED
COUNTED = ("rows", "of", "transcribed", "no_speech", "quarantined")


@click.command()
@days_options(required=False)
@click.option(
    "--site", "sites", metavar="NAME", multiple=True, help="A site; repeatable. May be left out for the only one."
)
@click.option("--all-sites", is_flag=True, help="All sites; of each the days that the ledger has.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="The folder to write to.")
@click.option("--format", "kind", type=click.Choice(FORMATS), show_default="parquet", help="The format.")
@click.option("--state", type=click.Choice(STATES), help="Only recordings in this state.")
@click.option(
    "--language", "languages", type=LANGUAGE, metavar="CODE", multiple=True, help="Only this language; repeatable."
)
@click.option("--flag", "flags", type=click.Choice(FLAGS), multiple=True, help="Only with this flag; repeatable.")
@click.option("--partial", is_flag=True, help="Unfinished days too, as they are now; the file says so.")
@click.option("--snapshot", metavar="NAME", help="Freeze the set under this name, and write it; again: the same bytes.")
@answering
def command(
    app: App,
    /,
    days: tuple[date, ...] | None,
    *,
    sites: tuple[str, ...],
    all_sites: bool,
    out: Path,
    kind: str | None,
    snapshot: str | None,
    partial: bool,
    **chosen: Any,
) -> None:
    """Write days as a table, or as a file a recording.

    DAYS is one day, or FIRST..LAST. Parquet, JSONL and CSV are one file a day, with a row a recording; the other
    formats are a folder a day, with an index. `--flag none` is what has no flag. Every export says how much was
    expected, and what is missing. A day that is not finished is refused with exit code 75.

    With --snapshot, DAYS and filters make the set the first time; after that the name is enough.
    """
    from db.reports import Choice
    from hpc import wiring
    from hpc.cli.snapshots import write

    if sites and all_sites:
        raise click.UsageError("--site and --all-sites exclude each other.")
    if snapshot is not None and kind not in (None, *TABLES):
        raise click.UsageError(f"A snapshot is written as {', '.join(TABLES)}.")
    if days is None and (snapshot is None or sites or all_sites or partial or any(chosen.values())):
        raise click.UsageError("Say which days: DAYS is one day, or FIRST..LAST; or --date, or --from and --to.")
    with wiring.session(app.settings, application="dayscribe-export") as session:
        asked = None
        if days is not None:
            named = sites or (() if all_sites else (chosen_site(session, None).name,))
            asked = Asked(days, None if all_sites else tuple(sorted(set(named))), Choice(**chosen), partial)
        if snapshot is not None:
            write(app, session, snapshot, asked, out=out, kind=kind)
        elif asked is not None:
            _export(app, session, asked, out, kind or "parquet")


def _export(app: App, session: Session, asked: Asked, out: Path, kind: str) -> None:
    from hpc.export import export_day, missing

    found, absent = wanted(session, asked)
    warn_absent(app, absent)
    rows: list[dict[str, Any]] = []
    for day in found:
        with app.display.progress(f"{day.site} {day.date}", unit="recordings") as bar:
            made = session(
                export_day, day, out, kind=kind, choice=asked.choice, partial=asked.partial, advance=bar.advance
            )
        counts = made.denominator
        row = {
            "site": day.site,
            "date": day.date,
            "path": made.path,
            "rows": made.recordings,
            "of": counts["recordings"],
        }
        row |= {name: counts[name] for name in STATES} | {"missing": missing(counts), "partial": made.partial}
        rows.append(row | {"metadata_rows": made.metadata_rows, "denominator": counts})
    if asked.choice.flags and (unjudged := sum(row["denominator"]["unjudged"] for row in rows)):
        app.display.warn(f"{unjudged} transcripts are not judged yet: what flags they have is not known.")
    columns = [Column("site")] if asked.sites is None or len(asked.sites) > 1 else []
    columns += [Column("date"), *(Column(key, right=True) for key in (*COUNTED, "metadata_rows"))]
    app.display.table(rows, [*columns, Column("missing"), Column("partial"), Column("path")])
