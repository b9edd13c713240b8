"""`dayscribe digest`: what was finished, what failed, what needs a person, what is under way."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from hpc.cli.options import App, answering

_AGO = re.compile(r"([1-9][0-9]{0,4})([hd])")


class Since(click.ParamType[datetime | timedelta]):
    """24h, 7d, or a day, which begins at midnight UTC."""

    name = "since"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime | timedelta:
        from db.errors import DayscribeError
        from hpc.dates import parse_day

        if isinstance(value, datetime | timedelta):
            return value
        if ago := _AGO.fullmatch(value):
            return timedelta(hours=int(ago[1]) * (24 if ago[2] == "d" else 1))
        try:
            return datetime.combine(parse_day(value), datetime.min.time(), UTC)
        except DayscribeError:
            self.fail(f"{value!r} is neither 24h, 7d nor a day such as 2025-01-31", param, ctx)


@click.command()
@click.option(
    "--since", type=Since(), default="24h", show_default=True, metavar="24h|7d|DAY", help="How far back it goes."
)
@click.option("--send", is_flag=True, help="Send it by every way that alerts go.")
@answering
def command(app: App, /, *, since: datetime | timedelta, send: bool) -> None:
    """Say what was done, what failed, and who is needed.

    Failures are grouped by class; what needs a person comes with the command that mends it.
    """
    from db import alerts, digests
    from db.amiss import judge
    from hpc import wiring
    from hpc.alerts import digest as made
    from hpc.alerts.speak import send_all
    from hpc.wiring import alerts as ways

    channels = ways.channels(app.settings) if send else []
    limits = ways.limits(app.settings)
    with wiring.session(app.settings) as session:
        facts = session(digests.facts, since)
        found = judge(session(alerts.facts, lapsed=limits.lapsed), limits)
        room = ways.room(app.settings, session)
    answer = made.digest(facts, [*found, *([room.lack] if room.lack else [])])
    if send:
        for complaint in send_all(channels, made.message(answer), app.settings.alert.seconds):
            app.display.warn(complaint)
    if app.as_json:
        app.display.record({name: getattr(answer, name) for name in made.Digest.__slots__})
    elif not send:
        app.display.text(made.text(answer))
    else:
        app.display.say(f"Sent by {', '.join(channel.name for channel in channels)}.")
