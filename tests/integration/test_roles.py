"""Who may do what in the ledger: the whole matrix, asked of the server itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from db.connect import Connection, connect
from db.errors import LedgerAway, NeedsConfiguration
from db.migrate import initialise
from db.roles import MONITOR_CONNECTIONS, Roles, create

OWNER, SCHEDULER, WORKER, MONITOR, PURGER = ROLES = ("owner", "scheduler", "worker", "monitor", "purger")
READ = (
    "sites",
    "days",
    "slots",
    "shards",
    "runs",
    "parts",
    "recordings",
    "transcripts",
    "metadata",
    "transfers",
    "jobs",
    "job_tasks",
    "ticks",
    "pauses",
)

PLANNING = (
    "plans", "plan_shards", "plan_recordings", "flags", "captions", "samples", "sample_recordings", "snapshots",
    "snapshot_recordings",
)  # fmt: skip

# A statement and who may run it: everybody not named is refused. One line for each right that matters.
MATRIX: list[tuple[str, set[str]]] = [
    *((f"SELECT * FROM {table}", set(ROLES)) for table in (*READ, "events", "schema_migrations")),
    ("SELECT text_config('en')", set(ROLES)),
    ("INSERT INTO sites (name, location) VALUES ('x', '/x')", {OWNER, SCHEDULER}),
    ("INSERT INTO days (site_id, date) SELECT site_id, date FROM days WHERE false", {OWNER, SCHEDULER}),
    ("INSERT INTO shards (name) SELECT name FROM shards WHERE false", {OWNER, SCHEDULER}),
    ("INSERT INTO events (actor, what) VALUES ('me', 'tried')", {OWNER, SCHEDULER, WORKER, PURGER}),
    ("INSERT INTO runs (receipt) SELECT receipt FROM runs WHERE false", {OWNER, SCHEDULER, WORKER}),
    ("INSERT INTO parts (name) SELECT name FROM parts WHERE false", {OWNER, SCHEDULER, WORKER}),
    ("INSERT INTO recordings (name) SELECT name FROM recordings WHERE false", {OWNER, SCHEDULER, WORKER}),
    ("INSERT INTO transcripts (text) SELECT text FROM transcripts WHERE false", {OWNER, SCHEDULER, WORKER}),
    ("INSERT INTO metadata (meta_id) SELECT meta_id FROM metadata WHERE false", {OWNER, SCHEDULER, WORKER}),
    ("INSERT INTO jobs (token) SELECT token FROM jobs WHERE false", {OWNER, SCHEDULER}),
    ("INSERT INTO job_tasks (task) SELECT task FROM job_tasks WHERE false", {OWNER, SCHEDULER}),
    ("INSERT INTO ticks (owner) SELECT owner FROM ticks WHERE false", {OWNER, SCHEDULER}),
    ("DELETE FROM pauses", {OWNER, SCHEDULER}),
    ("SELECT * FROM deliveries", set(ROLES)),
    *((f"SELECT * FROM {table}", set(ROLES)) for table in ("alerts", "alert_notices")),
    ("INSERT INTO alerts (kind) SELECT kind FROM alerts WHERE false", {OWNER, SCHEDULER}),
    ("UPDATE alert_notices SET said = said", {OWNER, SCHEDULER}),
    ("DELETE FROM alerts", {OWNER}),
    ("LOCK TABLE alerts IN SHARE ROW EXCLUSIVE MODE", {OWNER, SCHEDULER}),
    ("INSERT INTO deliveries (target) SELECT target FROM deliveries WHERE false", {OWNER, SCHEDULER}),
    ("UPDATE deliveries SET state = state", {OWNER, SCHEDULER}),
    *((f"SELECT * FROM {table}", set(ROLES)) for table in PLANNING),
    ("INSERT INTO plans (who) SELECT who FROM plans WHERE false", {OWNER, SCHEDULER}),
    ("INSERT INTO plan_recordings (reasons) SELECT reasons FROM plan_recordings WHERE false", {OWNER, SCHEDULER}),
    ("UPDATE plan_shards SET epoch = epoch", {OWNER, SCHEDULER, WORKER}),
    ("UPDATE recordings SET failure_class = failure_class", {OWNER, SCHEDULER, WORKER, PURGER}),
    ("DELETE FROM plans", {OWNER}),
    ("DELETE FROM flags", {OWNER, SCHEDULER, WORKER}),
    ("UPDATE snapshots SET facts = facts", {OWNER}),
    ("UPDATE jobs SET state = state", {OWNER, SCHEDULER}),
    ("UPDATE days SET revision = revision", {OWNER, SCHEDULER}),
    ("UPDATE days SET state = state", {OWNER, SCHEDULER, WORKER}),
    ("UPDATE shards SET epoch = epoch", {OWNER, SCHEDULER, WORKER}),
    ("UPDATE shards SET paths = paths", {OWNER, SCHEDULER}),
    ("UPDATE recordings SET current_id = current_id", {OWNER, SCHEDULER, WORKER, PURGER}),
    ("UPDATE recordings SET name = name", {OWNER, PURGER}),
    ("UPDATE transcripts SET text = text", {OWNER, PURGER}),
    ("UPDATE runs SET receipt = receipt", {OWNER}),
    ("UPDATE schema_migrations SET name = name", {OWNER}),
    ("DELETE FROM transcripts", {OWNER, PURGER}),
    ("DELETE FROM recordings", {OWNER, PURGER}),
    ("DELETE FROM shards", {OWNER}),
    ("DELETE FROM days", {OWNER}),
    ("SELECT discard_provisional(0, 0)", {OWNER, SCHEDULER, WORKER}),
    ("UPDATE events SET what = what", set()),  # a trigger holds the owner, too
    ("DELETE FROM events", set()),
    ("TRUNCATE events", set()),
    ("TRUNCATE metadata", {OWNER}),
    ("DROP TABLE metadata", {OWNER}),
    ("ALTER TABLE events DISABLE TRIGGER USER", {OWNER}),
    ("CREATE TABLE dayscribe.mine (n int)", {OWNER}),
    ("CREATE ROLE mine", set()),
    ("COPY days TO PROGRAM 'true'", set()),
    ("SELECT pg_read_file('/etc/hostname')", set()),
]


@pytest.fixture(scope="module")
def shared(fresh_ledger: Callable[[], AbstractContextManager[str]]) -> Iterator[Connection]:
    """One ledger for the whole matrix: nothing that is tried in it lasts."""
    with fresh_ledger() as dsn, connect(dsn) as connection:
        yield connection


def may(connection: Connection, role: str, statement: str) -> bool:
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(SQL("SET LOCAL ROLE {}").format(Identifier(role)))
            connection.execute(statement)  # type: ignore[arg-type]
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.RaiseException):
        return False
    return True


@pytest.mark.parametrize(("statement", "allowed"), MATRIX, ids=[statement for statement, _ in MATRIX])
def test_each_role_may_do_its_own_and_nothing_else(
    shared: Connection, roles: Roles, statement: str, allowed: set[str]
) -> None:
    assert {word for word, role in roles.by_word().items() if may(shared, role, statement)} == allowed


def test_strangers_see_nothing(ledger: Connection) -> None:
    ledger.execute("CREATE ROLE stranger LOGIN")
    try:
        assert not may(ledger, "stranger", "SELECT * FROM dayscribe.sites")
        assert not may(ledger, "stranger", "SELECT dayscribe.text_config('en')")
    finally:
        ledger.execute("DROP ROLE stranger")


def test_the_owner_cannot_log_in_and_the_others_can(dsn: str, roles: Roles) -> None:
    for name in roles.logins:
        with connect(make_conninfo(dsn, user=name)) as connection:
            assert connection.execute("select current_user as me").fetchone() == {"me": name}
    with pytest.raises(NeedsConfiguration, match="is not permitted to log in"):
        connect(make_conninfo(dsn, user=roles.owner))


def test_the_monitor_asks_short_questions_over_few_connections(dsn: str, roles: Roles) -> None:
    monitor = make_conninfo(dsn, user=roles.monitor)
    with connect(monitor) as connection, pytest.raises(psycopg.errors.QueryCanceled):
        connection.execute("select pg_sleep(10)")
    held = [connect(monitor) for _ in range(MONITOR_CONNECTIONS)]
    try:
        with pytest.raises(LedgerAway, match="too many connections"):
            connect(monitor)
    finally:
        for connection in held:
            connection.close()


def test_roles_that_exist_stay_as_their_administrator_left_them(ledger: Connection) -> None:
    roles = Roles.prefixed("kept")
    assert create(ledger, roles) == [f"kept_{word}" for word in ("owner", "scheduler", "worker", "monitor", "purger")]
    ledger.execute("ALTER ROLE kept_worker NOLOGIN PASSWORD 'x'")
    before = "SELECT rolcanlogin, rolpassword FROM pg_authid WHERE rolname = 'kept_worker'"
    was = ledger.execute(before).fetchone()
    assert create(ledger, roles) == []
    assert ledger.execute(before).fetchone() == was


def test_a_login_that_may_make_roles_needs_no_superuser(empty_dsn: str) -> None:
    with connect(empty_dsn) as connection:
        database = connection.info.dbname
        connection.execute("CREATE ROLE administrator LOGIN CREATEROLE")
        connection.execute(SQL("GRANT CREATE ON DATABASE {} TO administrator").format(Identifier(database)))
    roles = Roles.prefixed("lab")
    with connect(make_conninfo(empty_dsn, user="administrator")) as connection:
        assert initialise(connection, roles)[-1].startswith("0")
        assert initialise(connection, roles) == []
    with connect(make_conninfo(empty_dsn, user=roles.worker)) as connection:
        assert connection.execute("SELECT count(*) AS n FROM days").fetchone() == {"n": 0}


def test_one_login_is_enough_and_makes_no_role(empty_dsn: str) -> None:
    with connect(empty_dsn) as connection:
        database = connection.info.dbname
        connection.execute("CREATE ROLE only_login LOGIN")
        connection.execute(SQL("GRANT CREATE ON DATABASE {} TO only_login").format(Identifier(database)))
    with connect(make_conninfo(empty_dsn, user="only_login")) as connection:
        assert all(name.startswith("0") for name in initialise(connection, Roles.single("only_login")))
        connection.execute("INSERT INTO sites (name, location) VALUES ('x', '/x')")
