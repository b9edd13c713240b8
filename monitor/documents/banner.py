"""What every page says above all else when the ledger is not what it should be: that its numbers stand still."""

from __future__ import annotations

from db import health
from db.amiss import Limits, in_words
from db.connect import Connection


def warnings(connection: Connection, limits: Limits) -> list[str]:
    """Sentences; none when all is well. Of ticks none where none was ever made: one machine works without."""
    told, found, stale = health.banner(connection), [], limits.tick.total_seconds()
    if told["tick_ago"] is not None and told["tick_ago"] > stale:
        # Whole half hours, or what the limit is: a page that nothing else has changed is not sent again each minute.
        found.append(
            f"No tick for more than {told['tick_ago'] // stale * stale / 60:.0f} minutes: nothing is fetched, no job is"
            " ordered, and what you see may be old. On the submit host: dayscribe schedule --once"
        )
    if shards := health.abandoned(connection, limits.lapsed):
        found.append(
            f"Shards whose workers gave no sign of life for more than {in_words(limits.lapsed.total_seconds())}, and"
            f" that nobody took over: {shards}. On the submit host: dayscribe schedule --once"
        )
    if told["paused"] is not None:
        found.append(f"Scheduling is paused: {told['paused']}")
    return found
