"""What several commands share: the global options as one object, the decorators that add options, and day arguments."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import cached_property
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


DAY = Day()
DAYS = Days()


def site_option(command: Command) -> Command:
    """Adds --site."""
    return click.option("--site", metavar="NAME", help="The site; may be left out while there is only one.")(command)


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
