"""`make demo-slurm`, small: the day through the job scripts in their images, the API, and nothing left of it all."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.speech
def test_the_demonstration_runs_in_its_images_and_takes_itself_down(images: Any) -> None:
    base = Path(tempfile.mkdtemp(prefix="demo-"))  # pytest's own folders have paths too long for sockets
    try:
        with (base / "said").open("w+") as said:  # a file: what is started would hold a pipe open
            done = subprocess.run(
                [ROOT / "scripts" / "demo_slurm.sh", base / "b", images.folder],
                env=os.environ | {"SLOTS": "2", "CLIPS": "10"} | ports(),
                stdin=subprocess.DEVNULL, stdout=said, stderr=said, timeout=280, check=False,
            )  # fmt: skip
            said.seek(0)
            text = said.read()
        assert done.returncode == 0, text
        assert re.search(r"gpu +ds-2025-01-31-\w+ +RUNNING +demogpu1", text)  # squeue
        assert "API: the day is completed_with_errors" in text
        assert re.search(r"not as planted +0\n", text)
        kinds = re.findall(r"^\d+ .* (process|stage) +succeeded ", text, re.MULTILINE)
        assert sorted(kinds) == ["process", "stage"]
        assert not (base / "b" / "slurm").exists()
        assert [pid for pid in Path("/proc").glob("[0-9]*") if str(base).encode() in words(pid)] == []
    finally:
        shutil.rmtree(base, ignore_errors=True)


def ports() -> dict[str, str]:
    """Ports that nobody listens on: another checkout may show the same."""
    with ExitStack() as held:
        found = [held.enter_context(socket.socket()) for _ in range(2)]
        for one in found:
            one.bind(("127.0.0.1", 0))
        first, second = (one.getsockname()[1] for one in found)
    return {"CTLD_PORT": str(first), "NODE_PORT": str(second)}


def words(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""
