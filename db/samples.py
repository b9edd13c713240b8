"""Samples: recordings drawn for people to judge, what they heard, and how long their audio is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from db import events, faults
from db.connect import Connection, translated
from db.errors import BadData
from db.sql import load

SQL = load("samples.sql")
PAGE = 2_000  # recordings looked at in one step


class NoSuchSample(BadData):
    """The ledger has no such sample."""


class SampleExists(BadData):
    """There is a sample of this name already."""


class Disputed(BadData):
    """Somebody else has judged one of these meanwhile."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample as it was drawn; which recordings it has never changes."""

    id: int
    name: str
    who: str
    seed: int
    strata: tuple[str, ...]
    selection: Mapping[str, Any]
    created: datetime
    released: datetime | None


@dataclass(frozen=True, slots=True)
class Place:
    """One drawn recording."""

    place: int
    recording_id: int
    transcript_id: int
    stratum: str
    population: int  # recordings of its stratum


@dataclass(frozen=True, slots=True)
class Coding:
    """What a person heard in the recording at a place; empty: no speech."""

    place: int
    recording_id: int
    reference: str


@translated()
def frame(connection: Connection, ids: Sequence[int]) -> list[dict[str, Any]]:
    """Of these recordings, those that can be drawn, with what strata go by."""
    return connection.execute(SQL["frame"], {"ids": list(ids)}).fetchall()


@translated()
def put(
    connection: Connection,
    name: str,
    places: Sequence[Place],
    *,
    who: str,
    seed: int,
    strata: Sequence[str],
    selection: Mapping[str, Any],
) -> bool:
    """Keep the sample, whole or not at all. False: the very same is there already; SampleExists: another one is."""
    values = {"name": name, "who": who, "seed": seed, "strata": list(strata), "selection": Jsonb(dict(selection))}
    with connection.transaction():
        row = connection.execute(SQL["put"], values).fetchone()
        if row is not None:
            rows = [
                {
                    "sample_id": row["id"],
                    "place": place.place,
                    "recording_id": place.recording_id,
                    "transcript_id": place.transcript_id,
                    "stratum": place.stratum,
                    "population": place.population,
                }
                for place in places
            ]
            with connection.cursor() as cursor:
                cursor.executemany(SQL["put_recording"], rows)
            events.add(connection, "sample.drawn", actor=who, sample=name, recordings=len(rows), seed=seed)
            faults.point("sample.drawing")
    if row is not None:
        faults.point("sample.drawn")
        return True
    known = get(connection, name)
    drawn = [Place(**row) for row in connection.execute(SQL["drawn"], {"id": known.id})]
    if (known.seed, list(known.strata), drawn) != (seed, list(strata), list(places)):
        raise SampleExists(
            f"There is a sample {name} already, of {known.created:%Y-%m-%d}, and it has other recordings; samples never"
            " change: give this one another name."
        )
    return False


@translated()
def get(connection: Connection, name: str) -> Sample:
    """The sample of that name; NoSuchSample."""
    row = connection.execute(SQL["get"], {"name": name}).fetchone()
    if row is None:
        raise NoSuchSample(f"The ledger has no sample {name!r}; `dayscribe sample list` shows those there are.")
    return Sample(**row | {"strata": tuple(row["strata"])})


@translated()
def every(connection: Connection) -> list[dict[str, Any]]:
    """All samples, the newest first, with how many recordings they have and how many of them are judged."""
    return connection.execute(SQL["list"]).fetchall()


@translated()
def audio(connection: Connection, sample: Sample) -> list[dict[str, Any]]:
    """Where the audio of each place is, by place."""
    return connection.execute(SQL["audio"], {"id": sample.id}).fetchall()


@translated()
def remember_audio(connection: Connection, sample: Sample, folder: str) -> None:
    """Its audio was copied to this folder."""
    connection.execute(SQL["remember_audio"], {"id": sample.id, "folder": folder})


@translated()
def places(connection: Connection, sample: Sample) -> dict[int, dict[str, Any]]:
    """Each place with its recording, and what was said of it."""
    return {row["place"]: row for row in connection.execute(SQL["places"], {"id": sample.id})}


@translated()
def judge(
    connection: Connection, sample: Sample, codings: Sequence[Coding], *, coder: str, replace: bool = False
) -> int:
    """Keep what a person heard, all of it or nothing; how many are new or, with `replace`, other than they were.
    Disputed: a place has been judged otherwise since it was looked at."""
    changed = 0
    with connection.transaction():
        for coding in codings:
            values = {"id": sample.id, "place": coding.place, "recording": coding.recording_id, "coder": coder}
            said = values | {"reference": coding.reference, "replace": replace}
            changed += connection.execute(SQL["judge"], said).rowcount
        now = places(connection, sample)
        if disputed := [one.place for one in codings if now[one.place]["reference"] != one.reference]:
            named = ", ".join(map(str, disputed[:5]))
            raise Disputed(f"Somebody judged place {named} of {sample.name} otherwise just now; nothing was changed.")
        if changed:
            events.add(connection, "sample.judged", actor=coder, sample=sample.name, places=changed, replaced=replace)
        faults.point("sample.judging")
    faults.point("sample.judged")
    return changed


@translated()
def judged(connection: Connection, sample: Sample) -> list[dict[str, Any]]:
    """Every place with what a person heard, and the machine's text as it was drawn."""
    return connection.execute(SQL["judged"], {"id": sample.id}).fetchall()


@translated()
def release(connection: Connection, sample: Sample, *, actor: str) -> bool:
    """Its audio need not be kept any more; False: that was said already."""
    with connection.transaction():
        new = connection.execute(SQL["release"], {"id": sample.id}).rowcount == 1
        if new:
            events.add(connection, "sample.released", actor=actor, sample=sample.name)
    return new
