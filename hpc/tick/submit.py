"""Orders: one array a day with work and no live order; the intent first, then the question, then what was answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from os import fsdecode
from typing import Any

from db import days, faults, jobs, plans, redo, shards
from db.errors import IllegalMove
from db.jobs import Job, Waiting
from db.states import OPEN, DayState, JobState
from hpc.errors import BadSetting, NoAnswer, SubmitRefused
from hpc.images import AUDIO
from hpc.job_folder import Order, PlannedShard, folder_of
from hpc.jobs import JobSpec, name_of
from hpc.tick.follow import Live, desk_of, holder, release_plan
from hpc.tick.report import Report
from hpc.tick.sizing import Size, Speed, size
from hpc.tick.world import World, about

SCRIPTS = {
    "process": "2_process_audio_job.sh", "redo": "2_process_audio_job.sh", "stage": "1_globus_transfer_job.sh",
    "ingest": "3_ingest_job.sh", "deliver": "5_deliver_job.sh",
}  # fmt: skip
MOVING = ("partition", "account", "qos", "cpu_partition")  # a change of these replaces what waits
LONGEST_WAIT = timedelta(hours=1)  # before a refused order is tried again
PLAN_SHARDS = 5_000  # of one order
PLANS_NICE = 100  # in SLURM's count: what is new goes before what is made again


class Orders:
    """Gives the orders of one tick. After a refusal for a limit nothing more is asked for: it would be refused too."""

    def __init__(self, world: World, report: Report, live: Sequence[Live]) -> None:
        self._world, self._report = world, report
        self._live = list(live)
        self._speeds: dict[int, Speed] = {}
        self._outstanding: Counter[str] = Counter()
        self._of_plans = 0  # tasks of plans that are out, of all sites
        for one in live:
            if one.job.kind in AUDIO and one.job.asked is not None and one.job.site:
                self._count(one.job, one.outstanding)
        self._exclude: tuple[str, ...] | None = None
        self._refused: str | None = None
        self._crowded: Counter[str] = Counter()

    def replace_changed(self) -> None:
        """Take back what waits under another partition, account or QOS than the settings now say."""
        now = _moving(self._world.wanted)
        for one in self._live:
            asked = {name: one.job.settings.get(name, "") for name in MOVING}
            if one.job.owner == self._world.user and asked != now and one.sight is not None and one.sight.waiting:
                changed = ", ".join(
                    f"{name} {asked[name] or '-'} → {now[name] or '-'}" for name in MOVING if asked[name] != now[name]
                )
                self._withdraw(one, changed)

    def withdraw_all(self, why: str) -> None:
        """Take back everything that waits; what runs goes on."""
        for one in self._live:
            if one.job.owner == self._world.user and one.job.state != JobState.DRAINING:
                if one.sight is not None and one.sight.waiting:
                    self._withdraw(one, why)
                elif one.job.state == JobState.BLOCKED:
                    self._world.session(jobs.close, one.job, JobState.REPLACED, why)

    def finish_withdrawals(self) -> None:
        """Take back what came to wait again, or could not be taken back before."""
        for one in self._live:
            mine = one.job.owner == self._world.user and one.job.state == JobState.DRAINING
            if mine and one.sight is not None and one.sight.waiting:
                self._cancel(one, one.job.message or "")

    def again(self, *, of_plans: bool = False) -> None:
        """Ask once more for orders that were refused, or that no tick came to ask for; those of plans apart."""
        for one in self._live:
            job = one.job
            if (job.plan_id is not None) is not of_plans:
                continue
            waits = job.state == JobState.INTENT and job.asked is None
            if job.owner != self._world.user or one.sight is not None or not (waits or job.state == JobState.BLOCKED):
                continue
            if job.mode == "ledger" and job.day_id is not None and self._world.plans:
                self._world.session(jobs.close, job, JobState.REPLACED, "jobs of days reach no ledger any more")
            elif job.state == JobState.BLOCKED and not job.ready:
                self._report.waiting("blocked", about(job), job.message or "")
            elif job.day_id is None:
                self._ask(job, Size(1, self._world.wanted.minutes_most, "again"))
            else:
                self._again_for_day(job)

    def for_days(self) -> None:
        """One array for each day that has work and no live order."""
        for day in self._world.session(jobs.backlog):
            if not self._set_aside(day) and not self._backs_off(day):
                self._order(day)
        for site, count in self._crowded.items():
            most = self._world.wanted.most_tasks
            self._report.waiting(
                "crowded", site, f"{count} days wait: {self._outstanding[site]} of {most} tasks are out"
            )

    def for_plans(self) -> None:
        """What plans have of a day, one array each: after the days that wait, and never many at once."""
        if not self._crowded:
            self.again(of_plans=True)
        waiting = self._world.session(redo.backlog)
        if waiting and self._crowded:
            self._report.waiting(
                "later", f"{len(waiting)} days of plans", "days that were never transcribed come first"
            )
            return
        for day in waiting:
            if not self._set_aside(day) and not self._backs_off(day):
                self._order(day)

    def withdraw_of_plans(self) -> None:
        """Take back what waits for plans that somebody paused or cancelled."""
        for one in self._live:
            plan_id, mine = one.job.plan_id, one.job.owner == self._world.user
            if plan_id is None or not mine or one.job.state == JobState.DRAINING:
                continue
            state = self._world.session(plans.get, plan_id).state
            if state == plans.OPEN:
                continue
            if one.job.mode == "plan":
                folder_of(self._world.home, one.job.id).supersede()  # its tasks begin nothing more
            if one.job.state == JobState.BLOCKED or (one.job.state == JobState.INTENT and one.job.asked is None):
                self._world.session(jobs.close, one.job, JobState.REPLACED, f"its plan is {state}")
            elif one.sight is not None and one.sight.waiting:
                self._withdraw(one, f"its plan is {state}")

    def preview(self) -> None:
        """What `for_days` and `for_plans` would ask for, in words; nothing is written."""
        for day in [*self._world.session(jobs.backlog), *self._world.session(redo.backlog)]:
            named, room = _named(day), self._world.wanted.most_tasks - self._outstanding[day.site]
            if day.plan_id is not None:
                room = min(room, self._world.wanted.plan_tasks - self._of_plans)
            if day.fruitless >= self._world.rules.attempts:
                self._report.waiting("would set aside", named, day.reason or "")
            elif room < 1:
                self._report.waiting("would wait", named, "enough tasks of the site wait or run")
            elif not self._backs_off(day):
                wanted = self._size(day, room)
                self._outstanding[day.site] += wanted.tasks
                self._of_plans += wanted.tasks if day.plan_id is not None else 0
                self._report.waiting(
                    "would submit", named, f"{wanted.tasks} tasks of {wanted.minutes} minutes ({wanted.why})"
                )

    def cpu(self, kind: str) -> None:
        """A job without a GPU, for what a tick has no time for; there is at most one of a kind."""
        if self._world.session(jobs.unwanted, kind):
            self._report.waiting("not ordered", kind, "somebody cancelled the last one within the hour")
            return
        why = "somebody wants days elsewhere" if kind == "deliver" else "more than a tick has time for"
        wanted = Size(1, self._world.wanted.minutes_most, why)
        if (made := self._intend(kind, None, wanted)) is not None:
            self._ask(made, wanted)

    def _order(self, day: Waiting) -> None:
        named = _named(day)
        room = self._world.wanted.most_tasks - self._outstanding[day.site]
        if day.plan_id is not None:
            room = min(room, self._world.wanted.plan_tasks - self._of_plans)
        if room < 1:
            if day.plan_id is None:
                self._crowded[day.site] += 1
            else:
                self._report.waiting("later", named, f"{self._of_plans} tasks of plans are out")
            return
        if self._refused is not None:
            self._report.waiting("not asked", named, self._refused)
            return
        wanted = self._size(day, room)
        job = self._intend("process" if day.plan_id is None else "redo", day, wanted)
        if job is None:
            self._report.waiting("not ordered", named, "another tick was quicker, or nothing is left to do")
            return
        self._ask(job, wanted)

    def _again_for_day(self, job: Job) -> None:
        assert job.day_id is not None
        day = self._world.session(days.by_id, job.day_id)
        room = self._world.wanted.most_tasks - self._outstanding[day.site]
        if job.plan_id is not None:
            room = min(room, self._world.wanted.plan_tasks - self._of_plans)
        if job.plan_id is None and day.state not in OPEN:
            self._world.session(jobs.close, job, JobState.REPLACED, f"its day is {day.state} by now")
        elif room < 1 and job.plan_id is not None:
            self._report.waiting("later", about(job), f"{self._of_plans} tasks of plans are out")
        elif room < 1:
            self._crowded[day.site] += 1
        elif self._refused is not None:
            self._report.waiting("not asked", about(job), self._refused)
        else:
            minutes = int(job.settings.get("minutes", self._world.wanted.minutes_most))
            self._ask(job, Size(min(job.tasks, room), minutes, "again"))

    def _size(self, day: Waiting, room: int) -> Size:
        if day.site_id not in self._speeds:
            told = self._world.session(jobs.speed, day.site_id)
            measured = told["bytes"] / told["seconds"] if told["seconds"] > 0 and told["bytes"] > 0 else None
            self._speeds[day.site_id] = Speed(measured, told["load_seconds"]) if measured else Speed(None)
        speed = self._speeds[day.site_id]
        return size(self._world.wanted, shards=day.shards, byte_count=day.bytes, speed=speed, room=room)

    def _intend(self, kind: str, day: Waiting | None, wanted: Size) -> Job | None:
        """Write the order and read it back as a tick sees it."""
        token = jobs.new_token()
        made = self._world.session(
            jobs.intend, token=token, kind=kind, owner=self._world.user, tasks=wanted.tasks,
            settings=self._settings(kind, wanted), code=self._world.code().digest,
            mode="plan" if self._world.plans and day is not None else "ledger",
            day_id=None if day is None else day.id, plan_id=None if day is None else day.plan_id,
        )  # fmt: skip
        if made is None:
            return None
        faults.point("order.intended")
        return next(iter(self._world.session(jobs.live, made)), None)

    def _plan(self, job: Job) -> tuple[PlannedShard, ...] | None:
        """Lease the day's shards for a job whose tasks cannot do so themselves; None when nothing is left to do."""
        if job.mode == "ledger":
            return ()
        lease = timedelta(seconds=self._world.rules.plan_lease_seconds)
        release_plan(self._world, job, "its order is given again")
        leased = self._world.session(desk_of(job).claim, owner=holder(job), count=PLAN_SHARDS, lease=lease)
        for one in leased:
            if one.said is not None:
                folder_of(self._world.home, job.id).tell(one.id, one.epoch, one.said)
        return tuple(_planned(one) for one in leased) or None

    def _ask(self, job: Job, wanted: Size) -> None:
        """Ask the scheduler; for a limit, ask for half as many tasks until it is one."""
        tasks, planned = wanted.tasks, None
        while True:
            if not self._world.session(jobs.asking, job, tasks=tasks, settings=self._settings(job.kind, wanted)):
                return  # another tick asks
            if planned is None and (planned := self._plan(job)) is None:
                self._world.session(jobs.close, job, JobState.REPLACED, "nothing of its day was left to do")
                return
            try:
                spec = self._spec(job, tasks, wanted.minutes, planned)
            except BadSetting as wrong:  # of this order; the others go on
                self._block(job, SubmitRefused(str(wrong), limit=False))
                return
            faults.point("order.asking")
            try:
                found = self._world.launcher.submit(spec)
            except NoAnswer as silence:
                self._world.session(jobs.unanswered, job.id, str(silence))
                self._refused = str(silence)  # who does not answer one is not asked for the next
                self._report.waiting("no answer", about(job), str(silence))
                return
            except SubmitRefused as refusal:
                if refusal.limit and tasks > 1:
                    tasks //= 2
                    [job] = self._world.session(jobs.live, job.id)
                    continue
                self._block(job, refusal)
                return
            faults.point("order.answered")
            self._world.session(jobs.submitted, job.id, found, tasks=tasks)
            faults.point("order.submitted")
            self._count(job, tasks)
            why = wanted.why if tasks == wanted.tasks else f"{wanted.why}; fewer tasks, for a limit"
            self._report.done("submitted", about(job), f"job {found}: {tasks} tasks of {spec.minutes} minutes ({why})")
            return

    def _block(self, job: Job, refusal: SubmitRefused) -> None:
        wait = min(timedelta(seconds=self._world.rules.backoff_seconds * 2**job.refusals), LONGEST_WAIT)
        if job.mode == "plan":  # while the order is still ours alone
            release_plan(self._world, job, str(refusal))
        self._world.session(jobs.blocked, job, str(refusal), wait=wait)
        self._report.waiting("blocked", about(job), f"{refusal} (asked again in {wait.total_seconds():.0f} s)")
        if refusal.limit:
            self._refused = f"the scheduler takes no more jobs now: {refusal}"

    def _spec(self, job: Job, tasks: int, minutes: int, planned: tuple[PlannedShard, ...]) -> JobSpec:
        """The order as a specification; its folder is made first, since without it a job fails and leaves no word."""
        transcribes = job.kind in AUDIO
        gpu = transcribes and self._world.wanted.asks_for_gpu
        folder, code = folder_of(self._world.home, job.id), self._world.code()
        day = None if job.date is None else job.date.isoformat()
        order = Order(
            job.id, job.token, job.kind, job.mode, code.digest, tasks, minutes, gpu, job.day_id, job.site, day,
            planned, job.plan_id, *self._made_as(job),
        )  # fmt: skip
        variables = {
            **self._world.variables(order),
            "DAYSCRIBE_CODE": str(code.folder),
            "DAYSCRIBE_JOB": str(folder.path),
        }
        folder.make(order, variables)
        named = day if job.plan_id is None else f"{job.kind}-{day}"
        return JobSpec(
            name=name_of(job.kind, named, job.token), script=self._world.scripts / SCRIPTS[job.kind],
            argument=folder.path / "job.env", folder=folder.path, tasks=tasks,
            at_once=min(tasks, self._world.wanted.at_once), minutes=minutes, gpu=transcribes,
            exclude=self._left_out() if transcribes else (), nice=0 if job.plan_id is None else PLANS_NICE,
        )  # fmt: skip

    def _made_as(self, job: Job) -> tuple[str | None, Mapping[str, Any] | None]:
        """What the plan's tasks are to make, by its key: under other settings they make nothing; and of which texts."""
        if job.plan_id is None:
            return None, None
        plan = self._world.session(plans.get, job.plan_id)
        return plan.run_key.hex(), plan.text

    def _count(self, job: Job, tasks: int) -> None:
        self._outstanding[job.site or ""] += tasks
        self._of_plans += tasks if job.plan_id is not None else 0

    def _left_out(self) -> tuple[str, ...]:
        if self._exclude is None:
            rules = self._world.rules
            rest = timedelta(minutes=rules.node_rest_minutes)
            self._exclude = tuple(self._world.session(jobs.bad_nodes, failures=rules.node_failures, rest=rest))
            if self._exclude:
                self._report.done("left out", ", ".join(self._exclude), "tasks failed there for the node's own reasons")
        return self._exclude

    def _settings(self, kind: str, wanted: Size) -> Mapping[str, Any]:
        said = {"gres": self._world.wanted.gres, "minutes": wanted.minutes, "why": wanted.why}
        return _moving(self._world.wanted) | said | {"image": self._world.image(kind)}

    def _set_aside(self, day: Waiting) -> bool:
        """A day whose jobs end again and again with nothing done is given up until a person looks."""
        if day.fruitless < self._world.rules.attempts:
            return False
        why = f"{day.fruitless} jobs in a row recorded nothing; the last: {day.reason}"
        if day.plan_id is not None:
            with suppress(IllegalMove):  # another tick was quicker
                self._world.session(
                    plans.move, self._world.session(plans.get, day.plan_id), "pause", actor=self._world.user
                )
            self._report.done("paused", _named(day), why)
            return True
        for state in (DayState.PROCESSING, DayState.PROCESSING_FAILED):
            self._world.session(days.move, day.id, state, actor=self._world.user, message=why)
        self._report.done("set aside", _named(day), why)
        return True

    def _backs_off(self, day: Waiting) -> bool:
        pause = self._world.rules.backoff_seconds * 2 ** max(0, day.fruitless - 1)
        if not day.fruitless or day.last_ago is None or day.last_ago >= pause:
            return False
        left = f"{day.fruitless} jobs recorded nothing ({day.reason}); again in {pause - day.last_ago:.0f} s"
        self._report.waiting("backs off", _named(day), left)
        return True

    def _withdraw(self, one: Live, why: str) -> None:
        """First the word in the ledger, then the deed: else the tick would take it for a person's."""
        if self._world.session(jobs.withdraw, one.job, why):
            faults.point("order.withdrawn")
            self._cancel(one, why)

    def _cancel(self, one: Live, why: str) -> None:
        if one.job.scheduler_id is None or one.sight is None:
            return
        try:
            self._world.launcher.cancel(one.job.scheduler_id, only_pending=True)
        except NoAnswer as error:
            self._report.waiting("not taken back", about(one.job), str(error))
        else:
            self._report.done("took back", about(one.job), f"{one.sight.waiting} waiting tasks: {why}")


def _named(day: Waiting) -> str:
    return f"{day.site} {day.date}" + ("" if day.plan_id is None else f" (plan {day.plan_id})")


def _planned(leased: shards.Leased) -> PlannedShard:
    files = tuple(f"{leased.staged}/{fsdecode(path)}" for path in leased.paths)
    known = {ordinal: digest.hex() for ordinal, digest in leased.known.items()}
    wanted = None if leased.wanted is None else tuple(sorted(leased.wanted))
    return PlannedShard(
        leased.id, leased.name, leased.slot, leased.loose, files, leased.epoch, known, wanted, leased.staged
    )


def _moving(wanted: Any) -> dict[str, str]:
    return {name: getattr(wanted, name) for name in MOVING}
