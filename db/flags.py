"""Flags: why a transcript is suspect. What a judgement needs, how its flags are written, and who is flagged."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, LiteralString

from db import days, faults, formats
from db.connect import Connection, translated
from db.days import Day
from db.sql import load
from db.states import QualityFlag

SQL = load("flags.sql")
PAGE = 200  # recordings judged at once: memory does not follow the size of a shard
EXCERPT = 200  # characters of a flagged text
OUTCOMES = ("recordings", "transcribed", "no_speech", "quarantined", "unsealed")


@dataclass(frozen=True, slots=True)
class Turn:
    """A shard being judged, under a mark of the judge's own."""

    shard_id: int
    day_id: int
    mark: int
    was: int | None  # the rules by which it was judged before


@dataclass(frozen=True, slots=True)
class Row:
    """A flag of a transcript."""

    transcript_id: int
    flag: str
    value: float | None
    detail: str


@dataclass(frozen=True, slots=True)
class Changes:
    """What a judgement changed, as pairs of transcript and flag."""

    gained: frozenset[tuple[int, str]]
    lost: frozenset[tuple[int, str]]
    other: frozenset[tuple[int, str]]  # there as before, with another number or other words

    @property
    def transcripts(self) -> set[int]:
        """Those of which anything is otherwise."""
        return {transcript for transcript, _ in self.gained | self.lost | self.other}

    def counts(self) -> dict[str, dict[str, int]]:
        """Of each flag of which anything is otherwise: gained, lost, other."""
        told: dict[str, dict[str, int]] = {}
        for name in ("gained", "lost", "other"):
            for _, flag in getattr(self, name):
                of_flag = told.setdefault(flag, {"gained": 0, "lost": 0, "other": 0})
                of_flag[name] += 1
        return dict(sorted(told.items()))


@translated()
def take(connection: Connection, shard_id: int) -> Turn | None:
    """Begin to judge a shard; None when the world sees nothing of it yet. Nothing stays locked: what is judged is
    written only if no evidence has come meanwhile and nobody else has begun."""
    mark = random.randrange(-(2**15), 0)  # noqa: S311 - no secret; rules are numbered from 1
    with connection.transaction():
        connection.execute(SQL["share_day"], {"shard_id": shard_id})
        row = connection.execute(SQL["take"], {"shard_id": shard_id, "mark": mark}).fetchone()
    return None if row is None else Turn(shard_id, row["day_id"], mark, row["was"])


def evidence(connection: Connection, turn: Turn) -> Iterator[list[dict[str, Any]]]:
    """The shard's transcripts, open, with what is told of their recordings and its `captions`; page by page."""
    after = -1
    while (page := _page(connection, turn, after)) is not None:
        rows, after = page
        yield rows


@translated()
def _page(connection: Connection, turn: Turn, after: int) -> tuple[list[dict[str, Any]], int] | None:
    where = {"shard_id": turn.shard_id, "after": after, "limit": PAGE}
    last = connection.execute(SQL["last_ordinal"], where).fetchone()
    if last is None or last["last"] is None:
        return None
    rows = connection.execute(SQL["evidence"], where).fetchall()
    told: dict[str, list[dict[str, Any]]] = {}
    wanted = {"day_id": turn.day_id, "meta_ids": list({row["meta_id"] for row in rows})}
    for one in connection.execute(SQL["captions"], wanted):
        told.setdefault(one["meta_id"], []).append(one)
    return [formats.opened(row) | {"captions": told.get(row["meta_id"], [])} for row in rows], last["last"]


@translated()
def write(connection: Connection, turn: Turn, judged: Sequence[int], rows: Sequence[Row], *, rules: int) -> bool:
    """Replace the flags of the transcripts `judged`, and note by which rules; False, and nothing is written, when new
    evidence has come or another judge has begun since."""
    with connection.transaction():
        if replace(connection, turn, judged, rows, rules=rules) is None:
            return False
        faults.point("judge.intx")
    faults.point("judge.committed")
    return True


