"""`dayscribe canary`: one clip whose words are known, transcribed where this command runs."""

from __future__ import annotations

import click

from hpc.cli.options import App, answering


@click.command()
@click.option(
    "--device",
    type=click.Choice(("auto", "cpu", "cuda")),
    default="auto",
    show_default=True,
    help="Where to transcribe.",
)
@answering
def command(app: App, /, device: str) -> None:
    """Transcribe a clip whose words are known.

    The real path, from the encoded bytes to the words with their times, with the small model that dayscribe ships: a
    machine or an image on which it fails would fail on every recording. Exit code 75 says that other words were heard.
    """
    from dataclasses import asdict

    from hpc import wiring

    app.display.record(asdict(wiring.canary(app.settings, device)))
