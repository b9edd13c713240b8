"""A day's page, and a shard's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from flask import Response, url_for
from werkzeug.exceptions import BadRequest, NotFound

from db import calendar
from db.states import FailureClass, QualityFlag
from monitor import asked
from monitor.documents import day as documents
from monitor.documents.course import STARTS
from monitor.named import the_day
from monitor.pages import charts
from monitor.pages.base import pages, show
from monitor.store import ledger

ROWS = 50
_FLAGS = (documents.ANY, *QualityFlag)


@pages.get("/days/<site>/<date>")
def day(site: str, date: str) -> Response:
    """A day, and a page of its recordings."""
    asked.known("state", "flag", "error", "after")
    one, view, after = the_day(site, date), _view(), asked.number("after", 0, low=0, high=asked.LAST_ID)
    found = documents.recordings(ledger(), one, view, after=after, limit=ROWS)
    following = f"?{urlencode(view.asked() | {'after': found[-1]['id']})}" if len(found) == ROWS else None
    told = documents.day(ledger(), one)
    moves = told["left"] is not None or told["finished"] is None or told["course"]["now"] is not None
    return show(
        "day.html", live=moves, day=told, hours=_hours(told["slots"]), charts=_charts(told["course"]),
        most_starts=STARTS, recordings=found, following=following, here=f"?{urlencode(view.asked())}", after=after,
        view=view, states=asked.VISIBLE, again=documents.again(one, view),
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


def _view() -> documents.View:
    """Which recordings are looked at: at most one reason, so that one command means the same."""
    found = documents.View(
        asked.one_of("state", asked.VISIBLE), asked.one_of("flag", _FLAGS), asked.one_of("error", FailureClass)
    )
    if len(found.asked()) > 1:
        raise BadRequest("Choose by one of state, flag and error.")
    return found


def _hours(slots: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The slots by their hour; a second pass of an hour that the clock repeats has a row of its own."""
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for slot in slots:
        hour, _, minute = slot["slot"].partition("_")
        rows.setdefault(hour + minute[2:], []).append(slot)
    return rows


def _charts(course: Mapping[str, Any]) -> dict[str, Any]:
    speed = course["speed"]
    return {
        "timeline": charts.timeline(course),
        "recordings": charts.line(speed, "recordings"),
        "audio": charts.line(speed, "audio_seconds", 1 / 60),
    }
