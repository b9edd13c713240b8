"""Whether all is well, kind by kind: what the alerts' own rules find, and what to type; and the numbers behind it."""

from __future__ import annotations

from typing import Any

from db import alerts, health, jobs, migrate
from db.amiss import BY_THE_LEDGER, TITLES, Kind, Limits, judge
from db.connect import Connection

# What is so when a kind of trouble is not there.
WELL = {
    Kind.STALE_TICK: "whoever has to tick does, or nobody has to",
    Kind.NO_OUTPUT: "results come, or no work is open",
    Kind.NEEDS_A_PERSON: "no site waits for a person",
    Kind.BLOCKED: "no order is refused",
    Kind.FAILED_DAY: "no day has failed",
    Kind.LAPSED_LEASE: "every lease that ran out was taken over",
}


def report(connection: Connection, limits: Limits) -> dict[str, Any]:
    """All kinds of trouble that the ledger knows of, and the numbers they come from."""
    ticks = jobs.ticks(connection)
    return {
        "findings": _findings(connection, limits),
        "ticks": [_tick(row) for row in ticks],
        "room": [_room(row) for row in ticks if row["report"].get("room")],
        "leases": health.leases(connection), "last_output_ago": health.last_output(connection),
        "jobs": health.jobs_by_state(connection), "sizes": health.sizes(connection),
        "schema": migrate.check(connection), "days": health.days_by_state(connection),
    }  # fmt: skip


def _tick(row: dict[str, Any]) -> dict[str, Any]:
    """A user's last tick; `parts_left`: published and not recorded when it was over (None: an older program's tick),
    `parts_all`: these are all there were."""
    left = row["report"].get("parts_left")
    told = {key: row[key] for key in ("owner", "host", "began", "took_ms", "seconds_ago")}
    return told | {
        "parts_left": None if left is None else sum(left.values()),
        "parts_all": row["report"].get("parts_all", False),
    }


def _room(row: dict[str, Any]) -> dict[str, Any]:
    """What a user's last tick saw of the disks, which this server may not see, and of the budget."""
    names = ("staged", "budget_bytes", "budget_files", "disks")
    return {key: row[key] for key in ("owner", "host", "began")} | {name: row["report"]["room"][name] for name in names}


def _findings(connection: Connection, limits: Limits) -> list[dict[str, Any]]:
    found = judge(alerts.facts(connection, lapsed=limits.lapsed), limits)
    told = [
        {
            "name": one.kind,
            "well": False,
            "says": f"{TITLES[Kind(one.kind)]}: {one.subject}: {one.message}",
            "command": one.fix,
        }
        for one in found
    ]
    amiss = {one.kind for one in found}
    well = [
        {"name": kind, "well": True, "says": WELL[Kind(kind)], "command": None}
        for kind in BY_THE_LEDGER
        if kind not in amiss
    ]
    return told + well
