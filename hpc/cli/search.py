"""`dayscribe search`: what was said, and how much was looked through to find it."""

from __future__ import annotations

from datetime import date
from typing import Any

import click

from hpc.cli.options import DAY, App, answering, site_option

MARKS = ("<<", ">>")  # what db/queries/transcripts.sql puts around what was found


@click.command()
@click.argument("query")
@site_option
@click.option("--from", "first", type=DAY, help="Not before this day.")
@click.option("--to", "last", type=DAY, help="Not after this day.")
@click.option("--language", metavar="CODE", default="en", show_default=True, help="The language of the query.")
@click.option("--only-language", metavar="CODE", help="Only transcripts in this language.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many hits at most.")
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
    limit: int,
) -> None:
    """Find words in the current transcripts.

    QUERY is words, "a phrase", or, -not. The answer always says how many recordings were looked through, and which days
    are not finished.
    """
    from db import sites, transcripts
    from hpc import wiring

    scope = transcripts.Scope(site, first, last)
    with wiring.session(app.settings) as session:
        if site is not None:
            session(sites.get, site)
        found = session(transcripts.search, query, scope=scope, language=language, only=only_language, limit=limit)
    if app.as_json:
        told = {"query": query, "language": language, "hits": found.hits, "denominator": found.denominator}
        app.display.record(told | {"unfinished_days": found.open_days})
        return
    for hit in found.hits:
        _show(app, hit)
    app.display.passage(_denominator(len(found.hits), found.denominator, limit))
    if found.open_days:
        days = ", ".join(f"{day['site']} {day['date']} ({day['state']})" for day in found.open_days)
        app.display.passage(f"Not finished: {days}.")


def _show(app: App, hit: dict[str, Any]) -> None:
    where = " ".join(str(hit[key]) for key in ("site", "date", "slot") if hit[key])
    app.display.passage(f"{hit['recording_id']}  {where}  {hit['meta_id']}  {hit['language'] or ''}".rstrip())
    app.display.passage(f"    {' '.join(hit['excerpt'].split())}", marks=MARKS)


def _denominator(hits: int, counts: dict[str, int], limit: int) -> str:
    more = " or more (--limit)" if hits == limit else ""
    return (
        f"{hits}{more} of {counts['transcribed']} transcripts; {counts['no_speech']} recordings hold no speech,"
        f" {counts['quarantined']} are quarantined, {counts['unsealed']} not sealed yet."
    )
