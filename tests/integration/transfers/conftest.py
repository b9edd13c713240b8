"""Days that have to be moved: a source and a mover that the test plays, over a real ledger and real files."""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from db import days, listings, sites, transfers
from db.connect import Connection, connect
from db.session import Session
from db.sites import Site
from db.states import DayState, TransferState
from hpc.config import load
from hpc.errors import NoAnswer
from hpc.layout import Layout
from hpc.model import Checksum, Move, Progress, RemoteFile
from hpc.origin import Origin
from hpc.route import Route
from hpc.sections import TransferSettings
from hpc.slots import Clock
from hpc.tick.porter import Porter
from hpc.tick.report import Report
from hpc.tick.ways import Ways
from hpc.wiring import movers

ON = date(2025, 1, 31)
SITE = "zurich"
USER = "me"


def archive(slot: str, on: date = ON) -> str:
    return f"0_{on}_{slot}.tar.xz"


@dataclass
class FakeSource:
    """A folder; `trouble` is raised instead of an answer, halfway through a listing if `halfway`."""

    folder: Path
    trouble: Exception | None = None
    halfway: bool = False
    listed: int = 0

    def days(self) -> list[date]:
        return []

    def listing(self, day: date) -> Iterator[RemoteFile]:  # noqa: ARG002 - the port's
        self.listed += 1
        files = sorted(self.folder.iterdir())
        for number, path in enumerate(files):
            if self.trouble is not None and (not self.halfway or number > len(files) // 2):
                raise self.trouble
            yield RemoteFile(path.name, path.stat().st_size)
        if self.trouble is not None:
            raise self.trouble


@dataclass
class FakeMover:
    """A service that keeps its tasks, as Globus does: it moves when the test says `work`, and misbehaves on demand."""

    source: Path
    destination: Path
    prompt: bool = True
    tasks: dict[UUID, Move] = field(default_factory=dict)
    said: dict[UUID, Progress] = field(default_factory=dict)
    sums: dict[str, Checksum] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    trouble: dict[str, Exception] = field(default_factory=dict)  # call → what it raises instead
    lost: int = 0  # answers to `submit` that get lost after the deed
    known: set[UUID] = field(default_factory=set)
    cancelled: list[UUID] = field(default_factory=list)

    def _call(self, name: str) -> None:
        self.calls[name] += 1
        if name in self.trouble:
            raise self.trouble[name]

    def new_submission(self) -> UUID:
        self._call("new_submission")
        made = uuid.uuid4()
        self.known.add(made)
        return made

    def submit(self, move: Move) -> UUID:
        self._call("submit")
        task = uuid.uuid5(move.submission, "task")
        self.tasks.setdefault(task, move)
        self.said.setdefault(task, Progress(TransferState.ACTIVE))
        if self.lost:
            self.lost -= 1
            raise NoAnswer("the line went dead")
        return task

    def look(self, task: UUID) -> Progress:
        self._call("look")
        return self.said.get(task, Progress(TransferState.UNKNOWN, "no such task"))

    def checksums(self, task: UUID) -> Mapping[str, Checksum]:  # noqa: ARG002
        self._call("checksums")
        return self.sums

    def cancel(self, task: UUID) -> None:
        self._call("cancel")
        self.cancelled.append(task)

    def work(
        self, but: Sequence[str] = (), *, state: TransferState = TransferState.SUCCEEDED, message: str = ""
    ) -> None:
        """Move what is asked for, all `but` some, and say that it is over."""
        for task, move in self.tasks.items():
            if self.said[task].state is not TransferState.ACTIVE:
                continue
            moved = [pair for pair in move.files if pair[0] not in but and (self.source / pair[0]).exists()]
            for source, destination in moved:
                (self.destination / destination).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(self.source / source, self.destination / destination)
            left = tuple(pair[0] for pair in move.files if pair not in moved)
            self.said[task] = Progress(state, message, 1, len(moved), left)


class Dock:
    """A site with its source, its mover, and a porter for each tick."""

    def __init__(self, dsn: str, connection: Connection, folder: Path) -> None:
        self.dsn, self.connection, self.folder = dsn, connection, folder
        self.far, self.here = folder / "far", folder / "here" / SITE / str(ON)
        self.far.mkdir(parents=True)
        self.source, self.mover = FakeSource(self.far), FakeMover(self.far, self.here)
        self.rules: dict[str, Any] = {"backoff_seconds": 60.0}
        self.room: Callable[[Site, int, int], str | None] = lambda _site, _size, _files: None
        self.session = Session(dsn, application="test")
        self.site = sites.put(
            connection, SITE, location="/far", source="globus", time_zone="Europe/Zurich",
            route={"how": "copy"},
        )  # fmt: skip
        days.add(connection, self.site.id, [ON])

    # What lies at the source.

    def put(self, *names: str, size: int = 100) -> None:
        for number, name in enumerate(names):
            (self.far / name).write_bytes(bytes([number % 251]) * size)

    def slots(self, count: int) -> list[str]:
        names = [f"{number // 6:02}_{number % 6 * 10:02}" for number in range(count)]
        self.put(*(archive(name) for name in names))
        return names

    # What a tick does.

    def porter(self, *, user: str = USER, works: bool = False, session: Session | None = None) -> Porter:
        def origin(site: Site) -> Origin:
            clock = Clock(site.time_zone, site.slot_minutes)
            return Origin(site.name, site.location, Layout(), clock, Route.of(site.route))

        used = session or self.session
        ways = Ways(
            site=lambda name: used(sites.get, name), origin=origin, source=lambda _: self.source,
            mover=lambda _site, _on: self.mover, staged=lambda _site, _on: self.here,
            room=self.room,
        )  # fmt: skip
        return Porter(used, user, ways, TransferSettings(**self.rules), 3, lambda: 0.0, works)

    def tick(self, **given: Any) -> Report:
        porter, report = self.porter(**given), Report()
        self.whole = porter.follow(report, seconds=10) & porter.list_due(report, seconds=10)
        return report

    def arrive(self, *but: str, **given: Any) -> None:
        """One tick orders, the mover moves all `but` some, the next tick looks."""
        self.tick()
        self.mover.work(but, **given)
        self.tick()

    def later(self, seconds: float) -> None:
        """So much time passes, by the ledger's clock."""
        gone = timedelta(seconds=seconds)
        self.connection.execute(
            "UPDATE days SET look_at = look_at - %(t)s, empty_since = empty_since - %(t)s", {"t": gone}
        )
        self.connection.execute("UPDATE troubles SET retry_at = retry_at - %(t)s", {"t": gone})
        self.connection.execute("UPDATE files SET gone = gone - %(t)s", {"t": gone})
        self.connection.execute("UPDATE transfers SET deadline = deadline - %(t)s", {"t": gone})

    # What the ledger says.

    def rows(self, statement: str, *values: object) -> list[Any]:
        found = [tuple(row.values()) for row in self.connection.execute(statement, values).fetchall()]
        return [row[0] for row in found] if all(len(row) == 1 for row in found) else found

    @property
    def day(self) -> days.Day:
        return days.get(self.connection, SITE, ON)

    @property
    def state(self) -> DayState:
        return self.day.state

    @property
    def message(self) -> str:
        return self.day.message or ""

    def files(self, state: str) -> list[str]:
        return self.rows("SELECT convert_from(path, 'UTF8') FROM files WHERE state = %s ORDER BY path", state)

    def transfers(self) -> list[str]:
        return [row["state"] for row in reversed(transfers.latest(self.connection))]

    def slot(self, slot: str, kind: str = "archive") -> str:
        [found] = [
            row["finding"]
            for row in days.slots(self.connection, self.day.id)
            if (row["slot"], row["kind"]) == (slot, kind)
        ]
        return str(found)

    def shards(self) -> int:
        return len(self.rows("SELECT id FROM shards"))

    def amiss(self) -> list[str]:
        return [str(row["reason"]) for row in listings.amiss(self.connection, self.day.id)]


@pytest.fixture
def dock(fresh_ledger: Callable[[], AbstractContextManager[str]], tmp_path: Path) -> Iterator[Dock]:
    with fresh_ledger() as dsn, connect(dsn) as connection:
        made = Dock(dsn, connection, tmp_path)
        yield made
        made.session.close()


class Lab:
    """A month's folder in one collection, staging in another, and ticks of a service account."""

    def __init__(self, globus: Any, dsn: str, folder: Path) -> None:
        self.globus, self.folder = globus, folder
        self.far = globus.transfer.collection(folder / "far", "the lab's store")
        self.near = globus.transfer.collection(folder / "near", "the cluster's scratch")
        self.month = self.far.root / "audio" / "zurich_2025_january" / "prepped_data"
        self.month.mkdir(parents=True)
        self.here = self.near.root / "staging" / SITE / str(ON)
        secret = folder / "secret.json"
        secret.write_text(json.dumps({"client_id": globus.auth.client_id, "client_secret": globus.auth.secret}))
        secret.chmod(0o600)
        self.said = [f"home={folder / 'home'}", f"globus.secret_file={secret}", f"ledger.dsn={dsn}"]
        self.said += [f"transfer.staging={self.near.root / 'staging'}", "globus.seconds=2", "transfer.reserve_gb=0"]
        self.connection, self.session = connect(dsn), Session(dsn, application="test")
        self.route: dict[str, Any] = {
            "how": "globus", "collection": self.far.id, "destination": self.near.id, "destination_folder": "/staging"
        }  # fmt: skip
        self.add()

    def add(self) -> None:
        layout = {"folder": "{site}_{year}_{monthname}/prepped_data"}
        site = sites.put(
            self.connection, SITE, location="/audio", source="globus", layout=layout, route=self.route
        )  # fmt: skip
        days.add(self.connection, site.id, [ON])

    def slots(self, count: int, size: int = 3000) -> list[str]:
        names = [archive(f"{number // 6:02}_{number % 6 * 10:02}") for number in range(count)]
        for number, name in enumerate(names):
            (self.month / name).write_bytes(hashlib.sha256(str(number).encode()).digest() * (size // 32))
        return names

    def tick(self, *said: str) -> Report:
        porter, report = movers.porter(load(None, [*self.said, *said]), self.session), Report()
        porter.follow(report, seconds=60)
        porter.list_due(report, seconds=60)
        return report

    def arrive(self) -> Report:
        """A tick that orders, all the time that it takes, and a tick that looks."""
        self.tick()
        self.globus.transfer.wait()
        return self.tick()

    def later(self, **time: float) -> None:
        gone = {"t": timedelta(**time)}
        self.connection.execute("UPDATE days SET look_at = look_at - %(t)s, empty_since = empty_since - %(t)s", gone)
        self.connection.execute("UPDATE troubles SET retry_at = retry_at - %(t)s", gone)

    @property
    def day(self) -> days.Day:
        return days.get(self.connection, SITE, ON)

    @property
    def state(self) -> DayState:
        return self.day.state

    def transfers(self) -> list[str]:
        return [row["state"] for row in reversed(transfers.latest(self.connection))]

    def amiss(self) -> list[str]:
        return [f"{row['path'].decode()}: {row['reason']}" for row in listings.amiss(self.connection, self.day.id)]

    @property
    def tasks(self) -> int:
        return len(self.globus.transfer.tasks)

    def whole(self) -> bool:
        """What is here is what is there, byte for byte."""
        return {path.name: path.read_bytes() for path in self.here.iterdir()} == {
            path.name: path.read_bytes() for path in self.month.iterdir()
        }


@pytest.fixture
def lab(globus: Any, fresh_ledger: Callable[[], AbstractContextManager[str]], tmp_path: Path) -> Iterator[Lab]:
    with fresh_ledger() as dsn:
        made = Lab(globus, dsn, tmp_path)
        try:
            yield made
        finally:
            globus.transfer.release()
            made.session.close()
            made.connection.close()
