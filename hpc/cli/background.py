"""The demo's API in the background: started once, found again by its address, stopped on request."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from hpc.cli.options import App

START_SECONDS = 30.0


def start_api(app: App) -> str:
    """The address of the API over this home's ledger; it is started if it does not answer."""
    note = _note(app)
    known = _read(note)
    if known and _answers(known["address"]):
        return str(known["address"])
    host, port = app.settings.serve.host, _free_port(app.settings.serve.host, app.settings.serve.port)
    command = [str(Path(sys.executable).parent / "dayscribe"), *_same_settings(app), "serve", "--port", str(port)]
    with (app.settings.home / "api.log").open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    address = f"http://{host}:{port}"
    deadline = time.monotonic() + START_SECONDS
    while not _answers(address):
        if process.poll() is not None or time.monotonic() > deadline:
            app.display.warn(f"the API did not start; {app.settings.home / 'api.log'} says why")
            return "not running"
        time.sleep(0.1)
    note.write_text(json.dumps({"pid": process.pid, "address": address}))
    return address


def stop_api(app: App) -> None:
    """Stop it, if it is the one we started."""
    note = _note(app)
    known = _read(note)
    if known and _answers(known["address"]):
        with contextlib.suppress(ProcessLookupError):
            os.kill(known["pid"], signal.SIGTERM)
    note.unlink(missing_ok=True)


def _note(app: App) -> Path:
    return app.settings.home / "api.json"


def _read(note: Path) -> dict[str, Any] | None:
    try:
        known: dict[str, Any] = json.loads(note.read_text())
    except (OSError, ValueError):
        return None
    return known


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/healthz", timeout=2) as answer:  # noqa: S310 - our own http address
            return bool(answer.status == 200)
    except OSError:
        return False


def _free_port(host: str, wanted: int) -> int:
    for port in (wanted, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    return wanted


def _same_settings(app: App) -> list[str]:
    config = ["--config", str(app.config)] if app.config else []
    said = (*app.assignments, f"home={app.settings.home}")  # the last one counts: this process may stand elsewhere
    return [*config, *(word for one in said for word in ("--set", one))]
