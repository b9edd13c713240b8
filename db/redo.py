"""A plan at work: its shards leased under an epoch of their own, its results recorded beside what readers see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from psycopg.types.json import Jsonb

from db import days, events, faults, formats, parts, plans
from db.connect import Connection, translated
from db.errors import BadData, IllegalMove, LeaseLost
from db.jobs import Waiting
from db.names import display
from db.shards import Leased
from db.sql import load

SQL = load("redo.sql")


@translated()
def waits(connection: Connection, *, plan_id: int, day_id: int | None = None) -> bool:
    """Whether a claim would find something now, or something to give up."""
    row = connection.execute(SQL["waits"], {"plan_id": plan_id, "day_id": day_id}).fetchone()
    return row is not None and bool(row["so"])


@translated()
def claim(
    connection: Connection, *, owner: str, count: int, lease: timedelta, plan_id: int, day_id: int | None = None
) -> list[Leased]:
    """Lease up to `count` shards of an open plan (of one day of it, if that is given), in its order.

    Of each all recordings are `known`, and those `wanted` that the plan has yet to make. A shard of which none
    is left is settled here, and nothing of it is read. Nothing is leased only if nothing is left to read."""
    faults.point("claim.before")
    wanted = {"owner": owner, "count": count, "lease": lease, "plan_id": plan_id, "day_id": day_id}
    leased: list[Leased] = []
    while not leased and (rows := connection.execute(SQL["claim"], wanted).fetchall()):
        for row in sorted(rows, key=lambda row: row["place"]):
            if not _settle_if_done(connection, plan_id, row, actor=owner):
                leased.append(_leased(connection, plan_id, row))
    if len(leased) < count:
        give_up_exhausted(connection, plan_id, actor=owner)
    faults.point("claim.committed")
    return leased


def _leased(connection: Connection, plan_id: int, row: Mapping[str, Any]) -> Leased:
    there = connection.execute(SQL["of_shard"], {"plan_id": plan_id, "shard_id": row["id"]}).fetchall()
    values = {name: row[name] for name in Leased.__slots__ if name in row and name != "paths"}
    return Leased(
        **values,
        paths=tuple(row["paths"]),
        known={one["ordinal"]: one["sha256"] for one in there},
        plan_id=plan_id,
        wanted=frozenset(one["ordinal"] for one in there if one["wanted"]),
        said=_said(connection, plan_id, row["id"]) if row["stage"] == plans.ALIGN else None,
    )


def _said(connection: Connection, plan_id: int, shard_id: int) -> dict[int, dict[str, Any]]:
    """What the plan's recordings of a shard said when it was drawn, of those that are left."""
    rows = connection.execute(SQL["said"], {"plan_id": plan_id, "shard_id": shard_id})
    return {row.pop("ordinal"): formats.opened(row) for row in rows}


@translated()
def next_lapse(connection: Connection, *, plan_id: int) -> float | None:
    """Seconds until a shard of the plan can next be claimed; None when none is open."""
    row = connection.execute(SQL["next_lapse"], {"plan_id": plan_id}).fetchone()
    return None if row is None or not row["open"] else float(row["seconds"])


@translated()
def renew(connection: Connection, held: Sequence[tuple[int, int]], *, lease: timedelta, plan_id: int) -> set[int]:
    """Renew the leases of (shard id, epoch) pairs; returns the ids that are still ours."""
    values = {"ids": [i for i, _ in held], "epochs": [e for _, e in held], "lease": lease, "plan_id": plan_id}
    return {row["id"] for row in connection.execute(SQL["renew"], values)}


@translated()
def fail(
    connection: Connection,
    shard_id: int,
    epoch: int,
    *,
    failure: tuple[str, str],
    actor: str,
    discard: bool,  # noqa: ARG001 - what was read is that recording, byte for byte, whatever else the archive lost
    plan_id: int,
) -> None:
    """Give the plan's shard up (class, reason), and close the plan if it was the last; LeaseLost: another epoch."""
    kind, reason = failure
    where = {"plan_id": plan_id, "shard_id": shard_id, "epoch": epoch}
    with connection.transaction():
        if connection.execute(SQL["fail"], where | {"failure_class": kind, "failure_reason": reason}).rowcount != 1:
            raise LeaseLost
        told: dict[str, Any] = {"plan": plan_id, "failure_class": kind, "failure_reason": reason}
        events.add(connection, "plan.shard_failed", actor=actor, shard_id=shard_id, **told)
        faults.point("fail.intx")
        close_if_done(connection, plan_id, actor=actor)
    faults.point("fail.committed")


