"""What every page says above all else when the ledger is not what it should be: that its numbers stand still."""

from __future__ import annotations

from db import jobs
from db.connect import Connection

STALE = 900.0  # seconds without a tick after which nothing moves any more


def warnings(connection: Connection) -> list[str]:
    """Sentences; none when all is well, or when no tick was ever made (one machine works without)."""
    ticks = jobs.ticks(connection)
    if ticks and (since := min(tick["seconds_ago"] for tick in ticks)) > STALE:
        return [
            f"No tick for {since / 60:.0f} minutes: nothing is fetched and no job is given. Numbers may stand still."
        ]
    return []
