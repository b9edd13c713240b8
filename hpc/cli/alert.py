"""`dayscribe alert`: tells people what is amiss, once, and once more when it is over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from hpc.cli.display import Column
from hpc.cli.options import App, answering

if TYPE_CHECKING:
    from hpc.ports import Channel


@click.command()
@click.option("--dry-run", is_flag=True, help="Show what would be said; tell nobody, keep nothing.")
@click.option("--test", is_flag=True, help="Send one message by every way, to see that it arrives.")
@answering
def command(app: App, /, *, dry_run: bool, test: bool) -> None:
    """Tell people what is amiss, once, and again when over.

    For a timer, on any host, several if you like: what was said is in the ledger. Mail and webhook are set in [alert].
    Ends with 75 when something could not be sent; it is said the next time. That something is amiss is no error.
    """
    from db.errors import DayscribeError
    from hpc.alerts import words
    from hpc.alerts.speak import send_all
    from hpc.errors import ChannelRefused, NotSaid
    from hpc.wiring import alerts as wiring

    if dry_run and test:
        raise click.UsageError("--dry-run and --test exclude each other.")
    made = wiring.channels(app.settings, needed=not dry_run)
    if test:
        _warn(app, send_all(made, words.test(), app.settings.alert.seconds))
        app.display.record({"sent": [channel.name for channel in made]})
        return
    if dry_run:
        _show(app, *_round(app, made, dry_run=True))
        return
    away = wiring.away(app.settings, made)
    try:
        answer = _round(app, made, dry_run=False)
    except (NotSaid, ChannelRefused):
        away.back()
        raise
    except DayscribeError as error:
        if told := away.lost(error):
            app.display.say(f"Said by {', '.join(told)}: the ledger is away.")
        raise
    away.back()
    _show(app, *answer)


def _round(app: App, made: list[Channel], *, dry_run: bool) -> tuple[list[Any], dict[str, list[Any]]]:
    from hpc import wiring
    from hpc.wiring import alerts

    with wiring.session(app.settings, application="dayscribe-alert") as session:
        speaker = alerts.speaker(app.settings, session, made)
        if dry_run:
            return speaker.preview()
        found, told, complaints = speaker.round()
    _warn(app, complaints)
    return found, told


def _show(app: App, found: list[Any], told: dict[str, list[Any]]) -> None:
    if app.as_json:
        app.display.record({"found": found, "said": told})
        return
    rows = [{"amiss": one.kind, "what": one.subject, "message": one.message, "fix": one.fix} for one in found]
    columns = [Column("amiss"), Column("what"), Column("message"), Column("fix", "to mend it")]
    app.display.table(rows, columns, empty="Nothing is amiss.")
    for name, notices in told.items():
        over = sum(one.cleared is not None for one in notices)
        app.display.say(f"{name}: {len(notices) - over} amiss, {over} over" if notices else f"{name}: nothing new")


def _warn(app: App, complaints: list[str]) -> None:
    for complaint in complaints:
        app.display.warn(complaint)
