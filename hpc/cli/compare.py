"""`dayscribe compare`: what two runs heard in the same recordings, and how far they agree."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING, Any

import click

from hpc.cli.display import Column
from hpc.cli.options import App, answering, days_options, site_filter
from hpc.cli.runs import briefly, scope_of

if TYPE_CHECKING:
    from db.connect import Connection
    from hpc.compare import Examples, Tally

LONGEST = 1_000  # characters of an example that are printed


@click.command()
@click.argument("run_a", metavar="RUN_A")
@click.argument("run_b", metavar="RUN_B")
@days_options(required=False)
@site_filter
@click.option("--examples", type=click.IntRange(0, 1000), default=5, show_default=True, help="Show so many pairs.")
@answering
def command(
    app: App, /, run_a: str, run_b: str, *, days: tuple[date, ...] | None, site: str | None, examples: int
) -> None:
    """Compare the transcripts of two runs, day by day.

    RUN_A and RUN_B are ids of runs, or at least 6 digits of their keys. DAYS is one day, or FIRST..LAST; left out it is
    all days that have either run; without --site of all sites. Compared are recordings with a version of both,
    current or not; the rate is the words that differ, by words of A.
    """
    from db import runs
    from db.errors import BadData
    from db.plans import NO_DAY
    from hpc import wiring
    from hpc.compare import Examples, Tally

    with wiring.session(app.settings, application="dayscribe-compare") as session:
        one, other = (session(runs.find, which) for which in (run_a, run_b))
        sides = _sides(one, other)
        scope = scope_of(session, days, site)
        found = session(runs.days, scope, None if days else [*sides[0], *sides[1]])
        if days and not found:
            raise BadData(NO_DAY)
        total, kept, rows = Tally(), Examples(examples), []
        with app.display.progress("comparing", total=len(found), unit="days") as bar:
            for day in found:
                about = {"site": day["site"], "date": day["date"]}
                tally, some = session(_day, day["id"], sides, examples=examples, about=about)
                total.add(tally)
                kept.add(some)
                rows.append(about | tally.told())
                bar.advance()
    told = {"a": _run(one), "b": _run(other), "days": rows, "total": total.told(), "examples": kept.told()}
    if app.as_json:
        app.display.record(told)
    else:
        _show(app, told, {"A": briefly(one), "B": briefly(other)})


def _sides(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> tuple[list[int], list[int]]:
    from db.errors import BadData

    sides = [row["id"] for row in one], [row["id"] for row in other]
    if set(sides[0]) & set(sides[1]):
        raise BadData("Both are the same run; `dayscribe runs list` shows the others.")
    return sides


def _day(
    connection: Connection, day_id: int, sides: tuple[list[int], list[int]], *, examples: int, about: Mapping[str, Any]
) -> tuple[Tally, Examples]:
    """One day at one moment, whatever is recorded meanwhile."""
    from db import reports, runs
    from hpc.compare import compare

    with reports.snapshot(connection):
        ids = runs.recordings(connection, day_id)
        pages = runs.pairs(connection, ids, *sides)
        return compare(pages, recordings=len(ids), examples=examples, about=about)


def _cut(diff: str) -> str:
    return diff if len(diff) <= LONGEST else f"{diff[:LONGEST]} … (all of it: --json)"


def _run(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"key": rows[0]["key"], "receipts": rows}


def _show(app: App, told: Mapping[str, Any], names: Mapping[str, str]) -> None:
    app.display.record(names)
    app.display.text("\n")
    sites = {row["site"] for row in told["days"]}
    columns = [Column("site")] if len(sites) > 1 else []
    columns += [Column("date"), *(Column(name, right=True) for name in ("both", "of", "same", "differ"))]
    columns += [
        Column("words_a", "of words", right=True),
        Column("rate", right=True),
        Column("length", right=True),
        Column("languages"),
        Column("gained", "flags gained"),
    ]
    columns += [Column("lost", "flags lost"), Column("new_empty", right=True), Column("new_words", right=True)]
    rows = [_row(day) for day in told["days"]]
    if len(rows) > 1:
        rows.append(_row({**told["total"], "date": "all"}))
    app.display.table(rows, columns, empty="The ledger has no such days.")
    app.display.passage(_denominator(told["total"], len(told["days"])))
    for one in told["examples"]:
        app.display.text("\n")
        app.display.passage(_title(one))
        app.display.passage(f"    {_cut(one['diff'])}")


def _row(tally: Mapping[str, Any]) -> dict[str, Any]:
    languages = ", ".join(f"{one['from']}→{one['to']} {one['recordings']}" for one in tally["languages"])
    flags = {name: ", ".join(f"{flag} {n}" for flag, n in tally[name].items()) or "-" for name in ("gained", "lost")}
    return {
        **tally,
        **flags,
        "of": tally["recordings"],
        "differ": tally["differences"],
        "rate": percent(tally["rate"]),
        "length": f"{tally['length_change']:+d}",
        "languages": languages or "-",
    }


def percent(rate: float | None) -> str:
    return "-" if rate is None else f"{100 * rate:.2f} %"


def _denominator(total: Mapping[str, Any], days: int) -> str:
    of_days = "this day" if days == 1 else f"these {days} days"
    said = [
        f"{total['both']} of {total['recordings']} recordings of {of_days} have both versions"
        f" ({total['only_a']} A alone, {total['only_b']} B alone).",
        f"{total['differences']} of A's {total['words_a']} words differ, are gone or have come"
        f" ({percent(total['rate'])}); B has {total['words_b']}.",
    ]
    if total["both"] > total["current_b"]:
        said.append(f"Readers see B's version of {total['current_b']}, A's of {total['current_a']}.")
    if total["judged"] < total["both"]:
        said.append(f"Flags are of the {total['judged']} that are judged: dayscribe quality.")
    return " ".join(said)


def _title(one: Mapping[str, Any]) -> str:
    a, b = one["a"], one["b"]
    languages = a["language"] if a["language"] == b["language"] else f"{a['language'] or '-'}→{b['language'] or '-'}"
    where = f"{one['recording']}  {one['site']} {one['date']}  {one['meta_id']}  {languages or ''}".rstrip()
    return f"{where}  {one['differences']} {'word differs' if one['differences'] == 1 else 'words differ'}"
