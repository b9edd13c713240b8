"""Plans: recordings to make again, chosen once and stored with the reasons; what was stored never changes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any

from psycopg.types.json import Jsonb

from db import events, runs, transfers
from db.connect import Connection, translated
from db.errors import BadData, IllegalMove
from db.sql import load

SQL = load("plans.sql")

TRANSCRIBE, ALIGN, ENRICH = "transcribe", "align", "enrich"  # the first stage that is done anew
DRAWN, OPEN, PAUSED, DONE, CANCELLED = "drawn", "open", "paused", "done", "cancelled"
# What a person may do with a plan: verb → (from, to).
MOVES: Mapping[str, tuple[tuple[str, ...], str]] = {
    "open": ((DRAWN,), OPEN),
    "pause": ((OPEN,), PAUSED),
    "resume": ((PAUSED, DONE), OPEN),
    "cancel": ((DRAWN, OPEN, PAUSED), CANCELLED),
}


# What may be asked for → the query that finds it, and what the query is told.
PICKS: Mapping[str, tuple[str, str | None]] = {
    "all": ("pick_all", None),
    "quarantined": ("pick_quarantined", None),
    "error": ("pick_error", "classes"),
    "suspect": ("pick_suspect", "flags"),
    "not_model": ("pick_not_model", "model"),
    "not_run": ("pick_not_run", "runs"),
    "language": ("pick_language", "language"),
    "longer": ("pick_longer", "seconds"),
    "shorter": ("pick_shorter", "seconds"),
}


NO_DAY = "The ledger has no day in this selection; see which there are: dayscribe days list"


class NoSuchPlan(BadData):
    """The ledger has no such plan."""


class NothingChosen(BadData):
    """The selection has no recording that would be made again."""

    def __init__(self, message: str, *, known: int = 0, missing: Mapping[str, int] | None = None) -> None:
        super().__init__(message)
        self.known, self.missing = known, dict(missing or {})


@dataclass(frozen=True, slots=True)
class Criterion:
    """One reason for which a recording is chosen: `kind` says which, `value` is what it is held against."""

    kind: str  # of PICKS
    value: Any = None

    def values(self) -> dict[str, Any]:
        """The query's parameters."""
        _, name = PICKS[self.kind]
        return {} if name is None else {name: self.value}


@dataclass(frozen=True, slots=True)
class Selection:
    """What somebody wants to be made again: anything that a criterion finds, in these days, at most so many."""

    criteria: tuple[Criterion, ...]
    site: str | None = None
    start: date | None = None
    stop: date | None = None
    names: tuple[str, ...] | None = None  # only these: ids of the ledger, or stems of file names
    newest_first: bool = False
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Alignable:
    """Texts whose words can be timed anew together: of one run, so that one receipt says all of what is made."""

    key: str | None  # of the run that wrote them, hex or its first digits; None: whichever
    forced_by: int | None = None  # the plan that was told to write them although the key was there; 0: none; None: any
    languages: tuple[str, ...] | None = None  # that there is an aligner for; None: any

    def values(self) -> dict[str, Any]:
        """The query's parameters."""
        return asdict(self) | {"languages": None if self.languages is None else list(self.languages)}


