"""A day's page, and a shard's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flask import Response, url_for
from werkzeug.exceptions import NotFound

from db import calendar
from monitor import asked
from monitor.documents import day as documents
from monitor.named import the_day
from monitor.pages.base import pages, show
from monitor.store import ledger

ROWS = 50


@pages.get("/days/<site>/<date>")
def day(site: str, date: str) -> Response:
    """A day, and a page of its recordings."""
    asked.known("state", "after")
    one = the_day(site, date)
    state, after = asked.one_of("state", asked.VISIBLE), asked.number("after", 0, low=0, high=asked.LAST_ID)
    found = calendar.of_day(ledger(), one.id, state=state, after=after, limit=ROWS)
    following = (
        url_for("pages.day", site=site, date=date, state=state, after=found[-1]["id"]) if len(found) == ROWS else None
    )
    told = documents.day(ledger(), one)
    return show(
        "day.html", live=told["left"] is not None or told["finished"] is None, day=told, hours=_hours(told["slots"]),
        chart=chart(told["speed"]), recordings=found, following=following, state=state, after=after,
        states=asked.VISIBLE,
    )  # fmt: skip


@pages.get(f"/shards/<{asked.ID}:shard_id>")
def shard(shard_id: int) -> Response:
    """A shard, and a page of its recordings."""
    asked.known("after")
    told = documents.shard(ledger(), shard_id)
    if told is None:
        raise NotFound(f"The ledger has no shard {shard_id}.")
    after = asked.number("after", 0, low=0, high=asked.LAST_ID)
    found = calendar.of_shard(ledger(), shard_id, after=after - 1, limit=ROWS)
    following = (
        url_for("pages.shard", shard_id=shard_id, after=found[-1]["ordinal"] + 1) if len(found) == ROWS else None
    )
    return show(
        "shard.html", live=told["state"] in ("ready", "leased"), shard=told, recordings=found, following=following
    )


def _hours(slots: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The slots by their hour; a second pass of an hour that the clock repeats has a row of its own."""
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for slot in slots:
        hour, _, minute = slot["slot"].partition("_")
        rows.setdefault(hour + minute[2:], []).append(slot)
    return rows


def chart(speed: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The minutes' recordings as a line: points and ticks in 0..1; None before there is a line to draw."""
    if len(speed) < 2:
        return None
    first, last = speed[0]["minute"], speed[-1]["minute"]
    most = max(row["recordings"] for row in speed) or 1  # empty archives leave parts that hold nothing
    span = (last - first).total_seconds()
    points = [((row["minute"] - first).total_seconds() / span, row["recordings"] / most) for row in speed]
    step = max(1, len(points) // 500)  # a line of more points than the picture has columns says no more
    return {
        "points": points[::step],
        "x_ticks": [(0, first.strftime("%H:%M")), (1, last.strftime("%H:%M"))],
        "y_ticks": [(0, "0"), (1, str(most))],
        "description": f"from {first:%H:%M} to {last:%H:%M} UTC, at most {most} in a minute",
    }
