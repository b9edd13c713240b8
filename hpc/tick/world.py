"""What a tick works with, and what it tells: values and callables that hpc/wiring.py hands over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from db.jobs import Job
from db.session import Session
from hpc.job_folder import Order
from hpc.ports import Launcher
from hpc.sections import ScheduleSettings, SlurmSettings


def about(job: Job) -> str:
    """What a job is for, as a report names it."""
    return f"{job.site} {job.date}" if job.day_id is not None else job.kind


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
    register: Callable[[str, date], int]  # lists a day of a site; how many shards are new
    discover: Callable[[], int]  # adds the days that sources show; how many are new
    clock: Callable[[], float]  # seconds, for what a tick may take


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was done, or was not."""

    what: str
    about: str
    detail: str = ""


@dataclass(slots=True)
class Report:
    """What a tick saw, did, and why it did nothing."""

    saw: dict[str, Any] = field(default_factory=dict)
    did: list[Line] = field(default_factory=list)
    waits: list[Line] = field(default_factory=list)

    def done(self, what: str, about: object, detail: str = "") -> None:
        self.did.append(Line(what, str(about), detail))

    def waiting(self, what: str, about: object, detail: str = "") -> None:
        self.waits.append(Line(what, str(about), detail))
