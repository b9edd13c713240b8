"""Charts as numbers for templates: where a line's points and a timeline's bars are, in 0..1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any


def line(speed: Sequence[Mapping[str, Any]], what: str, share: float = 1.0) -> dict[str, Any] | None:
    """A number of each minute, times `share`, as a line; None where there is none to draw."""
    rows = [row for row in speed if row[what] is not None]
    if len(rows) < 2:
        return None
    first, last = (row["minute"].astimezone(UTC) for row in (rows[0], rows[-1]))
    most = max(row[what] for row in rows) * share
    scale = most / share or 1  # empty archives leave parts that hold nothing
    span = (last - first).total_seconds()
    points = [((row["minute"] - first).total_seconds() / span, row[what] / scale) for row in rows]
    step = max(1, len(points) // 500)  # a line of more points than the picture has columns says no more
    top = f"{most:.0f}" if most >= 10 or most == int(most) else f"{most:.1f}"
    return {
        "points": points[::step],
        "x_ticks": [(0, first.strftime("%H:%M")), (1, last.strftime("%H:%M"))],
        "y_ticks": [(0, "0"), (1, top)],
        "description": f"from {first:%H:%M} to {last:%H:%M} UTC, at most {top}",
    }


def timeline(course: Mapping[str, Any]) -> dict[str, Any] | None:
    """A day's transfers and jobs as rows of bars: what waited, moved and worked when; None when there is none."""
    spans, now = course["timeline"], course["now"]
    if not spans:
        return None
    first = min(span["began"] for span in spans)
    last = max(max(span["began"], span["ended"] or now or span["began"]) for span in spans)
    whole = max(1.0, (last - first).total_seconds())
    rows: list[dict[str, Any]] = []
    for span in spans:
        until = span["ended"] or max(now or span["began"], span["began"])
        bar = {
            "phase": span["phase"],
            "from": (span["began"] - first).total_seconds() / whole,
            "share": (until - span["began"]).total_seconds() / whole,
        }
        if not rows or rows[-1]["what"] != span["what"] or span["phase"] == "transfer":
            rows.append({"what": span["what"], "bars": []})
        rows[-1]["bars"].append(bar)
    return {"rows": rows, "x_ticks": [(0, _moment(first)), (1, _moment(last))]}


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M}"
