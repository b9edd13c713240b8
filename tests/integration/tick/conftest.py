"""A tick without a cluster: a scheduler that the test plays, over a real ledger with days made of thin air."""

from __future__ import annotations

import hashlib
import itertools
import secrets
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from db import days, formats, jobs, parts, shards, sites
from db.connect import Connection
from db.session import Session
from db.states import DayState
from hpc import scheduler
from hpc.errors import NoAnswer, SubmitRefused
from hpc.job_folder import JobFolder, Record, folder_of
from hpc.jobs import JobSpec, Look, Seen
from hpc.model import Recording, Result, Seal, Segment, Transcript
from hpc.sections import ScheduleSettings, SlurmSettings, TransferSettings
from hpc.stages.ingest import ingest
from hpc.stages.publish import Header, write_part
from hpc.tick.porter import Porter
from hpc.tick.report import Report
from hpc.tick.ways import Ways
from hpc.tick.world import Code, World

FIRST = date(2025, 1, 1)
USER = "me"
LEASE = timedelta(seconds=60)


@dataclass
class FakeJob:
    """A job as the cluster has it: each task in a word."""

    id: str
    name: str
    spec: JobSpec
    tasks: list[str]
    nodes: list[str]
    purged: bool = False  # the controller remembers it no longer
    exit_codes: dict[int, int] = field(default_factory=dict)

    def become(self, state: str, *tasks: int, node: str = "n1") -> None:
        """These tasks, or all, are in this state now."""
        for task in tasks or range(len(self.tasks)):
            self.tasks[task] = state
            self.nodes[task] = "" if state == "PENDING" else node

    def lines(self) -> list[Seen]:
        """As squeue shows it: what waits in one line, everything else in one a task."""
        waiting = self.tasks.count("PENDING")
        shown = [Seen(self.id, self.name, "PENDING", "Priority", tasks=waiting)] if waiting else []
        return shown + [
            Seen(self.id, self.name, state, "None", self.nodes[task], task, exit_code=self.exit_codes.get(task, 0))
            for task, state in enumerate(self.tasks)
            if state != "PENDING"
        ]


class FakeCluster:
    """A Launcher. What it answers to `submit` is in `answers`, in order; then it takes everything."""

    def __init__(self) -> None:
        self.jobs: list[FakeJob] = []
        self.answers: deque[str] = deque()  # ok, lost (taken, no answer), dropped (not taken, no answer), refused
        self.limit: int | None = None  # more tasks than this are refused
        self.silent = self.deaf = False  # no answer to look; none to cancel
        self.accounting = False
        self.calls: Counter[str] = Counter()
        self.cancelled: list[tuple[str, bool]] = []  # job, only what waits
        self.before_submit: Callable[[JobSpec], None] = lambda _: None
        self.before_look: Callable[[], None] = lambda: None
        self._lock, self._ids = threading.Lock(), itertools.count(101)

    def look(self, ids: Sequence[str]) -> Look:
        self.before_look()
        with self._lock:
            self.calls["look"] += 1
            if self.silent:
                return Look(None, trouble="squeue: no answer in time")
            queue = tuple(line for job in self.jobs if not job.purged for line in job.lines())
            active = {line.job for line in queue if line.active}
            if not (asked := [job for job in ids if job not in active]):
                return Look(queue)
            if not self.accounting:
                return Look(queue, accounting_trouble="accounting is off")
            return Look(queue, tuple(line for job in self.jobs if job.id in asked for line in job.lines()))

    def render(self, spec: JobSpec) -> str:
        self.calls["render"] += 1
        return spec.name

    def submit(self, spec: JobSpec) -> str:
        self.before_submit(spec)
        with self._lock:
            self.calls["submit"] += 1
            if self.limit is not None and spec.tasks > self.limit:
                raise SubmitRefused("QOSMaxSubmitJobPerUserLimit", limit=True)
            answer = self.answers.popleft() if self.answers else "ok"
            if answer == "refused":
                raise SubmitRefused("Invalid account or account/partition combination specified")
            if answer != "dropped":
                job = FakeJob(str(next(self._ids)), spec.name, spec, ["PENDING"] * spec.tasks, [""] * spec.tasks)
                self.jobs.append(job)
                if answer == "ok":
                    return job.id
            raise NoAnswer("sbatch did not get through (no answer in time)")

    def cancel(self, job: str, *, only_pending: bool) -> None:
        with self._lock:
            self.calls["cancel"] += 1
            if self.deaf:
                raise NoAnswer("scancel: no answer in time")
            self.cancelled.append((job, only_pending))
            found = self[job]
            found.tasks = ["CANCELLED" if state == "PENDING" else state for state in found.tasks]

    def __getitem__(self, job: str) -> FakeJob:
        return next(one for one in self.jobs if one.id == job)

    @property
    def only(self) -> FakeJob:
        [job] = self.jobs
        return job

    @property
    def last(self) -> FakeJob:
        return self.jobs[-1]


