"""`dayscribe quality`: which transcripts to look at first, and why."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING, Any

import click

from db.states import QualityFlag
from hpc.cli.display import Column
from hpc.cli.options import App, answering, chosen_site, days_options, site_option

if TYPE_CHECKING:
    from db.days import Day
    from db.session import Session

FLAGS = tuple(flag.value for flag in QualityFlag)


@click.command()
@days_options()
@site_option
@click.option("--flag", type=click.Choice(FLAGS), help="Only recordings with this flag.")
@click.option("--limit", type=click.IntRange(0, 500), default=10, show_default=True, help="Examples of a day at most.")
@click.option("--rejudge", is_flag=True, help="Judge anew what is judged already.")
@answering
def command(
    app: App, /, days: tuple[date, ...], *, site: str | None, flag: str | None, limit: int, rejudge: bool
) -> None:
    """Say which transcripts are suspect, and why.

    DAYS is one day, or FIRST..LAST. What is not judged yet is judged first. A flag is evidence, not a verdict: no
    transcript is changed or left out for it.
    """
    from db import flags
    from hpc import wiring

    with wiring.session(app.settings, application="dayscribe-quality") as session:
        told = []
        for day in _wanted(session, chosen_site(session, site).name, days):
            _judge(app, session, day, anew=rejudge)
            found = session(flags.overview, day)
            examples = session(flags.page, day.id, flag=flag, limit=limit) if limit else []
            told.append({"site": day.site, "date": day.date, **found, "examples": examples})
    if app.as_json:
        app.display.record({"days": told})
        return
    _table(app, told, flag)
    for one in told:
        for example in one["examples"]:
            _show(app, one["date"], example, flag)
    for one in told:
        app.display.passage(f"{one['date']}: {_denominator(one)}")


def _wanted(session: Session, site: str, dates: tuple[date, ...]) -> list[Day]:
    """The days of that range that the ledger has; a single one it must have."""
    from db import days
    from db.errors import BadData

    if len(dates) == 1:
        return [session(days.get, site, dates[0])]
    known = session(days.find, site=site, start=dates[0], stop=dates[-1], limit=len(dates))
    if not known:
        raise BadData(f"{site} has no day from {dates[0]} to {dates[-1]} in the ledger")
    return [session(days.get, site, row["date"]) for row in known]


def _judge(app: App, session: Session, day: Day, *, anew: bool) -> None:
    from hpc.triage import judge_day

    with app.display.progress(f"judging {day.site} {day.date}", unit="shards") as bar:
        judge_day(session, day.id, anew=anew, advance=bar.advance)


def _table(app: App, told: list[dict[str, Any]], flag: str | None) -> None:
    """A line a flag, over all the days."""
    from hpc.triage import TABLE

    transcripts = sum(_transcripts(one) for one in told)
    rows = []
    for name in (flag,) if flag else FLAGS:
        count = sum(one["quality_flags"][name] for one in told)
        share = f"{100 * count / transcripts:.1f} %" if transcripts else "-"
        rows.append({"flag": name, "recordings": count, "share": share, "means": TABLE[name].says})
    columns = [Column("flag"), Column("recordings", right=True), Column("share", right=True), Column("means")]
    app.display.table(rows, columns)


def _show(app: App, on: date, row: Mapping[str, Any], flag: str | None) -> None:
    place = " ".join(str(part) for part in (on, row["slot"]) if part)
    app.display.passage(f"{row['id']}  {place}  {row['meta_id']}  {row['language'] or ''}".rstrip())
    for one in row["quality_flags"]:
        if flag in (None, one["flag"]):
            app.display.passage(f"    {one['flag']}: {one['detail']}")
    if row["excerpt"]:
        app.display.passage(f"    “{' '.join(row['excerpt'].split())}{'…' if row['cut'] else ''}”")


def _transcripts(one: Mapping[str, Any]) -> int:
    counts: Mapping[str, int] = one["denominator"]
    return counts["transcribed"] + counts["no_speech"]


def _denominator(one: Mapping[str, Any]) -> str:
    counts, transcripts = one["denominator"], _transcripts(one)
    return (
        f"{one['flagged']} of {transcripts} transcripts are flagged ({counts['transcribed']} with text,"
        f" {counts['no_speech']} without speech); {counts['quarantined']} recordings are quarantined,"
        f" {counts['unsealed']} not sealed yet; {counts['unjudged']} of the {transcripts} transcripts are not judged."
    )
