"""A small day, real workers in processes of their own with a fault armed, and what must hold when all is quiet."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import wave
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from db import days, parts
from db.connect import Connection, connect
from hpc.stages.ingest import ingest, waiting
from hpc.stages.publish import SUFFIX, parts_in

DAY = "2025-01-01"
SETTINGS = {
    "engine.name": "echo",
    "ledger.require_tls": "false",
    "worker.lease_seconds": "1",
    "worker.decoders": "1",
    "worker.held_recordings": "4",
    "worker.part_recordings": "2",
    "worker.engine_hang_seconds": "60",
    "worker.max_attempts": "5",
}
DAMAGED = "0_2025-01-01_00_20.tar.xz"


def clip(tone: float, seconds: float = 0.5) -> bytes:
    """A WAV of one tone; of silence, if the tone is 0."""
    times = np.arange(int(16_000 * seconds)) / 16_000
    samples = (8000 * np.sin(2 * np.pi * tone * times)).astype("<i2")
    with io.BytesIO() as out:
        with wave.open(out, "wb") as file:
            file.setparams((1, 2, 16_000, len(samples), "NONE", ""))
            file.writeframes(samples.tobytes())
        return out.getvalue()


def archive(path: Path, clips: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:xz") as out:
        for name, data in clips.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            out.addfile(member, io.BytesIO(data))


@pytest.fixture(scope="session")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two good archives, one of them with silence and an empty file in it, and one with a flipped bit near its end."""
    folder = tmp_path_factory.mktemp("audio")
    archive(folder / "0_2025-01-01_00_00.tar.xz", {f"a{n}.wav": clip(300 + 50 * n) for n in range(3)})
    mixed = {"b0.wav": clip(500), "b1.wav": b"", "b2.wav": clip(0)}
    archive(folder / "0_2025-01-01_00_10.tar.xz", mixed)
    archive(folder / DAMAGED, {f"c{n}.wav": clip(600 + 50 * n) for n in range(3)})
    data = bytearray((folder / DAMAGED).read_bytes())
    data[-60] ^= 1  # in the index of the xz stream: everything before it reads well
    (folder / DAMAGED).write_bytes(data)
    return folder


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As many small archives as keep a worker busy for longer than a lease goes without renewing."""
    folder = tmp_path_factory.mktemp("many")
    for n in range(144):
        archive(folder / f"0_2025-01-01_{n // 6:02}_{n % 6}0.tar.xz", {f"m{n}.wav": clip(300 + n, 0.1)})
    return folder


def tell(worker: subprocess.Popen[bytes], sign: signal.Signals) -> None:
    """Send the signal to all processes of the worker; one may end as another hears of it, before its own turn."""
    for pid in processes(worker.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sign)


def processes(session: int) -> dict[int, str]:
    """The live processes of a session with their states (R, S, T …); zombies are not alive."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] not in "ZX":
                found[int(entry.name)] = fields[0]
    return found


def until(true: Callable[[], Any], otherwise: Callable[[], str], seconds: float = 60) -> None:
    """Look again and again until it is true."""
    give_up, pause = time.monotonic() + seconds, threading.Event()
    while not true():
        assert time.monotonic() < give_up, otherwise()
        pause.wait(0.02)


@dataclass
class Place:
    """One ledger, one results folder, and workers that come and go."""

    dsn: str
    folder: Path
    audio: Path
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def log(self) -> Path:
        return self.folder / "points.log"

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def start(self, fault: str = "", *command: str, **settings: str) -> subprocess.Popen[bytes]:
        """`dayscribe run`, or another command, in a session of its own, with a fault armed."""
        wanted = SETTINGS | {"ledger.dsn": self.dsn, "home": str(self.folder), "results": str(self.results)} | settings
        assignments = [word for key, value in wanted.items() for word in ("--set", f"{key}={value}")]
        program = Path(sys.executable).with_name("dayscribe")
        command = command or ("run", DAY, "--folder", str(self.audio))
        armed = {"DAYSCRIBE_FAULTS_ARMED": "yes", "DAYSCRIBE_FAULT": fault, "DAYSCRIBE_FAULT_LOG": str(self.log)}
        number = len(self.started)
        with (self.folder / f"worker{number}.txt").open("wb") as out:
            worker = subprocess.Popen(
                [program, *assignments, *command], env=os.environ | armed, stdin=subprocess.DEVNULL, stdout=out,
                stderr=out, start_new_session=True,
            )  # fmt: skip
        self.started.append(worker)
        return worker

    def finish(self, worker: subprocess.Popen[bytes]) -> int:
        """Its exit code, once neither it nor any process of its own is left."""
        code = worker.wait(90)
        until(lambda: not processes(worker.pid), lambda: f"it left processes behind: {processes(worker.pid)}")
        return code

    def points(self) -> Counter[str]:
        """How often each point was passed so far."""
        return Counter(self.log.read_text().split()) if self.log.exists() else Counter()

    def said(self) -> str:
        """What the workers wrote, for a failure's message."""
        return "\n".join(f"{path.name}: {path.read_text()}" for path in sorted(self.folder.glob("worker*.txt")))

    @contextmanager
    def ledger(self) -> Iterator[Connection]:
        with connect(self.dsn) as connection:
            yield connection

    def until_stopped(self, worker: subprocess.Popen[bytes]) -> None:
        """Wait until the fault has stopped one of its processes."""
        until(lambda: "T" in processes(worker.pid).values(), lambda: "the fault has stopped no process")

    def freeze(self, worker: subprocess.Popen[bytes]) -> None:
        """Stop the rest of the worker as well, as a scheduler's suspend does, and let time pass for the ledger: its
        transactions are ended, as the server does after half a minute, and its leases lapse."""
        tell(worker, signal.SIGSTOP)
        with self.ledger() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database()"
                " AND state = 'idle in transaction' AND pid <> pg_backend_pid()"
            )
            connection.execute("UPDATE shards SET lease_until = now() WHERE state = 'leased'")

    def thaw(self, worker: subprocess.Popen[bytes]) -> None:
        tell(worker, signal.SIGCONT)


