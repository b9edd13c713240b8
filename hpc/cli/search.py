"""`dayscribe search`: what was said, and how much was looked through to find it."""

from __future__ import annotations

from datetime import date
from typing import Any

import click

from db.states import QualityFlag
from hpc.cli.options import LANGUAGE, App, answering, period_options, site_filter

FLAGS = [flag.value for flag in QualityFlag]
MARKS = ("<<", ">>")  # around what was found


@click.command()
@click.argument("query")
@site_filter
@period_options
@click.option(
    "--language", type=LANGUAGE, metavar="CODE", default="en", show_default=True, help="The language of the query."
)
@click.option("--only-language", type=LANGUAGE, metavar="CODE", help="Only transcripts in this language.")
@click.option("--flag", type=click.Choice(FLAGS), help="Only transcripts that have this quality flag.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many hits at most.")
@click.option("--after", type=click.IntRange(1), metavar="RECORDING", help="Go on after this hit of an earlier page.")
@answering
def command(
    app: App,
    /,
    query: str,
    *,
    site: str | None,
    first: date | None,
    last: date | None,
    language: str,
    only_language: str | None,
    flag: str | None,
    limit: int,
    after: int | None,
) -> None:
    """Find words in the current transcripts.

    QUERY is words, "a phrase", or, -not. The answer always says how many recordings were looked through, and which days
    are not finished. The newest day's hits come first.
    """
    from db import search, sites
    from db.transcripts import Scope
    from hpc import wiring

    scope = Scope(site, first, last)
    question = search.Question(query, scope, language, only_language, flag, limit, after)
    with wiring.session(app.settings) as session:
        if site is not None:
            session(sites.get, site)
        found = session(search.search, question)
    if app.as_json:
        told = {"query": query, "language": language, "hits": found.hits, "total": found.total, "next": found.next}
        app.display.record(told | {"denominator": found.denominator, "unfinished_days": found.open_days})
        return
    for hit in found.hits:
        _show(app, hit)
    if not found.terms:
        app.display.warn(f"{query!r} is made of words too common to look for (in language {language}).")
    app.display.passage(_denominator(len(found.hits), found.total, found.denominator, more=found.next is not None))
    if found.next:
        app.display.say(f"More: the same with --after {found.next}, or a higher --limit.")
    if found.open_days:
        days = ", ".join(f"{day['site']} {day['date']} ({day['state']})" for day in found.open_days)
        app.display.passage(f"Not finished: {days}.")


def _show(app: App, hit: dict[str, Any]) -> None:
    where = " ".join(str(hit[key]) for key in ("site", "date", "slot") if hit[key])
    app.display.passage(f"{hit['recording_id']}  {where}  {hit['meta_id']}  {hit['language'] or ''}".rstrip())
    text, stop = "", 0
    for begin, end in hit["marks"]:
        text += f"{hit['excerpt'][stop:begin]}{MARKS[0]}{hit['excerpt'][begin:end]}{MARKS[1]}"
        stop = end
    app.display.passage(f"    {' '.join((text + hit['excerpt'][stop:]).split())}", marks=MARKS)


def _denominator(hits: int, total: int | None, counts: dict[str, int], *, more: bool) -> str:
    found = f"{hits}" if total in (None, hits) else f"{hits} of the {total} that match,"
    beyond = " and more" if more and total is None else ""
    return (
        f"{found}{beyond} of {counts['transcribed']} transcripts; {counts['no_speech']} recordings hold no speech,"
        f" {counts['quarantined']} are quarantined, {counts['unsealed']} not sealed yet. Of"
        f" {counts['expected_archives']} archives {counts['missing_archives']} are missing."
    )
