"""Whether all is well, finding by finding, each with a sentence and, when it is not well, what to type."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from db import health, jobs, migrate, transfers
from db.connect import Connection
from monitor.documents.banner import STALE

SILENT = 86400.0  # seconds without a part, while a job works, after which something is wrong


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    well: bool
    says: str
    command: str | None = None


def report(connection: Connection) -> dict[str, Any]:
    """All findings, and the numbers they come from."""
    ticks, leases, troubles = jobs.ticks(connection), health.leases(connection), transfers.troubles(connection)
    live, output = health.jobs_by_state(connection), health.last_output(connection)
    findings = [
        _ticks(ticks),
        _paused(connection),
        _leases(leases),
        _output(output, live),
        _blocked(live),
        *_troubles(troubles),
    ]
    return {
        "findings": [asdict(one) for one in findings],
        "ticks": [{key: row[key] for key in ("owner", "host", "began", "took_ms", "seconds_ago")} for row in ticks],
        "leases": leases, "last_output_ago": output, "jobs": live, "sizes": health.sizes(connection),
        "schema": migrate.check(connection), "days": health.days_by_state(connection),
    }  # fmt: skip


def _ticks(ticks: list[dict[str, Any]]) -> Finding:
    if not ticks:
        return Finding("tick", True, "No tick was ever made: days are worked on this machine, by dayscribe run.")
    ago = min(row["seconds_ago"] for row in ticks)
    if ago <= STALE:
        return Finding("tick", True, "The last tick was less than a quarter of an hour ago.")
    return Finding(
        "tick", False, f"The last tick was {ago / 60:.0f} minutes ago.", "sbatch slurm/0_master_scheduler.sh"
    )


def _paused(connection: Connection) -> Finding:
    paused = jobs.paused(connection)
    if paused is None:
        return Finding("scheduling", True, "Scheduling is not paused.")
    return Finding(
        "scheduling", False, f"{paused['who']} paused scheduling: {paused['why']}", "dayscribe schedule --resume"
    )


def _leases(leases: dict[str, Any]) -> Finding:
    if not leases["lapsed"]:
        return Finding("leases", True, f"{leases['held']} shards are in workers' hands; no lease has lapsed.")
    says = f"{leases['lapsed']} leases have lapsed, the oldest {leases['oldest_lapsed'] / 60:.0f} minutes ago"
    return Finding("leases", False, f"{says}; the next claim rescues them.", "dayscribe status")


def _output(ago: float | None, live: list[dict[str, Any]]) -> Finding:
    at_work = any(row["state"] == "running" for row in live)
    if ago is None:
        return Finding("output", True, "Nothing was transcribed yet.")
    says = (
        f"The last results were recorded {ago / 3600:.0f} hours ago."
        if ago > SILENT
        else "Results came in the last day."
    )
    return Finding(
        "output", not (at_work and ago > SILENT), says, "dayscribe jobs list" if at_work and ago > SILENT else None
    )


def _blocked(live: list[dict[str, Any]]) -> Finding:
    blocked = sum(row["jobs"] for row in live if row["state"] == "blocked")
    if not blocked:
        return Finding("orders", True, "SLURM refuses none of our orders.")
    return Finding("orders", False, f"SLURM refuses {blocked} of our orders.", "dayscribe jobs list --live")


def _troubles(troubles: list[dict[str, Any]]) -> list[Finding]:
    return [Finding(f"transfers of {row['site']}", False, row["message"], "dayscribe globus check") for row in troubles]
