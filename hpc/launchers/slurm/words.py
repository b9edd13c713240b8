"""SLURM's words, both ways: what its commands print as values, and an order as the words of one sbatch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from hpc.jobs import PREFIX, JobSpec, Seen
from hpc.sections import SlurmSettings

# The name stands last: somebody else's may hold what separates the fields.
SQUEUE_FORMAT = "%i|%T|%P|%a|%q|%N|%r|%j"
SACCT_FIELDS = "JobID,State,ExitCode,NodeList,JobName"
_ID = re.compile(r"(\d+)(?:\+\d+|_(?:(\d+)|\[([^\]]*)\]))?")  # 12, 12_3, 12_[4-7,9%2]; 12+1: somebody's own


def squeue(user: str) -> list[str]:
    """One question for everything of ours, ended jobs that the controller remembers included."""
    return ["squeue", "--noheader", "--states=all", f"--user={user}", f"--format={SQUEUE_FORMAT}"]


def sacct(ids: Sequence[str]) -> list[str]:
    """One question for these jobs, however many."""
    return [
        "sacct",
        "--noheader",
        "--parsable2",
        "--allocations",
        f"--jobs={','.join(ids)}",
        f"--format={SACCT_FIELDS}",
    ]


def sbatch(spec: JobSpec, wanted: SlurmSettings, *, warn_seconds: float) -> list[str]:
    """The words that submit it. The job's environment is its own: what it needs is in the file that it is given."""
    one = f"--array=0-{spec.tasks - 1}%{spec.at_once}"
    memory = wanted.memory_gb if spec.gpu else wanted.cpu_memory_gb
    words = [
        "sbatch",
        "--parsable",
        f"--job-name={spec.name}",
        one,
        f"--time={spec.minutes}",
        f"--output={_percent(spec.folder)}/log/task-%a.log",
        "--open-mode=append",
        "--export=NONE",
        f"--signal=B:USR1@{round(warn_seconds)}",
        "--requeue" if wanted.requeue else "--no-requeue",
        "--ntasks=1",
        f"--cpus-per-task={wanted.cpus if spec.gpu else 1}",
        f"--mem={memory}G",
    ]
    choices = {
        "partition": wanted.partition if spec.gpu else wanted.cpu_partition,
        "account": wanted.account,
        "qos": wanted.qos,
        "gres": wanted.gres if spec.gpu and wanted.asks_for_gpu else "",
        "constraint": wanted.constraint if spec.gpu else "",
        "exclude": ",".join(spec.exclude),
        "nice": str(spec.nice) if spec.nice else "",
    }
    words += [f"--{name}={value}" for name, value in choices.items() if value]
    return [*words, *wanted.options, str(spec.script), str(spec.argument)]


def read_queue(lines: Iterable[str]) -> Iterator[Seen]:
    """squeue's lines, those of our jobs. A line that is not as it should be is no answer at all: ValueError."""
    for line in lines:
        fields = line.split("|", 7)
        if len(fields) != 8:
            raise ValueError(f"squeue printed a line of {len(fields)} fields")
        job, state, partition, account, qos, node, reason, name = fields
        found = _ID.fullmatch(job)
        if found is None:
            raise ValueError("squeue printed a job id that is none")
        task, tasks = _tasks(found)
        yield Seen(found[1], name, state, reason, _known(node), task, tasks, partition, _known(account), _known(qos))


def read_accounting(lines: Iterable[str]) -> Iterator[Seen]:
    """sacct's lines; ValueError for one that is not as it should be. `CANCELLED by 1000` is CANCELLED, by 1000."""
    for line in lines:
        fields = line.split("|", 4)
        if len(fields) != 5 or not (found := _ID.fullmatch(fields[0])):
            raise ValueError("sacct printed a line that is not as asked for")
        _, state, code, node, name = fields
        word, _, by = state.partition(" ")
        number, _, signal = code.partition(":")
        task, tasks = _tasks(found)
        exit_code = int(number) if number.isdigit() else None
        killed = int(signal) if signal.isdigit() else 0
        yield Seen(found[1], name, word, by, _known(node), task, tasks, exit_code=exit_code, signal=killed)


def ours(seen: Iterable[Seen], ids: Iterable[str]) -> tuple[Seen, ...]:
    """What has a name of ours, or an id that is known (somebody may have renamed it)."""
    known = set(ids)
    return tuple(one for one in seen if one.name.startswith(PREFIX) or one.job in known)


def _tasks(found: re.Match[str]) -> tuple[int | None, int]:
    if found[2] is not None:
        return int(found[2]), 1
    if found[3] is None:
        return None, 1
    return None, sum(_length(piece) for piece in found[3].partition("%")[0].split(","))


def _length(piece: str) -> int:
    """How many indices 4, 4-7 or 4-10:2 stands for."""
    first, dash, rest = piece.partition("-")
    last, _, step = rest.partition(":")
    if not first.isdigit() or (dash and not last.isdigit()):
        raise ValueError("an array's indices cannot be read")
    return len(range(int(first), int(last) + 1, int(step or 1))) if dash else 1


def _known(word: str) -> str:
    return "" if word in ("(null)", "None assigned", "N/A") else word


def _percent(path: Path) -> str:
    return str(path).replace("%", "%%")
