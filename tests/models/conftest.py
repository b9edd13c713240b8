"""A loopback hub with the models that we ship, under invented names, and a machine that has no others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from loopback_hub import EAR, NOISE, VOICE, Hub, Repository, serving, shipped

from hpc.cli import main

OURS = ("HF_", "TRANSFORMERS_", "DAYSCRIBE_", "TORCH_", "NLTK_")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without a single model of its own, and no patience."""
    # It looks at its environment once, when it is imported; an engine's test may have been first, which calls nobody.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    for name in list(os.environ):
        if name.startswith(OURS) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    monkeypatch.setattr("hpc.log.configure", lambda **_options: None)
    monkeypatch.setattr("hpc.model_hub.PAUSES", (0.0, 0.0))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def hub(machine: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving() as served:
        served.repositories[VOICE] = Repository(shipped("asr.en") | NOISE)
        served.repositories[EAR] = Repository(
            shipped("aligner") | NOISE | {"pytorch_model.bin": b"the same again", "alphabet.json": b"{}"}
        )
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        yield served


@pytest.fixture
def held_fetch(hub: Hub, machine: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Runs `dayscribe models fetch …` in a process of its own until the hub holds a file back; ends it at last."""
    started: list[subprocess.Popen[bytes]] = []
    said = machine / "said"

    def start(*arguments: str, before: str = "") -> subprocess.Popen[bytes]:
        program = f"{before}\nfrom hpc.cli.main import main; main()"
        command = [sys.executable, "-P", "-c", program, "models", "fetch", *arguments]
        with said.open("wb") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file)
        started.append(process)
        while not hub.held.wait(0.2):
            assert process.poll() is None, said.read_text()
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@dataclass(frozen=True)
class Said:
    code: int
    answer: Any
    err: str


@pytest.fixture
def models(machine: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Calls `dayscribe models …`."""

    def call(*arguments: str) -> Said:
        with pytest.raises(SystemExit) as left:
            main.main(["models", *arguments, "--json"])
        out, err = capsys.readouterr()
        assert isinstance(left.value.code, int)
        return Said(left.value.code, json.loads(out) if out else None, err)

    return call
