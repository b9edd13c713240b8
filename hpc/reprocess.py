"""A plan: which recordings are made again, why, and what that costs; then the run of exactly that plan."""

from __future__ import annotations

import math
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from db import listings, plans
from db.connect import Connection
from db.errors import BadData, IllegalMove
from db.plans import Alignable, Criterion, NothingChosen, Plan, Selection, Wish
from db.states import FailureClass, QualityFlag
from hpc import receipt
from hpc.errors import BadSetting
from hpc.model import Run
from hpc.sections import SlurmSettings
from hpc.stages.arrival import seen_from_here
from hpc.tick.sizing import LOAD_SECONDS, Speed, size

OURS = (
    FailureClass.ENGINE_ERROR, FailureClass.ENGINE_CRASH, FailureClass.DECODER_CRASH, FailureClass.DECODE_TIMEOUT,
    FailureClass.RESOURCE_LIMIT,
)  # fmt: skip
"""Failures that another run may not meet: of the machine or the program, rather than of the recording's bytes."""

FORMS = (
    "failed", "quarantined", "suspect", "lang-mismatch", "flag=NAME", "error=CLASS", "model!=NAME",
    "run!=RUN", "language=CODE", "duration>SECONDS", "duration<SECONDS",
)  # fmt: skip
MISSING = Criterion("missing")  # no recording is known that it could find
_NAMED = re.compile(r"(flag|error|language|duration|model|run)(!=|=|>|<)(.+)", re.DOTALL)


class OtherSettings(BadSetting):
    """The plan was drawn under other settings."""


@dataclass(frozen=True, slots=True)
class Source:
    """Whether the audio that a plan has to read is where the ledger says."""

    archives: int = 0
    bytes: int = 0
    again: int = 0  # not here, and fetched again once the plan is open
    again_bytes: int = 0
    again_by: tuple[str, ...] = ()  # globus, copy, link
    gone: int = 0  # not here, and nothing brings them: they will fail
    gone_bytes: int = 0
    gone_days: tuple[str, ...] = ()  # "zurich 2025-01-31"


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a plan costs, from what was measured; None: nothing was measured yet."""

    engine_hours: float | None
    basis: str
    disk_bytes: int
    tasks: int
    task_minutes: int
    finish_hours: float | None  # with so many tasks at once, from when the first of them starts
    there_already: int = 0  # recordings of which nothing is made: readers only see what is there
    unmeasured: int = 0  # recordings of unknown length, whose cost is in no figure
    source: Source = field(default_factory=Source)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


NOTHING = Estimate(0.0, "no audio and no model: what is stored is judged anew", 0, 0, 0, None)


def criterion(text: str) -> Criterion:
    """What one --only asks for; BadSetting with all forms that there are."""
    simple = {
        "failed": Criterion("error", [kind.value for kind in OURS]),
        "quarantined": Criterion("quarantined"),
        "suspect": Criterion("suspect"),
        "missing": MISSING,
        "lang-mismatch": Criterion("suspect", ["language"]),
    }
    if text in simple:
        return simple[text]
    found = _NAMED.fullmatch(text)
    made = _named(*found.groups()) if found else None
    if made is None:
        raise BadSetting(f"--only {text!r} is none of: {', '.join(FORMS)}")
    return made


def _named(name: str, sign: str, value: str) -> Criterion | None:
    if name == "duration" and sign in "<>":
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if not 0 <= seconds < math.inf:
            raise BadSetting(f"--only duration{sign}{value}: {value!r} is no number of seconds")
        return Criterion("longer" if sign == ">" else "shorter", seconds)
    if name == "error" and sign == "=":
        known = [kind.value for kind in FailureClass]
        if unknown := [one for one in value.split(",") if one not in known]:
            raise BadSetting(f"--only error={unknown[0]}: there is no such class; there are {', '.join(known)}")
        return Criterion("error", value.split(","))
    if name == "flag" and sign == "=":
        flags = [flag.value for flag in QualityFlag]
        if unknown := [one for one in value.split(",") if one not in flags]:
            raise BadSetting(f"--only flag={unknown[0]}: there is no such flag; there are {', '.join(flags)}")
        return Criterion("suspect", value.split(","))
    if name == "language" and sign == "=":
        if not re.fullmatch("[a-z]{2,3}", code := value.lower()):
            raise BadSetting(f"--only language={value}: {value!r} is no language; write its code, such as de")
        return Criterion("language", code)
    makers = {
        ("flag", "="): "suspect",
        ("model", "!="): "not_model",
        ("run", "!="): "not_run",
    }
    kind = makers.get((name, sign))
    if kind is None:
        return None
    return Criterion(kind, value)


def selection(criteria: Iterable[Criterion], **where: Any) -> Selection:
    """The selection; without a criterion all recordings that were not made as they would be made now."""
    wanted = tuple(criteria)
    found = tuple(one for one in wanted if one is not MISSING)
    if wanted and not found:
        raise BadData(
            "What is missing has no recordings that a plan could name: files that never came are fetched by the tick"
            " (dayscribe days show), shards that failed are taken up by dayscribe days retry"
        )
    return Selection(found or (Criterion("all"),), **where)


def text_of(texts: Sequence[Mapping[str, Any]], wanted: Alignable) -> Mapping[str, Any]:
    """The one run whose texts are to be aligned: one receipt says all of what a plan makes."""
    if not texts:
        languages = "" if wanted.languages is None else f" in {', '.join(wanted.languages) or 'no language'}"
        raise NothingChosen(
            f"In what is chosen there is no text that could be aligned{languages}; aligners are looked for as dayscribe"
            " models list shows them"
        )
    if len(texts) > 1:
        each = [f"{text['key'][:12]} ({text['recordings']} recordings)" for text in texts[:5]]
        raise BadData(
            f"The texts are of {len(texts)} runs, and a plan aligns those of one: say --text-of RUN;"
            f" there are {', '.join(each)}"
        )
    return texts[0]


def wish(run: Run, **how: Any) -> Wish:
    """By whose will it is made again, and how: as `run` says."""
    return Wish(run_key=run.key, receipt=run.receipt, rules=run.receipt.get("rules"), **how)


def estimate(connection: Connection, plan: Plan, wanted: SlurmSettings) -> Estimate:
    """What the plan costs, from the speed of earlier work; kept with the plan."""
    made = NOTHING if plan.stage == plans.ENRICH else _estimate(connection, plan, wanted)
    plans.put_estimate(connection, plan.id, made.as_dict())
    return made


def _estimate(connection: Connection, plan: Plan, wanted: SlurmSettings) -> Estimate:
    shards = plans.shards(connection, plan.id)
    told, there = plans.measured(connection, plan), plans.there_already(connection, plan)
    source = look_at_source(shards)
    disk = round(told["bytes_each"] * (plan.recordings - there["recordings"]))
    seconds = max(0.0, plan.seconds - there["seconds"])
    engine = seconds * told["engine"] / told["audio"] if told["audio"] > 0 and told["engine"] > 0 else None
    # Archives are read whole, but the engine is what takes long: their bytes pass as fast as their recordings are made.
    speed = Speed(None if engine is None else source.bytes / max(engine, 1.0))
    by_day = defaultdict(list)
    for shard in shards:
        by_day[shard["site"], shard["date"]].append(shard["size"])
    jobs = [
        size(wanted, shards=len(sizes), byte_count=sum(sizes), speed=speed, room=wanted.plan_tasks)
        for sizes in by_day.values()
    ]  # each day has an array of its own
    tasks = sum(job.tasks for job in jobs)
    at_once = min(tasks, wanted.plan_tasks)
    hours = None if engine is None else (LOAD_SECONDS * math.ceil(tasks / at_once) + engine / at_once) / 3600
    basis = told["basis"] if engine is not None else "no speed measured yet"
    return Estimate(
        None if engine is None else round(engine / 3600, 6), basis, disk, tasks, max(job.minutes for job in jobs),
        None if hours is None else round(hours, 3), there["recordings"], there["unmeasured"], source,
    )  # fmt: skip


def look_at_source(shards: Sequence[Mapping[str, Any]]) -> Source:
    """Which of the archives are still where they were staged, which are fetched again, and which are gone for good."""
    away = [shard for shard in shards if shard["let_go"] or _missing(shard)]
    again = [shard for shard in away if shard["how"] is not None and not shard["lost"]]
    gone = [shard for shard in away if shard not in again]
    return Source(
        len(shards), sum(shard["size"] for shard in shards),
        len(again), sum(shard["size"] for shard in again), tuple(sorted({shard["how"] for shard in again})),
        len(gone), sum(shard["size"] for shard in gone),
        tuple(sorted({f"{shard['site']} {shard['date']}" for shard in gone})),
    )  # fmt: skip


def _missing(shard: Mapping[str, Any]) -> list[bytes]:
    """The shard's files that are not where the ledger says; where this host shows nothing staged, nobody knows."""
    folder = None if shard["staged"] is None else Path(shard["staged"])
    if shard["how"] is not None and (folder is None or not seen_from_here(folder)):
        return []
    return [path for path in shard["paths"] if folder is None or not (folder / os.fsdecode(path)).exists()]


