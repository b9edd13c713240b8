"""The preflight end to end, on a CPU: a machine that cannot transcribe takes no work, and no recording pays for it.

No GPU was at hand: what an old driver or a broken GPU does is played by engines that hear nothing, or do not load.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import textwrap
import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from db.connect import Connection
from db.states import TaskEnd
from hpc import canary, registry
from hpc.job_folder import JobFolder, Order, PlannedShard, Record
from hpc.preflight import Preflight
from hpc.receipt import code_digest

DAY = "2025-01-31"
ROOT = Path(__file__).parents[2]
# Engines that write down what they do, one line each, beside their own file.
ENGINES = '''
"""Made for a test."""
from pathlib import Path
from hpc import canary
from hpc.engines.echo import EchoEngine, echo
from hpc.errors import ModelMissing
from hpc.model import Segment, Transcript, Word

def note(what):
    with Path(__file__).with_name("done").open("a") as log:
        log.write(what + "\\n")

class Singer(EchoEngine):
    """Hears the canary's words, and of other recordings what the echo engine says."""
    def __init__(self, options):
        note("load " + Path(options.model).name)
        super().__init__(options)
    def _one(self, audio):
        note("hear " + audio.recording.name.decode())
        if audio.recording.name != canary.CLIP.name.encode():
            return echo(audio)
        words = tuple(Word(text, n * 0.5, n * 0.5 + 0.4, 1.0) for n, text in enumerate(canary.WORDS.split()))
        return Transcript("en", (Segment(canary.WORDS, 0.0, 3.0, words, 0.0),))

class Deaf(Singer):
    """What an old driver does on a new GPU: no error, and no words."""
    def _one(self, audio):
        note("hear " + audio.recording.name.decode())
        return Transcript(None, ())

class Broken(Singer):
    """Sings, and fails to load the real model."""
    def __init__(self, options):
        super().__init__(options)
        if Path(options.model).name == "real":
            raise RuntimeError("CUDA failed with error out of memory")

class Lacking(Singer):
    """Sings, and finds the real model unreadable."""
    def __init__(self, options):
        super().__init__(options)
        if Path(options.model).name == "real":
            raise ModelMissing("The speech model cannot be read.")
