"""SLURM: one look for all jobs, one sbatch an order; no answer is never taken for an answer."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from hpc.errors import BadSetting, NoAnswer, SubmitRefused
from hpc.jobs import JobSpec, Look, Seen
from hpc.launchers.slurm import words
from hpc.launchers.slurm.commands import Answer, Runner
from hpc.sections import SlurmSettings

# After these the controller may have the job or not. Everything else that sbatch says is a refusal.
_NO_ANSWER = re.compile(
    r"timed out|unable to contact|connection refused|zero bytes|communication connection|transport endpoint|try again"
    r"|backup controller|in standby|slurm_load|unexpected message|protocol authentication|insane message",
    re.IGNORECASE,
)
_LIMIT = re.compile(r"limit|MaxSubmit|MaxJobs|too many jobs|job array specification|MaxArraySize", re.IGNORECASE)
_PREFIXES = (
    "sbatch: error: ", "sbatch: ", "allocation failure: ", "squeue: error: ", "sacct: error: ", "scancel: error: ",
    "squeue: ", "slurm_",
)  # fmt: skip
_NO_ACCOUNTING = re.compile(r"accounting storage is disabled", re.IGNORECASE)


class SlurmLauncher:
    """Speaks to one cluster as one user."""

    def __init__(self, run: Runner, wanted: SlurmSettings, *, user: str, warn_seconds: float) -> None:
        self._run, self._wanted, self._user, self._warn = run, wanted, user, warn_seconds

    def look(self, ids: Sequence[str]) -> Look:
        """One squeue for all, and one sacct for those of `ids` that the queue shows no longer at work or waiting."""
        queue, trouble = self._read_queue(ids)
        if queue is None:
            return Look(None, trouble=trouble)
        active = {seen.job for seen in queue if seen.active}
        if not (wanted := [job for job in ids if job not in active]):
            return Look(queue)
        accounting, silence = self._read_accounting(wanted)
        return Look(queue, accounting, accounting_trouble=silence)

    def render(self, spec: JobSpec) -> str:
        """The command that `submit` runs, as a person would type it, and the script behind it."""
        return f"{shlex.join(self._words(spec))}\n\n{spec.script.read_text(encoding='utf-8')}"

    def would_take(self, spec: JobSpec) -> str:
        """What SLURM says to the words of `submit` when it is only asked (sbatch --test-only): where it would run."""
        program, *rest = self._words(spec)
        answer = self._ask([program, "--test-only", *rest])
        if answer.code != 0:
            raise _no(answer)
        return _sentence(answer)

    def submit(self, spec: JobSpec) -> str:
        """The scheduler's id of the job. SubmitRefused: it is not taken. NoAnswer: nobody knows."""
        answer = self._ask(self._words(spec))
        if answer.code != 0:
            raise _no(answer)
        job = answer.out.strip().partition(";")[0]  # ";cluster" follows in a federation
        if job.isdigit():
            return job
        raise NoAnswer("sbatch ended well and printed no job id; the next looks will tell whether it has the job")

    def cancel(self, job: str, *, only_pending: bool) -> None:
        """Take the job back, or what of it still waits; NoAnswer when that is not known to have worked."""
        answer = self._ask(["scancel", *(["--state=PENDING"] if only_pending else []), job])
        if answer.code != 0:
            raise NoAnswer(f"scancel: {_sentence(answer)}")

    def _words(self, spec: JobSpec) -> list[str]:
        return words.sbatch(spec, self._wanted, warn_seconds=self._warn)

    def _ask(self, question: Sequence[str]) -> Answer:
        return self._run(question, seconds=self._wanted.command_seconds)

    def _read_queue(self, ids: Sequence[str]) -> tuple[tuple[Seen, ...] | None, str]:
        answer = self._ask(words.squeue(self._user))
        if answer.code != 0:
            return None, f"squeue: {_sentence(answer)}"
        try:
            return words.ours(words.read_queue(_lines(answer.out)), ids), ""
        except ValueError as error:
            return None, str(error)

    def _read_accounting(self, ids: Sequence[str]) -> tuple[tuple[Seen, ...] | None, str]:
        try:
            answer = self._ask(words.sacct(ids))
        except BadSetting:
            return None, "no sacct here"
        if answer.code != 0:
            off = _NO_ACCOUNTING.search(answer.err)
            return None, "accounting is off" if off else f"sacct: {_sentence(answer)}"
        try:
            return words.ours(words.read_accounting(_lines(answer.out)), ids), ""
        except ValueError as error:
            return None, str(error)


def _no(answer: Answer) -> NoAnswer | SubmitRefused:
    """Why sbatch did not take a job."""
    said = _sentence(answer)
    if answer.code is None or _NO_ANSWER.search(answer.err):
        return NoAnswer(f"sbatch did not get through ({said}); the next looks will tell whether the job is there")
    return SubmitRefused(said, limit=bool(_LIMIT.search(answer.err)))


def _lines(text: str) -> list[str]:
    """At line feeds alone: somebody's job may be named with what Unicode, too, calls the end of a line."""
    return text.removesuffix("\n").split("\n") if text else []


def _sentence(answer: Answer) -> str:
    """The last thing that it said, on one line."""
    if answer.code is None:
        return "no answer in time"
    lines = [line.strip() for line in answer.err.splitlines() if line.strip()]
    text = lines[-1] if lines else f"exit code {answer.code}"
    for prefix in _PREFIXES:
        text = text.removeprefix(prefix)
    return text[:300]
