"""What became of the jobs that were ordered: found, followed, and closed when all witnesses have been heard."""

from __future__ import annotations

from collections.abc import Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta

from db import days, faults, jobs, plans
from db.errors import IllegalMove, LeaseLost
from db.jobs import Job
from db.states import JOBS_OVER, OPEN, JobState, TaskEnd
from hpc.errors import NoAnswer
from hpc.feeds.ledger import desk
from hpc.feeds.ledger.desk import Desk
from hpc.job_folder import Order, Record, folder_of
from hpc.jobs import MASTER, Look
from hpc.tick.housekeeping import ingest_day
from hpc.tick.report import Report
from hpc.tick.witnesses import Sight, judge, last, sight, starts
from hpc.tick.world import World, about

IN_HAND = 2  # shards that a task has in hand at once: one is read while another is transcribed
# A start that ended so tried nothing that it did not finish.
_NO_ATTEMPT = frozenset({TaskEnd.STOPPED, TaskEnd.INFRASTRUCTURE, TaskEnd.SUPERSEDED, TaskEnd.SETTINGS})
RETRY_AFTER = timedelta(seconds=5)  # before a shard that a job left over is claimed again


@dataclass(frozen=True, slots=True)
class Live:
    """A job that goes on, with what the scheduler shows of it; None: it was not asked, or is somebody else's."""

    job: Job
    sight: Sight | None

    @property
    def outstanding(self) -> int:
        """Tasks that wait or run, as far as is known."""
        return self.job.tasks if self.sight is None or not self.sight.known else self.sight.outstanding


def follow(world: World, report: Report, look: Look, live: Sequence[Job]) -> list[Live]:
    """Bring every live job up to what the look shows; those that are not over afterwards."""
    going: list[Live] = []
    for job in live:
        if job.owner != world.user:
            going.append(Live(job, None))
            continue
        if job.mode == "plan" and job.state != JobState.INTENT:
            lease = timedelta(seconds=world.rules.plan_lease_seconds)
            world.session(desk_of(job).renew_owned, holder(job), lease=lease)
        if look.queue is None:
            if job.state in (JobState.SUBMITTED, JobState.RUNNING):
                _note(world, job, JobState.UNKNOWN, job.scheduler_says, look.trouble, missing=False)
            going.append(Live(job, None))
        elif (left := _follow_one(world, report, look, job)) is not None:
            going.append(left)
    return going


def tidy(world: World, report: Report, look: Look) -> None:
    """Take back what waits in the queue and has no live order: an answer that came late, or a second master."""
    if look.queue is None:
        return
    tokens = {seen.token for seen in look.queue if seen.token and seen.state == "PENDING"}
    known = world.session(jobs.of_tokens, sorted(tokens)) if tokens else {}
    over = {token for token, row in known.items() if row["state"] in JOBS_OVER and row["owner"] == world.user}
    strays = {seen.job for seen in look.queue if seen.token in over and seen.state == "PENDING"}
    masters = sorted((seen.job for seen in look.queue if seen.name == MASTER and seen.state == "PENDING"), key=int)
    for job in [*sorted(strays), *masters[1:]]:
        if _cancel(world, report, job):
            report.done("took back", f"job {job}", "its order is over" if job in strays else "one master waits already")


def release_plan(world: World, job: Job, why: str, *, records: Sequence[Record] = ()) -> None:
    """Give back the shards that were leased for a job without a ledger. Of those that its tasks, by their records, had
    begun that was an attempt."""
    mine = desk_of(job)
    held_now = world.session(mine.owned, holder(job))
    tried = _tried(folder_of(world.home, job.id).given(), records, {held["id"] for held in held_now})
    for held in held_now:
        with suppress(LeaseLost):  # settled, or taken by somebody else
            if held["id"] in tried:
                failure, where = ("job_ended", why), (held["id"], held["epoch"])
                world.session(mine.put_back, *where, failure=failure, wait=RETRY_AFTER, actor=world.user)
            else:
                world.session(mine.release, held["id"], held["epoch"])


def _tried(order: Order | None, records: Sequence[Record], left: Set[int]) -> set[int]:
    """Of the shards that are left, those that were begun, as far as can be told from outside. A task works its share in
    order: one that broke was at the first of them, one that ended its share tried all."""
    tried: set[int] = set()
    if order is None:
        return tried
    for record in last(records):
        if record.ended_as not in _NO_ATTEMPT:
            mine = [planned.id for planned in order.share(record.task) if planned.id in left]
            tried.update(mine if record.ended_as == TaskEnd.DONE else mine[:IN_HAND])
    return tried


