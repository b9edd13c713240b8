"""What a tick works with: values and callables that hpc/wiring/ hands over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from db.jobs import Job
from db.session import Session
from hpc.job_folder import Order
from hpc.ports import Launcher
from hpc.sections import ScheduleSettings, SlurmSettings
from hpc.tick.porter import Porter
from hpc.tick.report import Report


def about(job: Job) -> str:
    """What a job is for, as a report names it."""
    named = f"{job.site} {job.date}" if job.day_id is not None else job.kind
    return named if job.plan_id is None else f"{named} (plan {job.plan_id})"


@dataclass(frozen=True, slots=True)
class Code:
    """The program that ordered jobs run: a copy of ours under its digest, which no upgrade changes."""

    digest: str
    folder: Path


@dataclass(frozen=True, slots=True)
class World:
    """Everything a tick touches."""

    session: Session
    launcher: Launcher
    user: str  # the system's user: only his jobs are touched
    home: Path
    results: Path
    scripts: Path  # the folder of the job scripts
    rules: ScheduleSettings
    wanted: SlurmSettings
    variables: Callable[[Order], Mapping[str, str]]  # the settings of a job
    image: Callable[[str], str | None]  # digest of the image in which jobs of a kind run, if they run in one
    plans: bool  # the jobs of days reach no ledger: they work from a file
    code: Callable[[], Code]
    ingest: Callable[[Path], None]  # records one part
    register: Callable[[str, date], int]  # lists a day of a site whose files are at hand; how many shards are new
    porter: Porter  # of those whose files have to be moved
    discover: Callable[[Report], int]  # adds the days that sources show; how many are new
    room: Callable[[], dict[str, Any]]  # what is staged, and what there is room for: dashboards do not see the disks
    clock: Callable[[], float]  # seconds, for what a tick may take
