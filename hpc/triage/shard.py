"""A shard judged: its transcripts with what is told of them, from the ledger to the ledger."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from datetime import timedelta

from db import flags
from db.connect import Connection
from db.session import Session
from hpc.triage.evidence import from_row
from hpc.triage.judge import judge
from hpc.triage.rules import RULES

TRIES = 3  # the last of several judges is through; evidence may come once more
LATELY = timedelta(days=30)  # a tick looks at days that are open or finished not longer ago
MOST = 1_000  # shards of one look
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Told:
    """What a look at a shard's transcripts came to."""

    versions: dict[int, int] = field(default_factory=dict)  # transcript judged → its recording
    flags: list[flags.Row] = field(default_factory=list)
    whole: bool = True  # nothing of the shard was left out


def look(connection: Connection, turn: flags.Turn, *, only: Set[int] | None = None) -> Told:
    """Judge a shard's transcripts, older versions too; `only` of recordings at these ordinals, if any are given."""
    told = Told()
    for page in flags.evidence(connection, turn):
        for row in page:
            if only is not None and row["ordinal"] not in only:
                told.whole = False
                continue
            told.versions[row["id"]] = row["recording_id"]
            told.flags += [
                flags.Row(row["id"], flag.name, flag.value, flag.detail)
                for flag in judge(from_row(row, row["captions"]))
            ]
    return told


def judge_shard(connection: Connection, shard_id: int) -> int:
    """Judge a shard's transcripts anew, older versions too; how many flags they have now. Twice is the same as once.
    Flags, and no state or text, are what changes; a shard that is not sealed has nothing to judge."""
    for _ in range(TRIES):
        turn = flags.take(connection, shard_id)
        if turn is None:
            break
        told = look(connection, turn)
        if flags.write(connection, turn, list(told.versions), told.flags, rules=RULES):
            return len(told.flags)
    return 0


def judge_settled(connection: Connection, shard_id: int) -> None:
    """Judge a shard whose results were just recorded. That these are recorded is what counts: a judgement that fails is
    told in the log, and made later."""
    try:
        judge_shard(connection, shard_id)
    except Exception as error:  # noqa: BLE001 - whatever it is, it must not cost the worker its record
        _log.warning("Shard %d is not judged yet (%s: %s); a tick or `dayscribe quality` will.", shard_id,
                     type(error).__name__, error)  # fmt: skip


def judge_day(session: Session, day_id: int, *, anew: bool = False, advance: Callable[[], None] = lambda: None) -> int:
    """Judge what of a day is not judged by these rules; all of it `anew`. How many shards that were."""
    if anew:
        session(flags.forget, day_id)
    waiting = session(flags.unjudged, day_id, rules=RULES)
    for shard_id in waiting:
        session(judge_shard, shard_id)
        advance()
    return len(waiting)


def judge_lately(session: Session, *, seconds: float, clock: Callable[[], float] = time.monotonic) -> int:
    """Judge what waits for it on days of late, for at most about so long; how many shards that were."""
    deadline, judged = clock() + seconds, 0
    for shard_id in session(flags.unjudged_lately, rules=RULES, lately=LATELY, limit=MOST):
        if clock() >= deadline:
            break
        session(judge_shard, shard_id)
        judged += 1
    return judged
