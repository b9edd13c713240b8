"""How SLURM's commands are run: here, or by a job script outside our image, which is asked in plain text files."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hpc.errors import BadSetting

COMMANDS = frozenset({"squeue", "sacct", "sbatch", "scancel"})
STEP = 0.05  # seconds between looks for an answer
LATE = 15.0  # seconds that whoever runs a command outside gets beyond its time
# A job that submits jobs hands its own settings down by variables; a person's own formats break what we read.
_LEAKS = ("SLURM_", "SBATCH_", "SQUEUE_", "SACCT_", "SALLOC_", "SRUN_", "SCANCEL_")
_KEPT = frozenset({"SLURM_CONF"})
_OURS = {"SLURM_BITSTR_LEN": "0", "SLURM_TIME_FORMAT": "standard", "LC_ALL": "C"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command said. No exit code: it did not answer in time."""

    code: int | None
    out: str = ""
    err: str = ""


class Runner(Protocol):
    """Runs one command of SLURM."""

    def __call__(self, words: Sequence[str], *, seconds: float) -> Answer: ...


class Here:
    """Runs it as a child, in a clean environment."""

    def __init__(self, *, folder: Path | None = None) -> None:
        self._folder = folder  # sbatch notes it as the folder of the submission

    def __call__(self, words: Sequence[str], *, seconds: float) -> Answer:
        try:
            done = subprocess.run(
                words, check=False, capture_output=True, timeout=seconds, stdin=subprocess.DEVNULL, cwd=self._folder,
                env=scrubbed(os.environ),
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return Answer(None)
        except OSError as error:
            if self._folder is not None and not self._folder.is_dir():
                raise BadSetting(f"{self._folder}, from which jobs are submitted, is no folder here.") from None
            if not isinstance(error, FileNotFoundError):
                raise BadSetting(f"{words[0]} cannot be run: {error.strerror}.") from None
            raise BadSetting(
                f"{words[0]} is not on this machine: run the tick where SLURM's commands are, or with --exchange."
            ) from None
        return Answer(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


class Exchange:
    """Writes N.ask (seconds and words, each ended by a NUL) into a folder and waits for N.code, N.out and N.err.

    slurm/common.sh answers, outside of the image. A folder that nobody reads is like a controller that is down.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._number = folder, 0

    def __call__(self, words: Sequence[str], *, seconds: float) -> Answer:
        self._number += 1
        ask, code = (self._folder / f"{self._number}.{ending}" for ending in ("ask", "code"))
        making = ask.with_suffix(".new")
        making.write_bytes(b"".join(os.fsencode(word) + b"\0" for word in (f"{seconds:g}", *words)))
        making.rename(ask)
        deadline = time.monotonic() + seconds + LATE
        while not code.exists():
            if time.monotonic() > deadline:
                ask.unlink(missing_ok=True)
                return Answer(None)
            time.sleep(STEP)
        out, err = (self._read(ending) for ending in ("out", "err"))
        number = int(code.read_text().strip() or 1)
        for path in (ask, code, *(code.with_suffix(ending) for ending in (".out", ".err"))):
            with suppress(OSError):
                path.unlink()
        if number == 127:  # the shell's word for a command that is not there
            raise BadSetting(f"{words[0]} is not on the machine that runs the job script.")
        return Answer(None) if number == 124 else Answer(number, out, err)  # 124: timeout's word

    def _read(self, ending: str) -> str:
        return (self._folder / f"{self._number}.{ending}").read_text(errors="replace")


def scrubbed(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for a command of SLURM: nothing of the job that we may run in, nothing of a person's formats."""
    kept = {name: value for name, value in environment.items() if name in _KEPT or not name.startswith(_LEAKS)}
    return kept | _OURS