@dataclass(frozen=True, slots=True)
class Wish:
    """How it is to be made, and by whose will."""

    who: str
    why: str
    run_key: bytes
    receipt: Mapping[str, Any]
    forced: bool = False
    keep_current: bool = False
    max_attempts: int = 5
    stage: str = TRANSCRIBE
    rules: int | None = None  # of ENRICH: what these have judged already is left out
    alignable: Alignable | None = None  # of ALIGN: what is chosen at all


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a selection came to."""

    id: int
    recordings: int
    known: int  # chosen too, but made under this key already
    unknown_names: tuple[str, ...]
    missing: Mapping[str, int]  # failed_shards, open_shards, unjudged_shards, missing_files of the days looked at
    days: int  # looked at


@dataclass(frozen=True, slots=True)
class Plan:
    """A stored plan."""

    id: int
    state: str
    stage: str
    selection: Mapping[str, Any]
    who: str
    why: str
    run_key: bytes
    receipt: Mapping[str, Any]
    forced: bool
    keep_current: bool
    recordings: int
    seconds: float
    estimate: Mapping[str, Any]
    summary: Mapping[str, Any] | None
    created: datetime
    started: datetime | None
    finished: datetime | None

    @property
    def text(self) -> Mapping[str, Any] | None:
        """Of ALIGN: the run that wrote the texts, as its receipt says it."""
        return self.receipt["text"] if self.stage == ALIGN else None

    def foreseen(self) -> list[dict[str, Any]]:
        """What was expected against what then was, in seconds, with the error as a share of what was and in words: of
        the engine's own time, and from the opening to the end (expected of SLURM's tasks). Empty until both are known,
        and where both are less than a second."""
        engine, whole = self.estimate.get("engine_hours"), self.estimate.get("finish_hours")
        took = (self.finished - self.started).total_seconds() if self.started and self.finished else None
        known = (("engine", engine, (self.summary or {}).get("engine_seconds")), ("whole", whole, took))
        return [
            {"of": of, "expected": hours * 3600, "was": was, "error": (hours * 3600 - was) / was,
             "says": _wrong_by(hours * 3600 / was)}
            for of, hours, was in known
            if hours is not None and was and self.summary is not None and max(hours * 3600, was) >= 1
        ]  # fmt: skip


def _wrong_by(ratio: float) -> str:
    """How far what was expected was from what was, so that nobody takes one for the other."""
    much, times = ("much", ratio) if ratio >= 1 else ("little", 1 / ratio if ratio else math.inf)
    if times < 3:
        return f"{100 * abs(ratio - 1):.0f} % too {much}"
    return f"{times:.0f} times too {much}" if times < math.inf else "none"


@translated()
def draw(connection: Connection, selection: Selection, wish: Wish) -> Drawn:
    """Choose, and store what was chosen, in one transaction; NothingChosen leaves nothing behind."""
    with connection.transaction():
        looked_at = _pick(connection, selection, wish.run_key, wish.receipt.get("models", ()))
        unknown = _keep_named(connection, selection.names)
        if wish.stage == ENRICH:
            connection.execute(SQL["keep_transcribed"])
        if wish.alignable is not None:
            connection.execute(SQL["keep_alignable"], wish.alignable.values())
        known = 0 if wish.forced else _known(connection, wish)
        missing = _one(connection, "shards_missing")
        plan_id = _one(connection, "put_plan", **_stored(selection, wish))["id"]
        order = {"newest": selection.newest_first, "limit": selection.limit, "max_attempts": wish.max_attempts}
        connection.execute(SQL["put_recordings"], order | {"plan_id": plan_id})
        recordings = _one(connection, "count_recordings", plan_id=plan_id)["recordings"]
        if not recordings:
            if not looked_at:
                raise BadData(NO_DAY)
            said = _nothing(looked_at, known, missing, unknown, wish.stage)
            raise NothingChosen(said, known=known, missing=missing)
        events.add(connection, "plan.drawn", actor=wish.who, plan=plan_id, recordings=recordings, why=wish.why)
    return Drawn(plan_id, recordings, known, unknown, missing, looked_at)


def _pick(
    connection: Connection, selection: Selection, run_key: bytes, models: Sequence[Mapping[str, Any]] = ()
) -> int:
    """Gather what any criterion finds; of how many days. `models`: those that would be used now."""
    where = {"site": selection.site, "start": selection.start, "stop": selection.stop}
    connection.execute(SQL["begin_choice"])
    connection.execute(SQL["scope"], where)
    connection.execute(SQL["index_scope"])
    connection.execute(SQL["measure_scope"])
    looked_at = _one(connection, "count_scope")["days"]
    named = _named(selection.names or ())
    for criterion in selection.criteria:
        query = "pick_named" if criterion.kind == "all" and selection.names else PICKS[criterion.kind][0]
        asked = criterion.values() | named | {"run_key": run_key}
        if criterion.kind == "not_model":  # one model may have several names, a path among them
            asked["digest"] = next((one["digest"] for one in models if one["name"] == criterion.value), None)
        if criterion.kind == "not_run":
            asked["runs"] = [run["id"] for run in runs.find(connection, criterion.value)]
        connection.execute(SQL[query], asked)
    connection.execute(SQL["measure_choice"])
    return int(looked_at)


@translated()
def texts(connection: Connection, selection: Selection, wanted: Alignable) -> list[dict[str, Any]]:
    """The runs that wrote the texts of a selection, those of most recordings first: key, forced_by, recordings and the
    `models` that heard them."""
    with connection.transaction():
        if not _pick(connection, selection, b""):
            raise BadData(NO_DAY)
        _keep_named(connection, selection.names)
        connection.execute(SQL["keep_alignable"], wanted.values())
        return connection.execute(SQL["texts"]).fetchall()


def _known(connection: Connection, wish: Wish) -> int:
    if wish.stage == ENRICH:
        found = _one(connection, "drop_judged", rules=wish.rules)
    else:
        found = _one(connection, "drop_known", run_key=wish.run_key, keep_current=wish.keep_current)
    return int(found["recordings"])


def _keep_named(connection: Connection, names: Sequence[str] | None) -> tuple[str, ...]:
    """Drop what was not named; those names that are nobody's."""
    if names is None:
        return ()
    unknown = connection.execute(SQL["unknown_names"], {"names": list(names)}).fetchall()
    connection.execute(SQL["keep_named"], _named(names))
    return tuple(row["name"] for row in unknown)


