"""A plan that judges anew: the flags of its recordings replaced, shard by shard, under the leases of db/redo.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.types.json import Jsonb

from db import events, faults, flags, redo
from db.connect import Connection, translated
from db.errors import LeaseLost
from db.shards import Leased
from db.sql import load

SQL = load("rejudge.sql")


@translated()
def settle(
    connection: Connection,
    leased: Leased,
    turn: flags.Turn,
    versions: Mapping[int, int],
    found: Sequence[flags.Row],
    *,
    rules: int | None,
    actor: str,
) -> bool:
    """Replace the flags of what a plan judges anew of a shard (`versions`: transcript → its recording), and settle it,
    in one transaction. False, and nothing is written, when new evidence has come; LeaseLost under another epoch."""
    where = {"plan_id": leased.plan_id, "shard_id": leased.id, "epoch": leased.epoch}
    with connection.transaction():
        held = connection.execute(redo.SQL["lock_shard"], where).fetchone()
        if held is None or (held["state"], held["epoch"]) != ("leased", leased.epoch):
            raise LeaseLost
        changes = flags.replace(connection, turn, list(versions), found, rules=rules)
        if changes is None:
            return False
        changed = sorted({versions[transcript] for transcript in changes.transcripts})
        connection.execute(SQL["put_judged"], where | {"changed": changed})
        connection.execute(SQL["put_changes"], where | {"changes": Jsonb(changes.counts())})
        if connection.execute(redo.SQL["settle"], where).rowcount != 1:
            raise LeaseLost
        detail: dict[str, Any] = {"plan": leased.plan_id, "epoch": leased.epoch, "changed": len(changed)}
        events.add(connection, "plan.shard_done", actor=actor, day_id=turn.day_id, shard_id=leased.id, **detail)
        faults.point("judge.intx")
        redo.close_if_done(connection, where["plan_id"] or 0, actor=actor)
    faults.point("judge.committed")
    return True


@translated()
def to_judge(connection: Connection) -> list[int]:
    """The open plans that only judge anew, the oldest first."""
    return [row["id"] for row in connection.execute(SQL["to_judge"])]
