"""What is amiss: the ledger's facts in, findings out, each with what mends it; for alerts, digest and dashboard."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from db.alerts import Facts, Found
from db.printable import plain

LONGEST_SUBJECT = 100


class Kind(StrEnum):
    """What may be amiss, the gravest first."""

    LEDGER_AWAY = "ledger_away"
    STALE_TICK = "stale_tick"
    NO_OUTPUT = "no_output"
    NEEDS_A_PERSON = "needs_a_person"
    NO_ROOM = "no_room"
    BLOCKED = "blocked"
    FAILED_DAY = "failed_day"
    LAPSED_LEASE = "lapsed_lease"


TITLES = {
    Kind.LEDGER_AWAY: "the ledger is away",
    Kind.STALE_TICK: "nobody ticks",
    Kind.NO_OUTPUT: "nothing comes out",
    Kind.NEEDS_A_PERSON: "a site waits for a person",
    Kind.NO_ROOM: "no room",
    Kind.BLOCKED: "jobs are refused",
    Kind.FAILED_DAY: "a day has failed",
    Kind.LAPSED_LEASE: "a worker vanished",
}
BY_THE_LEDGER = tuple(kind.value for kind in Kind if kind not in (Kind.LEDGER_AWAY, Kind.NO_ROOM))


@dataclass(frozen=True, slots=True)
class Limits:
    """From when on something is amiss; the settings alert.* say it."""

    tick: timedelta = timedelta(minutes=30)
    silent: timedelta = timedelta(hours=24)
    lapsed: timedelta = timedelta(minutes=60)


def judge(facts: Facts, limits: Limits) -> list[Found]:
    """All that is amiss by the ledger's word."""
    return [
        *_stale_ticks(facts, limits),
        *_no_output(facts, limits),
        *_needs_a_person(facts),
        *_blocked(facts),
        *_failed_days(facts),
        *_lapsed(facts),
    ]


def found(kind: Kind, subject: str, message: str, fix: str) -> Found:
    """A finding, with what came from outside made harmless."""
    return Found(kind.value, plain(subject, LONGEST_SUBJECT), plain(message), plain(fix))


def in_words(seconds: float) -> str:
    """A length of time as a person says it."""
    if seconds < 90 * 60:
        return f"{max(seconds, 0) / 60:.0f} minutes"
    return f"{seconds / 3600:.0f} hours" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"


def _stale_ticks(facts: Facts, limits: Limits) -> Iterator[Found]:
    """Of the last who ticked at all, and of everybody something of whose waits for his next tick: who left long ago
    and owes nothing is not missed."""
    for row in facts.ticks:
        if row["seconds_ago"] > limits.tick.total_seconds() and (row["newest"] or row["minds"]):
            told = f"the last tick of {row['owner']} was {in_words(row['seconds_ago'])} ago, on {row['host']}"
            fix = "dayscribe schedule --once"
            yield found(Kind.STALE_TICK, row["owner"], f"{told}; start its timer or job again there", fix)


def _no_output(facts: Facts, limits: Limits) -> Iterator[Found]:
    if facts.silent_seconds is None or facts.silent_seconds <= limits.silent.total_seconds():
        return
    told = (
        f"work is open ({facts.open_work} days or plans), and no part was recorded for {in_words(facts.silent_seconds)}"
    )
    if facts.paused:
        told += f"; {facts.paused['who']} paused scheduling: {facts.paused['why']}"
    fix = "dayscribe schedule --resume" if facts.paused else "dayscribe jobs list"
    yield found(Kind.NO_OUTPUT, "open work", told, fix)


def _needs_a_person(facts: Facts) -> Iterator[Found]:
    for row in facts.troubles:
        login = row["kind"] in ("needs_login", "needs_consent")
        fix = "dayscribe globus login" if login else f"dayscribe sites show {row['site']}"
        message = f"{row['kind'].replace('_', ' ')}: {row['message']}"
        yield found(Kind.NEEDS_A_PERSON, f"{row['site']} of {row['owner']}", message, fix)
    told = {(row["site"], row["owner"]) for row in facts.troubles}
    for row in facts.waits_for_a_person:
        if (row["site"], row["owner"]) not in told:
            told.add((row["site"], row["owner"]))
            state = row["state"].replace("_", " ")
            message = f"{state}, transfers that stand still: {row['transfers']}; {row['message'] or ''}"
            yield found(Kind.NEEDS_A_PERSON, f"{row['site']} of {row['owner']}", message, "dayscribe globus login")


def _blocked(facts: Facts) -> Iterator[Found]:
    for row in facts.blocked:
        message = f"orders that wait: {row['jobs']}; the scheduler says: {row['message'] or 'nothing'}"
        yield found(Kind.BLOCKED, f"{row['owner']}: {row['message']}", message, f"dayscribe jobs show {row['id']}")


def _failed_days(facts: Facts) -> Iterator[Found]:
    for row in facts.failed_days:
        message = f"{row['state'].replace('_', ' ')}: {row['message'] or 'see its events'}"
        fix = f"dayscribe days retry {row['date']} --site {row['site']}"
        yield found(Kind.FAILED_DAY, f"{row['site']} {row['date']}", message, fix)


def _lapsed(facts: Facts) -> Iterator[Found]:
    for row in facts.lapsed:
        message = (
            f"shards whose worker gave no sign of life and that nobody took over: {row['shards']}; the oldest lease ran"
            f" out {in_words(row['seconds'])} ago"
        )
        yield found(Kind.LAPSED_LEASE, f"{row['site']} {row['date']}", message, "dayscribe schedule --once")
