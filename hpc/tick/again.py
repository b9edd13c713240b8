"""Audio that was let go and an open plan reads again: what its source was seen without, and what comes no more."""

from __future__ import annotations

from datetime import timedelta

from db import listings, redo, transfers
from db.days import Day
from db.session import Session
from hpc.sections import TransferSettings
from hpc.tick.report import Report
from hpc.tick.ways import counted


def looked_for_again(session: Session, rules: TransferSettings, report: Report, day: Day) -> bool:
    """Whether the day's source was just seen without what plans read: a source may be wrong once."""
    gone, wait = session(transfers.vanished, day.id), timedelta(hours=rules.empty_again_hours)
    if not gone["files"] or gone["gone_for"] >= wait.total_seconds():
        return False
    session(listings.look_soon, day.id, wait)
    told = f"its source lists {counted(gone['files'])} no more that a plan reads; that is looked at again"
    report.waiting("gone", f"{day.site} {day.date}", told)
    return True


def give_up(session: Session, rules: TransferSettings, report: Report, *, actor: str) -> None:
    """What open plans read and nothing brings here any more fails; whoever resumes the plan takes it up."""
    again, attempts = timedelta(hours=rules.empty_again_hours), rules.attempts
    for plan_id, reason in session(redo.give_up_out_of_reach, attempts=attempts, again=again, actor=actor):
        report.done("gave up", f"an archive of plan {plan_id}", reason)
