"""The zero-set-up PostgreSQL for laptop, demo and tests: one folder, one server, found by every process of its user."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from db import places, servers
from db.errors import LedgerAway, NeedsConfiguration
from db.places import Place
from db.sql import load

SQL = load("embedded.sql")

DATABASE = USER = "dayscribe"
PATIENCE = 120.0  # seconds for another process's initdb, or for recovery after a crash
_PORT = "5432"  # only a part of the socket's file name
_OURS = "dayscribe.conf"


@dataclass(frozen=True, slots=True)
class Description:
    """What a person wants to know of an embedded server."""

    version: str
    programs: Path
    data: Path
    running: bool
    pid: int | None


@dataclass(frozen=True, slots=True)
class _Postmaster:
    """What postmaster.pid says: the one file by which other processes find the server and its socket."""

    pid: int
    data: Path
    port: str
    socket: str


class EmbeddedPostgres:
    """A server of its own folder, started on demand and left running; `stop` is explicit.

    Nothing of it is reachable from the network, or by another user of this machine: a Unix socket in a 0700 folder.
    """

    def __init__(self, root: Path, *, durable: bool = True) -> None:
        self.root = root.expanduser().resolve()
        self.durable = durable

    def start(self) -> str:
        """Make what is missing, start it if it does not run, and say how to connect (a libpq string)."""
        with self._explained(), self._alone():
            place = places.settle(self.root)
            if not place.made:
                self._make(place)
            if not _answers(place):
                self._launch(place)
            _ensure_database(place)
            return _dsn(place, DATABASE)

    def stop(self) -> None:
        """End the server and every session on it; nothing to do if it does not run."""
        if not self.root.exists():
            return
        with self._explained(), self._alone():
            place = places.settled(self.root)
            if place.made:
                _end(place, self._programs(place))

    def running(self) -> bool:
        with self._explained():
            return _answers(places.settled(self.root))

    def describe(self) -> Description:
        with self._explained():
            place = places.settled(self.root)
            programs, running = self._programs(place), _answers(place)
            said = _postmaster(place) if running else None
            return Description(programs.version, programs.folder, place.data, running, said.pid if said else None)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise NeedsConfiguration(
                f"The embedded database cannot use {error.filename or self.root}: {error.strerror}. Its folder is"
                f" {self.root}; each user needs a folder of their own, on a local disk with space."
            ) from error

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time decides about this folder. The kernel lets go of the lock when its holder dies."""
        places.refuse_network(self.root)
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _opened(self.root / "lock") as lock:
            give_up = time.monotonic() + PATIENCE
            while not _taken(lock):
                if time.monotonic() > give_up:
                    raise LedgerAway(f"Another process has been starting the database in {self.root} for too long.")
                time.sleep(0.02)
            yield

    def _programs(self, place: Place) -> servers.Programs:
        if place.made:
            major = int((place.data / "PG_VERSION").read_text().split(".")[0])
            return places.within_reach(servers.find(major, place.data), place.account)
        return places.within_reach(servers.find(), place.account)

    def _make(self, place: Place) -> None:
        """initdb beside, then rename: a data folder is whole or not there."""
        programs = self._programs(place)
        for left in place.home.glob("data.new-*"):  # of a killed predecessor
            shutil.rmtree(left, ignore_errors=True)
        making = place.home / f"data.new-{secrets.token_hex(4)}"
        try:
            making.mkdir(mode=0o700)
            if place.account:
                os.chown(making, place.account.uid, place.account.gid)
            code, said = _run(
                place,
                programs.folder / "initdb",
                *("--pgdata", making.name, "--username", USER, "--auth=trust", "--encoding=UTF8"),
                # Text is ordered by code point, so that no system upgrade reorders an index, but "Ü" is a letter.
                *("--lc-collate=C", "--lc-ctype=C.UTF-8", "--lc-messages=C", "--lc-time=C"),
                *("--lc-monetary=C", "--lc-numeric=C", "--text-search-config=simple"),
                *(["--data-checksums"] if self.durable else ["--no-sync"]),
            )
            if code:
                raise NeedsConfiguration(
                    f"PostgreSQL {programs.version} could not make a database in {place.home}: {_last_words(said)}"
                    " Nothing was left behind; make room or choose another folder, and start again."
                )
            settings = making / "postgresql.conf"
            places.write(settings, f"{settings.read_text(encoding='utf-8')}\ninclude_if_exists = '{_OURS}'\n")
            making.rename(place.data)
        except BaseException:
            shutil.rmtree(making, ignore_errors=True)
            raise
        if self.durable:
            _fsync(place.data / "postgresql.conf", place.home)

    def _launch(self, place: Place) -> None:
        """Start the server, or wait for the one that is just starting or whose orphans are still leaving.

        The server and all its children inherit a lock on `alive`. While one of them lives the kernel holds it, whatever
        became of process ids; a zombie, or a stranger with the old id, fools postmaster.pid but not this.
        """
        programs = self._programs(place)
        give_up = time.monotonic() + PATIENCE
        while True:
            with _opened(place.home / "alive") as alive:
                if _taken(alive):
                    _forget(place)
                    self._configure(place)
                    log = place.home / "server.log"
                    if log.exists():
                        log.replace(log.with_suffix(".log.old"))
                    arguments = ("start", "-w", "-t", f"{PATIENCE:.0f}", "-s", "-D", "data", "-l", log.name)
                    code, said = _run(place, programs.folder / "pg_ctl", *arguments, keep=alive)
                    if code:
                        words = log.read_text(errors="replace") if log.exists() else said
                        raise LedgerAway(f"PostgreSQL did not start in {place.home}: {_last_words(words)}")
                    return
            if _answers(place):
                return
            if time.monotonic() > give_up:
                raise LedgerAway(f"A server of {place.home} is alive and does not answer; its log is server.log there.")
            time.sleep(0.02)

    def _configure(self, place: Place) -> None:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(places.socket_folder(place)),
            "unix_socket_permissions": "0700",
            "port": _PORT,
            "cluster_name": DATABASE,
            "timezone": "UTC",
            "log_timezone": "UTC",
            "jit": "off",
        }
        if not self.durable:
            settings |= dict.fromkeys(("fsync", "synchronous_commit", "full_page_writes"), "off")
            settings["dynamic_shared_memory_type"] = "mmap"  # in the folder, so that removing it leaves nothing
        places.write(place.data / _OURS, "".join(f"{name} = '{value}'\n" for name, value in settings.items()))


