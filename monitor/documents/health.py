"""Whether all is well, kind by kind: what the alerts' own rules find, and what to type; and the numbers behind it."""

from __future__ import annotations

from typing import Any

from db import alerts, health, jobs, migrate
from db.amiss import BY_THE_LEDGER, TITLES, Kind, Limits, judge
from db.connect import Connection

LIMITS = Limits()
# What is so when a kind of trouble is not there.
WELL = {
    Kind.STALE_TICK: "whoever has to tick does, or nobody has to",
    Kind.NO_OUTPUT: "results come, or no work is open",
    Kind.NEEDS_A_PERSON: "no site waits for a person",
    Kind.BLOCKED: "no order is refused",
    Kind.FAILED_DAY: "no day has failed",
    Kind.LAPSED_LEASE: "every lease that ran out was taken over",
}


def report(connection: Connection) -> dict[str, Any]:
    """All kinds of trouble that the ledger knows of, and the numbers they come from."""
    return {
        "findings": _findings(connection),
        "ticks": [
            {key: row[key] for key in ("owner", "host", "began", "took_ms", "seconds_ago")}
            for row in jobs.ticks(connection)
        ],
        "leases": health.leases(connection), "last_output_ago": health.last_output(connection),
        "jobs": health.jobs_by_state(connection), "sizes": health.sizes(connection),
        "schema": migrate.check(connection), "days": health.days_by_state(connection),
    }  # fmt: skip


def _findings(connection: Connection) -> list[dict[str, Any]]:
    found = judge(alerts.facts(connection, lapsed=LIMITS.lapsed), LIMITS)
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
