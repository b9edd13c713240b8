"""The door to the ledger: how a session is set up, what a stranger host must prove, and what each failure is called."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from db.connect import Connection, connect, safe, translated
from db.embedded import EmbeddedPostgres
from db.errors import DayscribeError, LedgerAway, NeedsConfiguration, SchemaMismatch, TryAgain
from db.roles import Roles

SECRET = "s3cret-canary"


@pytest.fixture(autouse=True)
def no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)


@pytest.fixture
def dead_port() -> Iterator[int]:
    """A port of this machine that refuses connections, and that nobody else is given meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def failure(dsn: str, *, require_tls: bool = True) -> DayscribeError:
    with pytest.raises(DayscribeError) as caught:
        connect(dsn, require_tls=require_tls)
    message = str(caught.value)
    assert SECRET not in message
    assert "\n" not in message
    assert message.endswith(".")
    return caught.value


def test_a_session_knows_its_schema_its_clock_and_its_limits(dsn: str) -> None:
    with connect(dsn, application="dayscribe work") as connection:
        settings = (
            "search_path TimeZone lock_timeout idle_in_transaction_session_timeout application_name client_encoding"
        )
        found = {}
        for name in settings.split():
            row = connection.execute("select current_setting(%s) as value", (name,)).fetchone()
            found[name] = row and row["value"]
        assert found == {
            "search_path": "dayscribe, public",
            "TimeZone": "UTC",
            "lock_timeout": "5s",
            "idle_in_transaction_session_timeout": "30s",
            "application_name": "dayscribe work",
            "client_encoding": "UTF8",
        }
        assert connection.autocommit
        assert connection.prepare_threshold is not None


def test_a_ledger_that_is_not_there_is_away(dead_port: int, tmp_path: Path) -> None:
    for dsn in (
        f"host=127.0.0.1 port={dead_port} dbname=x user=u password={SECRET}",
        f"postgresql://u:{SECRET}@localhost:{dead_port}/x?sslmode=disable",
        f"host={tmp_path} user=u password={SECRET}",
    ):
        error = failure(dsn)
        assert type(error) is LedgerAway
        assert error.exit_code == 75
        assert "cannot be reached: " in str(error)


def test_a_wrong_name_is_a_setting(dsn: str) -> None:
    for change, word in (({"dbname": "nowhere"}, '"nowhere"'), ({"user": "nobody-here"}, '"nobody-here"')):
        error = failure(make_conninfo(dsn, password=SECRET, **change))
        assert type(error) is NeedsConfiguration
        assert error.exit_code == 78
        assert word in str(error)
        assert "does not exist" in str(error)


def test_a_wrong_password_is_a_setting(postgres: EmbeddedPostgres, dsn: str) -> None:
    rules = postgres.describe().data / "pg_hba.conf"
    before = rules.read_text()
    with connect(dsn) as connection:
        connection.execute("create role careful login password 'right'")
        try:
            rules.write_text("local all careful scram-sha-256\n" + before)
            _reload(connection)
            wrong = failure(make_conninfo(dsn, user="careful", password=SECRET))
            none = failure(make_conninfo(dsn, user="careful"))
            with connect(make_conninfo(dsn, user="careful", password="right")) as careful:
                assert careful.info.user == "careful"
        finally:
            rules.write_text(before)
            _reload(connection)
            connection.execute("drop role careful")
    assert (type(wrong), type(none)) == (NeedsConfiguration, NeedsConfiguration)
    assert "password authentication failed" in str(wrong)
    assert "no password supplied" in str(none)


def _reload(connection: Connection) -> None:
    """Make the server read its rules again, and wait until it has."""
    asked = "select pg_conf_load_time() as at, pg_reload_conf()"
    before = connection.execute(asked).fetchone()
    assert before is not None
    changed = "select pg_sleep(0.01), pg_conf_load_time() > %s as done"
    while not (connection.execute(changed, (before["at"],)).fetchone() or {})["done"]:
        pass


@pytest.mark.parametrize(
    "dsn", [f"host=x password={SECRET} oops", f"postgresql://u:{SECRET}@h:notaport:/%zz", "nonsense=1"]
)
def test_an_unreadable_connection_string_is_never_repeated(dsn: str) -> None:
    error = failure(dsn)
    assert type(error) is NeedsConfiguration
    assert "cannot be read" in str(error)
    assert safe(dsn) == "unreadable connection string"


def test_only_where_a_connection_string_leads_is_shown() -> None:
    assert safe(f"postgresql://u:{SECRET}@h:99/d?sslpassword={SECRET}&options=-cx%3D{SECRET}") == (
        "host=h port=99 dbname=d user=u"
    )
    assert safe(f"service=lab password={SECRET}") == "service=lab"
    assert safe("") == "libpq's defaults"


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require", "verify-ca"])
def test_another_machine_must_prove_its_name(mode: str) -> None:
    for dsn in (
        f"host=db.example.org sslmode={mode} password={SECRET}",
        f"hostaddr=192.0.2.1 sslmode={mode}",
        f"host=localhost,db.example.org sslmode={mode}",
        f"host=localhost hostaddr=192.0.2.1 sslmode={mode}",
        f"postgresql://db.example.org/x?sslmode={mode}",
        f"service=lab sslmode={mode}",
    ):
        assert f"sslmode={mode} does not prove which one" in str(failure(dsn))