@translated()
def put_back(
    connection: Connection,
    shard_id: int,
    epoch: int,
    *,
    failure: tuple[str, str],
    wait: timedelta,
    actor: str,
    plan_id: int,
) -> None:
    """Return the shard for a later try; when its attempts are used up it fails instead."""
    values = {"plan_id": plan_id, "shard_id": shard_id, "epoch": epoch, "wait": wait}
    told = {"failure_class": failure[0], "failure_reason": failure[1]}
    if connection.execute(SQL["put_back"], values | told).rowcount != 1:
        fail(connection, shard_id, epoch, failure=failure, actor=actor, discard=False, plan_id=plan_id)


@translated()
def release(connection: Connection, shard_id: int, epoch: int, *, plan_id: int) -> None:
    """Give the shard back untouched, after a stop on request; LeaseLost under another epoch."""
    values = {"plan_id": plan_id, "shard_id": shard_id, "epoch": epoch}
    if connection.execute(SQL["release"], values).rowcount != 1:
        raise LeaseLost


@translated()
def record(
    connection: Connection,
    part: parts.Part,
    plan_id: int,
    results: Sequence[Mapping[str, Any]],
    *,
    sealed: bool,
    actor: str,
) -> parts.Recorded:
    """Record a part of a plan in one transaction; twice changes nothing. Results are welcome from any epoch. They are
    versions beside what readers see, until the shard's last part makes all of them current at once."""
    faults.point("record.before")
    run_id = parts.put_run(connection, part)
    where = {"plan_id": plan_id, "shard_id": part.shard_id, "epoch": part.epoch}
    with connection.transaction():
        day_id = days.lock_of_shard(connection, part.shard_id) if sealed else None
        held = connection.execute(SQL["lock_shard"], where).fetchone()
        if held is None:
            raise BadData(f"part {part.name} is of shard {part.shard_id} of plan {plan_id}, which has no such shard")
        if held["run_key"] != part.run_key:
            raise BadData(f"part {part.name} was made under another key than plan {plan_id} is of")
        part_id = parts.put_part(connection, SQL["put_part"], part, run_id, len(results), plan_id=plan_id)
        if part_id is None:
            return parts.Recorded(new=False, settled=False, stale=False)
        known = _lock_recordings(connection, part.shard_id, None if sealed else [one["ordinal"] for one in results])
        ids = (part_id, run_id, plan_id if held["forced"] else 0)
        made = _put_results(connection, part, where, ids, results, known=known)
        faults.point("record.intx")
        ours = held["state"] == "leased" and held["epoch"] == part.epoch
        if ours and made:
            connection.execute(SQL["progress"], where)
        settled = ours and day_id is not None and _finish(connection, where, day_id, actor=actor)
    faults.point("record.committed")
    return parts.Recorded(new=True, settled=settled, stale=not ours)


def _put_results(
    connection: Connection,
    part: parts.Part,
    where: Mapping[str, int],
    ids: tuple[int, int, int],
    results: Sequence[Mapping[str, Any]],
    *,
    known: Mapping[int, bytes],
) -> int:
    """How many recordings of the plan have their outcome by it."""
    part_id, run_id, forced_by = ids
    made = 0
    common = {"part_id": part_id, "run_id": run_id, "run_key": part.run_key, "forced_by": forced_by, **where}
    for result in results:
        if known.get(result["ordinal"]) != result["sha256"]:
            raise BadData(
                f"part {part.name}: recording {result['ordinal']} has other bytes than when it was transcribed first;"
                " put the right archive back, then: dayscribe plans resume"
            )
        values = dict.fromkeys(parts.QUALITY) | common | dict(result)
        query = SQL["put_failure"] if result["outcome"] is None else SQL["put_result"]
        made += connection.execute(query, values).rowcount
        connection.execute(SQL["put_length"], values)
    return made


def _lock_recordings(connection: Connection, shard_id: int, ordinals: list[int] | None) -> dict[int, bytes]:
    """ordinal → sha256 of these recordings, or of all; after the day and the plan's shard, in one order for all."""
    rows = connection.execute(SQL["lock_recordings"], {"shard_id": shard_id, "ordinals": ordinals})
    return {row["ordinal"]: row["sha256"] for row in rows}