def miss_purged(connection: Connection, plan_id: int) -> None:
    """Staging may be a scratch that is purged: what the plan reads and is gone counts as let go, and comes again."""
    for shard in plans.shards(connection, plan_id):
        if shard["how"] is not None and not shard["let_go"] and (gone := _missing(shard)):
            listings.purged(connection, shard["day_id"], gone)


def begin(connection: Connection, plan: Plan, run: Run, *, actor: str) -> bool:
    """Open a plan that was drawn; False when it is done, and nothing is to do. What was shown is what runs: under other
    settings, or after it was paused or cancelled, it is refused."""
    if plan.state == plans.DONE:
        return False
    if plan.run_key != run.key:
        raise OtherSettings(
            f"Plan {plan.id} was drawn for other settings: {'; '.join(differences(plan.receipt, run.receipt))}."
            " Put them back, or draw a new plan."
        )
    if plan.state == plans.DRAWN:
        miss_purged(connection, plan.id)
        plans.move(connection, plan, "open", actor=actor)
    elif plan.state != plans.OPEN:
        hint = "; go on with: dayscribe plans resume" if plan.state == plans.PAUSED else ""
        raise IllegalMove(f"Plan {plan.id} is {plan.state}{hint}")
    return True


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What two receipts say otherwise, as `options.beam_size 5 → 3`; who, why and code do not change the words."""
    return [
        f"{one['name']} {_short(one['one'])} → {_short(one['other'])}"
        for one in receipt.differing(before, now)
        if one["name"].partition(".")[0] not in ("who", "why", "code", "image")
    ]


def _short(value: Any) -> str:
    return "none" if value is None else str(value)[:80]
