"""The porter: follows every transfer with one question a tick, lists what is due, and orders what is missing.

    follow ──► look once ──► over? every file is looked at ──► here: opened, joined      nobody waits for a transfer:
    list   ──► take in ────► room? intent, id, then the ask    not: fetched again        it goes on without us

A mover's "succeeded" is an opinion: a file is here when it is here. What a day cannot be worked without gates it;
companions come when they come, and never reopen it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from os import fsdecode, fsencode
from uuid import UUID

from db import days, faults, listings, transfers
from db.days import Day
from db.errors import BadData, IllegalMove, LedgerAway, NeedsConfiguration
from db.names import display
from db.session import Session
from db.sites import Site
from db.states import MOVING, DayState, TransferState
from db.transfers import KINDS, Outcome, Transfer
from hpc.errors import MoverTrouble, NeedsConsent, NeedsLogin, NoAnswer, SubmissionUnknown, kind_of
from hpc.model import Checksum, Move, Progress
from hpc.ports import Mover
from hpc.sections import TransferSettings
from hpc.stages.arrival import examine, join_metadata, mark_staging, miss_lost, open_shards, seen_from_here
from hpc.stages.listing import put_slots, take_listing
from hpc.tick.again import looked_for_again
from hpc.tick.report import Report
from hpc.tick.ways import Ways, counted, named, state_of

LONGEST = timedelta(hours=6)  # between two questions to a mover that refuses, and two tries of what fails
FULL_AGAIN = timedelta(minutes=30)  # before a full destination is looked at again
OVERDUE = timedelta(hours=1)  # past its deadline, before a task is told to stop
SETTLED_AT_ONCE = 100  # files
NO_CHARGE = frozenset({TransferState.OVER_QUOTA, TransferState.CANCELLED})
UNASKED = Progress(TransferState.CANCELLED, "no plan reads it any more")  # of a mover that moves when it is asked
SENT, FIRST = "the one that was sent", "that of the archive that was transcribed first"
BEFORE = frozenset({DayState.PENDING, DayState.TRANSFERRING})  # while a day waits for its archives


@dataclass(slots=True)
class Porter:
    """Brings the days of one user within reach."""

    session: Session
    user: str
    ways: Ways
    rules: TransferSettings
    max_attempts: int  # of a shard
    clock: Callable[[], float]
    works: bool = False  # may do long work itself: it is in a job of its own
    _blocked: dict[str, str] = field(default_factory=dict)  # site → why it is not asked any more now
    _asked: dict[str, int] = field(default_factory=dict)  # site → its id, of those that were asked
    _jobs: bool = False  # something was found that only a job does

    def follow(self, report: Report, *, seconds: float, day_id: int | None = None) -> bool:
        """Look at every transfer of ours once, or at those of one day, and at what came of those that are over; False
        when there was not the time for all, or work that only a job does."""
        deadline, whole = self.clock() + seconds, True
        self._look_for_trouble(report)
        for transfer in self.session(transfers.live, grace=OVERDUE):
            ours = transfer.owner == self.user and day_id in (None, transfer.day_id)
            if ours and transfer.site not in self._blocked:
                try:
                    whole &= self._follow_one(report, transfer, deadline)
                except (LedgerAway, faults.InjectedFault):
                    raise
                except Exception as error:  # noqa: BLE001 - one transfer never ends a tick for all others
                    self.session(transfers.asked, transfer.id)
                    report.waiting("failed", f"{transfer.site} {transfer.date}", f"{type(error).__name__}: {error}")
        return whole

    def list_due(self, report: Report, *, seconds: float) -> bool:
        """List the days that are due and order what is missing of them; False when there was not the time for all."""
        deadline, whole = self.clock() + seconds, True
        self._look_for_trouble(report)
        for row in self.session(listings.due, blocked=sorted(self._blocked)):
            if row["site"] in self._blocked:
                continue
            if self.clock() >= deadline:
                return False
            try:
                whole &= self.list_day(report, row["site"], row["date"], deadline=deadline)
            except (LedgerAway, faults.InjectedFault):
                raise
            except Exception as error:  # noqa: BLE001 - nor does one day
                told = f"{type(error).__name__}: {error}"
                self._again(self.session(days.by_id, row["id"]), "it cannot be listed; see the last tick's report")
                report.waiting("failed", f"{row['site']} {row['date']}", told)
        for name in self._asked.keys() - self._blocked.keys():
            self.session(transfers.no_trouble, self._asked[name], self.user)
        return whole

    def list_day(self, report: Report, name: str, on: date, *, deadline: float) -> bool:
        """List one day and order what is missing of it."""
        site, day, about = self.ways.site(name), self.session(days.get, name, on), f"{name} {on}"
        due = self.session(listings.look_at, day.id)  # it stays due until all is ordered: a crash loses nothing
        self._asked[name], self._jobs = site.id, False
        try:
            taken = take_listing(
                self.session, day, self.ways.origin(site), self.ways.source(site), self.ways.staged(site, on)
            )
        except (NeedsConfiguration, NoAnswer, BadData) as error:
            self._not_listed(report, site, day, error)
            return True
        if taken.changed:
            report.waiting("changed", about, f"{len(taken.changed)} archives are other at their source than here")
        if lost := miss_lost(self.session, day.id, self.ways.staged(site, on)):
            report.waiting("lost", about, f"{counted(lost)} had arrived and are here no more; fetched again")
        standing = self.session(transfers.standing, day.id)
        if not taken.listed and day.state is DayState.PENDING and not standing["listed"]:
            self._empty(report, day, taken.empty_for, due)
            return True
        if taken.new:
            report.done("listed", about, f"{counted(taken.listed)}, {taken.new} of them new")
        for what in KINDS:
            self._order(report, site, day, what, deadline)
        self.conclude(report, self.session(days.by_id, day.id))
        if day.state is DayState.PENDING and not standing["listed"]:
            told, wait = "its source lists companions and no archive yet", timedelta(hours=self.rules.relist_hours)
            self.session(listings.look_again, day.id, wait, message=told)
        elif name not in self._blocked and not looked_for_again(self.session, self.rules, report, day):
            self._look_later(day, due)
        return not self._jobs

    def _not_listed(self, report: Report, site: Site, day: Day, error: Exception) -> None:
        # Of one day it may be that one folder is closed; a login, or a site that makes no sense, is of all of them.
        of_one = isinstance(error, MoverTrouble) and not isinstance(error, NeedsLogin | NeedsConsent)
        if isinstance(error, NeedsConfiguration) and not of_one:
            self._trouble(report, site, error)
            return
        if isinstance(error, NoAnswer):
            self._blocked[site.name] = str(error)
        self._again(day, str(error))
        report.waiting("not listed", f"{day.site} {day.date}", str(error))

    def conclude(self, report: Report, day: Day) -> None:
        """What follows from what is here by now: shards, metadata, the gap map, and the day's state."""
        site, about = self.ways.site(day.site), f"{day.site} {day.date}"
        if day.state is DayState.HELD:
            self.session(listings.look_again, day.id, timedelta(0))  # whoever releases it finds it due
            return
        standing = self.session(transfers.standing, day.id)
        complete = standing["listed"] > 0 and standing["arrived"] == standing["listed"]
        if complete or day.state not in BEFORE | {DayState.TRANSFER_FAILED}:
            opened = open_shards(self.session, day.id, revision=day.revision, max_attempts=self.max_attempts)
            faults.point("transfer.opened")
            if opened:
                report.done("opened", about, f"{opened} shards")
        join_metadata(self.session, day.id, self.ways.staged(site, day.date))
        put_slots(self.session, day.id, self.ways.origin(site), day.date)
        if day.state in BEFORE:
            self._move_on(report, day, standing, complete=complete)

    def _move_on(self, report: Report, day: Day, standing: dict[str, int], *, complete: bool) -> None:
        about = f"{day.site} {day.date}"
        if complete:
            message = f"{standing['arrived']} archives arrived"
            if self.session(days.move, day.id, DayState.READY_TO_PROCESS, actor=self.user, message=message):
                report.done("ready", about, message)
        elif standing["listed"] and not standing["moving"]:
            left = self.session(transfers.left, day.id, "archives", attempts=self.rules.attempts)
            message, again = self._gaps(day, standing), timedelta(hours=self.rules.empty_again_hours)
            if standing["tries"] >= self.rules.attempts or (
                not left["files"] and standing["gone_for"] >= again.total_seconds()
            ):
                self.session(days.move, day.id, DayState.TRANSFERRING, actor=self.user, only_from=DayState.PENDING)
                if self.session(days.move, day.id, DayState.TRANSFER_FAILED, actor=self.user, message=message):
                    report.done("transfer failed", about, message)
            elif not left["files"]:  # a source that lists less than before may be wrong once
                self.session(listings.look_again, day.id, again, message=message)
                report.waiting("gone", about, message)

    def _gaps(self, day: Day, standing: Mapping[str, int]) -> str:
        missing = self.session(listings.amiss, day.id)
        which = named([row for row in missing if row["kind"] in KINDS["archives"]])
        return f"{standing['arrived']} of {standing['listed']} archives arrived; missing: {which}"

    def _fetch_on(self, report: Report, day: Day, what: str) -> None:
        """A transfer is over, and something is not here: it is listed once more and fetched, soon or after a pause."""
        left = self.session(transfers.left, day.id, what, attempts=self.rules.attempts)
        if not left["files"] or day.state in (DayState.HELD, DayState.TRANSFER_FAILED):
            return
        tries, wait = left["tries"], timedelta(0)
        if tries:
            wait = min(timedelta(seconds=self.rules.backoff_seconds * 2 ** (tries - 1)), LONGEST)
        message = None
        if tries and day.state is DayState.TRANSFERRING:
            message = self._gaps(day, self.session(transfers.standing, day.id))
        self.session(listings.look_soon, day.id, wait, message=message)
        detail = f"{counted(left['files'])} in {wait.total_seconds():.0f} s"
        report.waiting("fetches again", f"{day.site} {day.date} {what}", detail)

    # --- transfers under way

    def _follow_one(self, report: Report, transfer: Transfer, deadline: float) -> bool:
        site, about = self.ways.site(transfer.site), f"{transfer.site} {transfer.date} {transfer.what}"
        self._asked[site.name] = site.id
        try:
            mover = self.ways.mover(site, transfer.date)
            if not (mover.prompt or self.works):
                return False
            if (task := transfer.task) is None and not (transfer.unwanted and not mover.prompt):
                task = self._submit(transfer, mover)
                if mover.prompt:
                    return True  # the next tick is soon enough to ask
            progress = UNASKED if task is None else mover.look(task)
            if progress.state in MOVING:
                self._goes_on(report, transfer, progress, about)
                if transfer.overdue and task:
                    mover.cancel(task)
                return True
            checksums = mover.checksums(task) if task and progress.state is not TransferState.UNKNOWN else {}
        except NeedsConfiguration as error:
            self._trouble(report, site, error)
            self.session(transfers.seen, transfer, state_of(error) or transfer.state, str(error))
            return True
        except (NoAnswer, BadData) as error:
            self.session(transfers.asked, transfer.id)
            self._blocked[transfer.site] = str(error)  # who does not answer once is not asked a hundred times
            report.waiting("no answer", about, str(error))
            return True
        if transfer.overdue and progress.state is TransferState.CANCELLED:  # by us
            progress = replace(progress, state=TransferState.EXPIRED, message="it was not done by its deadline")
        return self._settle(report, transfer, progress, checksums, deadline)

    def _submit(self, transfer: Transfer, mover: Mover) -> UUID:
        """Ask the mover; again, it is the same task."""
        files = tuple((fsdecode(row["path"]),) * 2 for row in self.session(transfers.files_of, transfer.id))
        label = f"dayscribe {transfer.site} {transfer.date} {transfer.what}"
        deadline = datetime.now(UTC) + timedelta(hours=self.rules.deadline_hours)
        move = Move(transfer.submission, label, files, deadline)
        faults.point("transfer.asking")
        try:
            task = mover.submit(move)
        except SubmissionUnknown:
            # It was kept too long and is known no more, so it was never taken either: the next one, written first.
            fresh = mover.new_submission()
            if not self.session(transfers.renamed, transfer, fresh):
                raise NoAnswer("another tick asks for it under another id") from None
            task = mover.submit(replace(move, submission=fresh))
        faults.point("transfer.answered")
        self.session(transfers.submitted, transfer.id, task, deadline)
        faults.point("transfer.submitted")
        return task

    def _goes_on(self, report: Report, transfer: Transfer, progress: Progress, about: str) -> None:
        moved = (progress.bytes, progress.files)
        self.session(transfers.seen, transfer, progress.state, progress.message or None, moved=moved)
        share = f"{progress.files} of {transfer.expected_files} files"
        detail = f"{share}; {progress.message}" if progress.message else share
        report.waiting(progress.state.value.replace("_", " "), about, detail)

    def _settle(
        self,
        report: Report,
        transfer: Transfer,
        progress: Progress,
        checksums: Mapping[str, Checksum],
        deadline: float,
    ) -> bool:
        """It is over, says its mover. Now each file is looked at; what could not be in time is so by the next look."""
        about = f"{transfer.site} {transfer.date}"
        staged = self.ways.staged(self.ways.site(transfer.site), transfer.date)
        if not seen_from_here(staged):
            told = f"{staged.parents[1]} cannot be seen from here: what has arrived cannot be looked at"
            report.waiting("not seen", about, told)
            return True
        charge, outcomes, waits = progress.state not in NO_CHARGE, list[Outcome](), False
        faults.point("transfer.verifying")
        for row in self.session(transfers.files_of, transfer.id):
            known = Checksum(row["algorithm"], row["checksum"]) if row["algorithm"] else None
            known, of = known or checksums.get(fsdecode(row["path"])), FIRST if row["sealed"] else SENT
            outcomes.append(examine(staged, row["path"], row["size"], known, of=of))
            if len(outcomes) == SETTLED_AT_ONCE:
                self.session(transfers.settle, transfer, outcomes, charge=charge)
                outcomes = []
            if waits := self.clock() > deadline:
                break
        self.session(transfers.settle, transfer, outcomes, charge=charge)
        faults.point("transfer.settled")
        if waits and self.session(transfers.files_of, transfer.id):
            report.waiting("verifies", about, "more files arrived than a tick has time to read")
            return False
        self._close(report, transfer, progress, about)
        return True

    def _close(self, report: Report, transfer: Transfer, progress: Progress, about: str) -> None:
        left = [row for row in self.session(listings.amiss, transfer.day_id) if row["kind"] in KINDS[transfer.what]]
        told = progress.message or f"{counted(progress.files)} moved"
        if progress.skipped:
            names = ", ".join(display(fsencode(path.rpartition("/")[2])) for path in progress.skipped[:3])
            told += f"; left out at the source: {names}" + (" and more" if len(progress.skipped) > 3 else "")
        if left:
            told += f"; {counted(len(left))} missing: {named(left)}"
        self._follows(report, transfer, progress)
        moved = (progress.bytes, progress.files)
        state, skipped = progress.state, len(progress.skipped)
        if self.session(transfers.close, transfer, state, told, moved=moved, skipped=skipped):
            faults.point("transfer.closed")
            report.done(f"transfer {state}", f"{about} {transfer.what}", told)

    def _follows(self, report: Report, transfer: Transfer, progress: Progress) -> None:
        """What follows for the day; before the transfer is closed, since nobody looks at it again after that."""
        day = self.session(days.by_id, transfer.day_id)
        cancelled = progress.state is TransferState.CANCELLED and not transfer.unwanted  # by somebody
        if cancelled and day.state in BEFORE:
            self._hold(report, day)
            return
        if cancelled:  # of a day that goes on: somebody does not want the rest
            self.session(transfers.give_up, day.id, transfer.what, attempts=self.rules.attempts)
        self.conclude(report, day)
        if progress.state is TransferState.OVER_QUOTA:
            self.session(listings.look_again, day.id, FULL_AGAIN, message=progress.message)
        else:
            self._fetch_on(report, self.session(days.by_id, day.id), transfer.what)

    def _hold(self, report: Report, day: Day) -> None:
        """Somebody cancelled the task: its day waits for a person, and is not fetched against somebody's will."""
        command = f"dayscribe days release {day.date} --site {day.site}"
        why = f"its transfer was cancelled by somebody; go on with: {command}"
        with suppress(IllegalMove):
            self.session(days.hold, day, actor=self.user, message=why)
            report.done("held", f"{day.site} {day.date}", why)
        self.session(listings.look_again, day.id, timedelta(0))

    # --- what is missing

    def _order(self, report: Report, site: Site, day: Day, what: str, deadline: float) -> None:
        """A transfer of what is not here, unless one is under way or something stands in its way."""
        limit, attempts = self.rules.files_at_once, self.rules.attempts
        missing = self.session(transfers.wanted, day.id, what, limit=limit, attempts=attempts)
        if not missing or day.state in (DayState.HELD, DayState.TRANSFER_FAILED):
            return
        about = f"{day.site} {day.date} {what}"
        if (full := self.ways.room(site, sum(row["size"] for row in missing), len(missing))) is not None:
            self.session(listings.look_again, day.id, FULL_AGAIN, message=full)
            report.waiting("no room", about, full)
            return
        if what == "archives":
            self.session(days.move, day.id, DayState.TRANSFERRING, actor=self.user, only_from=DayState.PENDING)
        try:
            submission = self.ways.mover(site, day.date).new_submission()
        except (NeedsConfiguration, NoAnswer) as error:
            self._not_listed(report, site, day, error)
            return
        made = self.session(
            transfers.intend, day.id, what, owner=self.user, submission=submission, limit=limit, attempts=attempts
        )
        if made is None:
            return  # it is under way
        faults.point("transfer.intended")
        mark_staging(self.ways.staged(site, day.date))
        report.done("transfer", about, f"{counted(len(missing))}, {sum(row['size'] for row in missing) / 1e9:.2f} GB")
        for one in self.session(transfers.live, made):
            self._jobs |= not self._follow_one(report, one, deadline)

    def _empty(self, report: Report, day: Day, empty_for: float | None, due: datetime | None) -> None:
        """A source that shows nothing may be wrong once; twice and hours apart, it has nothing for this day."""
        about, wait = f"{day.site} {day.date}", timedelta(hours=self.rules.empty_again_hours)
        if (empty_for or 0.0) < wait.total_seconds():
            message = "its source shows nothing for it; that is looked at again before it is believed"
            self.session(listings.look_again, day.id, wait, message=message)
            report.waiting("empty", about, message)
            return
        tally, message = self.session(days.tally, day.id), "its source shows nothing for it, seen twice"
        to, only = DayState.COMPLETED, DayState.PENDING
        if self.session(days.move, day.id, to, actor=self.user, message=message, summary=tally, only_from=only):
            report.done("empty", about, message)
        self._look_later(day, due)

    def _look_later(self, day: Day, due: datetime | None) -> None:
        """Young days are listed again and again, for what comes late; unless meanwhile something asks for it sooner."""
        young = datetime.now(UTC).date() - day.date <= timedelta(days=self.rules.relist_days)
        wait = timedelta(hours=self.rules.relist_hours) if young else None
        self.session(listings.look_later, day.id, due, wait)

    def _again(self, day: Day, message: str) -> None:
        tries = self.session(listings.tries, day.id)
        wait = min(timedelta(seconds=self.rules.backoff_seconds * 2 ** min(tries, 20)), LONGEST)
        said = message if day.state is DayState.PENDING else None
        self.session(listings.look_again, day.id, wait, failed=True, message=said)

    # --- trouble

    def _look_for_trouble(self, report: Report) -> None:
        for row in self.session(transfers.troubles, self.user):
            if not row["again"] and row["site"] not in self._blocked:
                self._blocked[row["site"]] = row["message"]
                report.waiting(row["kind"].replace("_", " "), row["site"], row["message"])

    def _trouble(self, report: Report, site: Site, error: NeedsConfiguration) -> None:
        """It refuses, and will until a person does something: it is asked seldom, and not again in this tick."""
        wait = timedelta(seconds=self.rules.backoff_seconds)
        self._blocked[site.name] = str(error)
        report.waiting(kind_of(error).replace("_", " "), site.name, str(error))
        if self.works and site.source == "globus":
            return  # a job may know less than a tick (of a secret in its environment), and must not speak for it
        told = {"kind": kind_of(error), "message": str(error)}
        self.session(transfers.trouble, site.id, self.user, **told, wait=wait, longest=LONGEST)