def replace(
    connection: Connection, turn: Turn, judged: Sequence[int], rows: Sequence[Row], *, rules: int | None
) -> Changes | None:
    """The same in the caller's transaction, with what is otherwise now; None: nothing is written."""
    done = {"shard_id": turn.shard_id, "mark": turn.mark, "rules": rules}
    if connection.execute(SQL["judged"], done).rowcount != 1:
        return None
    columns = {
        "judged": list(judged),
        "day_id": turn.day_id,
        "transcripts": [row.transcript_id for row in rows],
        "flags": [row.flag for row in rows],
        "values": [row.value for row in rows],
        "details": [row.detail for row in rows],
    }
    gone, come = (
        {(row["transcript_id"], row["flag"]) for row in connection.execute(SQL[query], columns)}
        for query in ("clear", "put")
    )
    return Changes(frozenset(come - gone), frozenset(gone - come), frozenset(come & gone))


def new_evidence(connection: Connection, day_id: int, merge: LiteralString) -> None:
    """Take the evidence in `incoming`, a table of (day_id, meta_id, …), by the statement `merge`: the shards of its
    recordings are to be judged anew. The day is ours alone until the transaction ends."""
    connection.execute(SQL["own_day"], {"day_id": day_id})
    connection.execute(merge)
    connection.execute(SQL["judge_anew"])


@translated()
def forget(connection: Connection, day_id: int) -> int:
    """All of a day is to be judged anew; how many shards that are. Its flags stay until then."""
    return connection.execute(SQL["forget"], {"day_id": day_id}).rowcount


@translated()
def unjudged(connection: Connection, day_id: int, *, rules: int) -> list[int]:
    """The day's shards that these rules have not judged, or whose evidence has changed since."""
    return [row["id"] for row in connection.execute(SQL["unjudged"], {"day_id": day_id, "rules": rules})]


@translated()
def unjudged_lately(connection: Connection, *, rules: int, lately: timedelta, limit: int) -> list[int]:
    """The same of all days that are open or finished not longer ago."""
    values = {"rules": rules, "lately": lately, "limit": limit}
    return [row["id"] for row in connection.execute(SQL["unjudged_lately"], values)]


@translated()
def overview(connection: Connection, day: Day) -> dict[str, Any]:
    """Of a day: `quality_flags`, how many recordings have each; `flagged`, how many have any; and the `denominator`:
    recordings by outcome, and how many of the transcripts are `judged` and `unjudged`."""
    tally = day.summary if days.is_finished(day) and day.summary is not None else days.tally(connection, day.id)
    where = {"day_id": day.id}
    progress = connection.execute(SQL["progress"], where).fetchone()
    flagged = connection.execute(SQL["flagged"], where).fetchone()
    assert progress is not None and flagged is not None
    transcripts = tally["transcribed"] + tally["no_speech"]
    counted = {row["flag"]: row["recordings"] for row in connection.execute(SQL["counts"], where)}
    return {
        "quality_flags": {flag.value: counted.pop(flag.value, 0) for flag in QualityFlag} | counted,
        "flagged": flagged["recordings"],
        "denominator": {name: tally[name] for name in OUTCOMES}
        | {"judged": max(0, transcripts - progress["unjudged"]), "unjudged": progress["unjudged"]},
        "rules": progress["rules"],
    }


@translated()
def page(
    connection: Connection, day_id: int, *, flag: str | None = None, after: int = 0, limit: int = 100
) -> list[dict[str, Any]]:
    """A day's flagged recordings after the id `after`, each with its `quality_flags` and the beginning of its text."""
    values = {"day_id": day_id, "flag": flag, "after": after, "limit": limit, "excerpt": EXCERPT}
    return connection.execute(SQL["page"], values).fetchall()


@translated()
def of_recording(connection: Connection, recording_id: int) -> list[dict[str, Any]]:
    """The flags of a recording's current transcript."""
    return connection.execute(SQL["of_recording"], {"recording_id": recording_id}).fetchall()
