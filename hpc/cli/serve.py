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
WAITING = 128  # connections that are not yet accepted
UNIX = "unix:"  # before the path of a socket
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
    request then carries it, a browser as its password. Or a reverse proxy lets its readers in, which serve.proxy and
    serve.proxy_user declare. Ends with SIGTERM or Ctrl-C.
    """
    from hpc import login_nodes

    settings = app.settings
    login_nodes.refuse(settings.login_nodes, "the API")
    host = host or settings.serve.host
    _check_door(settings, host)
    environment = _environment(settings)
    listener = _listen(host, settings.serve.port if port is None else port)
    address = _address(listener)
    if listener.family is socket.AF_UNIX:
        app.display.say(f"The dashboard and the API are at {address}, for a reverse proxy.")
    else:
        app.display.say(f"The dashboard is at {address}/, the API at {address}/api/v1/days.")
    if app.as_json:
        app.display.record({"address": address, "process": os.getpid()})
    sys.stdout.flush()
    # Modules, and gunicorn's own settings file, are found where we are: never in the folder the command started in.
    os.chdir(Path(__file__).parents[2])
    os.execve(_gunicorn(), _arguments(listener), environment)  # noqa: S606 - an argument list, no shell


def _check_door(settings: Settings, host: str) -> None:
    """Refuse to listen where somebody could ask whom nobody asks who they are, or where the proxy could not."""
    from db import proxies, tokens
    from hpc.errors import BadSetting

    file, serve = os.environ.get(TOKEN_FILE), settings.serve
    if file:
        tokens.read(Path(file))
    proxy = proxies.declared(
        serve.proxy, hops=serve.proxy_hops, user=serve.proxy_user, names=serve.names, token=bool(file)
    )
    unix = host.startswith(UNIX)
    if proxy is not None and unix != (proxies.UNIX in proxy.peers):
        raise BadSetting(
            f"serve.proxy says that the proxy asks {'from an address' if unix else 'over a Unix socket'}, but the"
            f" server listens at {host}: nobody could ask. For a socket, set serve.host to unix:PATH and serve.proxy to"
            " unix."
        )
    if file or unix or _is_loopback(host):
        return
    if proxy is None:
        raise BadSetting(
            f"{host} can be reached from other machines, and the API has no token. Make one, (umask 077; openssl rand"
            f" -hex 32 > FILE), and set {TOKEN_FILE}=FILE; or declare the reverse proxy that lets readers in"
            " (serve.proxy, serve.proxy_user, serve.names); or listen on 127.0.0.1."
        )
    if all(map(_is_loopback, proxy.peers)):
        raise BadSetting(
            f"The reverse proxy asks from this machine (serve.proxy), but the server listens at {host}, where others"
            " could ask too and would be refused: set serve.host to 127.0.0.1, or to unix:PATH."
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

        limit = (str(settings.worker.max_members), str(settings.worker.max_archive_gb << 30))
        environment[AUDIO] = shlex.join([sys.executable, "-I", "-c", PROGRAM, str(Path(__file__).parents[2]), *limit])
    environment["DAYSCRIBE_LEDGER__REQUIRE_TLS"] = "yes" if settings.ledger.require_tls else "no"
    serve = settings.serve
    said: dict[str, list[object]] = {
        "HIDE": [*serve.hide], "PER_MINUTE": [serve.per_minute], "GPU_HOUR_PRICE": [serve.gpu_hour_price],
        "CURRENCY": [serve.currency], "AUDIO_MB": [serve.audio_mb], "PROXY": [*serve.proxy],
        "PROXY_USER": [serve.proxy_user or ""], "PROXY_HOPS": [serve.proxy_hops], "NAMES": [*serve.names],
    }  # fmt: skip
    environment |= {f"{SERVE}{name}": " ".join(map(str, values)) for name, values in said.items()}
    return environment


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket that gunicorn inherits: an address in use is told here, and port 0 has its number."""
    from hpc.errors import BadSetting

    try:
        if host.startswith(UNIX):
            listener = _listen_at(Path(host.removeprefix(UNIX)).absolute())
        else:
            family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
            listener = socket.create_server(address[:2], family=family, backlog=WAITING)
    except OSError as error:
        where = host if host.startswith(UNIX) else f"{host} port {port}"
        raise BadSetting(f"The API cannot listen on {where}: {error.strerror or error}.") from error
    listener.set_inheritable(True)
    return listener


def _listen_at(path: Path) -> socket.socket:
    """A Unix socket that its owner and its group may open; one that a server left behind when it ended is replaced."""
    if path.is_socket() and not _answers(path):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o117)
    try:
        listener.bind(str(path))
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(before)
    listener.listen(WAITING)
    return listener


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as asking:
        try:
            asking.connect(str(path))
        except ConnectionRefusedError:
            return False
    return True


def _address(listener: socket.socket) -> str:
    if listener.family is socket.AF_UNIX:
        return f"{UNIX}{listener.getsockname()}"
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
        *("--forwarded-allow-ips", "", "--forwarder-headers", ""),  # whom we believe what is said in monitor/proxied.py
        "monitor:create_app()",
    ]
