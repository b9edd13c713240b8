"""`dayscribe demo`, the real thing: killed in the middle, run again, and run once more with nothing left to do."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from db.embedded import EmbeddedPostgres

pytestmark = [pytest.mark.speech, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home that other users may enter, so that root's server lies in it and is stopped with it."""
    folder = tmp_path_factory.mktemp("demo")
    yield folder
    EmbeddedPostgres(folder / "postgres").stop()


def demo(home: Path, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
    script = Path(sys.executable).parent / "dayscribe"
    # Eight clips an archive leave room for each default trouble; three archives for a missing slot between them.
    command = [str(script), "--set", f"home={home}", "demo", "--slots", "3", "--clips", "8", "--json", *more]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)


@pytest.fixture(scope="module")
def killed(home: Path) -> subprocess.CompletedProcess[str]:
    return demo(home, "--no-serve", DAYSCRIBE_FAULTS_ARMED="yes", DAYSCRIBE_FAULT="publish.renamed:kill")


@pytest.fixture(scope="module")
def report(home: Path, killed: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert killed.returncode == -signal.SIGKILL
    done = demo(home, "--no-serve")
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def parts_of(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "results").rglob("*") if path.is_file())


def test_after_a_kill_the_same_command_ends_as_planned(report: dict[str, Any]) -> None:
    assert report["unexpected"] == 0
    assert report["failed"] == []
    assert report["quarantined"] == sum(failure["recordings"] for failure in report["failures"]) == 7
    assert report["word_error_rate"] <= 0.06
    assert report["median_word_start_error_ms"] <= 30


def test_no_leftover_of_the_kill_remains(home: Path, report: dict[str, Any]) -> None:
    assert report["shards"] == 3
    assert [name for name in parts_of(home) if name.startswith(".tmp-")] == []


def test_a_second_run_finds_everything_done_and_makes_nothing(home: Path, report: dict[str, Any]) -> None:
    before = parts_of(home)
    again = demo(home, "--no-serve")
    assert again.returncode == 0, again.stderr
    assert "nothing is done twice" in again.stderr
    assert parts_of(home) == before
    assert json.loads(again.stdout) == report | {"took_seconds": None}


def test_the_demos_dashboard_lets_its_speech_be_heard_and_ends_when_it_is_told_to(
    home: Path, report: dict[str, Any]
) -> None:
    served = demo(home)
    try:
        assert served.returncode == 0, served.stderr
        address = json.loads(served.stdout)["api"]
        day = f"{address}/api/v1/days/demo/2025-01-31/recordings?state=transcribed&limit=1"
        [recording] = json.loads(read(day).content)["recordings"]
        heard = read(f"{address}/recordings/{recording['id']}/audio")
        whole = json.loads(read(f"{address}/api/v1/recordings/{recording['id']}").content)
        assert hashlib.sha256(heard.content).hexdigest() == whole["sha256"]
        assert heard.kind.startswith("audio/")
    finally:
        stopped = demo(home, "--stop")
    assert stopped.returncode == 0, stopped.stderr
    with pytest.raises(urllib.error.URLError):
        read(f"{address}/healthz")


class Read(NamedTuple):
    """What an address answered."""

    kind: str
    content: bytes


def read(address: str) -> Read:
    with urllib.request.urlopen(address, timeout=30) as answer:
        return Read(answer.headers["Content-Type"], answer.read())
