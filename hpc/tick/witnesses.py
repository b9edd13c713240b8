"""How a job ended, said by three witnesses: the scheduler, its tasks' own records, and the ledger. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from db.jobs import TaskStart
from db.states import JobState, TaskEnd
from hpc.job_folder import Record
from hpc.jobs import AT_WORK, Look, Seen

# What SLURM says of a task that ended for no fault of its own: the node's, or the controller's will.
_NODES_FAULT = frozenset({"NODE_FAIL", "BOOT_FAIL", "LAUNCH_FAILED", "RECONFIG_FAIL"})
_CONTAINER = 255  # singularity's and apptainer's word for: the program was never started
_STUCK = frozenset(
    {
        "DependencyNeverSatisfied", "JobHeldUser", "JobHeldAdmin", "job requeued in held state", "BadConstraints",
        "job_requeued_in_held_state", "launch failed requeued held",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sight:
    """What the scheduler shows of one job."""

    known: bool  # False: the look succeeded, and nobody knows it
    active: bool
    running: bool
    says: str  # "2 RUNNING, 5 PENDING (Priority)"
    message: str | None  # what a person should know while it lives
    tasks: tuple[Seen, ...]

    @property
    def waiting(self) -> int:
        """Tasks that have not started."""
        return sum(seen.tasks for seen in self.tasks if seen.state == "PENDING")

    @property
    def outstanding(self) -> int:
        """Tasks that wait or run."""
        return sum(seen.tasks for seen in self.tasks if seen.active)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a job ended, in a word and a sentence, with what each witness said."""

    state: JobState
    message: str
    witnesses: Mapping[str, Any]


def sight(look: Look, *, token: str, scheduler_id: str | None) -> Sight:
    """One job in a look that succeeded: by its id, and by its token (its answer may have been lost).

    The queue's word counts while anything of the job is in it; once all has ended, accounting knows more."""
    assert look.queue is not None
    queued = look.queued(token=token, job=scheduler_id)
    tasks, runaway = queued, False
    if not any(seen.active for seen in queued):
        # The controller forgets ended jobs, and accounting lags: the two complete each other. That a job lives only the
        # queue can say: accounting goes on saying it of one whose end it was never told.
        accounted = look.accounted(token=token, job=scheduler_id)
        runaway = any(seen.active for seen in accounted)
        over = (seen for seen in accounted if not seen.active)
        tasks = list({(one.job, one.task): one for one in (*queued, *over)}.values())
    counts = Counter(_word(seen) for seen in tasks for _ in range(seen.tasks))
    stuck = sorted({seen.reason for seen in tasks if seen.active and seen.reason in _STUCK})
    return Sight(
        known=bool(tasks) and not runaway,
        active=any(seen.active for seen in tasks),
        running=any(seen.state in AT_WORK for seen in tasks),
        says=", ".join(f"{count} {word}" for word, count in sorted(counts.items())),
        message=f"it will not start by itself: {', '.join(stuck)}" if stuck else None,
        tasks=tuple(tasks),
    )


def starts(seen: Iterable[Seen], records: Iterable[Record]) -> list[TaskStart]:
    """Every start of a task that somebody speaks of: its own record, and the scheduler's word for the latest."""
    told = {(record.task, record.restart): record for record in records}
    latest: dict[int, int] = {}
    for task, restart in told:
        latest[task] = max(restart, latest.get(task, 0))
    by_task = {one.task: one for one in seen if one.task is not None}
    # A task that SLURM ended and that never said a word still is a start: a node may have failed under it.
    silent = [task for task, one in by_task.items() if task not in latest and not one.active and one.node]
    keys = sorted([*told, *((task, 0) for task in silent)])
    return [
        _start(key, told.get(key), by_task.get(key[0]) if latest.get(key[0], 0) == key[1] else None) for key in keys
    ]


