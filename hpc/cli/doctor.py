"""`dayscribe doctor`: what this machine, its cluster and a node of it have and lack, before anything is started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpc.cli.display import Column
from hpc.cli.options import App, answering

if TYPE_CHECKING:
    from hpc.doctor.finding import Finding


@click.command()
@click.option("--gpu-node", is_flag=True, help="Look at a node instead, by a short GPU job.")
@click.option("--minutes", type=click.IntRange(1), default=5, show_default=True, help="The time limit of that job.")
@click.option(
    "--wait", type=click.FloatRange(0), metavar="SECONDS", default=600, show_default=True,
    help="How long to wait for its start.",
)  # fmt: skip
@click.option(
    "--report", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="FOLDER",
    help="Show what such a job found that was not waited for.",
)  # fmt: skip
@click.option("--read-images", is_flag=True, help="Read images of any size, to compare their digests.")
@click.option("--on-node", is_flag=True, hidden=True, help="What slurm/4_doctor_job.sh calls.")
@click.option("--write", "target", type=click.Path(path_type=Path), hidden=True, help="Where it writes.")
@answering
def command(
    app: App, /, *, gpu_node: bool, minutes: int, wait: float, report: Path | None, read_images: bool, on_node: bool,
    target: Path | None,
) -> None:  # fmt: skip
    """Say what is missing on this machine, and how to mend it.

    Looks at Python, packages, folders, disk space, PostgreSQL, models and the GPU; where images or SLURM are used, at
    the runtime, the images and their digests, and at what SLURM says to an order. Changes nothing, starts nothing.
    With --gpu-node a short job is submitted, which looks at a node and transcribes a clip whose words are known, in the
    image and on the GPU of a real order. Exit code 78 says that something is wanting; advice alone is no failure.
    """
    from hpc.cli import doctor_here, doctor_node

    if gpu_node + on_node + (report is not None) > 1:
        raise click.UsageError("--gpu-node and --report exclude each other.")
    if on_node:
        show(app, doctor_node.look(app, target))
    elif report is not None:
        show(app, doctor_node.report(app, report))
    elif gpu_node:
        show(app, doctor_node.send(app, minutes=minutes, wait=wait))
    else:
        show(app, list(doctor_here.look(app, read_images=read_images)))


def show(app: App, findings: Sequence[Finding]) -> None:
    """The table; NeedsConfiguration names what is wanting."""
    from db.errors import NeedsConfiguration
    from hpc.doctor.finding import Verdict

    app.display.table([_row(finding) for finding in findings], [Column(key) for key in _row(findings[0])])
    if wanting := [finding.what for finding in findings if finding.verdict is Verdict.WANTING]:
        raise NeedsConfiguration(f"Something is wanting: {', '.join(wanting)}.")


def _row(finding: Finding) -> Mapping[str, str]:
    return {
        "what": finding.what,
        "verdict": finding.verdict.value,
        "found": finding.found,
        "wanted": finding.wanted,
        "mend": finding.mend,
    }
