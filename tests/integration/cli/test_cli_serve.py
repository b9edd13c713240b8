"""`dayscribe serve`: the real server, asked over its socket."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from db import formats
from db.connect import connect
from db.migrate import initialise
from db.roles import Roles

Call = Callable[..., int]
TOKEN = "0123456789abcdef0123456789abcdef"


pytestmark = pytest.mark.usefixtures("undisturbed")


@pytest.fixture
def served(a_day: Any, tmp_path: Path) -> Iterator[Callable[..., tuple[str, subprocess.Popen[str]]]]:
    """Starts `dayscribe serve` on a free port; returns its address and its process."""
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **environment: str) -> tuple[str, subprocess.Popen[str]]:
        program = str(Path(sys.executable).parent / "dayscribe")
        process = subprocess.Popen(
            [program, "--set", f"ledger.dsn={a_day.dsn}", "serve", "--port", "0", "--json", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=os.environ | environment,
        )
        running.append(process)
        assert process.stdout is not None
        lines: list[str] = []
        while not lines or lines[-1] != "}\n":
            lines.append(process.stdout.readline())
            assert lines[-1], process.communicate()[1]
        return json.loads("".join(lines))["address"], process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def get(address: str, token: str | None = None) -> tuple[int, str]:
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_serve_answers_every_route_and_ends_well_on_sigterm(served: Any, a_day: Any, tmp_path: Path) -> None:
    for trap in ("monitor.py", "db.py", "gunicorn.conf.py", "json.py"):
        (tmp_path / trap).write_text("raise SystemExit('a file of the folder we were started in')\n")
    address, process = served()

    hello = a_day.ids["hello"]
    for path in (
        "/healthz", "/readyz", "/pipeline/status", "/api/v1/openapi.json", "/api/v1/days",
        "/api/v1/days/zurich/2025-01-31", "/api/v1/days/zurich/2025-01-31/recordings", f"/api/v1/recordings/{hello}",
        *(f"/api/v1/recordings/{hello}.{kind}" for kind in formats.KINDS), "/api/v1/search?q=hello",
        "/", "/days/zurich/2025-01-31", f"/recordings/{hello}", "/search?q=hello", "/cluster", "/plans", "/health",
    ):  # fmt: skip
        assert (path, get(address + path)[0]) == (path, 200)
    assert get(f"{address}/nowhere")[0] == 404
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert said.splitlines() == [f"The dashboard is at {address}/, the API at {address}/api/v1/days."]


def test_serve_to_other_machines_wants_a_token_and_then_asks_for_it(
    served: Any, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "some.host.example"):
        assert call("serve", "--host", host, "--port", "0") == 78
        assert "has no token" in capsys.readouterr().err
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o644)
    monkeypatch.setenv("DAYSCRIBE_API_TOKEN_FILE", "token")
    assert call("serve", "--port", "0") == 78
    assert "can be read by others" in capsys.readouterr().err

    file.chmod(0o600)
    address, process = served("--host", "0.0.0.0")
    address = address.replace("0.0.0.0", "127.0.0.1")
    assert [get(f"{address}/api/v1/days")[0], get(f"{address}/api/v1/days", TOKEN)[0]] == [401, 200]
    command_line = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    assert TOKEN.encode() not in command_line


def test_serve_says_when_the_port_is_taken(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert call("serve", "--port", str(taken.getsockname()[1])) == 78
    assert "Address already in use" in capsys.readouterr().err


def test_serve_logs_in_as_whom_the_monitors_own_setting_says(served: Any, a_day: Any, roles: Roles) -> None:
    with connect(a_day.dsn) as connection:
        initialise(connection, roles)
    address, _ = served(DAYSCRIBE_MONITOR_DSN=a_day.dsn.replace("user=dayscribe", f"user={roles.monitor}"))

    for path in ("/readyz", "/pipeline/status", "/api/v1/days/zurich/2025-01-31", "/api/v1/search?q=hello"):
        assert get(address + path)[0] == 200
    assert json.loads(get(f"{address}/api/v1/recordings/{a_day.ids['hello']}")[1])["text"] == "hello wide world"


def test_serve_hides_what_the_settings_name(served: Any, a_day: Any, tmp_path: Path) -> None:
    (tmp_path / "dayscribe.toml").write_text('[serve]\nhide = ["texts"]\n')
    address, _ = served()

    recording = f"{address}/api/v1/recordings/{a_day.ids['hello']}"
    assert (get(recording)[0], json.loads(get(recording)[1])["text"]) == (200, None)
    assert [get(f"{recording}.txt")[0], get(f"{address}/search?q=hello")[0]] == [403, 403]


def test_serve_hands_over_from_when_on_something_is_amiss(served: Any, a_day: Any, tmp_path: Path) -> None:
    (tmp_path / "dayscribe.toml").write_text(
        "[alert]\ntick_minutes = 7\nlapsed_minutes = 3\nsilent_hours = 2\n[serve]\ngpu_hour_price = 3\n"
    )
    with connect(a_day.dsn) as connection:
        connection.execute("UPDATE shards SET lease_until = now() - interval '4 minutes' WHERE state = 'leased'")
        connection.execute(
            "INSERT INTO ticks (owner, host, began, took_ms, report)"
            " VALUES ('ada', 'here', now() - interval '8 minutes', 1, '{}')"
        )
    address, process = served()
    page = get(f"{address}/search")[1]
    assert "No tick for more than 7 minutes" in page
    assert "no sign of life for more than 3 minutes" in page
    environment = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
    assert b"DAYSCRIBE_ALERT__SILENT_HOURS=2.0" in environment
    assert '"cost": {"amount": 0.0, "currency": "CHF"}' in get(f"{address}/api/v1/cluster")[1]


def test_serve_lets_one_client_ask_as_often_as_the_settings_say(served: Any, tmp_path: Path) -> None:
    (tmp_path / "dayscribe.toml").write_text("[serve]\nper_minute = 2\n")
    address, _ = served()

    assert [get(f"{address}{path}")[0] for path in ("/readyz", "/", "/readyz", "/healthz")] == [200, 200, 429, 200]


def test_serve_lets_recordings_be_heard_only_where_the_setting_says_so(served: Any, sounds: Any) -> None:
    sounds.keep()
    path = f"/api/v1/recordings/{sounds.day.ids['hello']}/audio"
    silent, _ = served()
    status, why = get(silent + path)
    assert (status, "switched off" in why) == (404, True)
    address, _ = served(DAYSCRIBE_SERVE__AUDIO="yes")
    with urllib.request.urlopen(address + path, timeout=60) as said:
        assert (said.headers["Content-Type"], said.read()) == ("audio/wav", sounds.bytes["hello"])
    ranged = urllib.request.Request(address + path, headers={"Range": "bytes=0-3"})
    with urllib.request.urlopen(ranged, timeout=60) as said:
        assert (said.status, said.read()) == (206, b"RIFF")
    last = f"/api/v1/recordings/{sounds.day.ids['quarantined']}/audio"
    small, _ = served(DAYSCRIBE_SERVE__AUDIO="yes", DAYSCRIBE_SERVE__AUDIO_MB="1", DAYSCRIBE_WORKER__MAX_MEMBERS="2")
    assert "more than 2 members" in get(small + last)[1], "a worker would not have read it either"
    sounds.say("UPDATE recordings SET size = 1048577 WHERE id = %s")
    assert "larger than 1 MB" in get(small + path)[1]
