"""A declared reverse proxy lets readers in, and is believed of who they are; whoever else says the same is not."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from db.errors import NeedsConfiguration
from db.proxies import declared
from monitor import create_app

NAME, TOKEN = "transcripts.example.org", "0123456789abcdef"
PROXY, STRANGER = {"REMOTE_ADDR": "192.0.2.7"}, {"REMOTE_ADDR": "192.0.2.8"}
SETTINGS = {"PROXY": "192.0.2.7", "PROXY_USER": "X-Remote-User", "NAMES": NAME}
ADA = {"X-Remote-User": "ada", "X-Forwarded-For": "198.51.100.1", "X-Forwarded-Proto": "https", "Host": NAME}
pytestmark = pytest.mark.usefixtures("no_server_settings")

Serve = Callable[..., FlaskClient]


@pytest.fixture
def serve(a_day: Any, monkeypatch: pytest.MonkeyPatch) -> Serve:
    """The application with these settings of the section serve."""

    def make(**settings: str) -> FlaskClient:
        for name, value in settings.items():
            monkeypatch.setenv(f"DAYSCRIBE_SERVE__{name}", value)
        return create_app(a_day.dsn).test_client()

    return make


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)
    monkeypatch.setenv("DAYSCRIBE_API_TOKEN_FILE", str(tmp_path / "token"))


def status(client: FlaskClient, peer: dict[str, str], headers: dict[str, str], path: str = "/api/v1/days") -> int:
    return client.get(path, headers=headers, environ_base=peer).status_code


def test_whom_the_proxy_let_in_may_ask_and_nobody_else(serve: Serve) -> None:
    client = serve(**SETTINGS)

    assert status(client, PROXY, ADA) == 200
    for peer in (STRANGER, {"REMOTE_ADDR": "127.0.0.1"}, {"REMOTE_ADDR": "::1"}, {"REMOTE_ADDR": ""}):
        assert (peer, status(client, peer, ADA)) == (peer, 403)
    assert status(client, {"REMOTE_ADDR": "::ffff:192.0.2.7"}, ADA) == 200, "the same address over IPv6"
    assert status(client, STRANGER, ADA, "/healthz") == 200


@pytest.mark.parametrize("user", [None, "", " ", "eve,ada", "a" * 257, "a\x85a"])
def test_a_proxy_that_names_nobody_or_several_lets_nobody_in(serve: Serve, user: str | None) -> None:
    headers = {name: value for name, value in ADA.items() if name != "X-Remote-User"}
    client = serve(**SETTINGS)

    refused = client.get("/", headers=headers | ({} if user is None else {"X-Remote-User": user}), environ_base=PROXY)
    assert (refused.status_code, refused.mimetype) == (403, "text/html")
    assert "Only the declared reverse proxy may ask, and it says for whom (X-Remote-User)." in refused.text


def test_only_under_its_declared_names_anything_is_answered(serve: Serve) -> None:
    client = serve(**SETTINGS)

    for host in ("evil.example", "localhost", f"{NAME}.evil.example", "192.0.2.1"):
        assert (host, status(client, PROXY, ADA | {"Host": host})) == (host, 400)
        forwarded = {"Host": NAME, "X-Forwarded-Host": host}
        assert (host, status(client, PROXY, ADA | forwarded)) == (host, 400)
    assert status(client, PROXY, ADA | {"Host": "localhost", "X-Forwarded-Host": NAME}) == 200
    assert status(client, PROXY, ADA | {"Host": f"{NAME}:8443"}) == 200


def test_each_reader_behind_the_proxy_has_a_bucket_and_none_can_take_another(serve: Serve) -> None:
    client = serve(**SETTINGS, PER_MINUTE="2")

    ask = [status(client, PROXY, ADA) for _ in range(3)]
    assert ask == [200, 200, 429]
    forged = ADA | {"X-Forwarded-For": "203.0.113.9, 198.51.100.1"}
    assert status(client, PROXY, forged) == 429, "what a reader wrote itself stands before what the proxy added"
    assert status(client, PROXY, ADA | {"X-Forwarded-For": "198.51.100.2"}) == 200
    forging = [status(client, STRANGER, ADA | {"X-Forwarded-For": f"203.0.113.{n}"}) for n in range(3)]
    assert forging == [403, 403, 429], "who is no proxy is who it is"


def test_of_two_proxies_in_a_row_the_first_is_believed_of_its_client(serve: Serve) -> None:
    client = serve(**SETTINGS, PROXY_HOPS="2", PER_MINUTE="1")

    through = ADA | {"X-Forwarded-Proto": "https, http", "X-Forwarded-Host": f"{NAME}, inner"}
    for reader, found in (("198.51.100.1", 200), ("198.51.100.2", 200), ("198.51.100.1", 429)):
        headers = through | {"X-Forwarded-For": f"{reader}, 10.0.0.1"}
        assert (reader, status(client, PROXY, headers)) == (reader, found)


def test_a_proxy_that_names_nobody_hands_on_the_token(serve: Serve, token: None) -> None:
    client = serve(PROXY="192.0.2.7", NAMES=NAME)

    right = {"Authorization": f"Bearer {TOKEN}"}
    assert status(client, PROXY, ADA) == 401, "no header was declared that could name anybody"
    assert status(client, PROXY, ADA | right) == 200
    assert status(client, STRANGER, {"Host": NAME} | right) == 200


def test_beside_the_proxy_programs_may_come_with_the_token(serve: Serve, token: None) -> None:
    client = serve(**SETTINGS)

    assert status(client, PROXY, ADA) == 200
    assert status(client, STRANGER, ADA) == 401
    assert status(client, STRANGER, {"Host": NAME, "Authorization": f"Bearer {TOKEN}"}) == 200


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"user": "X-Remote-User", "names": [NAME]}, "could be anybody's"),
        ({"names": [NAME]}, "could be anybody's"),
        ({"hops": 2}, "could be anybody's"),
        ({"peers": ["192.0.2.7"], "names": [NAME]}, "nobody would ask its readers who they are"),
        ({"peers": ["192.0.2.7"], "user": "X-Remote-User"}, "a page elsewhere could make a reader's browser ask"),
        ({"peers": ["192.0.2.0/24"], "user": "X-Remote-User", "names": [NAME]}, "no address"),
        ({"peers": ["proxy.example.org"], "user": "X-Remote-User", "names": [NAME]}, "no address"),
        ({"peers": ["*"], "user": "X-Remote-User", "names": [NAME]}, "no address"),
        ({"peers": ["0.0.0.0"], "user": "X-Remote-User", "names": [NAME]}, "nobody asks"),
        ({"peers": ["::"], "user": "X-Remote-User", "names": [NAME]}, "nobody asks"),
        ({"peers": ["192.0.2.7"], "user": "Authorization", "names": [NAME]}, "only the proxy sets"),
        ({"peers": ["192.0.2.7"], "user": "X-Forwarded-For", "names": [NAME]}, "only the proxy sets"),
        ({"peers": ["192.0.2.7"], "user": "X_Remote_User", "names": [NAME]}, "only the proxy sets"),
        ({"peers": ["192.0.2.7"], "user": "X-Remote-User", "names": [".example.org"]}, "no host's name"),
        ({"peers": ["192.0.2.7"], "user": "X-Remote-User", "names": ["https://a.example"]}, "no host's name"),
        ({"peers": ["192.0.2.7"], "user": "X-Remote-User", "names": [NAME], "hops": 0}, "from 1 to 8"),
    ],
)
def test_what_would_let_in_unknown_readers_is_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(NeedsConfiguration) as refused:
        declared(**({"peers": [], "token": False} | settings))
    assert says in str(refused.value)


def test_the_application_itself_refuses_an_unsafe_declaration(serve: Serve) -> None:
    for settings in ({"PROXY_USER": "X-Remote-User"}, {"PROXY": "192.0.2.7"}, {**SETTINGS, "PROXY_HOPS": "x"}):
        with pytest.raises(NeedsConfiguration):
            serve(**{"PROXY": "", "PROXY_USER": "", "NAMES": "", "PROXY_HOPS": ""} | settings)


# --- dayscribe serve --------------------------------------------------------------------------------------------------


def settings_file(folder: Path, **settings: str) -> None:
    lines = [f"{name} = {value}" for name, value in settings.items()]
    (folder / "dayscribe.toml").write_text("\n".join(["[serve]", *lines, ""]))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"host": '"0.0.0.0"', "proxy": '["127.0.0.1"]'}, "set serve.host to 127.0.0.1"),
        ({"host": '"127.0.0.1"', "proxy": '["unix"]'}, "set serve.host to unix:PATH and serve.proxy to unix"),
        ({"host": '"unix:socket"', "proxy": '["127.0.0.1"]'}, "set serve.host to unix:PATH and serve.proxy to unix"),
        ({"host": '"unix:no/such/folder"', "proxy": '["unix"]'}, "cannot listen on unix:no/such/folder"),
    ],
)
def test_serve_refuses_to_listen_where_the_proxy_could_not_ask_or_others_could(
    call: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: dict[str, str], says: str
) -> None:
    settings_file(tmp_path, proxy_user='"X-Remote-User"', names=f'["{NAME}"]', **settings)

    assert call("serve", "--port", "0") == 78
    assert says in " ".join(capsys.readouterr().err.split())


def test_without_a_token_serve_listens_elsewhere_for_a_declared_proxy_only(
    call: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("serve", "--host", "0.0.0.0", "--port", "0") == 78
    assert "or declare the reverse proxy that lets readers in" in " ".join(capsys.readouterr().err.split())
    settings_file(tmp_path, proxy='["192.0.2.7"]', proxy_user='"X-Remote-User"', names=f'["{NAME}"]')
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert call("serve", "--host", "0.0.0.0", "--port", port) == 78
    assert "Address already in use" in capsys.readouterr().err, "which is all that stood in its way"


class Socket(http.client.HTTPConnection):
    """A connection to a Unix socket, as a proxy makes it."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))

    def ask(self, path: str, headers: dict[str, str]) -> int:
        self.request("GET", path, headers=headers)
        response = self.getresponse()
        response.read()
        self.close()
        return response.status


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """Of a socket that a server left behind when it ended, and that the settings name."""
    with tempfile.TemporaryDirectory() as short:  # the path of a socket is
        path = Path(short) / "socket"
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(path))
        settings_file(
            tmp_path, host=f'"unix:{path}"', proxy='["unix"]', proxy_user='"X-Remote-User"', names=f'["{NAME}"]'
        )
        yield path


def test_over_a_socket_that_its_group_may_open_the_proxy_is_answered(
    path: Path, server: Any, a_day: Any, tmp_path: Path
) -> None:
    assert server.address == f"unix:{path}"
    assert path.stat().st_mode & 0o777 == 0o660
    proxy = Socket(path)
    assert proxy.ask("/api/v1/days", ADA) == 200
    assert proxy.ask("/api/v1/days", {"Host": NAME}) == 403
    assert proxy.ask("/nowhere", ADA | {"SCRIPT_NAME": "/x", "PATH_INFO": "/healthz"}) == 404, "a header is no path"
    assert proxy.ask("/healthz", {"Host": NAME}) == 200
    again = subprocess.run(
        [Path(sys.executable).parent / "dayscribe", "serve"], env=os.environ | {"DAYSCRIBE_LEDGER__DSN": a_day.dsn},
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert again.returncode == 78, "a socket at which somebody answers is not taken away"
    assert "Address already in use" in again.stderr
    assert proxy.ask("/healthz", {"Host": NAME}) == 200