def _follow_one(world: World, report: Report, look: Look, job: Job) -> Live | None:
    seen = sight(look, token=job.token, scheduler_id=job.scheduler_id)
    records = folder_of(world.home, job.id).records()
    if job.state in (JobState.INTENT, JobState.BLOCKED):
        if not seen.known and not records:
            return _lost_or_waiting(world, report, job)
        found = seen.tasks[0].job if seen.tasks else records[0].job
        if found and world.session(jobs.submitted, job.id, found):
            report.done("found", about(job), f"job {found}: the answer to its sbatch was lost")
        job = replace(job, state=JobState.SUBMITTED, scheduler_id=found)
    ended = [start for start in starts(seen.tasks, records) if start.ended_as is not None]
    world.session(jobs.put_starts, job.id, ended)
    if seen.active:
        state = JobState.RUNNING if seen.running else JobState.SUBMITTED
        state = JobState.DRAINING if job.state == JobState.DRAINING else state
        _note(world, job, state, seen.says, seen.message, missing=False)
        return Live(job, seen)
    complete = len({r.task for r in records if r.ended is not None}) >= job.tasks
    if not seen.known and not complete and (job.missing_for or 0.0) <= world.rules.vanish_seconds:
        state = JobState.DRAINING if job.state == JobState.DRAINING else JobState.UNKNOWN
        told = f"the scheduler knows it no longer ({look.accounting_trouble or 'nor does accounting'})"
        _note(world, job, state, job.scheduler_says, told, missing=True)
        report.waiting("unknown", about(job), told)
        return Live(job, seen)
    return None if _close(world, report, job, seen, records) else Live(job, seen)


def _lost_or_waiting(world: World, report: Report, job: Job) -> Live | None:
    """An order that nobody has seen as a job: not asked for yet, refused, or its answer was lost."""
    if job.asked is None or job.asked_ago <= world.rules.grace_seconds:
        if job.asked is not None:
            report.waiting("no answer yet", about(job), job.message or "asked for a moment ago")
        return Live(job, None)
    folder_of(world.home, job.id).supersede()
    why = f"sbatch's answer was lost, and no look in {job.asked_ago:.0f} s has found the job"
    release_plan(world, job, why)
    if world.session(jobs.close, job, JobState.FAILED, why):
        report.done("gave up", about(job), why)
    return None


def _close(world: World, report: Report, job: Job, seen: Sight, records: Sequence[Record]) -> bool:
    """Hear the witnesses and close the job; False when its parts could not all be recorded yet."""
    folder = folder_of(world.home, job.id)
    folder.supersede()
    if job.mode == "plan" and job.site is not None and job.date is not None:
        if not ingest_day(world, report, job.site, job.date, plan=job.plan_id):
            return False
        apply_failures(world, job)
        release_plan(world, job, "the job ended before this shard was done", records=records)
    now = next(iter(world.session(jobs.live, job.id)), None)  # another tick may have withdrawn it before we looked
    if now is None:
        return True  # or closed it
    ledger = world.session(jobs.ledger_says, job)
    open_shards = None if job.day_id is None else ledger["open_shards"]
    verdict = judge(seen.tasks, records, tasks=job.tasks, open_shards=open_shards, fruitful=ledger["fruitful"])
    state = verdict.state
    if now.state == JobState.DRAINING and state in (JobState.CANCELLED, JobState.FAILED):
        state = JobState.REPLACED
    silent = [
        replace(start, ended_as=TaskEnd.VANISHED) for start in starts(seen.tasks, records) if start.ended_as is None
    ]
    world.session(jobs.put_starts, job.id, silent)
    says, said = seen.says or None, verdict.witnesses
    if state == JobState.CANCELLED and open_shards:
        _hold(world, report, job)  # before the order is over: a crash in between must not lead to another one
    if world.session(jobs.close, job, state, verdict.message, says=says, witnesses=said):
        faults.point("order.closed")
        report.done(state.value, about(job), verdict.message)
    return True


def apply_failures(world: World, job: Job) -> None:
    """What tasks without a ledger found that cannot be done becomes rows."""
    for failed in folder_of(world.home, job.id).failures():
        with suppress(LeaseLost):  # it is so already
            failure = (failed.kind, failed.reason)
            world.session(
                desk_of(job).fail, failed.shard_id, failed.epoch, failure=failure, actor=world.user,
                discard=failed.discard,
            )  # fmt: skip


def _hold(world: World, report: Report, job: Job) -> None:
    """Somebody cancelled the job: its day, or its plan, waits for a person, and is not worked against his will."""
    if job.plan_id is not None:
        why = f"job {job.scheduler_id} was cancelled by somebody; go on with: dayscribe plans resume {job.plan_id}"
        with suppress(IllegalMove):  # another tick was quicker
            world.session(plans.move, world.session(plans.get, job.plan_id), "pause", actor=world.user)
            report.done("paused", f"plan {job.plan_id}", why)
        return
    if job.day_id is None or (day := world.session(days.by_id, job.day_id)).state not in OPEN:
        return
    command = f"dayscribe days release {job.date} --site {job.site}"
    why = f"job {job.scheduler_id} was cancelled by somebody; go on with: {command}"
    with suppress(IllegalMove):  # another tick was quicker
        world.session(days.hold, day, actor=world.user, message=why)
        report.done("held", about(job), why)


def _note(world: World, job: Job, state: JobState, says: str | None, message: str | None, *, missing: bool) -> None:
    world.session(jobs.seen, job.id, state=state, says=says, message=message, missing=missing)


def _cancel(world: World, report: Report, job: str) -> bool:
    try:
        world.launcher.cancel(job, only_pending=True)
    except NoAnswer as error:
        report.waiting("not taken back", f"job {job}", str(error))
        return False
    return True


def desk_of(job: Job) -> Desk:
    """Where the leases of a job are kept."""
    return desk.of(job.plan_id, job.day_id)


def holder(job: Job) -> str:
    """Who the ledger says holds the shards of a job without a ledger."""
    return f"job:{job.token}"
