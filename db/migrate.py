"""The numbered migrations, each applied once and in order, under one lock, with a checksum that notices an edit."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psycopg
from psycopg.sql import Identifier

from db import faults
from db.connect import Connection, translated
from db.errors import NeedsConfiguration, SchemaMismatch, TryAgain
from db.roles import Roles, create, open_schema
from db.sql import load

SQL = load("migrate.sql")

MIGRATIONS = Path(__file__).parent / "migrations"
SPEAKS = range(16, 17)
"""The schema versions this program can work with: an upgrade widens it first, so that queued workers survive."""

NO_TRANSACTION = "-- no-transaction"
LOCK_KEY = 0x6461_7973_6372_6962  # "dayscrib"
LOCK_SECONDS = 600.0

_FILE = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_WORKS_WITH = re.compile(r"^-- works with: (\d+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema: what the file says and, once applied, what the ledger recorded."""

    version: int
    name: str
    sha256: str
    applied: datetime | None = None
    took_ms: int | None = None
    least: int | None = None  # programs that speak this version, and not yet this step's, go on working


@dataclass(frozen=True, slots=True)
class _Step:
    version: int
    name: str
    text: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def least(self) -> int | None:
        """What a step that only adds says of itself in its first lines: `-- works with: 1`."""
        found = _WORKS_WITH.search(self.text)
        return int(found[1]) if found else None

    @property
    def in_transaction(self) -> bool:
        """False for what no transaction allows (CREATE INDEX CONCURRENTLY): one statement, safe to repeat."""
        return not self.text.startswith(NO_TRANSACTION)


@translated()
def initialise(connection: Connection, roles: Roles, folder: Path | None = None) -> list[str]:
    """Make a database a ledger, or bring an older one up to date: roles, schema, migrations. Names what it did."""
    with _alone(connection):  # two that grant the same at once disturb each other
        made = [f"role {name}" for name in create(connection, roles)]
        open_schema(connection, roles)
        return made + migrate(connection, roles, folder)


@translated()
def migrate(connection: Connection, roles: Roles, folder: Path | None = None) -> list[str]:
    """Apply what is missing and name it. Several at once, or a kill -9 in between, end in the same schema."""
    steps = _steps(folder or MIGRATIONS)
    with _alone(connection), _as_owner(connection, roles):
        connection.execute(SQL["create_table"])
        connection.execute(SQL["add_least"])
        known = _applied(connection)
        _refuse_strangers(steps, known)
        missing = [step for step in steps if step.version not in known]
        for step in missing:
            _apply(connection, step, roles)
    return [f"{step.version:04}_{step.name}" for step in missing]


@translated()
def status(connection: Connection, folder: Path | None = None) -> list[Migration]:
    """Every migration that this program has or the ledger had, oldest first; `applied` is None for those to come."""
    known = _applied(connection)
    steps = _steps(folder or MIGRATIONS)
    ours = {step.version: Migration(step.version, step.name, step.sha256, least=step.least) for step in steps}
    return [migration for _, migration in sorted((ours | known).items())]


@translated()
def check(connection: Connection) -> int:
    """The ledger's schema version, if this program speaks it."""
    known = _applied(connection)
    version = max(known, default=0)
    if version in SPEAKS or _still_works(known):
        return version
    if not known:
        raise SchemaMismatch("This database holds no ledger yet: run `dayscribe db init`.")
    if version < SPEAKS.start:
        raise SchemaMismatch(
            f"The ledger's schema is version {version}, this program needs {_spoken()}: run `dayscribe db migrate`."
        )
    raise SchemaMismatch(
        f"The ledger's schema is version {version}, newer than this program, which speaks {_spoken()}:"
        " install the newer dayscribe."
    )


def _still_works(known: dict[int, Migration]) -> bool:
    """Whether every step since the last one that this program knows says that programs of its age go on working."""
    newer = [step for version, step in known.items() if version > SPEAKS[-1]]
    return bool(newer) and all(step.least is not None and step.least <= SPEAKS[-1] for step in newer)


def _spoken() -> str:
    first, last = SPEAKS[0], SPEAKS[-1]
    return str(first) if first == last else f"{first} to {last}"


def _steps(folder: Path) -> list[_Step]:
    steps: dict[int, _Step] = {}
    for path in sorted(folder.glob("*.sql")):
        if not (match := _FILE.fullmatch(path.name)):
            raise SchemaMismatch(f"{path} is not named like a migration (0001_name.sql).")
        version = int(match[1])
        if version in steps:
            raise SchemaMismatch(f"Two migrations in {folder} have the number {version:04}.")
        steps[version] = _Step(version, match[2], path.read_text(encoding="utf-8"))
    return list(steps.values())


def _applied(connection: Connection) -> dict[int, Migration]:
    there = connection.execute(SQL["has_table"]).fetchone()
    if not (there and there["there"]):
        return {}
    return {row["version"]: Migration(**row) for row in connection.execute(SQL["applied"]).fetchall()}


def _refuse_strangers(steps: list[_Step], known: dict[int, Migration]) -> None:
    ours = {step.version: step for step in steps}
    if newer := sorted(set(known) - set(ours)):
        names = ", ".join(f"{version:04}_{known[version].name}" for version in newer)
        raise SchemaMismatch(f"The ledger knows migrations this program lacks ({names}): install the newer dayscribe.")
    for version, migration in known.items():
        if ours[version].sha256 != migration.sha256:
            raise SchemaMismatch(
                f"Migration {version:04}_{migration.name} was edited after it was applied"
                f" ({migration.applied:%Y-%m-%d}): restore the file, and put the change into a new migration."
            )


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    give_up = time.monotonic() + LOCK_SECONDS
    while not _asked(connection, "try_lock"):
        if time.monotonic() > give_up:
            raise TryAgain("Another `dayscribe db migrate` has been at work for ten minutes.")
        connection.execute(SQL["wait"])
    try:
        yield
    finally:
        with suppress(psycopg.Error):  # a lost connection has let go of the lock already
            connection.execute(SQL["unlock"], {"key": LOCK_KEY})


def _asked(connection: Connection, query: str) -> bool:
    row = connection.execute(SQL[query], {"key": LOCK_KEY}).fetchone()
    return bool(row and row["ours"])


@contextmanager
def _as_owner(connection: Connection, roles: Roles) -> Iterator[None]:
    try:
        connection.execute(SQL["become"], {"owner": roles.owner})
    except psycopg.errors.InvalidParameterValue:
        raise NeedsConfiguration(f"The ledger has no role {roles.owner}: run `dayscribe db init`.") from None
    try:
        yield
    finally:
        with suppress(psycopg.Error):
            connection.execute(SQL["become_self"])


def _apply(connection: Connection, step: _Step, roles: Roles) -> None:
    text = step.text
    for word, role in roles.by_word().items():
        text = text.replace(f"@{word}@", Identifier(role).as_string(connection))
    begun = time.monotonic()
    if step.in_transaction:
        with connection.transaction():
            connection.execute(text)
            faults.point("migrate.intx")
            _record(connection, step, begun)
    else:
        connection.execute(text)
        faults.point("migrate.intx")
        _record(connection, step, begun)
    faults.point("migrate.committed")


def _record(connection: Connection, step: _Step, begun: float) -> None:
    took = round((time.monotonic() - begun) * 1000)
    row = {"version": step.version, "name": step.name, "sha256": step.sha256, "took_ms": took, "least": step.least}
    connection.execute(SQL["record"], row)
