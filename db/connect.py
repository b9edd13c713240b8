"""The door to the ledger: libpq settings in, a ready connection out; the driver's errors become ours here."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import DictRow, dict_row

from db.errors import LedgerAway, NeedsConfiguration, SchemaMismatch
from db.sql import load

SQL = load("connect.sql")

Connection = psycopg.Connection[DictRow]

# A network that swallows packets is noticed within a minute or so, not after the system's two hours.
_DEFAULTS = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}
_SHOWN = ("service", "host", "hostaddr", "port", "dbname", "user")
_STRICT = "verify-full"
# What the server or libpq says when trying again would never help. Connection failures carry no SQLSTATE.
_SETTINGS = re.compile(
    r"authentication failed|no password supplied|does not exist|no pg_hba\.conf entry|not permitted to log in"
    r"|certificate|server does not support SSL|definition of service .* not found|service file|permission denied"
    r"|invalid (?:connection option|port number|sslmode value|integer value)|could not translate host name"
    r"|is not a database",
    re.IGNORECASE,
)
# A resolver may be down for a moment, and a socket that does not exist may be a server not yet started.
_PASSING = re.compile(r"Temporary failure in name resolution|Is the server running", re.IGNORECASE)


def connect(dsn: str, *, application: str = "dayscribe", require_tls: bool = True) -> Connection:
    """Open one connection (a worker needs no pool): autocommit, rows as dicts, UTC, the ledger's schema first.

    `dsn` is a libpq connection string or URI, `service=NAME` included. Every host but this machine is spoken to only
    under TLS with a verified name, unless `require_tls` is off.
    """
    settings = _DEFAULTS | _settings(dsn)
    if require_tls:
        settings |= _tls(settings)
    with translated(f"the ledger ({safe(dsn)})"):
        connection = psycopg.connect(
            make_conninfo("", **settings | {"application_name": application, "client_encoding": "UTF8"}),
            autocommit=True,
            row_factory=dict_row,
        )
        try:
            connection.execute(SQL["set_up"])
        except BaseException:
            connection.close()
            raise
        return connection


@contextmanager
def translated(what: str = "the ledger") -> Iterator[None]:
    """Turn the driver's errors into ours: around every function that speaks to the ledger, as `@translated()` too."""
    try:
        yield
    except psycopg.Error as error:
        ours = _ours(error, what)
        if ours is None:
            raise
        raise ours from error


def safe(dsn: str) -> str:
    """`dsn` for a message or a log: where it leads, never a secret."""
    try:
        settings = _settings(dsn)
    except NeedsConfiguration:
        return "unreadable connection string"
    return make_conninfo("", **{key: settings[key] for key in _SHOWN if settings.get(key)}) or "libpq's defaults"


def _settings(dsn: str) -> dict[str, Any]:
    try:
        return {key: value for key, value in conninfo_to_dict(dsn).items() if value is not None}
    except (psycopg.Error, UnicodeError):
        # libpq's own sentence quotes the string, and the string may hold a password.
        raise NeedsConfiguration(
            "The ledger's connection string cannot be read; write it as 'host=… dbname=… user=…', 'service=…' or a"
            " postgresql:// address (special characters as %XX)."
        ) from None


def _tls(settings: dict[str, Any]) -> dict[str, str]:
    """The sslmode to add; refuses a weaker one that was asked for. On a Unix socket libpq ignores it."""
    if _stays_here(settings):
        return {}
    asked = settings.get("sslmode", _STRICT)
    if asked != _STRICT:
        raise NeedsConfiguration(
            f"The ledger is on another machine and sslmode={asked} does not prove which one; use sslmode={_STRICT}"
            " (with sslrootcert), or allow it explicitly."
        )
    return {"sslmode": _STRICT}


def _stays_here(settings: dict[str, Any]) -> bool:
    """True when every host is this machine for certain; what a service file says is not known before libpq reads it."""
    if settings.get("service") or (os.environ.get("PGSERVICE") and not settings.get("host")):
        return False
    hosts = settings.get("host") or os.environ.get("PGHOST", "")
    addresses = settings.get("hostaddr") or os.environ.get("PGHOSTADDR", "")
    return all(_is_here(host) for host in (addresses or hosts).split(","))


def _is_here(host: str) -> bool:
    if host in ("", "localhost") or host.startswith(("/", "@")):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _ours(error: psycopg.Error, what: str) -> Exception | None:  # noqa: PLR0911 - one line for each family of SQLSTATEs
    """Our error for the driver's; None for what only the caller understands (a violated constraint, a mistake)."""
    state, said = error.sqlstate or "", _sentence(error)
    name = what[:1].upper() + what[1:]
    if not state:
        if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
            return None
        if _SETTINGS.search(str(error)) and not _PASSING.search(str(error)):
            return NeedsConfiguration(f"{name} refuses us: {said}")
        return LedgerAway(f"{name} cannot be reached: {said}")
    if state in ("3F000", "42P01"):
        return SchemaMismatch(f"{name} lacks a table this program needs ({said}): run `dayscribe db migrate`.")
    if state.startswith(("28", "3D")) or state == "42501":
        return NeedsConfiguration(f"{name} refuses us: {said}")
    if state in ("55P03", "57014", "40001", "40P01"):
        return LedgerAway(f"{name} is busy: {said}")
    if state.startswith(("08", "53", "57P", "58")) or state == "25P03":
        return LedgerAway(f"{name} is away: {said}")
    return None


def _sentence(error: psycopg.Error) -> str:
    """The first thing the server or libpq said, on one line. Neither ever repeats a password."""
    text = error.diag.message_primary or next(iter(str(error).strip().splitlines()), type(error).__name__)
    text = re.sub(r"^connection (?:failed|is bad): ", "", text)
    return text.rpartition("FATAL:")[2].strip().rstrip(".") + "."