'''


@pytest.fixture
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Adds the engines above to those that are known; engines(): what they did."""
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "made_up_engines.py").write_text(ENGINES)
    monkeypatch.syspath_prepend(tmp_path / "made")
    for name in ("Singer", "Deaf", "Broken", "Lacking"):
        monkeypatch.setitem(registry.BUILT_IN["engines"], name.lower(), f"made_up_engines:{name}")
    done = tmp_path / "made" / "done"
    return lambda: done.read_text().splitlines() if done.exists() else []


def clip(tone: float) -> bytes:
    with io.BytesIO() as out:
        with wave.open(out, "wb") as file:
            file.setparams((1, 2, 16_000, 8_000, "NONE", ""))
            file.writeframes((8000 * np.sin(np.arange(8_000) * tone / 2_500)).astype("<i2").tobytes())
        return out.getvalue()


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    """A day of two archives with two clips each."""
    folder = tmp_path / "audio"
    folder.mkdir()
    for n in range(2):
        with tarfile.open(folder / f"0_{DAY}_0{n}_00.tar.xz", "w:xz") as out:
            for m in range(2):
                data = clip(300 + 100 * n + 50 * m)
                member = tarfile.TarInfo(f"{n}-{m}.wav")
                member.size = len(data)
                out.addfile(member, io.BytesIO(data))
    return folder


@pytest.fixture
def work(call: Callable[..., int], engines: Callable[[], list[str]], tmp_path: Path) -> Callable[..., int]:
    """`dayscribe …` with one of the engines, a model named "real", and the preflight as it says."""
    (tmp_path / "real").symlink_to(canary.SHIPPED / "asr.en")

    def run(engine: str, *words: str, preflight: str = "always") -> int:
        settings = [
            f"engine.name={engine}", f"engine.model={tmp_path}/real", f"engine.aligner={canary.SHIPPED}/aligner",
            "engine.language=en", "engine.device=cpu", f"worker.preflight={preflight}", "worker.decoders=1",
        ]  # fmt: skip
        return call(*(word for one in settings for word in ("--set", one)), *words)

    return run


@pytest.fixture
def untouched(ledger: Connection, tmp_path: Path) -> Callable[[], None]:
    """Holds the ledger to what it was when the day was listed."""

    def hold() -> None:
        shards = ledger.execute("SELECT state, attempts, epoch, owner, failure_class FROM shards").fetchall()
        assert [tuple(row.values()) for row in shards] == [("ready", 0, 0, None, None)] * 2
        assert [row["state"] for row in ledger.execute("SELECT state FROM days")] == ["ready_to_process"]
        for table in ("recordings", "transcripts", "parts", "runs"):
            assert ledger.execute(f"SELECT count(*) AS n FROM {table}").fetchone() == {"n": 0}, table
        assert list((tmp_path / "home" / "results").rglob("*.*")) == []

    return hold


@dataclass
class Job:
    """An order for the day, which is listed; task 0 of it is done with an engine, and says how that ended."""

    work: Callable[..., int]
    ledger: Connection
    audio: Path
    folder: JobFolder

    def done(self, engine: str, *words: str, mode: str = "ledger") -> tuple[int, Record]:
        [day] = self.ledger.execute("SELECT id FROM days").fetchall()
        planned = [
            PlannedShard(n, path.name, f"0{n}_00", loose=False, files=(str(path),), epoch=1, staged=str(self.audio))
            for n, path in enumerate(sorted(self.audio.iterdir()))
        ]
        order = Order(
            1, "t1", "process", mode, code_digest(), 1, 60, gpu=False, day_id=day["id"], site="zurich", date=DAY,
            shards=tuple(planned) if mode == "plan" else (),
        )  # fmt: skip
        self.folder.make(order, {})
        code = self.work(engine, *words, "work", "--job", str(self.folder.path))
        [record] = self.folder.records()
        return code, record


@pytest.fixture
def job(work: Callable[..., int], ledger: Connection, audio: Path, tmp_path: Path) -> Job:
    assert work("echo", "run", DAY, "--folder", str(audio), "--site", "zurich", "--dry-run") == 0
    return Job(work, ledger, audio, JobFolder(tmp_path / "home" / "jobs" / "1"))


@pytest.mark.parametrize(
    ("engine", "sentence"),
    [
        ("deaf", f"The canary says '{canary.WORDS}', and this machine heard '' on cpu."),
        ("echo", f"The canary says '{canary.WORDS}', and this machine heard '"),  # words, and the wrong ones
    ],
)
def test_a_worker_whose_canary_fails_claims_nothing_and_charges_nobody(
    job: Job, untouched: Callable[[], None], engine: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert job.work(engine, "run", DAY, "--site", "zurich") == 75

    assert sentence in capsys.readouterr().err
    untouched()


def test_one_whose_canary_sings_does_the_work_and_sings_once(
    work: Any, ledger: Connection, engines: Any, audio: Path
) -> None:
    assert work("singer", "--set", "worker.leases=1", "run", DAY, "--folder", str(audio)) == 0

    done = engines()
    assert done[:3] == ["load asr.en", "hear canary.flac", "load real"]
    assert sorted(done[3:]) == ["hear 0-0.wav", "hear 0-1.wav", "hear 1-0.wav", "hear 1-1.wav"]
    assert {row["state"] for row in ledger.execute("SELECT state FROM recordings")} == {"transcribed"}
    assert [row["state"] for row in ledger.execute("SELECT state FROM days")] == ["completed"]


def test_where_there_is_no_work_nothing_is_loaded(work: Any, engines: Any, audio: Path) -> None:
    """Law 5: a preflight costs the load of a model, if a small one."""
    assert work("deaf", "work") == 0
    assert engines() == []


def test_of_itself_a_cpu_is_not_looked_at(work: Any, engines: Any, audio: Path) -> None:
    assert work("singer", "run", DAY, "--folder", str(audio), preflight="auto") == 0

    assert engines()[0] == "load real"
    assert "hear canary.flac" not in engines()


@pytest.mark.parametrize(("engine", "code"), [("broken", 75), ("lacking", 78)])
def test_a_model_that_does_not_load_costs_no_shard_an_attempt(
    work: Any, ledger: Connection, audio: Path, engine: str, code: int
) -> None:
    """The canary sang, and shards were leased: they go back as they came."""
    assert work(engine, "run", DAY, "--folder", str(audio)) == code

    shards = ledger.execute("SELECT state, attempts, owner, failure_class FROM shards").fetchall()
    assert [tuple(row.values()) for row in shards] == [("ready", 0, None, None)] * 2


# The same in a job, as its script starts it.


@pytest.mark.parametrize("mode", ["ledger", "plan"])
def test_a_task_whose_canary_fails_ends_as_infrastructure_with_its_sentence(
    job: Job, untouched: Callable[[], None], engines: Callable[[], list[str]], mode: str
) -> None:
    code, record = job.done("deaf", mode=mode)

    assert (code, record.ended_as, record.exit_code) == (75, TaskEnd.INFRASTRUCTURE, 75)
    assert record.reason == f"The canary says '{canary.WORDS}', and this machine heard '' on cpu."
    assert "load real" not in engines()
    assert job.folder.failures() == []
    untouched()


def test_a_task_whose_canary_sings_counts_it_as_time_to_load(
    job: Job, ledger: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next job's time limit is made from these numbers."""
    monkeypatch.setattr(Preflight, "seconds", property(lambda _: 1000.0))
    code, record = job.done("singer")

    assert (code, record.ended_as) == (0, TaskEnd.DONE)
    assert record.facts["recordings"] == 4
    assert record.facts["load_seconds"] > 1000
    assert record.facts["work_seconds"] == 0.001  # the rest, which is never nothing
    assert [row["state"] for row in ledger.execute("SELECT state FROM days")] == ["completed"]


def test_a_task_whose_model_does_not_load_ends_as_infrastructure_too(job: Job) -> None:
    code, record = job.done("broken")

    assert (code, record.ended_as) == (75, TaskEnd.INFRASTRUCTURE)
    assert "out of memory" in record.reason


def test_a_task_that_finds_its_folder_of_models_missing_is_on_an_unfit_node(
    job: Job, untouched: Callable[[], None], tmp_path: Path
) -> None:
    gone = tmp_path / "not-mounted"
    code, record = job.done("singer", "--set", f"models={gone}", "--set", "engine.model=large-v3")

    assert (code, record.ended_as) == (75, TaskEnd.INFRASTRUCTURE)
    assert record.reason.startswith(f"There is no {gone} on ")
    untouched()


def test_a_task_whose_model_has_a_wrong_name_waits_for_a_person(
    job: Job, untouched: Callable[[], None], tmp_path: Path
) -> None:
    code, record = job.done("singer", "--set", f"models={tmp_path}", "--set", "engine.model=larg-v3")

    assert (code, record.ended_as) == (78, TaskEnd.SETTINGS)
    assert "'larg-v3' is not on this machine" in record.reason
    untouched()


# The real engine, as the canary has it.

WATCHED = """
import json, os, socket, sys
called = []
def connect(self, address):
    called.append(repr(address))
    raise OSError("no network here")
for name in ("connect", "connect_ex"):
    setattr(socket.socket, name, connect)
socket.getaddrinfo = lambda *words, **_: connect(None, words)
from hpc import canary, models
from hpc.engines.whisperx.batched import BatchedEngine
from hpc.hearing import hear
ready, _ = models.resolve(canary.options("cpu"))
[heard] = hear(BatchedEngine(ready), [canary._decoded()])
import huggingface_hub.constants as hub
import opentelemetry.sdk.trace
from pyannote.audio.telemetry import metrics
from transformers.utils import hub as transformers
metrics.provider.force_flush()
print(json.dumps({
    "heard": heard.text, "called": called, "telemetry": metrics.is_metrics_enabled(),
    "offline": [hub.HF_HUB_OFFLINE, transformers.is_offline_mode()], "hub telemetry": not hub.HF_HUB_DISABLE_TELEMETRY,
    "said": [os.environ.get(name) for name in ("DO_NOT_TRACK", "ORT_DISABLE_TELEMETRY")],
}))
"""


@pytest.mark.speech
def test_the_canarys_engine_calls_nobody_and_its_libraries_know_that_they_must_not() -> None:
    """In a process whose environment says nothing of it, with every call to a network written down."""
    loud = {"HF_", "TRANSFORMERS_", "PYANNOTE_", "DO_NOT", "ORT_", "DAYSCRIBE_"}
    environment = {name: value for name, value in os.environ.items() if not name.startswith(tuple(loud))}

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(WATCHED)], cwd=ROOT, env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert canary.WORDS in said["heard"].lower()
    assert said["called"] == []
    assert (said["telemetry"], said["hub telemetry"], said["offline"]) == (False, False, [True, True])
    assert said["said"] == ["1", "1"]