def _named(names: Sequence[str]) -> dict[str, Any]:
    ids = [int(name) for name in names if name.isascii() and name.isdigit() and len(name) < 19]
    return {"ids": ids, "meta_ids": list(names)}


def _stored(selection: Selection, wish: Wish) -> dict[str, Any]:
    told = asdict(selection) | {
        "start": selection.start.isoformat() if selection.start else None,
        "stop": selection.stop.isoformat() if selection.stop else None,
        "names": None if selection.names is None else len(selection.names),  # which they were, plan_recordings says
    }
    wanted = asdict(wish) | {"receipt": Jsonb(dict(wish.receipt)), "selection": Jsonb(told)}
    return {name: value for name, value in wanted.items() if name not in ("max_attempts", "rules", "alignable")}


def _nothing(looked_at: int, known: int, missing: Mapping[str, int], unknown: Sequence[str], stage: str) -> str:
    said = f"In {looked_at} days nothing is to be made again"
    if known and stage == ENRICH:
        said += (
            f": {known} recordings were chosen, and all of them are judged by these rules, with the evidence there is"
        )
        said += ". Judge them all the same with --force --reason TEXT"
    elif known:
        said += f": {known} recordings were chosen, and all of them have been made under this very key"
        said += ". Change a setting, or make them all the same with --force --reason TEXT"
    if unknown:
        said += f". {len(unknown)} names are of no recording of these days: {', '.join(unknown[:3])[:200]}"
    if missing["failed_shards"]:
        said += f". {missing['failed_shards']} shards failed before they were read whole: dayscribe days retry"
    return said


@translated()
def get(connection: Connection, plan_id: int) -> Plan:
    """The plan; NoSuchPlan."""
    row = connection.execute(SQL["get"], {"id": plan_id}).fetchone()
    if row is None:
        raise NoSuchPlan(f"The ledger has no plan {plan_id}; see: dayscribe plans list")
    return Plan(**{name: row[name] for name in Plan.__slots__})


@translated()
def latest(connection: Connection, *, every: bool = True, limit: int = 100) -> list[dict[str, Any]]:
    """The latest plans, newest first, with how far they are; without `every` only those that are not over."""
    return connection.execute(SQL["list"], {"every": every, "limit": limit}).fetchall()


@translated()
def by_reason(connection: Connection, plan_id: int) -> list[dict[str, Any]]:
    """Recordings and seconds of each day and reason; one with two reasons counts under both."""
    return connection.execute(SQL["by_reason"], {"plan_id": plan_id}).fetchall()


@translated()
def by_day(connection: Connection, plan_id: int) -> list[dict[str, Any]]:
    """Each day of the plan, with what came of it so far."""
    return connection.execute(SQL["by_day"], {"plan_id": plan_id}).fetchall()


@translated()
def outcomes(connection: Connection, plan_id: int) -> dict[str, int]:
    """recordings, remade, known, failed, left; changed: of those left, whose current transcript is another by now."""
    return _one(connection, "outcomes", plan_id=plan_id)


@translated()
def shards(connection: Connection, plan_id: int) -> list[dict[str, Any]]:
    """The shards that have to be read, in the plan's order, with where their files should be."""
    return connection.execute(SQL["shards"], {"plan_id": plan_id}).fetchall()


@translated()
def awaited(connection: Connection, plan_id: int) -> dict[str, int]:
    """What has to be fetched before the plan can read it: archives, bytes, and how many archives are moving."""
    return _one(connection, "awaited", plan_id=plan_id)


