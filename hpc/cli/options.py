"""What several commands share: the global options as one object, and the decorators that add options, among them days
and sites: said in the same way to every command."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from db.errors import DayscribeError
from hpc.cli.display import Display
from hpc.dates import parse_day, parse_days

if TYPE_CHECKING:
    from db.session import Session
    from db.sites import Site
    from hpc.config import Settings

Command = Callable[..., Any]


@dataclass
class App:
    """The options given before the command's name, and what follows from them."""

    config: Path | None = None
    assignments: tuple[str, ...] = ()
    debug: bool = False
    verbosity: int = 0  # -1 quiet, 0 usual, 1 and more: details
    as_json: bool = False

    @cached_property
    def settings(self) -> Settings:
        """The settings, read when a command first asks for them."""
        from hpc.config import load

        settings = load(self.config, self.assignments)
        if settings.shared:
            os.umask(0o007)  # what is made from now on is the group's to write, and nobody else's to read
        return settings

    @cached_property
    def display(self) -> Display:
        return Display(as_json=self.as_json, quiet=self.verbosity < 0)


pass_app = click.make_pass_decorator(App, ensure=True)


def answering(command: Command) -> Command:
    """Hands the command its App as first argument and gives it --json."""

    def remember(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
        context.ensure_object(App).as_json = value

    option = click.option(
        "--json", is_flag=True, expose_value=False, callback=remember, help="Print JSON, for programs."
    )
    return option(pass_app(command))


class Day(click.ParamType[date]):
    """YYYY-MM-DD, or yesterday."""

    name = "day"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        if isinstance(value, date):
            return value
        try:
            return parse_day(value)
        except DayscribeError as error:
            self.fail(str(error), param, ctx)


class Days(click.ParamType[tuple[date, ...]]):
    """One day, or FIRST..LAST with both ends in it."""

    name = "days"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[date, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(parse_days(value))
        except DayscribeError as error:
            self.fail(str(error), param, ctx)


class Language(click.ParamType[str]):
    """A language's code, in small letters as the ledger has them."""

    name = "language"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        code = str(value).lower()
        if not re.fullmatch("[a-z]{2,3}", code):
            self.fail(f"{value!r} is no language; write its code, such as de.", param, ctx)
        return code


DAY = Day()
DAYS = Days()
LANGUAGE = Language()


def _with_days(command: Command, gather: Callable[..., dict[str, Any]], *options: Command) -> Command:
    """The command, called with what `gather` makes of the days that the options say."""

    @wraps(command)
    def gathered(
        *args: Any, on: Any = None, first: Any = None, last: Any = None, positional: Any = None, **rest: Any
    ) -> Any:
        if on is not None and (first is not None or last is not None):
            raise click.UsageError("--date is one day; use --from and --to without it.")
        return command(*args, **gather(positional, on, first, last), **rest)

    for option in reversed(options):
        option(gathered)
    return gathered


_ON = click.option("--date", "on", type=DAY, help="One day.")
_IN_ONE_WAY = "Say {}, in one way: {}."


def day_option(command: Command) -> Command:
    """Adds [DAY] and --date, for what is done to one day: the command gets `day`."""

    def gather(day: date | None, on: date | None, _first: None, _last: None) -> dict[str, Any]:
        if (day is None) == (on is None):
            raise click.UsageError(_IN_ONE_WAY.format("which day", "DAY, or --date DAY"))
        return {"day": day or on}

    return _with_days(command, gather, click.argument("positional", metavar="[DAY]", type=DAY, required=False), _ON)


def days_options(*, required: bool = True) -> Callable[[Command], Command]:
    """Adds [DAYS], --date, --from and --to, for what is done to each of some days: the command gets `days`."""

    def gather(days: tuple[date, ...] | None, on: date | None, first: date | None, last: date | None) -> dict[str, Any]:
        said = sum((days is not None, on is not None, first is not None or last is not None))
        if said > 1 or (required and not said):
            raise click.UsageError(_IN_ONE_WAY.format("which days", "DAYS, --date, or --from and --to"))
        if (first is None) != (last is None):
            raise click.UsageError("--from and --to go together.")
        if on is not None:
            days = (on,)
        elif first is not None and last is not None:
            days = DAYS.convert(f"{first}..{last}", None, None)
        return {"days": days}

    return lambda command: _with_days(
        command, gather, click.argument("positional", metavar="[DAYS]", type=DAYS, required=False), _ON,
        click.option("--from", "first", type=DAY, help="The first day of a range."),
        click.option("--to", "last", type=DAY, help="The last day of the range, in it."),
    )  # fmt: skip


def period_options(command: Command) -> Command:
    """Adds --date, --from and --to, for a look at what lies in between: the command gets `first`, `last`, or None."""

    def gather(_: None, on: date | None, first: date | None, last: date | None) -> dict[str, Any]:
        if first is not None and last is not None:
            DAYS.convert(f"{first}..{last}", None, None)
        return {"first": on or first, "last": on or last}

    return _with_days(
        command, gather, click.option("--date", "on", type=DAY, help="Only this day."),
        click.option("--from", "first", type=DAY, help="Not before this day."),
        click.option("--to", "last", type=DAY, help="Not after this day."),
    )  # fmt: skip


def site_option(command: Command) -> Command:
    """Adds --site, of which `chosen_site` makes the site."""
    return click.option("--site", metavar="NAME", help="The site; may be left out while there is only one.")(command)


def site_filter(command: Command) -> Command:
    """Adds --site to a look at what all sites have."""
    return click.option("--site", metavar="NAME", help="Only this site; else all.")(command)


def chosen_site(session: Session, name: str | None) -> Site:
    """The site of that name; without a name the only one there is."""
    from db import sites
    from hpc.errors import BadSetting

    if name is not None:
        return session(sites.get, name)
    every = session(sites.every)
    if len(every) != 1:
        known = ", ".join(site.name for site in every) or "none yet; `dayscribe days add` makes one"
        raise BadSetting(f"Say which site: --site NAME (known: {known}).")
    return every[0]