class Lab:
    """The world of a tick, with its cluster and ledger; and the hands of workers and of people."""

    def __init__(self, dsn: str, connection: Connection, folder: Path) -> None:
        self.dsn, self.connection, self.folder, self.cluster = dsn, connection, folder, FakeCluster()
        self.settings: dict[str, Any] = {}  # of this test, for every tick
        self.code = Code("c" * 64, folder / "code")
        self.register: Callable[[str, date], int] = lambda *_: 0
        self.sessions: list[Session] = []

    def session(self) -> Session:
        self.sessions.append(Session(self.dsn, application="test"))
        return self.sessions[-1]

    def world(
        self,
        *,
        user: str = USER,
        session: Session | None = None,
        clock: Callable[[], float] = lambda: 0.0,
        **given: Any,
    ) -> World:
        """A world with the settings' defaults, but for `given` of either group and what `self.settings` says."""
        said = self.settings | given
        rules = {name: value for name, value in said.items() if name in ScheduleSettings.model_fields}
        wanted = {name: value for name, value in said.items() if name in SlurmSettings.model_fields}
        assert len(rules) + len(wanted) == len(said), "no such setting"
        used = session or (self.sessions[0] if self.sessions else self.session())

        def take(path: Path) -> None:
            used(ingest, path, actor="tick")

        return World(
            session=used, launcher=self.cluster, user=user, home=self.folder / "home", results=self.folder / "results",
            scripts=Path("slurm"), rules=ScheduleSettings(**rules), wanted=SlurmSettings(**wanted),
            variables=lambda _: {}, image=lambda _: None, plans=not ScheduleSettings(**rules).ledger_on_nodes,
            code=lambda: self.code, ingest=take, register=self.register, porter=self.porter(used, user, clock),
            discover=lambda _: 0, room=dict, clock=clock,
        )  # fmt: skip

    def porter(self, session: Session, user: str, clock: Callable[[], float]) -> Porter:
        """One who has nothing to move: the files of these days are at hand."""

        def nobody(*_: Any) -> Any:
            raise AssertionError("the files are at hand")

        ways = Ways(nobody, nobody, nobody, nobody, nobody, nobody)
        return Porter(session, user, ways, TransferSettings(), 3, clock)

    def tick(self, **given: Any) -> Report:
        return scheduler.tick(self.world(**given))

    def day(self, count: int = 8, *, on: date = FIRST, site: str = "zurich", max_attempts: int = 3) -> days.Day:
        """A day that is ready, with so many shards."""
        made = sites.put(self.connection, site, location="/audio")
        days.add(self.connection, made.id, [on])
        day = days.get(self.connection, site, on)
        days.listed(self.connection, day.id, staged=f"/audio/{on}", revision=0)
        new = [shards.NewShard(f"{number}.tar", (b"%d.tar" % number,), 1000) for number in range(count)]
        shards.add(self.connection, day.id, new, revision=0, max_attempts=max_attempts)
        days.move(self.connection, day.id, DayState.READY_TO_PROCESS, actor="test")
        return days.by_id(self.connection, day.id)

    def days(self, count: int, shards_each: int = 8, **given: Any) -> list[days.Day]:
        return [self.day(shards_each, on=FIRST + timedelta(days=number), **given) for number in range(count)]

    # What the ledger says.

    def rows(self, statement: str, *values: object) -> list[Any]:
        """Rows of a question of the test's own; of one column, only the values."""
        found = [tuple(row.values()) for row in self.connection.execute(statement, values).fetchall()]
        return [row[0] for row in found] if all(len(row) == 1 for row in found) else found

    def value(self, statement: str, *values: object) -> Any:
        [value] = self.rows(statement, *values)
        return value

    def orders(self) -> list[dict[str, Any]]:
        """All orders there ever were, oldest first."""
        return self.connection.execute("SELECT * FROM jobs ORDER BY id").fetchall()

    def order(self) -> dict[str, Any]:
        """The only order."""
        [order] = self.orders()
        return order

    def states(self) -> list[str]:
        return [order["state"] for order in self.orders()]

    def state(self, day: days.Day) -> DayState:
        return days.by_id(self.connection, day.id).state

    def message(self, day: days.Day) -> str:
        return days.by_id(self.connection, day.id).message or ""

    def shards(self, day: days.Day) -> list[tuple[str, int]]:
        """State and attempts of each."""
        return self.rows("SELECT state, attempts FROM shards WHERE day_id = %s ORDER BY id", day.id)

    def events(self, what: str) -> int:
        found: int = self.value("SELECT count(*) FROM events WHERE what = %s", what)
        return found

    def untouched(self) -> dict[str, list[Any]]:
        """All that a tick without an answer leaves as it was."""
        return {table: self.rows(f"SELECT * FROM {table} ORDER BY id") for table in ("days", "shards", "parts")}

    # What happens meanwhile.

    def later(self, seconds: float) -> None:
        """So much time passes, for the ledger's clock: everything it remembers is that much longer ago."""
        columns = {
            "jobs": ("created", "asked", "ready_at", "missing_since", "finished"),
            "job_tasks": ("began", "ended"),
            "shards": ("ready_at", "lease_until", "changed"),
            "parts": ("recorded",),
            "events": ("at",),
        }
        with self.connection.transaction():
            self.connection.execute("SET LOCAL session_replication_role = replica")  # history is append-only
            for table, names in columns.items():
                sets = ", ".join(f"{name} = {name} - make_interval(secs => %(s)s)" for name in names)
                self.connection.execute(f"UPDATE {table} SET {sets}", {"s": seconds})

    def claim(self, day: days.Day, count: int = 1, *, owner: str = "worker") -> list[shards.Leased]:
        return shards.claim(self.connection, owner=owner, count=count, lease=LEASE, day_id=day.id)

    def work(self, day: days.Day, count: int = 1000) -> int:
        """A worker that reaches the ledger: so many shards of the day are read to their end; returns how many."""
        leased = self.claim(day, count)
        for one in leased:
            name = f"{one.id}-{one.epoch}-{secrets.token_hex(8)}"
            digest = hashlib.sha256(name.encode()).digest()
            part = parts.Part(name, one.id, one.epoch, digest, 1, b"k" * 16, {"engine": "none"}, engine_seconds=0.5)
            parts.record(self.connection, part, [_row(0)], parts.SealRow(b"s" * 32, 1, 1, None), actor="worker")
        return len(leased)

    def publish(self, order: dict[str, Any], *shard_ids: int, sealed: bool = True) -> list[Path]:
        """A worker without a ledger: a part of each of these shards of its plan lies in the results, unrecorded."""
        said = folder_of(self.folder / "home", order["id"]).order()
        found = []
        for planned in said.shards:
            if planned.id in shard_ids:
                header = Header(said.site, said.day, planned.id, planned.name, planned.epoch, "6b" * 16, {"e": 1}, 0.5)
                digest = hashlib.sha256(b"audio").digest()
                recording = Recording(planned.id, 0, b"clip.mp3", 1, digest)
                result = Result(recording, Transcript("en", (Segment("hello", 0.0, 2.0),)), 2.0)
                contents = hashlib.sha256(digest).digest()
                seal = Seal(planned.id, b"s" * 32, 1000, 1, contents) if sealed else None
                found.append(write_part(self.folder / "results", header, [result], seal))
        return found

    def job_folder(self, order: dict[str, Any]) -> JobFolder:
        return folder_of(self.folder / "home", order["id"])

    def began(self, order: dict[str, Any], *tasks: int, node: str = "n1", job: str = "") -> None:
        for task in tasks:
            self.job_folder(order).began(Record(task, 0, node, 1e9, job))

    def ended(self, order: dict[str, Any], ended_as: str, *tasks: int, node: str = "n1", reason: str = "") -> None:
        """These tasks of it, or all, leave their records."""
        code = 0 if ended_as in ("done", "superseded") else 1
        for task in tasks or range(order["array_size"]):
            self.began(order, task, node=node)
            self.job_folder(order).ended(Record(task, 0, node, 1e9, "", 1e9 + 60, ended_as, code, reason))

    def fruitless(self, reason: str = "the model is not there", *, node: str = "n1") -> None:
        """The newest order begins, and ends with nothing recorded."""
        self.cluster.last.become("FAILED", node=node)
        self.ended(self.orders()[-1], "settings", node=node, reason=reason)


