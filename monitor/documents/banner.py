"""What every page says above all else when the ledger is not what it should be: that its numbers stand still."""

from __future__ import annotations

from db import health
from db.amiss import Limits
from db.connect import Connection

STALE = Limits().tick.total_seconds()  # without a tick; then nothing moves any more


def warnings(connection: Connection) -> list[str]:
    """Sentences; none when all is well, or when no tick was ever made (one machine works without)."""
    told, found = health.banner(connection), []
    if told["tick_ago"] is not None and told["tick_ago"] > STALE:
        # Whole half hours: a page that nothing else has changed is not sent again each minute.
        found.append(
            f"No tick for more than {told['tick_ago'] // STALE * STALE / 60:.0f} minutes: nothing is fetched, no job is"
            " ordered, and what you see may be old. On the submit host: dayscribe schedule --once"
        )
    if told["paused"] is not None:
        found.append(f"Scheduling is paused: {told['paused']}")
    return found
