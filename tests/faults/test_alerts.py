"""An alert that is killed at every step: it is said again or not at all, and never lost."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from db import days, sites
from db.faults import KNOWN

ON = date(2025, 1, 31)
POINTS = sorted(name for name in KNOWN if name.startswith("alert."))
# How often people have heard of it, once all is quiet again.
TOLD = {"alert.intended": 1, "alert.sent": 2, "alert.said": 1}


@pytest.fixture
def heard() -> Iterator[tuple[int, list[Any]]]:
    """A webhook, and what it got."""
    got: list[Any] = []

    class Talk(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Talk)
    running = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    running.start()
    yield server.server_address[1], got
    server.shutdown()
    server.server_close()
    running.join()


def address(folder: Path, port: int) -> dict[str, str]:
    file = folder / "webhook"
    file.write_text(f"http://127.0.0.1:{port}/x")
    file.chmod(0o600)
    return {"alert.webhook_file": str(file), "alert.ledger_minutes": "0"}


def kinds(got: list[Any]) -> list[tuple[str, bool]]:
    return [(item["kind"], item["over"] is not None) for one in got for item in one["items"]]


def time_passes(here: Any) -> None:
    """What a killed process held lapses."""
    with here.ledger() as connection:
        connection.execute("UPDATE alert_notices SET until = now() WHERE said IS NULL")


def test_every_point_of_an_alert_is_tried_here() -> None:
    assert sorted(TOLD) == POINTS


@pytest.mark.parametrize("point", POINTS)
def test_an_alert_is_never_lost_wherever_it_was_killed(
    place: Callable[[], AbstractContextManager[Any]], heard: tuple[int, list[Any]], point: str
) -> None:
    port, got = heard
    with place() as here:
        settings = address(here.folder, port)
        with here.ledger() as connection:
            site = sites.put(connection, "zurich", location="/far")
            days.add(connection, site.id, [ON])
            connection.execute("UPDATE days SET state = 'transfer_failed' WHERE date = %s", [ON])

        assert here.finish(here.start(f"{point}:1:kill", "alert", **settings)) == -signal.SIGKILL, here.said()
        before = len(got)
        assert here.finish(here.start("", "alert", **settings)) == 0, here.said()
        assert len(got) == before, "while it may be on its way nobody else says it"
        time_passes(here)
        for _ in range(2):
            assert here.finish(here.start("", "alert", **settings)) == 0, here.said()
        assert kinds(got) == [("failed_day", False)] * TOLD[point]

        got.clear()
        with here.ledger() as connection:
            connection.execute("UPDATE days SET state = 'pending'")
        assert here.finish(here.start(f"{point}:1:kill", "alert", **settings)) == -signal.SIGKILL, here.said()
        time_passes(here)
        for _ in range(2):
            assert here.finish(here.start("", "alert", **settings)) == 0, here.said()
        assert kinds(got) == [("failed_day", True)] * TOLD[point]


def test_that_the_ledger_is_away_is_never_lost_either(
    place: Callable[[], AbstractContextManager[Any]], heard: tuple[int, list[Any]]
) -> None:
    port, got = heard
    with place() as here:
        settings = address(here.folder, port)
        away = settings | {"ledger.dsn": "host=/nowhere dbname=x"}
        assert here.finish(here.start("alert.sent:1:kill", "alert", **away)) == -signal.SIGKILL, here.said()
        for _ in range(2):
            assert here.finish(here.start("", "alert", **away)) == 75, here.said()
        assert kinds(got) == [("ledger_away", False)] * 2
        assert here.finish(here.start("alert.sent:1:kill", "alert", **settings)) == -signal.SIGKILL, here.said()
        for _ in range(2):
            assert here.finish(here.start("", "alert", **settings)) == 0, here.said()
        assert kinds(got)[2:] == [("ledger_away", True)] * 2
