"""`dayscribe config`: what each setting is, and where it came from."""

from __future__ import annotations

import click

from hpc.cli.display import Column
from hpc.cli.options import App, answering


@click.group()
def command() -> None:
    """Show the settings and where they come from."""


@command.command()
@answering
def show(app: App) -> None:
    """List every setting with its value and origin.

    The command line goes over the environment (DAYSCRIBE_SECTION__NAME), the environment over dayscribe.toml, and that
    over the defaults. Misspelt names are errors.
    """
    from hpc.config import describe

    rows = [
        {"name": setting.name, "value": setting.value, "origin": setting.origin, "help": setting.help}
        for setting in describe(app.settings)
    ]
    app.display.table(rows, [Column("name"), Column("value"), Column("origin"), Column("help")])
