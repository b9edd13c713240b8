"""`dayscribe db`: the ledger's database: made, brought up to date, looked at, started and stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from hpc.cli.options import App, answering

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from db.connect import Connection
    from db.embedded import EmbeddedPostgres


@click.group()
def command() -> None:
    """Make, upgrade and look at the ledger's database."""


@command.command()
@click.option("--single-role", is_flag=True, help="There is one login only: it gets all rights, no roles are made.")
@answering
def init(app: App, /, *, single_role: bool) -> None:
    """Make a database a ledger: roles, schema, tables.

    Without a setting for the ledger, a server of one's own is made under home and started. Twice changes nothing.
    """
    from db import migrate
    from db.roles import Roles
    from hpc import wiring

    with _connected(app) as connection:
        roles = wiring.roles(app.settings, connection)
        if single_role:
            roles = Roles.single(connection.info.user)
        made = migrate.initialise(connection, roles)
        version = migrate.check(connection)
    if single_role and not app.settings.ledger.single_role:
        app.display.say("Set ledger.single_role = true, so that later upgrades know it too.")
    app.display.record({"made": made, "schema": version})


@command.command("migrate")
@answering
def upgrade(app: App, /) -> None:
    """Bring the ledger's schema up to this program's.

    Says first who is at work with it: leases in workers' hands, and jobs that wait or run. Programs that a step leaves
    working go on; for the others drain first (`dayscribe schedule --drain`).
    """
    from db import migrate
    from hpc import wiring

    with _connected(app) as connection:
        _say_who_is_at_work(app, connection)
        made = migrate.migrate(connection, wiring.roles(app.settings, connection))
        version = migrate.check(connection)
    app.display.record({"applied": made, "schema": version})


def _say_who_is_at_work(app: App, connection: Connection) -> None:
    from db import jobs, reports
    from db.errors import SchemaMismatch

    try:
        for held in reports.leased(connection):
            app.display.say(f"at work: {held['owner']} has {held['site']} {held['date']} {held['shard']}")
        for job in jobs.live(connection):
            app.display.say(
                f"live job: {job.site or job.kind} {job.date or ''} {job.state}, {job.scheduler_says or ''}"
            )
    except SchemaMismatch:
        return  # a ledger without these tables has nobody at work by them


@command.command()
@answering
def status(app: App, /) -> None:
    """Show where the ledger is, its schema and its roles.

    A server of one's own that does not run is not started.
    """
    own = _own(app)
    told: dict[str, Any] = {"kind": "a server of one's own" if own else "a PostgreSQL server"}
    running = True
    if own:
        about = own.describe()
        running = about.running
        told |= {"data": about.data, "running": running, "process": about.pid, "programs": about.programs}
        told["server"] = about.version
    app.display.record(told | _asked(app) if running else told)


@command.command()
@answering
def start(app: App, /) -> None:
    """Start one's own server; it keeps running."""
    from hpc import wiring

    own = _own_or_refuse(app)
    dsn = wiring.ledger_dsn(app.settings)
    about = own.describe()
    app.display.record({"running": about.running, "process": about.pid, "data": about.data, "dsn": dsn})


@command.command()
@answering
def stop(app: App, /) -> None:
    """Stop one's own server; workers wait for its return."""
    own = _own_or_refuse(app)
    own.stop()
    app.display.record({"running": own.running() if own.root.exists() else False})


def _own(app: App) -> EmbeddedPostgres | None:
    """The server under home, if the settings name no other."""
    from hpc import wiring

    return wiring.embedded(app.settings) if app.settings.ledger.conninfo is None else None


def _own_or_refuse(app: App) -> EmbeddedPostgres:
    from db.connect import safe
    from hpc.errors import BadSetting

    own = _own(app)
    if own is None:
        where = safe(app.settings.ledger.conninfo or "")
        raise BadSetting(f"The settings name a server that others start and stop ({where}); this is for one's own.")
    return own


def _connected(app: App) -> AbstractContextManager[Connection]:
    """A connection to the ledger's database, whatever is in it; one's own server is started for it."""
    from contextlib import contextmanager

    from db.connect import connect

    @contextmanager
    def opened() -> Iterator[Connection]:
        own = _own(app)
        dsn = own.start() if own else app.settings.ledger.conninfo or ""
        with connect(dsn, application="dayscribe-db", require_tls=app.settings.ledger.require_tls) as connection:
            yield connection

    return opened()


def _asked(app: App) -> dict[str, Any]:
    """What the server itself says."""
    from db import migrate
    from hpc import wiring

    with _connected(app) as connection:
        info, steps = connection.info, migrate.status(connection)
        roles = wiring.roles(app.settings, connection)
        return {
            "server": f"PostgreSQL {info.server_version // 10_000}.{info.server_version % 10_000}",
            "where": f"{info.host or 'local'}:{info.port} database {info.dbname}",
            "user": info.user,
            "schema": max((step.version for step in steps if step.applied), default=0),
            "speaks": f"{migrate.SPEAKS[0]} to {migrate.SPEAKS[-1]}",
            "to_apply": [f"{step.version:04}_{step.name}" for step in steps if not step.applied],
            "roles": "one login for all" if roles.is_single else list(roles.by_word().values()),
        }
