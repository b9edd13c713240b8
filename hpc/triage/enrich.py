"""Plans that judge anew (`reprocess --stage enrich`): shard by shard, under the plan's leases; no audio, no model."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from datetime import timedelta

from db import flags, redo, rejudge
from db.connect import Connection
from db.errors import BadData, DayscribeError, LeaseLost, LedgerAway
from db.session import Session
from db.shards import Leased
from hpc.errors import kind_of
from hpc.triage import phrases
from hpc.triage.rules import RULES
from hpc.triage.shard import TRIES, look

LEASE = timedelta(minutes=10)  # a shard takes seconds; whoever ends meanwhile is waited for
LATER = timedelta(seconds=30)  # before a shard is tried again whose evidence did not come to rest


def key_of_rules() -> dict[str, str | int]:
    """What flags depend on besides their evidence."""
    return {"rules": RULES, "phrases": phrases.digest()}


def enrich(
    session: Session, plan_id: int, *, stop: Callable[[], bool], advance: Callable[[], None] = lambda: None
) -> int:
    """Judge what an open plan has yet to judge; how many shards that were. It may be stopped after any shard."""
    owner, done = f"{socket.gethostname()}:{os.getpid()}", 0
    while not stop():
        leased = session(redo.claim, owner=owner, count=1, lease=LEASE, plan_id=plan_id)
        if not leased:
            break
        done += _settled(session, leased[0], owner)
        advance()
    return done


def enrich_open(session: Session, *, seconds: float, clock: Callable[[], float] = time.monotonic) -> int:
    """The same for all open plans, for at most about so long."""
    deadline = clock() + seconds
    waiting = session(rejudge.to_judge)
    return sum(enrich(session, plan_id, stop=lambda: clock() >= deadline) for plan_id in waiting)


def _settled(session: Session, leased: Leased, owner: str) -> bool:
    """A shard that cannot be judged is the plan's failure, and costs no other."""
    assert leased.plan_id is not None
    where, failure = (leased.id, leased.epoch), ("try_again", "new evidence came again and again while it was judged")
    try:
        if session(judge_again, leased, actor=owner):
            return True
        session(redo.put_back, *where, failure=failure, wait=LATER, actor=owner, plan_id=leased.plan_id)
    except LeaseLost:
        pass  # another has it, or is done with it
    except LedgerAway:
        raise
    except (DayscribeError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        failure = (kind_of(error), f"its transcripts cannot be judged: {error}")
        session(redo.fail, *where, failure=failure, actor=owner, discard=False, plan_id=leased.plan_id)
    return False


def judge_again(connection: Connection, leased: Leased, *, actor: str) -> bool:
    """Judge what the plan has of a shard, and settle it. If that is a part of it, the rest is as judged as before."""
    for _ in range(TRIES):
        turn = flags.take(connection, leased.id)
        if turn is None:
            raise BadData("the archive is not sealed any more")
        told = look(connection, turn, only=leased.wanted)
        before = turn.was if turn.was is not None and turn.was > 0 else None
        rules = RULES if told.whole else before
        if rejudge.settle(connection, leased, turn, told.versions, told.flags, rules=rules, actor=actor):
            return True
    return False
