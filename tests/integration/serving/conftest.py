"""`dayscribe serve` as it stands, gunicorn and all, over the small ledger; and how it is asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from db.connect import connect
from monitor import create_app
from monitor.store import APPLICATION


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Message
    text: str

    @property
    def mimetype(self) -> str:
        return self.headers.get_content_type()


@dataclass(frozen=True)
class Server:
    """Where it is, and whose eyes see its connections."""

    address: str
    dsn: str
    written: Path

    def get(self, path: str, **headers: str) -> Answer:
        request = urllib.request.Request(self.address + path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as said:
                return Answer(said.status, said.headers, said.read().decode(errors="replace"))
        except urllib.error.HTTPError as error:  # 304 too
            with error:
                return Answer(error.code, error.headers, error.read().decode())

    def log(self) -> str:
        return self.written.read_text()

    def connections(self) -> int:
        """How many it has to PostgreSQL; those that just end are still among them."""
        with connect(self.dsn) as ledger:
            row = ledger.execute(
                "SELECT count(*) AS n FROM pg_stat_activity WHERE application_name = %s"
                " AND datname = current_database()",
                [APPLICATION],
            ).fetchone()
        assert row is not None
        return int(row["n"])


@pytest.fixture
def server(a_day: Any, tmp_path: Path, undisturbed: None) -> Iterator[Server]:
    """It logs in as the monitor does in a lab: with so many connections and no more."""
    monitor = a_day.dsn.replace("user=dayscribe", "user=dayscribe_monitor")
    log = tmp_path / "server.log"
    with log.open("w") as told:
        process = subprocess.Popen(
            [Path(sys.executable).parent / "dayscribe", "serve", "--port", "0", "--json"],
            stdout=subprocess.PIPE,
            stderr=told,
            text=True,
            cwd=tmp_path,
            env=os.environ
            | {"DAYSCRIBE_MONITOR_DSN": monitor, "DAYSCRIBE_LEDGER__DSN": a_day.dsn, "DAYSCRIBE_SERVE__AUDIO": "yes"},
        )
    try:
        assert process.stdout is not None
        said = ""
        while not said.endswith("}\n"):
            said += (line := process.stdout.readline())
            assert line, log.read_text()
        yield Server(json.loads(said)["address"], a_day.dsn, log)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def addresses(a_day: Any, sounds: Any, undisturbed: None) -> list[str]:
    """An address for each route, whichever there are: a new one is met without being named here."""
    sounds.keep()
    row = a_day.connection.execute(
        "WITH plan AS (INSERT INTO plans (selection, who, run_key, receipt, recordings, seconds) VALUES ('{}', 'me',"
        " decode(repeat('00', 16), 'hex'), '{}', 0, 0) RETURNING id) SELECT plan.id AS plan_id, shard_id, r.id"
        " AS recording_id FROM plan, recordings r WHERE r.id = %s",
        [a_day.ids["hello"]],
    ).fetchone()
    values = row | {"site": "zurich", "date": "2025-01-31", "kind": "srt", "filename": "style.css"}
    app = create_app(a_day.dsn)
    to = app.url_map.bind("localhost")
    asked = {"v1.search": "?q=hello", "v1.search_csv": "?q=hello", "v1.search_parquet": "?q=hello"}
    return [
        to.build(rule.endpoint, {name: values[name] for name in rule.arguments}) + asked.get(rule.endpoint, "")
        for rule in app.url_map.iter_rules()
    ]
