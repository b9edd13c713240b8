"""A job's folder on the shared file system: what its tasks are to do, and what each says of its own end.

HOME/jobs/ID/  job.env     settings, for the job script       log/task-3.log          what task 3 printed
               job.json    the order; its tasks leave when    task-3.0.began.json     its first start
                           it is gone (superseded)            task-3.0.ended.json     how that ended
               failed-17-2.json   shard 17 under epoch 2 cannot be done (where tasks reach no ledger)
               said-17-2.json.gz  what was said in it, where only its words are timed anew (the same)
"""

from __future__ import annotations

import datetime
import gzip
import json
import os
import secrets
import shlex
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hpc.errors import Interrupted

ORDER, SETTINGS, SUPERSEDED, LOGS = "job.json", "job.env", "superseded.json", "log"


class Superseded(Interrupted):
    """This job's order is no longer valid; another does its work."""


@dataclass(frozen=True, slots=True)
class PlannedShard:
    """A shard that a task without a ledger works: leased for the job, under `epoch`."""

    id: int
    name: str
    slot: str | None
    loose: bool
    files: tuple[str, ...]  # paths as the file system's bytes, escaped as Python does
    epoch: int
    known: Mapping[int, str] = field(default_factory=dict)  # ordinal → sha256 of what is recorded, hex
    wanted: tuple[int, ...] | None = None  # for a plan: what of `known`, then all there is, is made again
    staged: str = ""  # the folder of its day, escaped as the files


@dataclass(frozen=True, slots=True)
class Order:
    """What a job's tasks are to do."""

    id: int
    token: str
    kind: str
    mode: str  # ledger, plan
    code: str  # digest
    tasks: int
    minutes: int
    gpu: bool
    day_id: int | None = None
    site: str | None = None
    date: str | None = None  # YYYY-MM-DD
    shards: tuple[PlannedShard, ...] = ()  # for tasks without a ledger; task N works every tasks-th from the Nth
    plan_id: int | None = None  # recordings of the day are made again
    run_key: str | None = None  # hex; as what they are made again
    text: Mapping[str, Any] | None = None  # of which run's texts only the words are timed anew

    @property
    def day(self) -> datetime.date | None:
        return None if self.date is None else datetime.date.fromisoformat(self.date)

    def share(self, task: int) -> tuple[PlannedShard, ...]:
        return self.shards[task :: self.tasks]


@dataclass(frozen=True, slots=True)
class Record:
    """What a task says of one of its starts."""

    task: int
    restart: int
    node: str
    began: float  # seconds since 1970
    job: str = ""  # the scheduler's id, which a lost answer did not tell
    ended: float | None = None  # None: not over, or ended without a word
    ended_as: str | None = None
    exit_code: int | None = None
    reason: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)  # counts and seconds


@dataclass(frozen=True, slots=True)
class FailedShard:
    """What a task without a ledger found that cannot be done."""

    shard_id: int
    epoch: int
    kind: str
    reason: str
    discard: bool


class JobFolder:
    """Reads and writes the files above; each is written whole or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def make(self, order: Order, variables: Mapping[str, str]) -> None:
        """Everything that the job needs, before it is asked for; again, it is written anew."""
        (self.path / LOGS).mkdir(parents=True, exist_ok=True)
        lines = [f"{name}={shlex.quote(value)}\n" for name, value in sorted(variables.items())]
        _write(self.path / SETTINGS, "# The settings of this job, for slurm/common.sh.\n" + "".join(lines))
        _write(self.path / ORDER, json.dumps(asdict(order)))

    def order(self) -> Order:
        """The order; Superseded when it is no longer there."""
        return self._order(ORDER)

    def given(self) -> Order | None:
        """The order as it was given, over or not; None when it was never written."""
        for name in (ORDER, SUPERSEDED):
            with suppress(Superseded):
                return self._order(name)
        return None

    def _order(self, name: str) -> Order:
        try:
            said = json.loads((self.path / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise Superseded from None
        planned = tuple(
            PlannedShard(
                **one
                | {"files": tuple(one["files"]), "known": {int(n): h for n, h in one["known"].items()}}
                | {"wanted": None if one.get("wanted") is None else tuple(one["wanted"])}
            )
            for one in said["shards"]
        )
        return Order(**said | {"shards": planned})

    def superseded(self) -> bool:
        """Whether the order was taken back."""
        return (self.path / SUPERSEDED).exists()

    def supersede(self) -> None:
        """Tasks that start from now on leave at once."""
        with suppress(FileNotFoundError):
            (self.path / ORDER).rename(self.path / SUPERSEDED)
        for told in self.path.glob("said-*.json.gz"):
            told.unlink(missing_ok=True)

    def began(self, record: Record) -> None:
        self._record(record, "began")

    def ended(self, record: Record) -> None:
        self._record(record, "ended")

    def records(self) -> list[Record]:
        """The latest word of each start, in order; a file that is not whole is as good as none."""
        found: dict[tuple[int, int], Record] = {}
        for ending in ("began", "ended"):  # in this order: the end says more
            for said in self._read(f"task-*.{ending}.json"):
                with suppress(TypeError, ValueError):
                    record = Record(**said)
                    found[_number(record.task), _number(record.restart)] = record
        return [found[key] for key in sorted(found)]

    def tell(self, shard_id: int, epoch: int, said: Mapping[int, Mapping[str, Any]]) -> None:
        """What was said in a shard, by ordinal, before the order is written: for nobody else, while the order lasts."""
        self.path.mkdir(parents=True, exist_ok=True)
        where = self.path / f"said-{shard_id}-{epoch}.json.gz"
        with open(where, "wb", opener=_closed) as out:
            out.write(gzip.compress(json.dumps(said).encode(), compresslevel=3, mtime=0))

    def said(self, planned: PlannedShard) -> dict[int, Mapping[str, Any]]:
        """The same, as a task reads it; Superseded when the order is over."""
        try:
            packed = (self.path / f"said-{planned.id}-{planned.epoch}.json.gz").read_bytes()
        except FileNotFoundError:
            raise Superseded from None
        return {int(ordinal): one for ordinal, one in json.loads(gzip.decompress(packed)).items()}

    def fail(self, failed: FailedShard) -> None:
        _write(self.path / f"failed-{failed.shard_id}-{failed.epoch}.json", json.dumps(asdict(failed)))

    def failures(self) -> list[FailedShard]:
        """What the tasks found that cannot be done."""
        found = []
        for said in self._read("failed-*.json"):
            with suppress(TypeError):
                found.append(FailedShard(**said))
        return found

    def _record(self, record: Record, ending: str) -> None:
        _write(self.path / f"task-{record.task}.{record.restart}.{ending}.json", json.dumps(asdict(record)))

    def _read(self, pattern: str) -> Iterator[dict[str, Any]]:
        for path in sorted(self.path.glob(pattern)):
            try:
                said = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue
            if isinstance(said, dict):
                yield said


def folder_of(home: Path, job_id: int) -> JobFolder:
    """The folder of a job, by the ledger's number of it."""
    return JobFolder(home / "jobs" / str(job_id))


def _closed(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _number(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError("a task is a number")
    return value


def _write(path: Path, text: str) -> None:
    """Replace a file whole, and let it survive a crash of the machine as far as its content goes."""
    making = path.with_name(f".new-{secrets.token_hex(4)}-{path.name}")
    try:
        with making.open("x", encoding="utf-8", errors="surrogateescape") as out:  # a path may be any bytes
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        making.rename(path)
    except OSError:
        making.unlink(missing_ok=True)
        raise
