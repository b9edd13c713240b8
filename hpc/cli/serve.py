"""`dayscribe serve`: the dashboard and the JSON API, by handing this process over to gunicorn."""

from __future__ import annotations

import ipaddress
import os
import shlex
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpc.cli.options import App, answering

if TYPE_CHECKING:
    from hpc.config import Settings

THREADS = 64  # questions that may be open at once; those that ask the ledger take turns (monitor/store.py)
TOKEN_FILE, DSN = "DAYSCRIBE_API_TOKEN_FILE", "DAYSCRIBE_MONITOR_DSN"
SERVE = "DAYSCRIBE_SERVE__"  # before the settings of that section that the server reads itself
AUDIO = "DAYSCRIBE_MONITOR_AUDIO"  # who reads recordings for monitor/clips.py


@click.command()
@click.option("--host", metavar="ADDRESS", help="The address to listen on; else serve.host.")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="The port to listen on, 0 for any free one; else serve.port."
)
@answering
def command(app: App, /, *, host: str | None, port: int | None) -> None:
    """Show the ledger in a browser, and answer programs.

    Reads only. Other machines may ask only if DAYSCRIBE_API_TOKEN_FILE names a file, mode 0600, with a token; every
    request then carries it, a browser as its password. Ends with SIGTERM or Ctrl-C.
    """
    from hpc import login_nodes

    settings = app.settings
    login_nodes.refuse(settings.login_nodes, "the API")
    host = host or settings.serve.host
    _check_token(host)
    environment = _environment(settings)
    listener = _listen(host, settings.serve.port if port is None else port)
    address = _address(listener)
    app.display.say(f"The dashboard is at {address}/, the API at {address}/api/v1/days.")
    if app.as_json:
        app.display.record({"address": address, "process": os.getpid()})
    sys.stdout.flush()
    # Modules, and gunicorn's own settings file, are found where we are: never in the folder the command started in.
    os.chdir(Path(__file__).parents[2])
    os.execve(_gunicorn(), _arguments(listener), environment)  # noqa: S606 - an argument list, no shell


def _check_token(host: str) -> None:
    """Refuse to listen to other machines without a token, and refuse a token that others can read."""
    from db import tokens
    from hpc.errors import BadSetting

    file = os.environ.get(TOKEN_FILE)
    if file:
        tokens.read(Path(file))
    elif not _is_loopback(host):
        raise BadSetting(
            f"{host} can be reached from other machines, and the API has no token. Make one, (umask 077; openssl rand"
            f" -hex 32 > FILE), and set {TOKEN_FILE}=FILE; or listen on 127.0.0.1."
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _environment(settings: Settings) -> dict[str, str]:
    """Ours, and where the ledger is: a libpq string never holds a password (law 7)."""
    from hpc import wiring

    environment = {name: value for name, value in os.environ.items() if name != "GUNICORN_CMD_ARGS"}
    if TOKEN_FILE in environment:
        environment[TOKEN_FILE] = str(Path(environment[TOKEN_FILE]).absolute())
    if DSN not in environment:
        own = settings.ledger.conninfo is None
        if own:
            wiring.ledger_dsn(settings)
        environment[DSN] = f"embedded:{wiring.embedded(settings).root}" if own else settings.ledger.conninfo or ""
    limits = {name: getattr(settings.alert, name) for name in ("tick_minutes", "silent_hours", "lapsed_minutes")}
    environment |= {f"DAYSCRIBE_ALERT__{name.upper()}": str(value) for name, value in limits.items()}
    if settings.serve.audio:
        from hpc.stages.clip_child import PROGRAM

        environment[AUDIO] = shlex.join([sys.executable, "-I", "-c", PROGRAM, str(Path(__file__).parents[2])])
    environment["DAYSCRIBE_LEDGER__REQUIRE_TLS"] = "yes" if settings.ledger.require_tls else "no"
    environment[f"{SERVE}HIDE"] = " ".join(settings.serve.hide)
    environment[f"{SERVE}PER_MINUTE"] = str(settings.serve.per_minute)
    environment[f"{SERVE}GPU_HOUR_PRICE"] = str(settings.serve.gpu_hour_price)
    environment[f"{SERVE}CURRENCY"] = settings.serve.currency
    environment[f"{SERVE}AUDIO_MB"] = str(settings.serve.audio_mb)
    return environment


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket that gunicorn inherits: an address in use is told here, and port 0 has its number."""
    from hpc.errors import BadSetting

    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server(address[:2], family=family, backlog=128)
    except OSError as error:
        raise BadSetting(f"The API cannot listen on {host} port {port}: {error.strerror}.") from error
    listener.set_inheritable(True)
    return listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _gunicorn() -> str:
    from db.errors import NeedsConfiguration

    program = Path(sys.executable).parent / "gunicorn"
    if not program.exists():
        raise NeedsConfiguration(f"{program} is missing; install dayscribe's requirements again.")
    return str(program)


def _arguments(listener: socket.socket) -> list[str]:
    return [
        "gunicorn",
        *("--worker-class", "gthread", "--workers", "1", "--threads", str(THREADS)),
        *("--bind", f"fd://{listener.fileno()}"),
        *("--graceful-timeout", "10", "--log-level", "warning", "--no-control-socket"),
        "monitor:create_app()",
    ]
