"""A day and its shards: state, counts, slots, course, failures, events, and how it would be made again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from db import calendar, days, events, flags
from db.connect import Connection
from db.days import Day
from db.states import DayState, RecordingState
from monitor.documents.course import course

ANY = "any"  # in place of a flag's name


def day(connection: Connection, one: Day) -> dict[str, Any]:
    """All that a day's page shows besides its recordings."""
    finished = days.is_finished(one) and one.summary is not None
    tally = one.summary if finished and one.summary is not None else days.tally(connection, one.id)
    went = course(connection, one)
    return {
        "site": one.site, "date": one.date, "state": one.state.value, "message": one.message, "revision": one.revision,
        "started": one.started, "finished": one.finished, "tally": tally, "slots": slots(connection, one),
        "course": went, "left": None if finished else left(tally, went["speed"]),
        "failures": calendar.failures(connection, one.id), "failed_shards": calendar.failed_shards(connection, one.id),
        "quality": flags.overview(connection, one),
        "events": events.of_day(connection, one.id, limit=30), "commands": commands(one, tally),
    }  # fmt: skip


def slots(connection: Connection, one: Day) -> list[dict[str, Any]]:
    """The gap map: of each slot the archive's mark, its shard's id, and which companions are known."""
    by_slot: dict[str, dict[str, Any]] = {}
    for row in days.slots(connection, one.id):
        entry = by_slot.setdefault(row["slot"], {"slot": row["slot"], "shard_id": None, "mark": None})
        entry[row["kind"]] = row["finding"]
        if row["kind"] == "archive":
            entry |= {"mark": _mark(row), "shard_id": row["shard_id"]}
    return list(by_slot.values())


def _mark(row: dict[str, Any]) -> str:
    """One word of an archive: its shard's state says more than that it is there."""
    if row["shard_state"] not in (None, "ready"):
        return str(row["shard_state"])
    return "verified" if row["finding"] == "arrived" and row["verified"] else str(row["finding"])


def left(tally: dict[str, Any], speed: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Seconds until the open shards are done, if they go on as the last hour's did; None before anything is known."""
    done = tally["shards"] - tally["open_shards"]
    recent = speed[-60:]
    if not tally["open_shards"] or not done or len(recent) < 2:
        return None
    took = (recent[-1]["minute"] - recent[0]["minute"]).total_seconds() + 60
    per_shard = sum(row["recordings"] for row in speed) / done
    each = took * per_shard / max(1, sum(row["recordings"] for row in recent))
    return {"seconds": each * tally["open_shards"], "shards": tally["open_shards"], "minutes": len(recent)}


def commands(one: Day, tally: dict[str, Any]) -> list[tuple[str, str]]:
    """What a person would type about this day: why, and the exact command."""
    which = f"{one.date} --site {one.site}"
    found = []
    if one.state in (DayState.TRANSFER_FAILED, DayState.PROCESSING_FAILED) or tally["failed_shards"]:
        found.append(("try again what failed", f"dayscribe days retry {which}"))
    if one.state is DayState.HELD:
        found.append(("end the hold", f"dayscribe days release {which}"))
    if tally["quarantined"]:
        chosen = f"--date {one.date} --site {one.site} --only quarantined"
        found.append(("make the quarantined recordings again", f"dayscribe reprocess {chosen} --dry-run"))
    if tally["transcribed"]:
        chosen = f"--date {one.date} --site {one.site} --only suspect"
        found.append(("make what is flagged again", f"dayscribe reprocess {chosen} --dry-run"))
    return found


@dataclass(frozen=True, slots=True)
class View:
    """Which of a day's recordings are looked at, by at most one of these; by none: all."""

    state: str | None = None
    flag: str | None = None  # any: whichever it is
    error: str | None = None  # the class of the failure

    def asked(self) -> dict[str, str]:
        """As the page's address says it."""
        return {name: value for name in self.__slots__ if (value := getattr(self, name)) is not None}


def recordings(connection: Connection, one: Day, view: View, *, after: int, limit: int) -> list[dict[str, Any]]:
    """A page of those that are looked at, in the day's order, after an id."""
    if view.flag is not None:
        flag = None if view.flag == ANY else view.flag
        return calendar.flagged_of_day(connection, one.id, flag=flag, after=after, limit=limit)
    state = RecordingState.QUARANTINED.value if view.error else view.state
    return calendar.of_day(connection, one.id, state=state, failure_class=view.error, after=after, limit=limit)


def again(one: Day, view: View) -> str | None:
    """The command that makes exactly what is looked at again; None where it has no reason of that kind."""
    if view.flag is not None:
        only = " --only suspect" if view.flag == ANY else f" --only flag={view.flag}"
    elif view.error is not None:
        only = f" --only error={view.error}"
    elif view.state is None:
        only = ""
    elif view.state == RecordingState.QUARANTINED:
        only = " --only quarantined"
    else:
        return None  # reprocess chooses by what may be wrong
    return f"dayscribe reprocess --date {one.date} --site {one.site}{only} --dry-run"


def shard(connection: Connection, shard_id: int) -> dict[str, Any] | None:
    """A shard: its state, its seal, its lease, its parts; None if there is none."""
    row = calendar.shard(connection, shard_id)
    if row is None:
        return None
    names = (
        "id", "site", "date", "name", "slot", "loose", "size", "revision", "state", "epoch", "attempts", "max_attempts",
        "owner", "lease_until", "lapsed", "failure_class", "failure_reason", "sealed", "seal_recordings",
    )  # fmt: skip
    return {name: row[name] for name in names} | {"parts": calendar.parts(connection, shard_id)}