def judge(
    seen: Sequence[Seen],
    records: Sequence[Record],
    *,
    tasks: int,
    open_shards: int | None,
    fruitful: bool,
) -> Verdict:
    """The verdict on a job that is over. Success is said by all three witnesses, or it is none.

    `seen` is empty when the scheduler knows the job no longer: then the records of all its tasks have to speak for it.
    `open_shards` is None where the job has no day."""
    words = Counter(one.state for one in seen for _ in range(one.tasks))
    ends = Counter(record.ended_as or "no exit record" for record in last(records))
    never = len(set(range(tasks)) - {record.task for record in records})
    witnesses = {
        "scheduler": dict(words) or "does not know it any more",
        "exit_records": dict(ends) | ({"never began": never} if never else {}),
        "ledger": {"open_shards": open_shards, "fruitful": fruitful},
    }
    said = _told(witnesses)
    by_person = words.get("CANCELLED", 0)
    if by_person:
        return Verdict(JobState.CANCELLED, f"{by_person} of its tasks were cancelled by somebody. {said}", witnesses)
    clean = set(ends) <= {TaskEnd.DONE, TaskEnd.SUPERSEDED} and not never
    if set(words) <= {"COMPLETED"} and clean and not open_shards:
        return Verdict(JobState.SUCCEEDED, said, witnesses)
    return Verdict(JobState.FAILED, f"{_why(words, ends, records, open_shards)}. {said}", witnesses)


def _start(key: tuple[int, int], record: Record | None, seen: Seen | None) -> TaskStart:
    ended_as = _ended_as(record, seen)
    code = record.exit_code if record and record.exit_code is not None else None
    return TaskStart(
        task=key[0],
        restart=key[1],
        node=(record.node if record else None) or (seen.node if seen else None) or None,
        says=None if seen is None else _word(seen),
        exit_code=code if code is not None or seen is None or seen.active else seen.exit_code,
        ended_as=ended_as,
        record=dict(record.facts) | {"reason": record.reason} if record and record.ended is not None else None,
        began=datetime.fromtimestamp(record.began, UTC) if record else None,
        ended=datetime.fromtimestamp(record.ended, UTC) if record and record.ended is not None else None,
    )


def _ended_as(record: Record | None, seen: Seen | None) -> TaskEnd | None:
    if record and record.ended_as:
        return TaskEnd(record.ended_as) if record.ended_as in set(TaskEnd) else TaskEnd.CRASH
    if seen is None or seen.active:
        return None
    if seen.state in _NODES_FAULT or seen.exit_code == _CONTAINER or "JobLaunchFailure" in seen.reason:
        return TaskEnd.INFRASTRUCTURE
    return TaskEnd.CANCELLED if seen.state == "CANCELLED" else TaskEnd.CRASH


def last(records: Iterable[Record]) -> list[Record]:
    """The latest start of each task."""
    latest: dict[int, Record] = {}
    for record in records:
        if record.task not in latest or record.restart >= latest[record.task].restart:
            latest[record.task] = record
    return list(latest.values())


def _why(words: Mapping[str, int], ends: Mapping[str, int], records: Iterable[Record], open_shards: int | None) -> str:
    """The sentence a person needs first."""
    reasons = [
        record.reason for record in last(records) if record.reason and record.ended_as not in ("done", "superseded")
    ]
    if reasons:
        reason, count = Counter(reasons).most_common(1)[0]
        return reason.rstrip(".") + (f" ({count} tasks)" if count > 1 else "")
    bad = {word: count for word, count in words.items() if word != "COMPLETED"}
    if bad:
        return ", ".join(f"{count} {word}" for word, count in sorted(bad.items()))
    if open_shards:
        return f"{open_shards} shards of its day are still open"
    return "not all that it came to is known" if "no exit record" in ends or not ends else "it ended early"


def _told(witnesses: Mapping[str, Any]) -> str:
    scheduler, records, ledger = witnesses["scheduler"], witnesses["exit_records"], witnesses["ledger"]
    told = scheduler if isinstance(scheduler, str) else _counted(scheduler) or "no word"
    left = "no day" if ledger["open_shards"] is None else f"{ledger['open_shards']} open shards"
    return f"Scheduler: {told}; exit records: {_counted(records) or 'none'}; ledger: {left}"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))


def _word(seen: Seen) -> str:
    shown = seen.reason if seen.state in ("PENDING", "CANCELLED") and seen.reason not in ("", "None") else ""
    return f"{seen.state} ({shown})" if shown else seen.state
