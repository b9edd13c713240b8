"""SLURM, as the host sees it that submits: its commands, what it says to an order, accounting, modules."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

from hpc.doctor.finding import Finding, Verdict, attempt, good_or_advice, good_or_wanting
from hpc.jobs import JobSpec, Look
from hpc.sections import SlurmSettings

COMMANDS = ("sbatch", "squeue", "scancel")
COMMAND_SECONDS = 10.0  # longest that one of them may take here: without a configuration sbatch tries for a minute
NOBODY = "0"  # no job has this number
_SHADOWS = ("cuda", "python", "conda", "mamba", "cudnn", "pytorch")
SECRETS = Finding(
    "GPU jobs and the ledger", Verdict.OK, "told no ledger and no password: they work by a plan, and ticks record"
)


class Asked(Protocol):
    """What is asked of SLURM here: a look, and whether it would take a job."""

    def look(self, ids: list[str]) -> Look: ...
    def would_take(self, spec: JobSpec) -> str: ...


def findings(slurm: Asked, wanted: SlurmSettings, *, found: Iterable[str]) -> Iterator[Finding]:
    """What SLURM answers; one that does not answer is asked no more. `found` are the commands that are here."""
    first = commands(found)
    yield first
    if first.verdict is not Verdict.OK:
        return
    look = slurm.look([NOBODY])
    yield queue(look)
    if look.queue is None:
        return
    yield accounting(look)
    with _specs(wanted) as specs:
        for what, spec in specs:
            yield order(what, partial(slurm.would_take, spec))


def commands(found: Iterable[str]) -> Finding:
    missing = [name for name in COMMANDS if name not in set(found)]
    said = f"no {', no '.join(missing)}" if missing else ", ".join(COMMANDS)
    mend = "Tick and ask on a host that has SLURM's commands; or load their module." if missing else ""
    return Finding("SLURM's commands", good_or_wanting(not missing), said, "on this host", mend)


def queue(look: Look) -> Finding:
    if look.queue is None:
        mend = "Is the controller up, and does this host have its slurm.conf? Ask the administrators."
        return Finding("SLURM's queue", Verdict.WANTING, look.trouble, "an answer", mend)
    return Finding("SLURM's queue", Verdict.OK, f"answers; {len(look.queue)} jobs of ours", "an answer")


def accounting(look: Look) -> Finding:
    """Without it nothing is lost as long as ticks come more often than the controller forgets."""
    trouble = look.accounting_trouble if look.accounting is None else ""
    mend = (
        "Nothing to set, but tick at least every two minutes: squeue forgets ended jobs (MinJobAge)." if trouble else ""
    )
    return Finding("SLURM's accounting", good_or_advice(not trouble), trouble or "on", "a second witness", mend)


def order(what: str, ask: Callable[[], str]) -> Finding:
    """SLURM's own sentence, good or bad, on the very words of an order."""
    wanted = "SLURM would take it (sbatch --test-only)"
    found = attempt(what, ask, wanted=wanted)
    if found.verdict is Verdict.OK:
        return found
    mend = "Look at slurm.partition, .account, .qos, .gres, .constraint, .cpus, .memory_gb; `dayscribe slurm render`."
    return replace(found, found=found.mend, mend=mend)


def modules(wanted: str, *, command: bool) -> Finding:
    """`command`: a shell of this host has `module`."""
    mend = "" if command else "Empty slurm.modules, or ask which shells have `module`: jobs begin in a plain bash."
    found = wanted if command else f"{wanted}, and no module command here"
    return Finding("modules", good_or_wanting(command), found, "a module command for slurm.modules", mend)


def loaded(environment: Mapping[str, str]) -> Finding | None:
    """Modules of the shell that submits. None when there are none."""
    names = [name for name in environment.get("LOADEDMODULES", "").split(":") if name]
    if not names:
        return None
    rivals = [name for name in names if any(word in name.lower() for word in _SHADOWS)]
    found = f"{', '.join(rivals or names)} loaded in this shell; jobs begin without (--export=NONE)"
    return Finding("loaded modules", Verdict.OK, found, "none of them reaches a job")


def has_module() -> bool:
    """Whether a login shell here knows `module`; a job script gets what such a shell has."""
    try:
        done = subprocess.run(
            ["bash", "-lc", "type -t module"], stdin=subprocess.DEVNULL, capture_output=True, check=False,
            timeout=COMMAND_SECONDS,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def soften(finding: Finding) -> Finding:
    """Where nobody has chosen SLURM, its absence or silence is no failure."""
    return replace(finding, verdict=Verdict.ADVICE) if finding.verdict is Verdict.WANTING else finding


@contextmanager
def _specs(wanted: SlurmSettings) -> Iterator[list[tuple[str, JobSpec]]]:
    """A job with and one without a GPU, as orders ask for them; their script does nothing."""
    with tempfile.TemporaryDirectory(prefix="dayscribe-doctor-") as name:
        script = Path(name) / "nothing.sh"
        script.write_text("#!/bin/bash\ntrue\n")
        spec = JobSpec(
            name="dayscribe-doctor", script=script, argument=Path(name) / "job.env", folder=Path(name),
            tasks=wanted.first_tasks, at_once=min(wanted.first_tasks, wanted.at_once), minutes=wanted.minutes_most,
            gpu=True,
        )  # fmt: skip
        yield [
            ("order of a GPU job", spec),
            ("order of a job without GPU", replace(spec, tasks=1, at_once=1, gpu=False)),
        ]
