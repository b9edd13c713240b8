"""One connection to the ledger a request, opened when it is first asked for and closed when the request ends."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from flask import Flask, current_app, g

from db import hiding, reports
from db.connect import Connection, connect
from db.embedded import EmbeddedPostgres
from db.errors import LedgerAway, NeedsConfiguration
from db.roles import MONITOR_CONNECTIONS
from monitor import hidden

DSN = "DAYSCRIBE_MONITOR_DSN"
REQUIRE_TLS = "DAYSCRIBE_LEDGER__REQUIRE_TLS"  # the setting of this name, as the command line knows it
EMBEDDED = "embedded:"  # before the folder of a server of one's own, whose socket is another one after each start
AT_ONCE = MONITOR_CONNECTIONS - 2  # questions; the rest waits its turn, two are left for people
APPLICATION = "dayscribe-monitor"
PATIENCE = 5.0  # seconds that a request waits for its turn


class Store:
    """Where the ledger is, and how many may ask it at once."""

    def __init__(self, dsn: str | None) -> None:
        found = os.environ.get(DSN) if dsn is None else dsn
        if found is None:
            raise NeedsConfiguration(
                f'{DSN} does not say where the ledger is; write it as libpq does ("" lets libpq read its own'
                " environment), or start the API with `dayscribe serve`."
            )
        self._own = EmbeddedPostgres(Path(found.removeprefix(EMBEDDED))) if found.startswith(EMBEDDED) else None
        self.dsn = self._own.start() if self._own else found
        self.require_tls = os.environ.get(REQUIRE_TLS, "yes").lower() not in ("0", "false", "no", "off")
        self._turns = threading.BoundedSemaphore(AT_ONCE)

    def open(self) -> Connection:
        if not self._turns.acquire(timeout=PATIENCE):
            raise LedgerAway("Too many questions at once.")
        try:
            connection = self._connect()
        except BaseException:
            self._turns.release()
            raise
        try:
            reports.only_look(connection)
        except BaseException:
            self.close(connection)
            raise
        return connection

    def _connect(self) -> Connection:
        try:
            return connect(self.dsn, application=APPLICATION, require_tls=self.require_tls)
        except LedgerAway:
            if self._own is None or not self._own.running():
                raise
            self.dsn = self._own.start()  # it runs: this only asks where
        return connect(self.dsn, application=APPLICATION)

    def close(self, connection: Connection) -> None:
        try:
            connection.close()
        finally:
            self._turns.release()


def install(app: Flask, dsn: str | None) -> None:
    """Give the application its ledger."""
    app.extensions["ledger"] = Store(dsn)

    @app.teardown_appcontext
    def close(_error: BaseException | None) -> None:
        hang_up()


def hang_up() -> None:
    """Give this request's connection back, if it has one: whoever goes on with something slow lets others ask."""
    connection = g.pop("connection", None)
    if connection is not None:
        current_app.extensions["ledger"].close(connection)


def ledger() -> Connection:
    """This request's connection."""
    if "connection" not in g:
        g.connection = current_app.extensions["ledger"].open()
        if kinds := hidden.kinds():
            g.connection.row_factory = hiding.rows(kinds)
    connection: Connection = g.connection
    return connection
