"""The ledger down, held up, or a standby that may only be read: what the server says, and that it needs no restart."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from db import sites
from db.connect import connect
from db.embedded import EmbeddedPostgres
from db.migrate import initialise
from db.roles import Roles

VIEWERS = 40
AWAY = "The ledger (PostgreSQL) cannot be reached, or is too busy to answer."
EVERY_TABLE = "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables WHERE schemaname = 'dayscribe'"
# Each row of it takes ten minutes to read, for whoever does not own it.
SLOW = (
    "ALTER TABLE days ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY slow ON days USING (pg_sleep(600)::text IS NOT NULL)",
)


class Own:
    """A PostgreSQL to be ill-treated; each start gives it another socket, and it keeps its address."""

    def __init__(self, folder: Path, link: Path) -> None:
        self.server, self.link = EmbeddedPostgres(folder, durable=False), link

    def start(self) -> str:
        settings = conninfo_to_dict(self.server.start())
        self.link.unlink(missing_ok=True)
        self.link.symlink_to(str(settings["host"]))
        return make_conninfo("", **settings | {"host": str(self.link)})

    def stop(self) -> None:
        self.server.stop()

    def start_as_standby(self) -> None:
        """It replays what its primary sends, and takes no order to write."""
        (self.server.describe().data / "standby.signal").touch()
        self.start()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Own]:
    with tempfile.TemporaryDirectory() as short:  # the path of a socket is short
        made = Own(tmp_path / "postgres", Path(short) / "socket")
        yield made
        made.stop()


@pytest.fixture
def dsn(own: Own, roles: Roles) -> str:
    """The small ledger is made in it."""
    found = own.start()
    with connect(found) as connection:
        initialise(connection, roles)
    return found


def ask(server: Any, paths: Sequence[str], *, viewers: int = VIEWERS) -> dict[str, Any]:
    with ThreadPoolExecutor(viewers) as pool:
        return dict(zip(paths, pool.map(server.get, paths), strict=True))


def is_well(server: Any, addresses: Sequence[str]) -> None:
    """Every route answers, and no connection is left over."""
    said = ask(server, addresses, viewers=4)  # a crowd may have to wait its turn for longer than an answer may take
    assert {path: answer.status for path, answer in said.items() if answer.status != 200} == {}
    while server.connections():  # PostgreSQL sees a connection's end a moment later
        pass


def is_away(answer: Any, path: str) -> None:
    """A page says so as a page, an answer to a program as a problem; neither says where the ledger is."""
    program = path.startswith(("/api", "/pipeline", "/readyz", "/metrics"))
    kind = "application/problem+json" if program else "text/html"
    assert (path, answer.status, answer.mimetype, answer.headers["Retry-After"]) == (path, 503, kind, "5")
    assert AWAY in answer.text
    assert not any(word in answer.text for word in ("psycopg", "Traceback", "socket", "statement"))


def needs_the_ledger(addresses: Sequence[str]) -> list[str]:
    return [path for path in addresses if path not in ("/healthz", "/api/v1/openapi.json", "/static/style.css")]


def test_while_the_ledger_is_down_every_route_says_so_and_needs_no_restart_afterwards(
    server: Any, addresses: Sequence[str], own: Own
) -> None:
    is_well(server, addresses)
    own.stop()
    for path, answer in ask(server, needs_the_ledger(addresses)).items():
        is_away(answer, path)
    assert server.get("/healthz").status == 200
    own.start()
    is_well(server, addresses)


def test_while_a_lock_is_in_the_way_every_route_says_so_in_time_and_none_keeps_a_connection(
    server: Any, addresses: Sequence[str], dsn: str
) -> None:
    asked = needs_the_ledger(addresses)
    with connect(dsn) as locker, locker.transaction():
        names = ", ".join(row["name"] for row in locker.execute(EVERY_TABLE))
        locker.execute(f"LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE")
        for path, answer in ask(server, asked, viewers=10).items():
            is_away(answer, path)
        assert server.log().count("statement timeout") == len(asked)
        crowd = ask(server, [f"/search?q=hello{n}" for n in range(VIEWERS)])
        for path, answer in crowd.items():
            is_away(answer, path)
        assert server.get("/healthz").status == 200
    is_well(server, addresses)


def test_a_question_that_takes_long_is_given_up_and_the_ledger_is_ready_all_the_while(
    server: Any, addresses: Sequence[str], a_day: Any
) -> None:
    for statement in SLOW:
        a_day.connection.execute(statement)
    for path in ("/", "/days/zurich/2025-01-31", "/api/v1/days"):
        is_away(server.get(path), path)
    assert server.log().count("statement timeout") == 3
    assert [server.get(path).status for path in ("/healthz", "/readyz")] == [200, 200]
    a_day.connection.execute("ALTER TABLE days DISABLE ROW LEVEL SECURITY")
    is_well(server, addresses)


def test_over_a_standby_that_may_only_be_read_every_route_answers_as_before(
    server: Any, addresses: Sequence[str], own: Own, dsn: str
) -> None:
    own.stop()
    own.start_as_standby()
    with connect(dsn) as connection:
        with pytest.raises(errors.ReadOnlySqlTransaction):
            sites.put(connection, "mine", location="/x")
        is_well(server, addresses)
        connection.execute("SELECT pg_promote()")
        sites.put(connection, "mine", location="/x")
    is_well(server, addresses)
