"""Who may do what in the ledger: five roles with a prefix, or one login for labs that get only one."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, astuple, dataclass, fields

from psycopg.errors import DuplicateObject, UniqueViolation
from psycopg.sql import SQL as Statement
from psycopg.sql import Composed, Identifier, Literal

from db.connect import Connection, translated
from db.sql import load

SQL = load("roles.sql")

MONITOR_CONNECTIONS = 16


@dataclass(frozen=True, slots=True)
class Roles:
    """The names of the five roles: `owner` owns the schema, the others get what the migrations grant them."""

    owner: str
    scheduler: str
    worker: str
    monitor: str
    purger: str

    @classmethod
    def prefixed(cls, prefix: str) -> Roles:
        return cls(*(f"{prefix}_{field.name}" for field in fields(cls)))

    @classmethod
    def single(cls, login: str) -> Roles:
        """One login does everything; the schema's rules still hold, the grants mean nothing."""
        return cls(login, login, login, login, login)

    @property
    def is_single(self) -> bool:
        return len(set(astuple(self))) == 1

    @property
    def logins(self) -> tuple[str, ...]:
        return (self.scheduler, self.worker, self.monitor, self.purger)

    def by_word(self) -> dict[str, str]:
        """The names by the word that a migration uses for them (`@worker@`)."""
        return asdict(self)


@translated()
def create(connection: Connection, roles: Roles) -> list[str]:
    """Make the roles that are missing and name them; those that exist stay as their administrator left them."""
    if roles.is_single:
        return []
    rows = connection.execute(SQL["existing"], {"names": list(astuple(roles))}).fetchall()
    there = {row["name"] for row in rows}
    made = []
    for word, name in roles.by_word().items():
        # Roles belong to the whole server, our lock only to one database: somebody else may be quicker.
        if name not in there:
            with suppress(DuplicateObject, UniqueViolation):
                _make(connection, word, name)
                made.append(name)
    me = connection.execute(SQL["who_am_i"]).fetchone()
    if me is not None and not me["super"] and me["name"] != roles.owner:
        connection.execute(_filled("join_owner", owner=Identifier(roles.owner), role=Identifier(me["name"])))
    return made


@translated()
def open_schema(connection: Connection, roles: Roles) -> None:
    """Make the ledger's schema, owned by the owner and closed to everybody but the roles."""
    connection.execute(_filled("create_schema", owner=Identifier(roles.owner)))
    connection.execute(SQL["shut_out_public"])
    if not roles.is_single:
        logins = Statement(", ").join(Identifier(name) for name in roles.logins)
        connection.execute(_filled("let_in", roles=logins))


def _make(connection: Connection, word: str, name: str) -> None:
    role = Identifier(name)
    if word == "owner":
        connection.execute(_filled("create_owner", role=role))
    elif word == "monitor":
        connection.execute(_filled("create_monitor", role=role, connections=Literal(MONITOR_CONNECTIONS)))
        connection.execute(_filled("limit_questions", role=role))
    else:
        connection.execute(_filled("create_login", role=role))


def _filled(name: str, **parts: Identifier | Literal | Composed) -> Composed:
    return Statement(SQL[name]).format(**parts)