def test_without_a_word_about_tls_the_strict_way_is_taken(
    dead_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server without TLS on a name that only looks like another machine's: refused before any password is sent."""
    seen: list[str] = []
    monkeypatch.setattr(psycopg, "connect", lambda dsn, **_: seen.append(dsn) or _stop())
    (tmp_path / "services").write_text("[lab]\nhost=db.example.org\nsslmode=disable\n")
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    monkeypatch.setenv("PGSSLMODE", "disable")
    local = (f"host=127.0.0.1 port={dead_port}", "host=/run/x", "", "host=::1", "host=localhost sslmode=require")
    remote = ("host=db.example.org", "service=lab", "hostaddr=192.0.2.1", "host=,db.example.org")
    for dsn in (*local, *remote):
        with pytest.raises(NotImplementedError):
            connect(dsn)
    assert [("verify-full" in dsn) for dsn in seen] == [False] * len(local) + [True] * len(remote)
    with pytest.raises(NotImplementedError):
        connect("host=db.example.org sslmode=prefer", require_tls=False)
    assert "sslmode=prefer" in seen[-1]


def _stop() -> None:
    raise NotImplementedError


def test_a_service_file_leads_to_the_ledger(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = psycopg.conninfo.conninfo_to_dict(dsn)
    (tmp_path / "services").write_text("[lab]\n" + "".join(f"{key}={value}\n" for key, value in pairs.items()))
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    with connect("service=lab") as connection:
        assert connection.info.dbname == pairs["dbname"]
    assert type(failure("service=other")) is NeedsConfiguration


def test_a_session_that_was_ended_is_away(dsn: str, ledger: Connection) -> None:
    with connect(dsn) as victim:
        ledger.execute("select pg_terminate_backend(%s)", (victim.info.backend_pid,))
        for _ in range(2):  # when it is noticed, and ever after
            with pytest.raises(LedgerAway), translated():
                victim.execute("select 1")


def test_a_frozen_session_holds_the_others_up_for_seconds_only(dsn: str, ledger: Connection) -> None:
    """A process that is stopped inside a transaction is thrown out by the server."""
    ledger.execute("insert into sites (name, location) values ('x', '/x')")
    with connect(dsn) as frozen:
        frozen.execute("set idle_in_transaction_session_timeout = '50ms'")
        frozen.execute("begin")
        frozen.execute("update sites set location = '/y'")
        ledger.execute("update sites set location = '/z'")
        with pytest.raises(LedgerAway), translated():
            frozen.execute("commit")


def test_a_lock_that_does_not_come_and_a_question_too_long_are_tried_again(dsn: str, ledger: Connection) -> None:
    ledger.execute("insert into sites (name, location) values ('x', '/x')")
    with connect(dsn) as other, ledger.transaction():
        ledger.execute("update sites set location = '/y'")
        other.execute("set lock_timeout = '20ms'")
        for statement in ("update sites set location = '/z'", "set statement_timeout = '20ms'; select pg_sleep(9)"):
            with pytest.raises(TryAgain, match=r"The ledger is busy: canceling statement"), translated():
                other.execute(statement)  # type: ignore[arg-type]


def test_a_missing_table_or_right_says_what_to_do(dsn: str, ledger: Connection, roles: Roles) -> None:
    with pytest.raises(SchemaMismatch, match="run `dayscribe db migrate`"), translated():
        ledger.execute("select * from no_such_table")
    refused = pytest.raises(NeedsConfiguration, match="permission denied for table sites")
    with connect(make_conninfo(dsn, user=roles.monitor)) as monitor, refused, translated():
        monitor.execute("delete from sites")


def test_what_only_the_caller_understands_passes_through(ledger: Connection) -> None:
    @translated()
    def twice() -> None:
        ledger.execute("insert into sites (name, location) values ('x', '/x'), ('x', '/x')")

    for _ in range(2):
        with pytest.raises(psycopg.errors.UniqueViolation):
            twice()


def test_a_killed_client_gives_its_locks_back(dsn: str, ledger: Connection) -> None:
    ledger.execute("insert into sites (name, location) values ('x', '/x')")
    code = (
        "import sys; from db.connect import connect; c = connect(sys.argv[1]); c.execute('begin');"
        "c.execute(\"update sites set location = '/lost'\"); print('locked', flush=True); sys.stdin.read()"
    )
    client = subprocess.Popen(
        [sys.executable, "-c", code, dsn], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with client:
        assert client.stdout is not None
        assert client.stdout.readline() == "locked\n"
        client.kill()
        ledger.execute("update sites set location = location || '/kept'")
    assert ledger.execute("select location from sites").fetchall() == [{"location": "/x/kept"}]
