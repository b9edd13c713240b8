"""`dayscribe status`: what is done, what is open, and who is at work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from hpc.cli.display import Column, clock
from hpc.cli.options import App, answering

if TYPE_CHECKING:
    from db.session import Session

SHOWN = 20  # open days, and leases


@click.command()
@answering
def command(app: App) -> None:
    """Show days by state, open days, and shards at work."""
    from db import days, reports, transfers
    from hpc import wiring

    with wiring.session(app.settings) as session:
        troubles = session(transfers.troubles)
        moving = session(transfers.latest, only_live=True, limit=SHOWN)
        by_state = session(days.status)
        recent = session(days.recent)
        opened, more = _open_days(session, by_state)
        leases = session(reports.leased, limit=SHOWN)
    arriving = {"transfers": moving, "troubles": troubles}
    if app.as_json:
        app.display.record({"states": by_state, "recent": recent, "open": opened, "leases": leases} | arriving)
        return
    columns = [Column("status", "state"), Column("count", "days", right=True), Column("oldest"), Column("newest")]
    app.display.table(by_state, columns, empty="The ledger has no days yet: dayscribe days add.")
    if opened:
        app.display.text("\n")
        app.display.table([_open_row(row) for row in opened], _open_columns())
    if more:
        app.display.say(f"and {more} more; `dayscribe days list` names them")
    if moving:
        app.display.text("\n")
        columns = [Column("site"), Column("date"), Column("what", "arriving"), Column("state")]
        columns += [Column("files", right=True), Column("expected_files", "of", right=True), Column("message")]
        app.display.table(moving, columns)
    for row in troubles:
        app.display.warn(f"{row['site']}: {row['message']}")
    if leases:
        app.display.text("\n")
        columns = [
            Column("site"),
            Column("date"),
            Column("shard"),
            Column("owner"),
            Column("seconds_left", "lease", _left),
        ]
        app.display.table(leases, columns)


def _open_days(session: Session, by_state: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """The days that somebody should look at, oldest first, with their tallies; and how many more there are."""
    from db import days
    from db.states import FINISHED, DayState

    waiting = [state for state in DayState if state not in FINISHED and state is not DayState.PENDING]
    found = [row for state in waiting for row in session(days.find, state=state.value, limit=SHOWN)]
    found = sorted(found, key=lambda row: (row["date"], row["site"]))[:SHOWN]
    total = sum(row["count"] for row in by_state if row["status"] in waiting)
    keys = ("site", "date", "state", "message")
    opened = [{key: row[key] for key in keys} | {"tally": session(days.tally, row["id"])} for row in found]
    return opened, total - len(opened)


def _open_row(row: dict[str, Any]) -> dict[str, Any]:
    tally = row["tally"]
    done = tally["shards"] - tally["open_shards"]
    share = f" ({100 * done // tally['shards']} %)" if tally["shards"] else ""
    return {**row, **tally, "done": f"{done} of {tally['shards']} shards{share}"}


def _open_columns() -> list[Column]:
    counts = ("recordings", "transcribed", "no_speech", "quarantined", "failed_shards")
    head = [Column("site"), Column("date"), Column("state"), Column("done")]
    return [*head, *(Column(key, right=True) for key in counts), Column("audio_seconds", "audio", clock, right=True)]


def _left(seconds: float) -> str:
    return f"{seconds:.0f} s left" if seconds > 0 else f"lapsed {-seconds:.0f} s ago"
