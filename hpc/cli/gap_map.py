"""The gap map of a day as text: a line an hour, a column for each minute at which slots begin, a mark for each file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

KINDS = {"archive": "a", "metadata": "m", "subtitles": "s", "comments": "c"}
# A shard's state says more of an archive than that it is there.
ARCHIVES = {"done": "T", "leased": "w", "failed": "F", "ready": "a"}
FINDINGS = {"absent_at_source": "-", "empty": "0", "listed_but_missing": "!", "expected": "?", "listed": "?"}
LEGEND = (
    "archive: T transcribed, w at work, v verified, a arrived, F failed; m metadata, s subtitles, c comments;"
    " - absent at the source, 0 empty, ! listed but missing, ? not here yet"
)


def gap_map(slots: Sequence[Mapping[str, Any]]) -> str:
    """A second pass of an hour that the clock repeats has a line of its own."""
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for row in slots:
        hour, _, minute = row["slot"].partition("_")
        fold = minute[2:]
        cells.setdefault((hour + fold, minute[:2]), {})[row["kind"]] = mark(row)
    hours, minutes = (sorted({place[side] for place in cells}) for side in (0, 1))
    lines = ["     " + "  ".join(f":{minute} " for minute in minutes)]
    for hour in hours:
        marks = (cells.get((hour, minute), {}) for minute in minutes)
        shown = "  ".join("".join(found.get(kind, " ") for kind in KINDS) for found in marks)
        lines.append(f"{hour:<3}  {shown}")
    return "\n".join([line.rstrip() for line in lines] + [LEGEND])


def mark(row: Mapping[str, Any]) -> str:
    """One letter of what is known of one file."""
    if row["kind"] == "archive":
        here = row["finding"] == "arrived" and row["shard_state"] in (None, "ready")
        if here and row.get("verified"):
            return "v"
        if row["shard_state"] is not None:
            return ARCHIVES[row["shard_state"]]
    return FINDINGS.get(row["finding"], KINDS[row["kind"]])
