"""A task of an ordered job: it says that it began, works what its order says, and says how it ended."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from db.errors import BadData, DayscribeError, LedgerAway, NeedsConfiguration, TryAgain
from db.states import TaskEnd
from hpc import images
from hpc.cli.options import App
from hpc.cli.stopping import stop_on_signal
from hpc.errors import BadSetting, Interrupted, MachineUnfit
from hpc.job_folder import JobFolder, Order, Record, Superseded
from hpc.preflight import models_of
from hpc.stages.record import Recorder

# A file system that is full, read-only, closed to us or gone: another node may do better.
_NOT_THE_DATAS = frozenset(
    {errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EACCES, errno.EPERM, errno.ESTALE, errno.ENOTCONN}
)
STAGE_SECONDS = 3600.0 * 24  # its own time limit ends it sooner; what it had begun goes on with the next
CLAIM_SHARE = 2.0  # no new shard in the last stretch before the stop: so many times as long as that is


@dataclass(frozen=True, slots=True)
class Task:
    """Which start of which task this is, as the scheduler's variables say."""

    task: int
    restart: int
    node: str
    job: str = ""
    deadline: float | None = None  # seconds since 1970; None: the scheduler does not say

    @classmethod
    def here(cls) -> Task:
        given = os.environ
        end = given.get("SLURM_JOB_END_TIME", "")
        return cls(
            task=int(given.get("SLURM_ARRAY_TASK_ID") or 0),
            restart=int(given.get("SLURM_RESTART_COUNT") or 0),
            node=given.get("SLURMD_NODENAME") or socket.gethostname(),
            job=given.get("SLURM_ARRAY_JOB_ID") or given.get("SLURM_JOB_ID") or "",
            deadline=float(end) if end.isdigit() else None,
        )


@dataclass(slots=True)
class Facts:
    """Counts and seconds that go into the exit record."""

    told: dict[str, Any] = field(default_factory=dict)


def work_in_job(app: App, path: Path) -> None:
    """Do what the order in this folder says for one task."""
    folder, task = JobFolder(path), Task.here()
    with recorded(folder, task) as facts:
        order = folder.order()
        images.refuse_leaks()
        if order.kind in images.AUDIO:
            with models_of(task.node, _model_folders(app)):
                _process(app, folder, order, task, facts)
        elif order.kind == "ingest":
            _ingest(app, facts)
        elif order.kind == "deliver":
            _deliver(app, facts)
        else:
            _stage(app, facts)


@contextmanager
def recorded(folder: JobFolder, task: Task) -> Iterator[Facts]:
    """Write that the task began, and how it ended: the second witness. Superseded is a good end."""
    facts, began = Facts(), time.time()
    record = Record(task.task, task.restart, task.node, began, task.job)
    folder.began(record)

    def end(kind: TaskEnd, code: int, reason: str = "") -> None:
        told = facts.told | {"seconds": round(time.time() - began, 3)}
        folder.ended(replace(record, ended=time.time(), ended_as=kind, exit_code=code, reason=reason, facts=told))

    try:
        yield facts
    except Superseded as left:
        end(TaskEnd.SUPERSEDED, 0, str(left))
    except DayscribeError as error:
        end(_kind(error), error.exit_code, str(error))
        raise
    except OSError as error:
        if error.errno not in _NOT_THE_DATAS:
            end(TaskEnd.CRASH, 1, f"{type(error).__name__}: {error}")
            raise
        said = f"{error.filename or 'a file'} cannot be used on {task.node}: {error.strerror}"
        end(TaskEnd.INFRASTRUCTURE, MachineUnfit.exit_code, said)
        raise MachineUnfit(said) from error
    except BaseException as error:
        end(TaskEnd.CRASH, 1, f"{type(error).__name__}: {error}")
        raise
    else:
        end(TaskEnd.DONE, 0)


def _kind(error: DayscribeError) -> TaskEnd:
    kinds: list[tuple[type[DayscribeError], TaskEnd]] = [
        (MachineUnfit, TaskEnd.INFRASTRUCTURE),
        (Interrupted, TaskEnd.STOPPED),
        (TryAgain, TaskEnd.TRY_AGAIN),
        (NeedsConfiguration, TaskEnd.SETTINGS),
        (BadData, TaskEnd.DATA),
    ]
    return next((kind for branch, kind in kinds if isinstance(error, branch)), TaskEnd.CRASH)


