"""`dayscribe slurm`: what would be submitted, in SLURM's own words."""

from __future__ import annotations

import click

from hpc.cli.options import App, answering

KINDS = ("process", "redo", "ingest", "stage", "deliver")


@click.group()
def command() -> None:
    """Show what SLURM would be asked."""


@command.command()
@click.option("--kind", type=click.Choice(KINDS), default="process", help="Which kind of job.")
@click.option("--tasks", type=click.IntRange(1), default=4, show_default=True, help="Tasks of the array.")
@answering
def render(app: App, /, kind: str, tasks: int) -> None:
    """Print a job's sbatch command and its script.

    Nothing is submitted, and nothing is asked.
    """
    from hpc import wiring
    from hpc.jobs import JobSpec, name_of
    from hpc.tick.submit import SCRIPTS

    settings, scripts = app.settings, wiring.job_scripts()
    folder = settings.home / "jobs" / "1"
    spec = JobSpec(
        name=name_of(kind, "2025-01-31" if kind == "process" else None, "0" * 12), script=scripts / SCRIPTS[kind],
        argument=folder / "job.env", folder=folder, tasks=tasks if kind == "process" else 1,
        at_once=min(tasks, settings.slurm.at_once), minutes=settings.slurm.minutes_most, gpu=kind == "process",
    )  # fmt: skip
    text = wiring.launcher(settings).render(spec)
    if app.as_json:
        app.display.record({"rendered": text})
    else:
        app.display.text(text)