def _settle_if_done(connection: Connection, plan_id: int, row: Mapping[str, Any], *, actor: str) -> bool:
    """Note what others made meanwhile; settle the shard if that was all of it."""
    where = {"plan_id": plan_id, "shard_id": row["id"], "epoch": row["epoch"]}
    with connection.transaction():
        day_id = days.lock_of_shard(connection, row["id"])
        connection.execute(SQL["lock_shard"], where)
        _lock_recordings(connection, row["id"], None)
        return _finish(connection, where, day_id, actor=actor)


def _finish(connection: Connection, where: Mapping[str, int], day_id: int, *, actor: str) -> bool:
    """When nothing of the shard is left to make: all of it becomes current, the shard is settled, the plan perhaps
    closed; in the caller's transaction, which holds the day's row, the plan's shard and all its recordings."""
    connection.execute(SQL["note_known"], where)
    left = connection.execute(SQL["left"], where).fetchone()
    held = connection.execute(SQL["lock_shard"], where).fetchone()
    if left is None or left["recordings"] or held is None:
        return False
    if connection.execute(SQL["settle"], where).rowcount != 1:
        raise LeaseLost
    moved = 0
    if not held["keep_current"]:
        moved = connection.execute(SQL["make_current"], where).rowcount
        faults.point("seal.intx")
        if moved:
            days.count_again(connection, day_id)
    connection.execute(SQL["judge_again"], where)  # a trial's versions, too
    connection.execute(SQL["seal_parts"], where)
    detail = {"plan": where["plan_id"], "epoch": where["epoch"], "current": moved}
    events.add(connection, "plan.shard_done", actor=actor, day_id=day_id, shard_id=where["shard_id"], **detail)
    faults.point("settle.intx")
    close_if_done(connection, where["plan_id"], actor=actor)
    return True


def close_if_done(connection: Connection, plan_id: int, *, actor: str) -> bool:
    """Close the plan with its summary when no shard of it is open. Holds the plan's row while it counts."""
    connection.execute(SQL["lock_plan"], {"plan_id": plan_id})
    still = connection.execute(SQL["any_open"], {"plan_id": plan_id}).fetchone()
    if still is None or still["so"]:
        return False
    counts = connection.execute(SQL["count_shards"], {"plan_id": plan_id}).fetchone()
    made = plans.outcomes(connection, plan_id)
    engine = connection.execute(SQL["engine_seconds"], {"plan_id": plan_id}).fetchone()
    audio = connection.execute(SQL["audio_seconds"], {"plan_id": plan_id}).fetchone()
    assert counts
    assert engine
    assert audio
    summary: dict[str, Any] = {
        **{name: made[name] for name in ("recordings", "remade", "known", "failed", "left")},
        "failed_shards": counts["failed"],
        "shards": counts["shards"],
        "engine_seconds": round(engine["seconds"], 3),
        "audio_seconds": round(audio["seconds"], 3),
    }
    if changed := connection.execute(SQL["changes"], {"plan_id": plan_id}).fetchall():
        summary["changes"] = {row.pop("flag"): row for row in changed}
    done = connection.execute(SQL["finish"], {"plan_id": plan_id, "summary": Jsonb(summary)}).rowcount == 1
    if done:
        events.add(connection, "plan.done", actor=actor, plan=plan_id, **summary)
    return done


@translated()
def adopt(connection: Connection, plan: plans.Plan, *, actor: str) -> int:
    """Make what a trial made what readers see, in one transaction; how many moved. IllegalMove when it is no trial, or
    still at work."""
    if not plan.keep_current:
        raise IllegalMove(f"Plan {plan.id} is no trial (--keep-current): readers see what it made already.")
    with connection.transaction():
        now = plans.get(connection, plan.id)
        if now.state not in (plans.DONE, plans.CANCELLED):
            raise IllegalMove(f"Plan {plan.id} is {now.state}; it can be adopted when it is done or cancelled.")
        touched = [row["day_id"] for row in connection.execute(SQL["days_of"], {"plan_id": plan.id})]
        for day_id in touched:  # the days first, in one order for everyone
            days.lock(connection, day_id)
        connection.execute(SQL["lock_made"], {"plan_id": plan.id})
        moved = connection.execute(SQL["make_current"], {"plan_id": plan.id, "shard_id": None}).rowcount
        if moved:
            for day_id in touched:
                days.count_again(connection, day_id)
            events.add(connection, "plan.adopted", actor=actor, plan=plan.id, recordings=moved)
    return moved


