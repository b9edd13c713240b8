"""The way to a node and back: a job that looks, a folder that it writes into, and somebody who waits.

HOME/doctor/TIME-TOKEN/  job.env, job.json   as an order has them        findings.json          what the node found
                         host.txt            what the node says outside  task-0.0.ended.json    why nothing started
                         doctor.json         the job's number            log/task-0.log         what was printed
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from db.errors import TryAgain
from hpc.doctor.finding import Finding, Verdict
from hpc.errors import BadSetting
from hpc.job_folder import JobFolder
from hpc.jobs import AT_WORK, Look
from hpc.ports import Launcher

# Not ds-…: to a tick this job does not exist.
NAME = "dayscribe-doctor"
FINDINGS, HOST, ASKED, LOG = "findings.json", "host.txt", "doctor.json", "log/task-0.log"
GRACE = 20.0  # seconds after a job's end, until a network file system shows what it wrote
SLACK = 120.0  # seconds beyond its time limit: SLURM ends jobs in rounds
LAST_LINES = 3


@dataclass(frozen=True, slots=True)
class Stage:
    """How far the job is."""

    words: str  # PENDING (Priority)
    waits: bool = False
    runs: bool = False
    over: bool = False


def write(path: Path, findings: Sequence[Finding], *, complete: bool) -> None:
    """After every finding anew: a job whose time is up has still told the first ones."""
    making = path.with_name(f".new-{path.name}")
    said = {"complete": complete, "findings": [asdict(finding) for finding in findings]}
    making.write_text(json.dumps(said), encoding="utf-8")
    making.rename(path)


def read(path: Path) -> tuple[list[Finding], bool]:
    """What was found, and whether that is all; a file that is not whole is as good as none."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        found = [Finding(**one | {"verdict": Verdict(one["verdict"])}) for one in said["findings"]]
        return found, bool(said["complete"])
    except (OSError, ValueError, LookupError, TypeError):
        return [], False


def remember(folder: Path, job: str) -> None:
    (folder / ASKED).write_text(json.dumps({"job": job}), encoding="utf-8")


def job_of(folder: Path) -> str:
    """The number of the job that was submitted for this folder."""
    try:
        return str(json.loads((folder / ASKED).read_text(encoding="utf-8"))["job"])
    except (OSError, ValueError, LookupError, TypeError):
        raise BadSetting(
            f"{folder} is no folder of a doctor's job: `dayscribe doctor --gpu-node` says which it is."
        ) from None


def stage(look: Look, job: str) -> Stage:
    """What the queue says of the job. Silence is no end."""
    if look.queue is None:
        return Stage(f"SLURM does not answer ({look.trouble})")
    seen = look.queued(token="", job=job) or look.accounted(token="", job=job)
    if not seen:
        return Stage("SLURM does not know it any more", over=True)
    last = seen[-1]
    words = f"{last.state} ({last.reason})" if last.reason not in ("", "None") else last.state
    if not last.active:
        return Stage(words, over=True)
    return Stage(words, waits=last.state not in AT_WORK, runs=last.state in AT_WORK)


def outcome(folder: Path, how: Stage) -> list[Finding] | None:
    """The node's findings, or why there are none; None while there may still come some."""
    found, complete = read(folder / FINDINGS)
    if complete:
        return found
    ended = [record for record in JobFolder(folder).records() if record.ended is not None]
    if ended:
        mend = ended[-1].reason or f"exit code {ended[-1].exit_code}"
        where = f"{ended[-1].node}: our program was not started"
        return [*found, Finding("GPU job", Verdict.WANTING, where, "starts as a GPU job does", mend)]
    if not how.over:
        return None
    where = f"the job ended before it had looked at everything: {how.words}"
    return [*found, Finding("GPU job", Verdict.WANTING, where, "starts as a GPU job does", _last_lines(folder))]


def follow(
    launcher: Launcher,
    folder: Path,
    job: str,
    *,
    wait: float,
    minutes: float,
    tell: Callable[[float, str], None],
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> list[Finding]:
    """Wait until the node has spoken, and tell how the job stands. TryAgain when that takes too long."""
    began, started, ended = clock(), None, None
    while True:
        how, now = stage(launcher.look([job]), job), clock()
        tell(now - began, how.words)
        ended = (now if ended is None else ended) if how.over else None
        gone = Stage(how.words, over=ended is not None and now - ended >= GRACE)
        if (found := outcome(folder, gone)) is not None:
            return found
        started = now if started is None and how.runs else started
        since, longest = (began, wait) if started is None else (started, 60 * minutes + SLACK)
        if not how.over and now - since >= longest:
            raise TryAgain(_later(folder, job, how, started=started is not None))
        pause(0.5 if now - began < 10 else 3.0)


def report(launcher: Launcher | None, folder: Path) -> list[Finding]:
    """What a job found that nobody waited for; without a launcher only what lies in its folder is known."""
    job = job_of(folder)
    how = Stage("its state is not known here") if launcher is None else stage(launcher.look([job]), job)
    if (found := outcome(folder, how)) is not None:
        return found
    raise TryAgain(f"Job {job} has found nothing yet: {how.words}.")


def _later(folder: Path, job: str, how: Stage, *, started: bool) -> str:
    late = "is not done" if started else "has not started"
    return (
        f"Job {job} {late} ({how.words}). It goes on by itself; `scancel {job}` takes it back. What it finds, shows"
        f" later: dayscribe doctor --report {folder}"
    )


def _last_lines(folder: Path) -> str:
    try:
        lines = (folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    told = " / ".join(line.strip() for line in lines[-LAST_LINES:] if line.strip())
    return told[-600:] or f"It printed nothing into {folder / LOG}: can this node see that folder?"
