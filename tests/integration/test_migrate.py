"""Migrations: each once, in order, whole or not at all, whoever is killed; an edited or newer ledger is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from db.connect import Connection, connect
from db.errors import NeedsConfiguration, SchemaMismatch
from db.migrate import MIGRATIONS, SPEAKS, check, initialise, migrate, status
from db.roles import Roles

APPLY = """
import sys; from pathlib import Path
from db.connect import connect; from db.migrate import initialise; from db.roles import Roles
with connect(sys.argv[1]) as connection:
    print(*initialise(connection, Roles.single("dayscribe"), Path(sys.argv[2])))
"""
ONE = "0001_first.sql"
TWO = "0002_second.sql"
CONCURRENT = "-- no-transaction\nCREATE INDEX CONCURRENTLY IF NOT EXISTS a_n ON a (n);\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / ONE).write_text("CREATE TABLE a (n int);\nINSERT INTO a VALUES (1);\n")
    (tmp_path / TWO).write_text("CREATE TABLE b (n int);\nINSERT INTO b SELECT n + 1 FROM a;\n")
    return tmp_path


@pytest.fixture
def single() -> Roles:
    return Roles.single("dayscribe")


@pytest.fixture
def connection(empty_dsn: str) -> Iterator[Connection]:
    with connect(empty_dsn) as one:
        yield one


def applier(dsn: str, folder: Path, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", APPLY, dsn, str(folder)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | environment
    )


def numbers(connection: Connection, table: str) -> list[int]:
    return [row["n"] for row in connection.execute(f"select n from {table} order by n").fetchall()]  # type: ignore[arg-type]


def test_what_is_missing_is_applied_in_order_and_recorded(connection: Connection, folder: Path, single: Roles) -> None:
    assert initialise(connection, single, folder) == ["0001_first", "0002_second"]
    assert numbers(connection, "dayscribe.b") == [2]
    assert initialise(connection, single, folder) == []
    (folder / "0003_third.sql").write_text(CONCURRENT)
    pending = status(connection, folder)
    assert [(one.version, one.name, one.applied is None) for one in pending] == [
        (1, "first", False),
        (2, "second", False),
        (3, "third", True),
    ]
    assert migrate(connection, single, folder) == ["0003_third"]
    assert all(one.applied and one.took_ms is not None and one.took_ms >= 0 for one in status(connection, folder))


def test_four_at_once_apply_everything_once(
    empty_dsn: str, connection: Connection, folder: Path, single: Roles
) -> None:
    children = [applier(empty_dsn, folder) for _ in range(4)]
    said = [child.communicate(timeout=120) for child in children]
    assert sorted(said) == [("\n", "")] * 3 + [("0001_first 0002_second\n", "")]
    assert numbers(connection, "dayscribe.a") == [1]


@pytest.mark.parametrize(
    ("fault", "left"), [("migrate.intx:1:kill", 0), ("migrate.committed:1:kill", 1), ("migrate.intx:2:kill", 1)]
)
def test_a_migrator_killed_in_between_is_followed_by_the_next(
    empty_dsn: str, folder: Path, single: Roles, fault: str, left: int
) -> None:
    child = applier(empty_dsn, folder, DAYSCRIBE_FAULT=fault, DAYSCRIBE_FAULTS_ARMED="yes")
    child.communicate(timeout=60)
    assert child.returncode == -9
    # The same wait as any migrator's: the lock goes when the server notices that its holder is gone.
    names = ["0001_first", "0002_second"]
    with connect(empty_dsn) as connection:
        assert initialise(connection, single, folder) == names[left:]
        assert (numbers(connection, "dayscribe.a"), numbers(connection, "dayscribe.b")) == ([1], [2])


def test_a_kill_between_a_statement_without_transaction_and_its_record_repeats_the_statement(
    empty_dsn: str, connection: Connection, folder: Path, single: Roles
) -> None:
    (folder / "0003_third.sql").write_text(CONCURRENT)
    child = applier(empty_dsn, folder, DAYSCRIBE_FAULT="migrate.intx:3:kill", DAYSCRIBE_FAULTS_ARMED="yes")
    child.communicate(timeout=60)
    assert initialise(connection, single, folder) == ["0003_third"]


def test_a_failing_migration_changes_nothing_and_the_next_try_goes_on_there(
    connection: Connection, folder: Path, single: Roles
) -> None:
    (folder / TWO).write_text("CREATE TABLE b (n int);\nSELECT 1 / 0;\n")
    with pytest.raises(Exception, match="division by zero"):
        initialise(connection, single, folder)
    assert [one.version for one in status(connection, folder) if one.applied] == [1]
    (folder / TWO).write_text("CREATE TABLE b (n int);\n")
    assert migrate(connection, single, folder) == ["0002_second"]


def test_an_edited_migration_is_refused(connection: Connection, folder: Path, single: Roles) -> None:
    initialise(connection, single, folder)
    (folder / ONE).write_text("CREATE TABLE a (n bigint);\nINSERT INTO a VALUES (1);\n")
    (folder / "0003_third.sql").write_text("CREATE TABLE c (n int);\n")
    with pytest.raises(SchemaMismatch, match=r"Migration 0001_first was edited after it was applied \(20"):
        migrate(connection, single, folder)
    assert [one.version for one in status(connection, folder) if one.applied] == [1, 2]


def test_a_newer_ledger_is_refused(connection: Connection, folder: Path, single: Roles) -> None:
    initialise(connection, single, folder)
    (folder / TWO).unlink()
    with pytest.raises(SchemaMismatch, match=r"migrations this program lacks \(0002_second\)"):
        migrate(connection, single, folder)


@pytest.mark.parametrize(
    ("name", "why"), [("0002_again.sql", "Two migrations in .* number 0002"), ("02_x.sql", "is not named like a migr")]
)
def test_an_ambiguous_folder_is_refused(
    connection: Connection, folder: Path, single: Roles, name: str, why: str
) -> None:
    (folder / name).write_text("SELECT 1;\n")
    with pytest.raises(SchemaMismatch, match=why):
        initialise(connection, single, folder)


def test_an_interrupted_session_is_itself_again(connection: Connection, folder: Path) -> None:
    """After a migration, failed or not, the session has its own rights and no lock."""
    roles = Roles.prefixed("mig")
    initialise(connection, roles, folder)
    (folder / "0003_third.sql").write_text("SELECT 1 / 0;\n")
    with pytest.raises(Exception, match="division by zero"):
        migrate(connection, roles, folder)
    found = connection.execute("select current_user as me, (select count(*) from pg_locks where locktype = 'advisory')")
    assert found.fetchone() == {"me": "dayscribe", "count": 0}
    owner = "select tableowner from pg_tables where schemaname = 'dayscribe' group by 1"
    assert connection.execute(owner).fetchall() == [{"tableowner": "mig_owner"}]


def test_migrating_without_the_roles_says_to_make_them(connection: Connection, folder: Path) -> None:
    with pytest.raises(NeedsConfiguration, match=r"no role nowhere_owner: run `dayscribe db init`"):
        migrate(connection, Roles.prefixed("nowhere"), folder)


def test_placeholders_become_quoted_role_names_and_the_checksum_is_of_the_file(
    connection: Connection, folder: Path
) -> None:
    (folder / "0003_third.sql").write_text("GRANT SELECT ON a TO @worker@, @monitor@;\n")
    initialise(connection, Roles.prefixed('odd "name'), folder)
    granted = "select grantee from information_schema.table_privileges where table_name = 'a' order by 1"
    names = {row["grantee"] for row in connection.execute(granted).fetchall()}
    assert names == {'odd "name_owner', 'odd "name_worker', 'odd "name_monitor'}
    assert initialise(connection, Roles.prefixed('odd "name'), folder) == []


def test_a_ledger_of_this_program_is_spoken_and_others_say_what_to_run(
    ledger: Connection, connection: Connection
) -> None:
    assert check(ledger) == SPEAKS[-1]
    assert max(int(path.name[:4]) for path in MIGRATIONS.glob("*.sql")) == SPEAKS[-1]
    with pytest.raises(SchemaMismatch, match="run `dayscribe db init`"):
        check(connection)
    ledger.execute("update dayscribe.schema_migrations set version = version + 1000")
    with pytest.raises(SchemaMismatch, match=f"version {SPEAKS[-1] + 1000}, newer than this program"):
        check(ledger)
    ledger.execute("update dayscribe.schema_migrations set version = version - 2000")
    with pytest.raises(SchemaMismatch, match="run `dayscribe db migrate`"):
        check(ledger)


def test_the_numbers_of_our_migrations_have_no_gap() -> None:
    assert [path.name[:4] for path in sorted(MIGRATIONS.glob("*.sql"))] == [f"{n:04}" for n in range(1, SPEAKS[-1] + 1)]


def test_a_step_that_says_that_older_programs_go_on_lets_them(ledger: Connection) -> None:
    """A queued task speaks the schema of its order; an upgrade that only adds must not cost it its turn."""
    newer = (
        "insert into dayscribe.schema_migrations (version, name, sha256, took_ms, least) values (%s, 'x', 'x', 1, %s)"
    )
    ledger.execute(newer, [SPEAKS[-1] + 1, SPEAKS[-1]])
    assert check(ledger) == SPEAKS[-1] + 1
    ledger.execute(newer, [SPEAKS[-1] + 2, SPEAKS[-1] + 1])
    with pytest.raises(SchemaMismatch, match="newer than this program"):
        check(ledger)


def test_what_a_step_says_of_older_programs_is_recorded(connection: Connection, folder: Path, single: Roles) -> None:
    (folder / "0003_third.sql").write_text("-- works with: 2\nCREATE TABLE c (n int);\n")
    initialise(connection, single, folder)
    assert [migration.least for migration in status(connection, folder)] == [None, None, 2]
