"""What an export says of itself: what was expected, what there is, what is missing, and what was chosen of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from db import days, reports
from db.connect import Connection
from db.days import Day
from db.errors import TryAgain
from db.reports import Choice, Chosen
from db.states import Finding
from hpc.export.columns import VERSION
from hpc.export.tables import plain

# In the order in which they are told. Recordings are the sum of three states, slots the sum of the five after them.
COUNTS = (
    "recordings", "transcribed", "no_speech", "quarantined", "unsealed", "unjudged", "shards", "open_shards",
    "failed_shards", "slots", "slots_arrived", "slots_to_come", "slots_absent_at_source", "slots_listed_but_missing",
    "slots_empty",
)  # fmt: skip
_TO_COME = (Finding.EXPECTED, Finding.LISTED)
_AMISS = (Finding.ABSENT_AT_SOURCE, Finding.LISTED_BUT_MISSING, Finding.EMPTY)


class UnfinishedDay(TryAgain):
    """The day is not finished; export it later, or with --partial what there is of it now."""


def about_day(connection: Connection, day: Day, choice: Choice, chosen: Chosen, *, partial: bool) -> dict[str, Any]:
    """The day's denominator and gaps; UnfinishedDay when it may not be exported yet. Asked in the export's moment."""
    now = days.by_id(connection, day.id)
    finished = days.is_finished(now)
    if not finished and not partial:
        raise UnfinishedDay(
            f"{day.site} {day.date} is {now.state}, not finished; export it later, or with --partial what there is"
        )
    tally = days.tally(connection, day.id)
    slots = _slots(connection, day.id)
    counts = tally | {f"slots_{name}": len(found) for name, found in slots.items()}
    counts |= {"slots": sum(map(len, slots.values())), "unjudged": reports.unjudged(connection, day.id)}
    return {
        "version": VERSION,
        "site": day.site,
        "date": day.date.isoformat(),
        "state": now.state.value,
        "partial": not finished,
        "selection": choice.told(),
        "kept": {"recordings": len(chosen), **chosen.states},
        "denominator": {name: counts[name] for name in COUNTS},
        "missing": {"shards": [_failed(shard) for shard in tally["failed"]]}
        | {name.value: slots[name] for name in _AMISS},
        "receipts": [plain(receipt) for receipt in reports.receipts(connection, day.id)],
    }


def _failed(shard: Mapping[str, Any]) -> dict[str, Any]:
    """Without its reason, which names folders of ours."""
    return {name: shard[name] for name in ("name", "failure_class")}


def _slots(connection: Connection, day_id: int) -> dict[str, list[str]]:
    """The slots that should have an archive, by what is known of it."""
    found: dict[str, list[str]] = {name: [] for name in ("arrived", "to_come", *_AMISS)}
    for row in days.slots(connection, day_id):
        if row["kind"] == "archive":
            found["to_come" if row["finding"] in _TO_COME else row["finding"]].append(row["slot"])
    return found


def missing(counts: Mapping[str, int]) -> str:
    """What the day lacks, in words."""
    amiss = {
        "slots": sum(counts[f"slots_{name}"] for name in ("to_come", *_AMISS)),
        "shards": counts["open_shards"] + counts["failed_shards"],
    }
    return ", ".join(f"{count} of {counts[name]} {name}" for name, count in amiss.items() if count) or "nothing"