@translated()
def awaited_days(connection: Connection, plan_id: int) -> list[dict[str, Any]]:
    """site, date and day_id of the plan's days of which something was let go, or is on its way."""
    return connection.execute(SQL["awaited_days"], {"plan_id": plan_id}).fetchall()


def recordings(connection: Connection, plan_id: int, *, size: int = 1000) -> Iterator[dict[str, Any]]:
    """Every recording of the plan, page by page: what was, why it is made again, what came of it."""
    after = 0
    while rows := page(connection, plan_id, after, limit=size):
        yield from rows
        after = rows[-1]["id"]


@translated()
def page(connection: Connection, plan_id: int, after: int, *, limit: int = 1000) -> list[dict[str, Any]]:
    """The plan's recordings after this one, as many as are read at a time."""
    values = {"plan_id": plan_id, "after": after, "limit": limit}
    return connection.execute(SQL["recordings"], values).fetchall()


@translated()
def measured(connection: Connection, plan: Plan) -> dict[str, Any]:
    """audio, engine (seconds) and where the figures are from; and the bytes that a recording's results took."""
    told = _one(connection, "measured_of_key", run_key=plan.run_key, stage=None)
    basis = f"{told['plans']} plans of this key"
    if not told["engine"] and plan.stage == ALIGN:
        told = _one(connection, "measured_of_key", run_key=None, stage=ALIGN)
        basis = f"{told['plans']} plans that aligned"
    if not told["engine"]:
        told = _one(connection, "measured")
        most = "; aligning alone takes less" if plan.stage == ALIGN else ""
        basis = f"{told['days']} finished days{most}"
    size = _one(connection, "part_bytes", plan_id=plan.id)
    each = size["bytes"] / size["recordings"] if size["recordings"] else 0.0
    return {"audio": told["audio"], "engine": told["engine"], "basis": basis, "bytes_each": each}


@translated()
def there_already(connection: Connection, plan: Plan) -> dict[str, Any]:
    """recordings of the plan, and their seconds, whose version under its key exists and is not what readers see:
    nothing is made of them, and readers see it; and how many others are of unknown length: unmeasured."""
    return _one(connection, "there_already", plan_id=plan.id, run_key=plan.run_key, forced=plan.forced)


@translated()
def put_estimate(connection: Connection, plan_id: int, estimate: Mapping[str, Any]) -> None:
    """Keep what the plan was said to cost, to be held against what it then did."""
    connection.execute(SQL["put_estimate"], {"plan_id": plan_id, "estimate": Jsonb(dict(estimate))})


@translated()
def move(connection: Connection, plan: Plan, verb: str, *, actor: str) -> None:
    """Open, pause, resume or cancel it; IllegalMove from a state that does not allow it. Resuming a plan that is done
    takes up what failed of it. What an open plan reads is kept, and what was let go of it fetched again."""
    sources, to = MOVES[verb]
    with connection.transaction():
        days_of = connection.execute(SQL["lock_days"], {"plan_id": plan.id}).fetchall() if to == OPEN else []
        now = get(connection, plan.id)
        if now.state not in sources:
            raise IllegalMove(f"Plan {plan.id} is {now.state}; to {verb} it, it has to be {' or '.join(sources)}.")
        if now.state == DONE and not _take_up(connection, plan.id):
            raise IllegalMove(f"Plan {plan.id} is done, and nothing of it failed.")
        if connection.execute(SQL["move"], {"id": plan.id, "to": to, "from": list(sources)}).rowcount != 1:
            raise IllegalMove(f"Plan {plan.id} has ended meanwhile; see: dayscribe plans show {plan.id}")
        if to == OPEN:
            transfers.want_again(connection, plan.id, [row["id"] for row in days_of])
        events.add(connection, f"plan.{to}", actor=actor, plan=plan.id)


def _take_up(connection: Connection, plan_id: int) -> bool:
    """Make what failed of a finished plan open again; whether there was anything."""
    again = connection.execute(SQL["retry_recordings"], {"id": plan_id}).rowcount
    again += connection.execute(SQL["retry_failed"], {"id": plan_id}).rowcount
    connection.execute(SQL["reopen_shards"], {"id": plan_id})
    return again > 0


def _one(connection: Connection, query: str, **values: Any) -> dict[str, Any]:
    row = connection.execute(SQL[query], values).fetchone()
    assert row is not None
    return row
