"""Staged audio of finished days is let go, after a while: only copies, and only what is sealed and accounted for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path

from db import faults, transfers
from db.errors import NeedsConfiguration
from hpc.tick.porter import Porter
from hpc.tick.report import Report

DAYS = 20  # in one tick
LATER = timedelta(days=1)  # before what could not be removed is tried again


def tidy_staging(porter: Porter, report: Report) -> None:
    """Deletion is a step of its own: marked in the ledger, done, and noted; killed in between, it is done again."""
    session, keep = porter.session, timedelta(days=porter.rules.keep_days)
    for row in session(transfers.to_tidy, keep=keep, limit=DAYS):
        about, whole = f"{row['site']} {row['date']}", True
        if row["moved"]:
            try:
                staged = porter.ways.staged(porter.ways.site(row["site"]), row["date"])
            except NeedsConfiguration as error:
                report.waiting("not let go", about, str(error))
                session(transfers.tidy_later, row["id"], LATER)
                continue
            marked = session(transfers.let_go, row["id"])
            faults.point("tidy.marked")
            gone, left = session(transfers.remove, row["id"], marked, partial(_remove, staged))
            whole = not left
            if gone:
                report.done("let go", about, f"{gone} staged archives; their source has them")
            if left:
                session(transfers.tidy_later, row["id"], LATER)
                report.waiting("not let go", about, f"{left} staged archives cannot be removed")
        if whole:
            session(transfers.tidied, row["id"])


def _remove(staged: Path, paths: Sequence[bytes]) -> list[bytes]:
    gone = [path for path in paths if _removed(staged, path)]
    faults.point("tidy.removed")
    return gone


def _removed(staged: Path, path: bytes) -> bool:
    """Whether it is gone now, by us or before."""
    where = staged / os.fsdecode(path)
    if not where.parent.resolve().is_relative_to(staged.resolve()):
        return False  # a link that leads elsewhere: nothing of ours
    try:
        where.unlink(missing_ok=True)
    except OSError:
        return False
    return True
