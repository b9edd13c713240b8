"""Jobs in plain values: what is asked of a scheduler, what it shows, and what a job's folder says to its tasks."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PREFIX = "ds-"  # of our jobs' names: only what begins so is ever looked at, and nothing else is touched
_NAME = re.compile(r"ds-[a-z0-9-]*-([0-9a-f]{12})")
MASTER = "ds-master"  # the job that ticks and submits itself again

# SLURM's words for what is not over. Everything else is an end.
ACTIVE = frozenset(
    {
        "PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING",
        "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD",
    }
)  # fmt: skip
AT_WORK = ACTIVE - {"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"}


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What is asked of a scheduler: a script with one argument, so often, for so long."""

    name: str
    script: Path
    argument: Path  # the job's settings, a file of variables
    folder: Path  # where its tasks' output goes; must exist
    tasks: int
    at_once: int
    minutes: int
    gpu: bool
    exclude: tuple[str, ...] = ()  # nodes
    nice: int = 0  # above 0: others of ours come first


@dataclass(frozen=True, slots=True)
class Seen:
    """One line of what a scheduler shows: a task, or the tasks of an array that still wait, in one."""

    job: str  # the scheduler's id, of the array
    name: str
    state: str
    reason: str = ""
    node: str = ""
    task: int | None = None  # None: not one task
    tasks: int = 1
    partition: str = ""
    account: str = ""
    qos: str = ""
    exit_code: int | None = None
    signal: int = 0

    @property
    def active(self) -> bool:
        return self.state in ACTIVE

    @property
    def token(self) -> str | None:
        """The order's, out of the job's name; None for the master and for what is not ours."""
        match = _NAME.fullmatch(self.name)
        return match[1] if match else None


Index = Mapping[str, Sequence[Seen]]


@dataclass(frozen=True)
class Look:
    """One look at a scheduler. Absent, silent and empty are different: None is no answer, () is an answer."""

    queue: tuple[Seen, ...] | None
    accounting: tuple[Seen, ...] | None = None
    trouble: str = ""  # why there is no answer of the queue
    accounting_trouble: str = ""

    def queued(self, *, token: str, job: str | None) -> list[Seen]:
        """The queue's lines of one job: by its id, and by its token (its answer may have been lost)."""
        return _of(self._queue_index, token, job)

    def accounted(self, *, token: str, job: str | None) -> list[Seen]:
        """Accounting's lines of one job."""
        return _of(self._accounting_index, token, job)

    @cached_property  # a tick looks up every live job: each line is read once for all of them
    def _queue_index(self) -> tuple[Index, Index]:
        return _indexed(self.queue or ())

    @cached_property
    def _accounting_index(self) -> tuple[Index, Index]:
        return _indexed(self.accounting or ())


def _indexed(lines: Iterable[Seen]) -> tuple[Index, Index]:
    by_job, by_token = defaultdict(list), defaultdict(list)
    for line in lines:
        by_job[line.job].append(line)
        if (token := line.token) is not None:
            by_token[token].append(line)
    return by_job, by_token


def _of(index: tuple[Index, Index], token: str, job: str | None) -> list[Seen]:
    by_job, by_token = index
    named = [line for line in by_token.get(token, ()) if line.job != job]
    return [*(by_job.get(job, ()) if job is not None else ()), *named]


def name_of(kind: str, day: str | None, token: str) -> str:
    """The job's name: all that other users of the cluster may read of it."""
    return f"{PREFIX}{day or kind}-{token}"