def _row(ordinal: int) -> dict[str, Any]:
    return {
        "ordinal": ordinal,
        "meta_id": f"clip{ordinal}",
        "name": b"clip%d.mp3" % ordinal,
        "size": 1,
        "sha256": hashlib.sha256(b"%d" % ordinal).digest(),
        "seconds": 2.0,
        "flags": [],
        "failure_class": None,
        "failure_reason": None,
        "outcome": "speech",
        "language": "en",
        "language_probability": None,
        "text": "hello world",
        "words": formats.pack([{"start": 0.0, "end": 2.0, "text": "hello world", "words": []}]),
        "word_count": 2,
        "transcript_flags": [],
    }


def _told(lines: list[Any], what: str) -> list[str]:
    return [f"{line.about}: {line.detail}" for line in lines if line.what == what]


@pytest.fixture
def waits() -> Callable[[Report, str], list[str]]:
    """waits(report, what): what was not done, and why."""
    return lambda report, what: _told(report.waits, what)


@pytest.fixture
def did() -> Callable[[Report, str], list[str]]:
    """did(report, what): what was done."""
    return lambda report, what: _told(report.did, what)


@pytest.fixture
def job_of(lab: Lab) -> Callable[[dict[str, Any]], jobs.Job]:
    """The live order, as a tick sees it."""
    return lambda order: jobs.live(lab.connection, order["id"])[0]


@pytest.fixture
def lab(dsn: str, ledger: Connection, tmp_path: Path) -> Iterator[Lab]:
    made = Lab(dsn, ledger, tmp_path)
    yield made
    for session in made.sessions:
        session.close()
