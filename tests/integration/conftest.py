"""A small ledger with one of everything, and the commands that are run over it: for commands, export and API."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shlex
import sys
import tarfile
import wave
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient

from db import days, metadata, shards, sites
from db.connect import Connection
from db.days import SlotFinding
from db.states import DayState, FailureClass, Finding
from hpc.cli import main
from hpc.model import Failure, Recording, Result, Seal, Segment, Transcript, Word
from hpc.stages.clip_child import PROGRAM
from hpc.stages.ingest import ingest
from hpc.stages.publish import Header, write_part
from monitor import create_app

Call = Callable[..., int]
OPEN, DONE = date(2025, 1, 31), date(2025, 1, 30)
SCRIPT = "<script>alert(1)</script>"
TURNED = "\u202egnihtyreve\u202c \u05e9\u05dc\u05d5\u05dd"
RECEIPT = {"engine": "echo", "model": "none", "options": {"language": "auto"}}
LEASE = timedelta(minutes=2)


@dataclass
class Ledgered:
    """The site, its two days, and what came of each recording by the name the tests use for it."""

    dsn: str
    connection: Connection
    results: Path
    site: sites.Site
    open: days.Day
    done: days.Day
    ids: dict[str, int] = field(default_factory=dict)
    parts: list[Path] = field(default_factory=list)

    @staticmethod
    def said(shard: int, ordinal: int, name: bytes, text: str, *, language: str | None = "en") -> Result:
        """A recording with one segment of words, a second each; no text means that it holds no speech."""
        words = tuple(Word(word, float(n), n + 0.5, 0.9) for n, word in enumerate(text.split()))
        segments = (Segment(f" {text}", 0.0, float(len(words)), words, -0.25),) if text else ()
        flags = ("unaligned",) if text else ()
        outcome = Transcript(language if text else None, segments, 0.75 if text else None, flags)
        return Result(_recording(shard, ordinal, name), outcome, 10.0 + ordinal, ("multichannel",))

    @staticmethod
    def failed(shard: int, ordinal: int, name: bytes, reason: str) -> Result:
        """A recording that was quarantined."""
        return Result(_recording(shard, ordinal, name), Failure(FailureClass.TRUNCATED, reason))

    @staticmethod
    def lease(connection: Connection, day_id: int, count: int) -> list[shards.Leased]:
        return shards.claim(connection, owner="worker-1", count=count, lease=LEASE, day_id=day_id)

    def publish(self, lease: shards.Leased, results: Sequence[Result], *, sealed: bool) -> Path:
        """One part of a leased shard, as a worker publishes it; nothing is recorded."""
        header = Header(
            lease.site, lease.date, lease.id, lease.name, lease.epoch, hashlib.md5(b"key").hexdigest(), RECEIPT, 1.5
        )
        seal = Seal(lease.id, hashlib.sha256(b"archive").digest(), 1000, len(results)) if sealed else None
        path = write_part(self.results, header, results, seal)
        self.parts.append(path)
        return path


def _recording(shard: int, ordinal: int, name: bytes) -> Recording:
    return Recording(shard, ordinal, name, 100 + ordinal, hashlib.sha256(name).digest())


@pytest.fixture
def a_day(dsn: str, ledger: Connection, tmp_path: Path) -> Ledgered:
    """An open day with a done, a failed, a leased and a waiting shard, and a finished day before it."""
    site = sites.put(ledger, "zurich", location=str(tmp_path / "audio"))
    days.add(ledger, site.id, [DONE, OPEN])
    both = [days.get(ledger, site.name, on) for on in (OPEN, DONE)]
    made = Ledgered(dsn, ledger, tmp_path / "home" / "results", site, *both)
    for day, names in ((made.done, ["00_00"]), (made.open, ["00_00", "00_10", "00_20", "23_50"])):
        new = [shards.NewShard(f"0_{day.date}_{slot}.tar.xz", (slot.encode(),), 1000, slot) for slot in names]
        shards.add(ledger, day.id, new, revision=0, max_attempts=3)
        days.listed(ledger, day.id, staged=str(tmp_path / "audio" / f"{day.date}"), revision=0)
        days.move(ledger, day.id, DayState.READY_TO_PROCESS, actor="test")
    _fill(made)
    made.open = days.by_id(ledger, made.open.id)
    made.done = days.by_id(ledger, made.done.id)
    return made


def _fill(made: Ledgered) -> None:
    [only] = made.lease(made.connection, made.done.id, 1)
    ingest(
        made.connection,
        made.publish(only, [made.said(only.id, 0, b"7000000000000000000.mp3", "yesterday was calm")], sealed=True),
        actor="worker-1",
    )
    whole, damaged, held = made.lease(made.connection, made.open.id, 3)
    results = [
        made.said(whole.id, 0, b"7000000000000000001.mp3", "hello wide world"),
        made.said(whole.id, 1, b"7000000000000000002.mp3", f"{SCRIPT} hello {TURNED} \0nul << >>", language="de"),
        made.said(whole.id, 2, b"silence.mp3", ""),
        made.failed(whole.id, 3, f"=cmd|' /C calc'!A0 {SCRIPT}".encode() + b"\xff\xfe.mp3", f"it ends early {SCRIPT}"),
        made.said(whole.id, 4, b"../../etc/'; DROP TABLE recordings; --.mp3", "=1+1"),
    ]
    ingest(made.connection, made.publish(whole, results, sealed=True), actor="worker-1")
    reason = "the archive is cut at byte 512"
    shards.fail(
        made.connection, damaged.id, damaged.epoch, failure=("archive_damaged", reason), actor="worker-1", discard=True
    )
    ingest(
        made.connection,
        made.publish(held, [made.said(held.id, 0, b"unsealed.mp3", "hello from the future")], sealed=False),
        actor="worker-1",
    )
    found = [("archive", "00_00"), ("metadata", "00_00"), ("archive", "00_10"), ("archive", "00_20")]
    slots = [SlotFinding(slot, kind, Finding.ARRIVED, f"{slot}.{kind}", 1000) for kind, slot in found]
    slots += [SlotFinding("23_50", "archive", Finding.EMPTY, "23_50.archive", 0)]
    slots += [SlotFinding("12_00", kind, Finding.ABSENT_AT_SOURCE) for kind in ("archive", "metadata")]
    days.put_slots(made.connection, made.open.id, revision=0, slots=slots)
    _describe(made)
    names = ["hello", "hostile", "silence", "quarantined", "injection"]
    ids = [row["id"] for row in made.connection.execute("SELECT id FROM recordings ORDER BY shard_id, ordinal")]
    names = ("calm", "hello", "hostile", "silence", "quarantined", "injection", "unsealed")
    made.ids = dict(zip(names, ids, strict=True))


def _describe(made: Ledgered) -> None:
    """Metadata of one recording: every column that has a value in it."""
    values = dict.fromkeys(metadata.COLUMNS) | {
        "posted": datetime(2025, 1, 31, 0, 1, tzinfo=UTC),
        "description": f"a post {SCRIPT}",
        "author_verified": True,
        "play_count": 2**40,
        "video_seconds": 12.5,
        "country": "CH",
    }
    metadata.put(made.connection, made.open.id, [("7000000000000000001", *values.values())])


@pytest.fixture
def undisturbed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings of this machine, and the log left alone."""
    for name in list(os.environ):
        if name.startswith(("DAYSCRIBE_", "PGSERVICE", "PGHOST", "SLURM_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr("hpc.log.configure", lambda **_options: None)


@pytest.fixture
def call(dsn: str, tmp_path: Path, undisturbed: None) -> Call:
    """Runs a command against the test's ledger; returns its exit code."""

    def run(*arguments: str) -> int:
        with pytest.raises(SystemExit) as left:
            main.main(["--set", f"ledger.dsn={dsn}", "--set", f"home={tmp_path / 'home'}", *arguments])
        assert isinstance(left.value.code, int)
        return left.value.code

    return run


@pytest.fixture
def answer(call: Call, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """What a command that succeeds says in JSON."""

    def run(*arguments: str) -> Any:
        capsys.readouterr()
        assert call(*arguments, "--json") == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    return run


@pytest.fixture
def no_server_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this machine says of a ledger and a token is not for the tests' applications."""
    ours = (
        "DAYSCRIBE_API_TOKEN_FILE", "DAYSCRIBE_MONITOR_", "DAYSCRIBE_LEDGER__REQUIRE_TLS", "DAYSCRIBE_SERVE__",
        "DAYSCRIBE_ALERT__",
    )  # fmt: skip
    for name in [name for name in os.environ if name.startswith(ours)]:
        monkeypatch.delenv(name)


@pytest.fixture
def app(a_day: Ledgered, no_server_settings: None) -> Flask:
    """The API and the pages over the small ledger."""
    return create_app(a_day.dsn)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@dataclass
class Sounds:
    """The first archive of the open day with audio in it: `bytes` by the names the tests use, and where it lies."""

    day: Ledgered
    bytes: dict[str, bytes]

    @property
    def folder(self) -> Path:
        return Path(self.day.open.staged or "")

    def keep(self, name: str = "00_00", mode: str = "w:xz") -> Path:
        """Write the archive, and let the ledger know it by these bytes."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
            for number, data in enumerate(self.bytes.values()):
                info = tarfile.TarInfo(f"{number}.mp3")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        for one, data in self.bytes.items():
            self.say("UPDATE recordings SET size = %s, sha256 = sha256(%s) WHERE id = %s", len(data), data, one=one)
        self.say("UPDATE shards SET paths = ARRAY[%s] WHERE id = (SELECT shard_id FROM recordings WHERE id = %s)",
                 name.encode())  # fmt: skip
        return path

    def say(self, statement: str, *values: Any, one: str = "hello") -> None:
        self.day.connection.execute(statement, [*values, self.day.ids[one]])


@pytest.fixture
def sounds(a_day: Ledgered) -> Sounds:
    """Of four recordings; `hello` is a rising tone of eight seconds."""
    with io.BytesIO() as out:
        with wave.open(out, "wb") as clip:
            clip.setnchannels(1)
            clip.setsampwidth(2)
            clip.setframerate(16_000)
            at = np.arange(8 * 16_000) / 16_000
            clip.writeframes((8000 * np.sin(2 * np.pi * (200 + 50 * at) * at)).astype("<i2").tobytes())
        tone = out.getvalue()
    return Sounds(
        a_day, {"hello": tone, "hostile": b"<html>not audio</html>", "silence": b"", "quarantined": tone[:99]}
    )


@pytest.fixture
def heard(no_server_settings: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Applications that are made after this let recordings be heard, as `dayscribe serve` lets them."""
    reader = [sys.executable, "-I", "-c", PROGRAM, str(Path(main.__file__).parents[2]), "20000", str(1 << 30)]
    monkeypatch.setenv("DAYSCRIBE_MONITOR_AUDIO", shlex.join(reader))


class Seen(HTMLParser):
    """The elements of an answer as a browser would find them, what could run among their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: Counter[str] = Counter()
        self.running: list[str] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.running += [name for name, value in attrs if name.startswith("on") or name == "style"]
        self.running += [value for _, value in attrs if value and value.strip().lower().startswith("javascript:")]

    def handle_data(self, data: str) -> None:
        self.words += data.split()

    @property
    def text(self) -> str:
        return " ".join(self.words)


@pytest.fixture
def seen() -> Callable[[str], Seen]:
    """What a browser sees in a page."""
    return Seen