@translated()
def adoption(connection: Connection, plan: plans.Plan) -> dict[str, int] | None:
    """Recordings of a trial that readers got: `left`, made and not moved to them; `moved`; and of those `seen`, what
    they see now. None: it is no trial."""
    if not plan.keep_current:
        return None
    return connection.execute(SQL["adoption"], {"plan_id": plan.id}).fetchone()


@translated()
def close_stuck(connection: Connection, *, actor: str) -> int:
    """Close the plans of which nothing is left to do, and that nobody closed; how many there were."""
    closed = 0
    for row in connection.execute(SQL["stuck"]).fetchall():
        with connection.transaction():
            closed += close_if_done(connection, row["id"], actor=actor)
    return closed


@translated()
def give_up_out_of_reach(
    connection: Connection, *, attempts: int, again: timedelta, actor: str
) -> list[tuple[int, str]]:
    """Fail the shards of open plans whose audio was let go and comes no more: it was tried so often, or its source was
    seen without it twice so far apart; the plan and why, of each."""
    given_up = []
    for row in connection.execute(SQL["out_of_reach"], {"attempts": attempts, "again": again}).fetchall():
        kind, reason = _out_of_reach(row)
        failure = {"failure_class": kind, "failure_reason": reason}
        with connection.transaction():
            if connection.execute(SQL["fail_unread"], row | failure).rowcount == 1:
                told: dict[str, Any] = {"plan": row["plan_id"]} | failure
                events.add(connection, "plan.shard_failed", actor=actor, shard_id=row["shard_id"], **told)
                close_if_done(connection, row["plan_id"], actor=actor)
                given_up.append((int(row["plan_id"]), reason))
    return given_up


def _out_of_reach(row: Mapping[str, Any]) -> tuple[str, str]:
    name = display(row["path"].rpartition(b"/")[2])
    then = "; when it can be had again: dayscribe plans resume"
    if row["stays"]:
        return "source_missing", f"{name} was let go, and nothing brings the files of {row['site']} here any more{then}"
    if row["gone"]:
        return "source_missing", f"{name} was let go, and its source lists it no more{then}"
    if row["arrived_size"] is not None and row["size"] != row["arrived_size"]:
        told = f"its source has {row['size']:,} bytes now, {row['arrived_size']:,} were transcribed"
        return "archive_damaged", f"{name} is not the archive that was transcribed first: {told}{then}"
    return (
        "source_missing",
        f"{name} was let go and did not come again: {row['reason'] or 'somebody cancelled that'}{then}",
    )


@translated()
def renew_owned(connection: Connection, owner: str, *, lease: timedelta, plan_id: int) -> int:
    """Renew all leases of an owner that cannot do it itself: a job whose tasks reach no ledger."""
    return connection.execute(SQL["renew_owned"], {"owner": owner, "lease": lease, "plan_id": plan_id}).rowcount


@translated()
def owned(connection: Connection, owner: str, *, plan_id: int) -> list[dict[str, Any]]:
    """id and epoch of the plan's shards that this owner holds."""
    return connection.execute(SQL["owned"], {"owner": owner, "plan_id": plan_id}).fetchall()


@translated()
def backlog(connection: Connection) -> list[Waiting]:
    """The days of open plans with work to do and no live order, the oldest plan first."""
    return [Waiting(**row) for row in connection.execute(SQL["backlog"])]


@translated()
def days_open(connection: Connection, *, limit: int) -> list[dict[str, Any]]:
    """plan_id, site and date of what open plans have yet to do."""
    return connection.execute(SQL["days_open"], {"limit": limit}).fetchall()


@translated()
def give_up_exhausted(connection: Connection, plan_id: int | None = None, *, actor: str) -> int:
    """Fail the shards of a plan, or of all, whose last allowed worker vanished; how many there were."""
    given_up = 0
    reason = "every worker that took this shard ended before it could record anything"
    failure = {"failure_class": "attempts_exhausted", "failure_reason": reason}
    for row in connection.execute(SQL["exhausted"], {"plan_id": plan_id}).fetchall():
        with connection.transaction():
            if connection.execute(SQL["give_up"], row | failure).rowcount == 1:
                told: dict[str, Any] = {"plan": row["plan_id"]} | failure
                events.add(connection, "plan.shard_failed", actor=actor, shard_id=row["shard_id"], **told)
                close_if_done(connection, row["plan_id"], actor=actor)
                given_up += 1
    return given_up