def _process(app: App, folder: JobFolder, order: Order, task: Task, facts: Facts) -> None:
    from hpc import wiring
    from hpc.accelerator import count_gpus
    from hpc.pipeline import work
    from hpc.receipt import code_digest

    if order.code != code_digest():
        raise BadSetting("this task does not run the code of its order: its job script starts another program")
    if order.gpu and app.settings.engine.device == "cuda" and not count_gpus():
        raise MachineUnfit(f"{task.node} gives this job no GPU that it can use, and its order asks for one")
    stop_before = app.settings.schedule.stop_before_seconds
    deadline = task.deadline or time.time() + 60 * order.minutes

    def late() -> bool:
        return time.time() > deadline - stop_before

    def may_claim() -> bool:
        return time.time() < deadline - CLAIM_SHARE * stop_before

    with stop_on_signal(app.display.say) as asked:

        def stop() -> bool:
            return asked() or late()

        with wiring.task_tools(app.settings, order, folder, task.task, stop=stop, may_claim=may_claim) as tools:
            began = time.monotonic()
            tally = work(tools, stop=stop)
            worked = time.monotonic() - began
            left = _record_the_rest(tools.recorder)
            loading = tools.engine.load_seconds + tools.preflight.seconds
            facts.told |= {
                "shards": tally.shards,
                "failed_shards": tally.failed_shards,
                "recordings": tally.transcribed + tally.no_speech + tally.quarantined,
                "quarantined": tally.quarantined,
                "bytes": tally.bytes,
                "audio_seconds": round(tally.audio_seconds, 3),
                "engine_seconds": round(tools.engine.busy_seconds, 3),
                "load_seconds": round(loading, 3),
                "work_seconds": round(max(0.001, worked - loading), 3),
                "parts_left_to_a_tick": left,
            }
    app.display.record({"task": task.task, "restart": task.restart, "node": task.node} | facts.told)
    if stop():
        raise Interrupted("its time is nearly up" if late() and not asked() else "a stop was asked for")
    if not may_claim():
        raise Interrupted("its time is nearly up")


def _model_folders(app: App) -> list[Path]:
    """Those that the settings name, or where the models lie that they name by their place."""
    engine = app.settings.engine
    named = (Path(name) for name in (engine.model, engine.aligner or "") if name.startswith("/"))
    return [*app.settings.models, *(path.parent for path in named)]


def _record_the_rest(recorder: Recorder) -> int:
    """Try once more to record what waits; law 5: no allocation waits for a ledger that is away."""
    with suppress(LedgerAway):
        recorder.flush()
    return recorder.waiting


def _ingest(app: App, facts: Facts) -> None:
    from hpc import wiring
    from hpc.cli.ingest import folders_of_parts, record_all

    folders = folders_of_parts(app.settings.results_folder, None, None)
    with (
        wiring.session(app.settings, application="dayscribe-ingest") as session,
        app.display.progress("ingest", unit="parts") as bar,
    ):
        facts.told |= record_all(app, session, folders, bar)
    app.display.record(facts.told)


def _deliver(app: App, facts: Facts) -> None:
    """Days that somebody wants elsewhere: packed, sent and verified. What a mover has is not waited for."""
    from hpc import wiring
    from hpc.cli.deliver import bars_of
    from hpc.deliver import deliver_wanted
    from hpc.wiring import deliveries

    with (
        stop_on_signal(app.display.say) as stop,
        wiring.session(app.settings, application="dayscribe-deliver") as session,
    ):
        hands = deliveries.hands(app.settings, session, bars=bars_of(app), stop=stop, by_job=True)
        facts.told |= deliver_wanted(hands, app.display.say)
    app.display.record(facts.told)


def _stage(app: App, facts: Facts) -> None:
    """What a tick has not the time for: days are listed, and what lies elsewhere is ordered, linked or copied. Of what
    somebody else moves it asks once, and leaves."""
    from db import listings, sites
    from hpc import wiring
    from hpc.tick.report import Report
    from hpc.wiring import movers

    listed = refused = 0
    report = Report()
    with wiring.session(app.settings, application="dayscribe-stage") as session:
        for row in session(listings.pending_at_hand, limit=100_000):
            try:
                wiring.register(app.settings, session, session(sites.get, row["site"]), row["date"])
                listed += 1
            except (BadData, NeedsConfiguration) as error:  # of this site; the others go on
                app.display.warn(f"{row['site']} {row['date']}: {error}")
                refused += 1
        porter = movers.porter(app.settings, session, works=True)
        porter.list_due(report, seconds=STAGE_SECONDS)
        porter.follow(report, seconds=STAGE_SECONDS)
    for line in report.did + report.waits:
        app.display.say(" ".join(filter(None, (line.what, line.about, line.detail))))
    facts.told |= {"listed": listed, "refused": refused, "did": len(report.did), "waits": len(report.waits)}
    app.display.record(facts.told)
