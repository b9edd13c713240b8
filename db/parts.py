"""Parts: recording one makes its results known; the one with the seal makes them current and settles the shard."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

from psycopg.types.json import Jsonb

from db import days, events, faults, shards
from db.connect import Connection, translated
from db.errors import BadData
from db.sql import load

SQL = load("parts.sql")

QUALITY = ("chunks", "avg_logprob", "no_speech_prob", "compression_ratio", "coverage")
"""The columns that a result may lack: how far its transcript can be trusted."""


@dataclass(frozen=True, slots=True)
class Part:
    """One results file: what the ledger remembers of it."""

    name: str
    shard_id: int
    epoch: int
    sha256: bytes
    size: int  # bytes
    run_key: bytes
    receipt: Mapping[str, Any]
    engine_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class SealRow:
    """The statement that the shard was read to its end, with so many recordings."""

    sha256: bytes
    size: int
    recordings: int
    contents: bytes | None = None  # sha256 over their sha256s in order; None: the reading does not say


@dataclass(frozen=True, slots=True)
class Recorded:
    """What recording a part did."""

    new: bool  # False: it was known already, nothing changed
    settled: bool  # the shard is done
    stale: bool  # another worker has the shard: the results were taken, the seal was not


class PartConflict(BadData):
    """A part of this name is recorded with other bytes."""


@translated()
def record(
    connection: Connection, part: Part, results: Sequence[Mapping[str, Any]], seal: SealRow | None, *, actor: str
) -> Recorded:
    """Record the part's results, and its seal if it carries one, in one transaction; twice changes nothing.

    Results are welcome from any epoch; sealing and settling only from the present one.
    """
    faults.point("record.before")
    run_id = put_run(connection, part)
    with connection.transaction():
        if seal:
            days.lock_of_shard(connection, part.shard_id)  # the day first, then the shard: one order for everyone
        shard = connection.execute(SQL["lock_shard"], {"id": part.shard_id}).fetchone()
        if shard is None:
            raise BadData(f"part {part.name} is of shard {part.shard_id}, which this ledger does not have")
        audio = sum(result["seconds"] or 0.0 for result in results)
        part_id = put_part(connection, SQL["put_part"], part, run_id, len(results), audio_seconds=audio)
        if part_id is None:
            return Recorded(new=False, settled=False, stale=False)
        # A sealed shard is complete, what still comes of it is a second copy; and what was read of a damaged archive
        # stays thrown away, whoever comes late with it.
        if shard["sealed"] is None and part.epoch > shard["discarded_epoch"]:
            _put_results(connection, part, (part_id, run_id), shard["day_id"], results)
        faults.point("record.intx")
        ours = shard["state"] == "leased" and shard["epoch"] == part.epoch
        if ours:
            connection.execute(shards.SQL["progress"], {"id": part.shard_id, "epoch": part.epoch})
        settled = bool(seal and ours and _finish(connection, part, shard["day_id"], seal, actor=actor))
    faults.point("record.committed")
    return Recorded(new=True, settled=settled, stale=not ours)


def put_run(connection: Connection, part: Part) -> int:
    """The id of the part's receipt. Outside the transaction: nobody waits for a row that all workers share."""
    text = json.dumps(part.receipt, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).digest()
    row = connection.execute(SQL["get_run"], {"digest": digest}).fetchone()
    if row is None:
        connection.execute(SQL["put_run"], {"key": part.run_key, "digest": digest, "receipt": Jsonb(part.receipt)})
        row = connection.execute(SQL["get_run"], {"digest": digest}).fetchone()
    assert row is not None
    return int(row["id"])


def put_part(
    connection: Connection, query: LiteralString, part: Part, run_id: int, recordings: int, **more: Any
) -> int | None:
    """The new part's id, or None when it is recorded already with the same bytes."""
    values = {name: getattr(part, name) for name in ("name", "shard_id", "epoch", "sha256", "size", "engine_seconds")}
    row = connection.execute(query, values | {"run_id": run_id, "recordings": recordings} | more).fetchone()
    if row is not None:
        return int(row["id"])
    known = connection.execute(SQL["get_part"], {"name": part.name}).fetchone()
    if known is None or known["sha256"] != part.sha256:
        raise PartConflict(f"part {part.name} is recorded with other bytes; the file was changed since")
    return None


def _put_results(
    connection: Connection, part: Part, ids: tuple[int, int], day_id: int, results: Sequence[Mapping[str, Any]]
) -> None:
    part_id, run_id = ids
    common = {
        "shard_id": part.shard_id,
        "day_id": day_id,
        "part_id": part_id,
        "run_id": run_id,
        "run_key": part.run_key,
        **dict.fromkeys(QUALITY),
    }
    if results:
        with connection.cursor() as cursor:
            cursor.executemany(SQL["put_result"], [common | dict(result) for result in results])


def _finish(connection: Connection, part: Part, day_id: int, seal: SealRow, *, actor: str) -> bool:
    """Seal, make current, settle, close the day; all under the epoch, all in the caller's transaction.

    Refused when the recordings do not add up, or are not those that this reading found (somebody late brought what he
    had read of another version of the archive): then the results stay recorded, and the shard stays open."""
    where = {"id": part.shard_id, "epoch": part.epoch}
    known = connection.execute(shards.SQL["count_known"], where).fetchone()
    assert known is not None
    complete = (known["recordings"], known["last"]) == (seal.recordings, seal.recordings - 1)
    same = seal.contents in (None, known["contents"])
    if not (complete and same):
        detail = {"read": seal.recordings, "accounted": known["recordings"], "same": same, "epoch": part.epoch}
        events.add(connection, "seal.refused", actor=actor, day_id=day_id, shard_id=part.shard_id, **detail)
        return False
    values = where | {"sha256": seal.sha256, "size": seal.size, "recordings": seal.recordings}
    if connection.execute(shards.SQL["seal"], values).rowcount != 1:
        return False
    connection.execute(shards.SQL["make_current"], where)
    connection.execute(shards.SQL["seal_parts"], where)
    faults.point("seal.intx")
    if connection.execute(shards.SQL["settle"], where).rowcount != 1:
        raise BadData(f"shard {part.shard_id} could not be settled under epoch {part.epoch}")
    detail = {"recordings": seal.recordings, "sha256": seal.sha256.hex()}
    events.add(connection, "shard.done", actor=actor, day_id=day_id, shard_id=part.shard_id, epoch=part.epoch, **detail)
    faults.point("settle.intx")
    days.close_if_done(connection, day_id, actor=actor)
    return True


@translated()
def unknown(connection: Connection, names: Sequence[str]) -> list[str]:
    """Of these part names, those the ledger has not recorded, in order."""
    known = {row["name"] for row in connection.execute(SQL["known"], {"names": list(names)})}
    return [name for name in names if name not in known]
