"""`dayscribe doctor`: what this machine has and lacks, before anything is started."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hpc.cli.display import Column
from hpc.cli.options import App, answering

if TYPE_CHECKING:
    from hpc.config import Settings
    from hpc.doctor import Finding


@click.command()
@answering
def command(app: App) -> None:
    """Say what is missing on this machine, and how to mend it.

    Looks at Python, packages, folders, disk space, PostgreSQL, models and the GPU; changes nothing and starts nothing.
    Exit code 78 says that something is wanting; advice alone is no failure.
    """
    from db.errors import NeedsConfiguration
    from hpc.doctor import Machine, Verdict, attempt, examine

    settings = app.settings
    machine = Machine(
        home=settings.home,
        results=settings.results_folder,
        embedded=settings.ledger.conninfo is None,
        speech=settings.engine.name == "whisperx",
        device=settings.engine.device,
    )
    findings = [
        *examine(machine),
        attempt("ledger", lambda: _ledger(settings), wanted="reachable, with a schema we speak"),
        attempt("model and aligner", lambda: _models(settings), wanted="on this machine, as locked"),
    ]
    app.display.table([_row(finding) for finding in findings], [Column(key) for key in _row(findings[0])])
    if wanting := [finding.what for finding in findings if finding.verdict is Verdict.WANTING]:
        raise NeedsConfiguration(f"Something is wanting: {', '.join(wanting)}.")


def _row(finding: Finding) -> dict[str, str]:
    return {
        "what": finding.what,
        "verdict": finding.verdict.value,
        "found": finding.found,
        "wanted": finding.wanted,
        "mend": finding.mend,
    }


def _ledger(settings: Settings) -> str:
    from db import migrate
    from db.connect import connect
    from db.places import refuse_network
    from hpc import wiring

    dsn = settings.ledger.conninfo
    if dsn is None:
        server = wiring.embedded(settings)
        refuse_network(server.root)
        if not server.running():
            return "our own server, started when it is needed"
        dsn = server.start()
    with connect(dsn, application="dayscribe-doctor", require_tls=settings.ledger.require_tls) as connection:
        version = migrate.check(connection)
        return f"PostgreSQL {connection.info.parameter_status('server_version')}, schema {version}"


def _models(settings: Settings) -> str:
    from hpc import wiring

    _, found = wiring.engine_options(settings)
    return ", ".join(model.name for model in found) or "none needed"
