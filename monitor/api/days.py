"""Days: their list, one day with its slots, its recordings and its flags."""

from __future__ import annotations

from typing import Any

from flask import Response

from db import calendar, days, flags, transcripts
from db.days import Day
from db.states import DayState, QualityFlag
from monitor import asked
from monitor.answers import answer
from monitor.api.base import following, v1
from monitor.documents import course as documents
from monitor.named import site_asked, the_day
from monitor.store import ledger

_OF_DAY = ("site", "date", "state", "revision", "message", "started", "finished")
_OF_PAGE = (
    "id", "slot", "shard", "ordinal", "meta_id", "state", "seconds", "language", "language_probability",
    "avg_logprob", "no_speech_prob", "compression_ratio", "coverage", "text", "word_count", "failure_class",
    "failure_reason", "version", "run_key", "flags",
)  # fmt: skip


@v1.get("/days")
def list_days() -> Response:
    """Days by site, state and range of dates, oldest first."""
    asked.known("site", "state", "from", "to", "limit")
    start, stop = asked.period()
    found = days.find(
        ledger(),
        site=site_asked(),
        state=asked.one_of("state", DayState),
        start=start,
        stop=stop,
        limit=asked.limit(),
    )
    return answer({"days": [{key: row[key] for key in (*_OF_DAY, "summary")} for row in found]})


@v1.get("/days/<site>/<date>")
def one_day(site: str, date: str) -> Response:
    """A day: its tally, its slots, its failed shards."""
    asked.known()
    day = the_day(site, date)
    tally = day.summary if days.is_finished(day) and day.summary is not None else days.tally(ledger(), day.id)
    return answer(
        {key: getattr(day, key) for key in _OF_DAY}
        | {"tally": {key: value for key, value in tally.items() if key != "failed"}}
        | {"failed_shards": calendar.failed_shards(ledger(), day.id), "slots": _slots(day)}
    )


@v1.get("/days/<site>/<date>/course")
def course(site: str, date: str) -> Response:
    """How a day went: its transfers, its jobs by three witnesses' word, when each was at it, and how fast."""
    asked.known()
    day = the_day(site, date)
    return answer({"site": day.site, "date": day.date} | documents.course(ledger(), day))


@v1.get("/days/<site>/<date>/recordings")
def list_recordings(site: str, date: str) -> Response:
    """A day's recordings in their order, a page after the id `after`."""
    asked.known("state", "after", "limit")
    day = the_day(site, date)
    state, limit = asked.one_of("state", asked.VISIBLE), asked.limit()
    after = asked.number("after", 0, low=0, high=asked.LAST_ID)
    found = transcripts.page(ledger(), day.id, state=state, after=after, limit=limit)
    after_these = following("v1.list_recordings", found, limit, site=site, date=date, state=state)
    return answer({"recordings": [_on_a_page(row) for row in found], "next": after_these})


@v1.get("/days/<site>/<date>/quality")
def quality(site: str, date: str) -> Response:
    """How many of a day's transcripts are suspect, by flag, and of how many that is said."""
    asked.known()
    day = the_day(site, date)
    return answer({"site": day.site, "date": day.date} | flags.overview(ledger(), day))


@v1.get("/days/<site>/<date>/flags")
def list_flagged(site: str, date: str) -> Response:
    """A day's flagged recordings with their quality flags, a page after the id `after`."""
    asked.known("flag", "after", "limit")
    day = the_day(site, date)
    flag, limit = asked.one_of("flag", QualityFlag), asked.limit()
    after = asked.number("after", 0, low=0, high=asked.LAST_ID)
    found = flags.page(ledger(), day.id, flag=flag, after=after, limit=limit)
    after_these = following("v1.list_flagged", found, limit, site=site, date=date, flag=flag)
    return answer({"recordings": found, "next": after_these})


def _slots(day: Day) -> list[dict[str, Any]]:
    """The gap map, one entry a slot: what is known of each kind of file, and the state of the archive's shard."""
    by_slot: dict[str, dict[str, Any]] = {}
    for row in days.slots(ledger(), day.id):
        entry = by_slot.setdefault(row["slot"], {"slot": row["slot"], "shard": None})
        entry[row["kind"]] = {key: row[key] for key in ("finding", "name", "size")}
        entry["shard"] = entry["shard"] or row["shard_state"]
    return list(by_slot.values())


def _on_a_page(row: dict[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in _OF_PAGE}