def _dsn(place: Place, database: str) -> str:
    said = _postmaster(place)
    if said is None:
        raise LedgerAway(f"The server of {place.home} has just stopped.")
    return make_conninfo("", host=said.socket, port=said.port, user=USER, dbname=database)


def _postmaster(place: Place) -> _Postmaster | None:
    try:
        lines = (place.data / "postmaster.pid").read_text(errors="surrogateescape").splitlines()
    except FileNotFoundError:
        return None
    if len(lines) < 6 or not lines[4]:
        return None  # it has just begun
    return _Postmaster(abs(int(lines[0])), Path(lines[1]), lines[3], lines[4])


def _answers(place: Place) -> bool:
    """Asked by connecting. A copied or moved folder still names the server of the old one: that is not ours."""
    said = _postmaster(place)
    if said is None or said.data != place.data:
        return False
    with suppress(psycopg.OperationalError), _session(place):
        return True
    return False


@contextmanager
def _session(place: Place) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(_dsn(place, "postgres"), autocommit=True, connect_timeout=10) as connection:
        yield connection


def _ensure_database(place: Place) -> None:
    with _session(place) as connection:
        row = connection.execute(SQL["has_database"]).fetchone()
        if row is not None and not row[0]:
            connection.execute(SQL["create_database"])


def _end(place: Place, programs: servers.Programs) -> None:
    give_up = time.monotonic() + PATIENCE
    if _is_postmaster(place):
        _run(place, programs.folder / "pg_ctl", "stop", "-m", "fast", "-w", "-s", "-D", "data")
    while True:
        with _opened(place.home / "alive") as alive:
            if _taken(alive):
                _forget(place)
                return
        if time.monotonic() > give_up:
            raise LedgerAway(f"The server of {place.home} does not stop; its log is server.log there.")
        time.sleep(0.02)


def _is_postmaster(place: Place) -> bool:
    """True if the process that postmaster.pid names works in this data folder: no zombie, no stranger with its id."""
    with suppress(OSError, ValueError):
        pid = int((place.data / "postmaster.pid").read_text().splitlines()[0])
        return Path(f"/proc/{pid}/cwd").samefile(place.data)
    return False


def _forget(place: Place) -> None:
    """Clean up after a dead server. PostgreSQL itself is fooled by a zombie and by an id that was given out again."""
    if _is_postmaster(place):
        return  # somebody started it by hand: pg_ctl will say so
    places.remove_sockets(place)
    (place.data / "postmaster.pid").unlink(missing_ok=True)


def _run(place: Place, program: Path, *arguments: str, keep: int | None = None) -> tuple[int, str]:
    """Run one of PostgreSQL's programs in the home: relative names keep odd paths out of the shells it starts."""
    with tempfile.TemporaryFile() as out:  # not a pipe: the server would hold it open for ever
        code = places.run_as(place.account, [program, *arguments], cwd=place.home, keep=keep, out=out)
        out.seek(0)
        return code, out.read().decode(errors="replace")


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)  # never unlocked: a child that inherited it holds the lock on


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _fsync(*paths: Path) -> None:
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _last_words(text: str) -> str:
    """The line that says why: the last one PostgreSQL marks as an error, else the last of all."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    marked = [line for line in lines if re.search(r"\b(?:error|FATAL|PANIC|could not)\b", line)]
    return next(iter((marked or lines)[-1:]), "it said nothing").rstrip(".") + "."