@pytest.fixture(scope="session")
def place(
    fresh_ledger: Callable[..., AbstractContextManager[str]], tmp_path_factory: pytest.TempPathFactory, audio: Path
) -> Callable[..., AbstractContextManager[Place]]:
    """`with place() as here:` for as many at once as are wanted; `place(like=there)` begins where that one is quiet."""

    @contextmanager
    def make(folder: Path = audio, *, like: Place | None = None) -> Iterator[Place]:
        with fresh_ledger(like.dsn if like else "") as dsn:
            here = Place(dsn, tmp_path_factory.mktemp("place"), like.audio if like else folder)
            if like:
                shutil.copytree(like.folder, here.folder, dirs_exist_ok=True)
            try:
                yield here
            finally:
                for worker in here.started:
                    tell(worker, signal.SIGKILL)
                    worker.wait(30)

    return make


@dataclass(frozen=True)
class Day:
    """What a day has come to, in nothing but values that must not depend on what happened on the way."""

    state: str
    shards: list[Any]
    recordings: list[Any]
    closings: int


@pytest.fixture(scope="session")
def outcome() -> Callable[[Place], Day]:
    """Ingest what still waits, check every invariant, and say what the day has come to."""
    return check


def check(here: Place) -> Day:
    with here.ledger() as connection:
        for path in waiting(connection, here.results.glob("*/*/parts")):
            ingest(connection, path, actor="test")
        _no_stale_epoch_closed_anything(connection)
        _parts_are_those_of_the_ledger(connection, here)
        _every_ordinal_is_accounted_for_once(connection)
        left = [str(path) for path in here.results.rglob("*") if path.is_file() and not path.name[0].isdigit()]
        assert left == []
        [day] = days.find(connection)
        assert day["summary"] == days.tally(connection, day["id"])
        return Day(
            day["state"],
            _rows(connection, "SELECT name, state, failure_class, seal_recordings FROM shards ORDER BY name"),
            _rows(
                connection,
                "SELECT s.name AS shard, r.ordinal, r.meta_id, r.state, r.failure_class, t.text, t.version"
                " FROM recordings r JOIN shards s ON s.id = r.shard_id LEFT JOIN transcripts t ON t.id = r.current_id"
                " ORDER BY 1, 2",
            ),
            len(_rows(connection, "SELECT id FROM events WHERE what LIKE 'day.completed%'")),
        )


def _no_stale_epoch_closed_anything(connection: Connection) -> None:
    done = "SELECT s.id, s.epoch FROM shards s WHERE s.state = 'done' ORDER BY 1"
    told = "SELECT shard_id, (detail ->> 'epoch')::bigint FROM events WHERE what = 'shard.done' ORDER BY 1"
    assert _rows(connection, told) == _rows(connection, done)
    failed = "SELECT s.id FROM shards s WHERE s.state = 'failed' ORDER BY 1"
    assert _rows(connection, "SELECT shard_id FROM events WHERE what = 'shard.failed' ORDER BY 1") == _rows(
        connection, failed
    )


def _parts_are_those_of_the_ledger(connection: Connection, here: Place) -> None:
    on_disk = {
        path.name.removesuffix(SUFFIX): hashlib.sha256(path.read_bytes()).digest()
        for folder in here.results.glob("*/*/parts")
        for path in parts_in(folder)
    }
    assert dict(_rows(connection, "SELECT name, sha256 FROM parts")) == on_disk
    assert parts.unknown(connection, list(on_disk)) == []
    wrong = "SELECT p.name, p.state, s.state FROM parts p JOIN shards s ON s.id = p.shard_id"
    wrong += " WHERE (p.state = 'sealed' AND s.state <> 'done') OR (p.state = 'provisional' AND s.state = 'done')"
    assert _rows(connection, wrong) == []


def _every_ordinal_is_accounted_for_once(connection: Connection) -> None:
    counted = "SELECT s.id, s.seal_recordings, array_agg(r.ordinal ORDER BY r.ordinal) FROM shards s"
    counted += " JOIN recordings r ON r.shard_id = s.id WHERE s.state = 'done' GROUP BY s.id"
    for _, recordings, ordinals in _rows(connection, counted):
        assert ordinals == list(range(recordings))
    twice = "SELECT recording_id FROM transcripts GROUP BY recording_id HAVING count(*) > 1"
    assert _rows(connection, twice) == []
    unclear = "SELECT id FROM recordings WHERE state IN ('transcribed', 'no_speech') AND current_id IS NULL"
    assert _rows(connection, unclear) == []


def _rows(connection: Connection, question: str) -> list[Any]:
    return [tuple(row.values()) for row in connection.execute(question)]
