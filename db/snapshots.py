"""Snapshots: sets of recordings, each with one transcript, that stay as they were, with what else was true then.

A transcript never changes and cannot be removed while a snapshot has it. What may change of the rest (why a recording
failed, its flags, when its slot begins) is kept with the snapshot, a row a day (`snapshot_days`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.errors import UniqueViolation
from psycopg.types.json import Jsonb

from db import events, formats
from db.connect import Connection, translated
from db.errors import BadData
from db.names import display
from db.reports import PAGE, number
from db.sql import load

SQL = load("snapshots.sql")


class NoSuchSnapshot(BadData):
    """The ledger has no such snapshot; `dayscribe snapshots list` names those there are."""


class NameTaken(BadData):
    """Another snapshot has that name."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot, without what is frozen of each day."""

    id: int
    name: str
    who: str
    selection: dict[str, Any]  # as it was asked for
    facts: dict[str, Any]
    created: datetime


@translated()
def get(connection: Connection, name: str) -> Snapshot | None:
    """The snapshot of that name."""
    row = connection.execute(SQL["get"], {"name": name}).fetchone()
    return None if row is None else Snapshot(**row)


@translated()
def every(connection: Connection) -> list[dict[str, Any]]:
    """All snapshots by name, with how many recordings each has."""
    return connection.execute(SQL["every"]).fetchall()


@translated()
def put(
    connection: Connection,
    name: str,
    *,
    who: str,
    selection: Mapping[str, Any],
    facts: Mapping[str, Any],
    frozen: Mapping[int, Mapping[str, Any]],
    ids: Sequence[Sequence[int]],
) -> int:
    """Write it; the caller is in the transaction in which everything was read. NameTaken when somebody was quicker."""
    values = {"name": name, "who": who, "selection": Jsonb(dict(selection)), "facts": Jsonb(dict(facts))}
    try:
        row = connection.execute(SQL["put"], values).fetchone()
    except UniqueViolation:
        raise NameTaken(f"There is a snapshot {name} already.") from None
    assert row is not None
    for day_id, one in frozen.items():
        kept = {"snapshot_id": row["id"], "day_id": day_id, "frozen": Jsonb(dict(one))}
        connection.execute(SQL["put_day"], kept)
    for some in ids:
        connection.execute(SQL["put_recordings"], {"snapshot_id": row["id"], "ids": list(some)})
    events.add(connection, "snapshot.frozen", actor=who, snapshot=name, recordings=sum(map(len, ids)))
    return int(row["id"])


@translated()
def freeze_day(connection: Connection, day_id: int, ids: Sequence[int]) -> dict[str, Any]:
    """What may change of these recordings of a day, as it is now."""
    values = {"day_id": day_id, "ids": list(ids)}
    flags: dict[str, tuple[list[int], list[float | None]]] = {}
    for row in connection.execute(SQL["flags"], values):
        of, numbers = flags.setdefault(row["flag"], ([], []))
        of.append(row["id"])
        numbers.append(number(row["value"]))
    return {
        "begins": {row["slot"]: row["begins"].isoformat() for row in connection.execute(SQL["begins"], values)},
        "failures": [
            [row["id"], row["failure_class"], row["failure_reason"], number(row["seconds"]), row["flags"]]
            for row in connection.execute(SQL["failures"], values)
        ],
        "flags": flags,
        "unjudged": [row["id"] for row in connection.execute(SQL["unjudged"], values)],
    }


@translated()
def receipts(connection: Connection, ids: Sequence[int]) -> list[dict[str, Any]]:
    """The receipts of these recordings' current transcripts, and how many recordings are of each."""
    return connection.execute(SQL["receipts"], {"ids": list(ids)}).fetchall()


def pages(connection: Connection, snapshot_id: int, day_id: int) -> Iterator[list[dict[str, Any]]]:
    """All recordings of one day of a snapshot, whole, page by page, as they were when it was frozen."""
    with translated():
        row = connection.execute(SQL["frozen"], {"snapshot_id": snapshot_id, "day_id": day_id}).fetchone()
        found = connection.execute(SQL["ids"], {"snapshot_id": snapshot_id, "day_id": day_id}).fetchall()
    assert row is not None, "a day of no snapshot"
    frozen = _Frozen.of(row["frozen"])
    ids = [one["id"] for one in found]
    for start in range(0, len(ids), PAGE):
        with translated():
            values = {"snapshot_id": snapshot_id, "ids": ids[start : start + PAGE]}
            rows = connection.execute(SQL["rows"], values).fetchall()
        yield [frozen.row(one) for one in rows]


@dataclass(frozen=True, slots=True)
class _Frozen:
    """What was frozen of a day, by recording."""

    begins: dict[str, datetime]
    failures: dict[int, list[Any]]
    flags: dict[int, list[dict[str, Any]]]
    unjudged: frozenset[int]  # shards

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> _Frozen:
        flags: dict[int, list[dict[str, Any]]] = {}
        for flag, (ids, numbers) in sorted(told["flags"].items()):
            for recording, value in zip(ids, numbers, strict=True):
                flags.setdefault(recording, []).append({"flag": flag, "value": number(value)})
        begins = {slot: datetime.fromisoformat(text) for slot, text in told["begins"].items()}
        failures = {recording: rest for recording, *rest in told["failures"]}
        return cls(begins, failures, flags, frozenset(told["unjudged"]))

    def row(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row as an export has it."""
        made = formats.opened(row) | {"name": display(row["name"]), "slot_time": self.begins.get(row["slot"])}
        outcome, shard = made.pop("outcome"), made.pop("shard_id")
        if outcome is None:
            kind, reason, seconds, flags = self.failures[row["id"]]
            made |= {"state": "quarantined", "seconds": number(seconds), "flags": flags, "quality_flags": None}
            return made | {"failure_class": kind, "failure_reason": reason}
        judged = None if shard in self.unjudged else self.flags.get(row["id"], [])
        state = "transcribed" if outcome == "speech" else outcome
        return made | {"state": state, "quality_flags": judged, "failure_class": None, "failure_reason": None}
