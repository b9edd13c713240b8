"""The digest: what was finished, what failed and why, what needs a person and the command for it, what is under way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from db.alerts import Found
from db.amiss import Kind, in_words
from db.digests import Facts
from db.printable import plain
from hpc.alerts.words import lines, moment
from hpc.message import Item, Message

SHOWN = 30  # lines of one list


@dataclass(frozen=True, slots=True)
class Digest:
    """As `--json` prints it."""

    since: str
    finished: list[dict[str, Any]]
    failed: list[dict[str, Any]]  # what, class, count, example
    needs_a_person: list[dict[str, Any]]
    under_way: list[dict[str, Any]]
    plans: list[dict[str, Any]]  # done since then, or not over
    pending: int
    held: int


def digest(facts: Facts, found: Sequence[Found]) -> Digest:
    """Facts of the ledger and findings of the alerts' rules, in the digest's words."""
    order = [kind.value for kind in Kind]
    return Digest(
        moment(facts.since),
        [_finished(row) for row in facts.finished],
        list(_failed(facts)),
        [asdict(one) for one in sorted(found, key=lambda one: order.index(one.kind))],
        [_under_way(row) for row in facts.under_way],
        [_plan(row) for row in facts.plans],
        facts.pending,
        facts.held,
    )


def message(made: Digest) -> Message:
    """The digest as a message."""
    items = tuple(Item(**one) for one in made.needs_a_person)
    title = f"dayscribe: {len(made.finished)} days finished"
    if items:
        title += f", {len(items)} things need a person"
    return Message("digest", title, text(made), items)


def text(made: Digest) -> str:
    """The digest for people."""
    done = [
        f"{one['site']} {one['date']}: {one['state'].replace('_', ' ')}, {one['transcribed']} transcribed of"
        f" {one['recordings']} recordings, {one['quarantined']} quarantined"
        for one in made.finished
    ]
    failed = [f"{one['count']} {one['what']}, {one['class']}: {one['example']}" for one in made.failed]
    people = ["\n  ".join(lines(Item(**one))) for one in made.needs_a_person]
    going = [
        f"{one['site']} {one['date']}: {one['state'].replace('_', ' ')}, {one['settled']} of {one['shards']} shards"
        f"{_left(one)}"
        for one in made.under_way
    ]
    again = [f"plan {one['plan']} ({one['stage']}{_why(one)}): {one['state']}, {_outcome(one)}" for one in made.plans]
    waits = f"{made.pending} days wait for their turn, {made.held} are held."
    sections = [
        (f"Finished since {made.since}", done),
        ("Failed", failed),
        ("Needs a person", people),
        ("Under way", going),
        ("Made again by plans", again),
    ]
    return "\n".join(paragraph for title, rows in sections for paragraph in _section(title, rows)) + f"\n{waits}\n"


def seconds_left(row: Mapping[str, Any]) -> float | None:
    """At the pace of the day so far; None: it is not known, since nobody works on it or nothing is settled yet."""
    if not row["settled_bytes"] or not row["at_work"] or not row["seconds"] or row["state"] != "processing":
        return None
    left: float = (row["bytes"] - row["settled_bytes"]) * row["seconds"] / row["settled_bytes"]
    return left


def _section(title: str, rows: Sequence[str]) -> list[str]:
    shown = [f"- {row}" for row in rows[:SHOWN]] or ["nothing"]
    shown += [f"- and {len(rows) - SHOWN} more"] if len(rows) > SHOWN else []
    return [f"{title}:", *shown, ""]


def _finished(row: Mapping[str, Any]) -> dict[str, Any]:
    counted = row["summary"] or {}
    counts = {key: counted.get(key, 0) for key in ("recordings", "transcribed", "no_speech", "quarantined")}
    return {"site": row["site"], "date": row["date"].isoformat(), "state": row["state"], **counts}


def _failed(facts: Facts) -> Iterator[dict[str, Any]]:
    for row in facts.failed_shards:
        yield _group("shards", row["failure_class"], row["shards"], row["example"])
    for row in facts.quarantined:
        yield _group("recordings", row["failure_class"], row["recordings"], row["example"])
    for row in facts.failed_jobs:
        yield _group("jobs", "failed", row["jobs"], f"{row['message']} (dayscribe jobs show {row['id']})")
    for row in facts.failed_movements:
        what = "transfers" if row["what"] == "transfer" else "deliveries"
        yield _group(what, row["state"], row["times"], row["example"])


def _group(what: str, kind: str, count: int, example: str | None) -> dict[str, Any]:
    return {"what": what, "class": plain(kind), "count": count, "example": plain(example or "")}


def _under_way(row: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("site", "state", "shards", "settled", "at_work")
    left = seconds_left(row)
    return {"date": row["date"].isoformat(), **{key: row[key] for key in keys}, "seconds_left": left}


def _plan(row: Mapping[str, Any]) -> dict[str, Any]:
    counted = row["summary"] or {}
    counts = {key: counted.get(key, 0) for key in ("remade", "known", "failed")}
    told = {"plan": row["id"], "state": row["state"], "stage": row["stage"], "why": plain(row["why"] or "")}
    return told | {"recordings": row["recordings"], "settled": row["settled"], **counts}


def _why(one: Mapping[str, Any]) -> str:
    return f", {one['why']}" if one["why"] else ""


def _outcome(one: Mapping[str, Any]) -> str:
    if one["state"] != "done":
        return f"{one['settled']} of {one['recordings']} recordings are settled"
    changed = "have other flags" if one["stage"] == "enrich" else "were made again"
    return f"{one['remade']} of {one['recordings']} recordings {changed}, {one['failed']} failed"


def _left(one: Mapping[str, Any]) -> str:
    if one["seconds_left"] is not None:
        return f", about {in_words(one['seconds_left'])} left"
    return "" if one["at_work"] else ", nobody at work"
