"""The routes: the reference pipeline's status, and days, recordings, transcripts and search under /api/v1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, url_for
from werkzeug.exceptions import NotFound

from db import days, flags, formats, migrate, reports, sites, transcripts
from db.days import Day, NoSuchDay
from db.sites import UnknownSite
from db.states import DayState, QualityFlag, RecordingState
from monitor import asked
from monitor.answers import MIMETYPES, answer, inert
from monitor.store import ledger

root = Blueprint("root", __name__)
v1 = Blueprint("v1", __name__)
SHOWN = tuple(state for state in RecordingState if state is not RecordingState.PROVISIONAL)
ID = f"<int(max={asked.LAST_ID}):recording_id>"
_OF_DAY = ("site", "date", "state", "revision", "message", "started", "finished")
_OF_PAGE = (
    "id", "slot", "shard", "ordinal", "meta_id", "state", "seconds", "language", "language_probability",
    "avg_logprob", "no_speech_prob", "compression_ratio", "coverage", "text", "word_count", "failure_class",
    "failure_reason", "version", "run_key",
)  # fmt: skip


@root.get("/healthz")
def healthz() -> Response:
    """This process answers."""
    asked.known()
    return answer({"status": "ok"})


@root.get("/readyz")
def readyz() -> Response:
    """The ledger answers too, and we speak its schema."""
    asked.known()
    return answer({"status": "ok", "schema": migrate.check(ledger())})


@root.get("/pipeline/status")
def pipeline_status() -> Response:
    """Days by state and the last completions, in the reference pipeline's own shape."""
    asked.known()
    connection = ledger()
    summary = {
        row["status"]: {"count": row["count"], "oldest": row["oldest"], "newest": row["newest"]}
        for row in days.status(connection)
    }
    recent = [{key: row[key] for key in ("date", "duration", "files")} for row in days.recent(connection)]
    return answer({"status_summary": summary, "recent_completions": recent, "timestamp": datetime.now(UTC)})


@v1.get("/openapi.json")
def openapi() -> Response:
    """What this API offers, for programs."""
    asked.known()
    return Response(_document(), mimetype="application/json")


@v1.get("/days")
def list_days() -> Response:
    """Days by site, state and range of dates, oldest first."""
    asked.known("site", "state", "from", "to", "limit")
    site, connection = asked.text("site"), ledger()
    if site is not None:
        sites.get(connection, _site(site))
    found = days.find(
        connection,
        site=site,
        state=asked.one_of("state", DayState),
        start=asked.day("from"),
        stop=asked.day("to"),
        limit=asked.limit(),
    )
    return answer({"days": [{key: row[key] for key in (*_OF_DAY, "summary")} for row in found]})


@v1.get("/days/<site>/<date>")
def one_day(site: str, date: str) -> Response:
    """A day: its tally, its slots, its failed shards."""
    asked.known()
    day = _day(site, date)
    tally = day.summary if days.is_finished(day) and day.summary is not None else days.tally(ledger(), day.id)
    return answer(
        {key: getattr(day, key) for key in _OF_DAY}
        | {"tally": {key: value for key, value in tally.items() if key != "failed"}}
        | {"failed_shards": tally["failed"], "slots": _slots(day)}
    )


@v1.get("/days/<site>/<date>/recordings")
def list_recordings(site: str, date: str) -> Response:
    """A day's recordings in their order, a page after the id `after`."""
    asked.known("state", "after", "limit")
    day = _day(site, date)
    state, limit = asked.one_of("state", SHOWN), asked.limit()
    after = asked.number("after", 0, low=0, high=asked.LAST_ID)
    found = transcripts.page(ledger(), day.id, state=state, after=after, limit=limit)
    following = _following("v1.list_recordings", found, limit, site=site, date=date, state=state)
    return answer({"recordings": [_on_a_page(row) for row in found], "next": following})


@v1.get("/days/<site>/<date>/quality")
def quality(site: str, date: str) -> Response:
    """How many of a day's transcripts are suspect, by flag, and of how many that is said."""
    asked.known()
    day = _day(site, date)
    return answer({"site": day.site, "date": day.date} | flags.overview(ledger(), day))


@v1.get("/days/<site>/<date>/flags")
def list_flagged(site: str, date: str) -> Response:
    """A day's flagged recordings with their flags, a page after the id `after`."""
    asked.known("flag", "after", "limit")
    day = _day(site, date)
    flag, limit = asked.one_of("flag", QualityFlag), asked.limit()
    after = asked.number("after", 0, low=0, high=asked.LAST_ID)
    found = flags.page(ledger(), day.id, flag=flag, after=after, limit=limit)
    following = _following("v1.list_flagged", found, limit, site=site, date=date, flag=flag)
    return answer({"recordings": found, "next": following})


@v1.get(f"/recordings/{ID}")
def one_recording(recording_id: int) -> Response:
    """A recording whole: words, receipt, versions, why it is suspect, and what its platform says of it."""
    asked.known()
    row = _recording(recording_id)
    whole = {key: value for key, value in row.items() if key != "transcript_flags"}
    versions = reports.versions(ledger(), recording_id)
    suspect = flags.of_recording(ledger(), recording_id)
    return answer(whole | {"flags": _flags(row), "quality": suspect, "versions": versions})


@v1.get(f"/recordings/{ID}.<any({','.join(formats.KINDS)}):kind>")
def one_transcript(recording_id: int, kind: str) -> Response:
    """A recording's current transcript as a file."""
    asked.known()
    row = _recording(recording_id)
    if row["segments"] is None:
        why = f" ({row['failure_class']}: {row['failure_reason']})" if row["failure_class"] else ""
        raise NotFound(f"Recording {recording_id} is {row['state']}{why}: it has no transcript.")
    text = formats.render(reports.document(row), kind)
    return Response(inert(text) if kind == "json" else text, mimetype=MIMETYPES[kind])


@v1.get("/search")
def search() -> Response:
    """Current transcripts that match, and always what was looked through to find them."""
    asked.known("q", "site", "from", "to", "language", "only_language", "limit")
    query, site, connection = asked.needed("q"), asked.text("site"), ledger()
    if site is not None:
        sites.get(connection, _site(site))
    language = asked.text("language", "en") or "en"
    found = transcripts.search(
        connection,
        query,
        scope=transcripts.Scope(site, asked.day("from"), asked.day("to")),
        language=language,
        only=asked.text("only_language"),
        limit=asked.limit(20),
    )
    told = {"query": query, "language": language, "hits": found.hits}
    return answer(told | {"denominator": found.denominator, "unfinished_days": found.open_days})


@cache
def _document() -> str:
    return (Path(__file__).parent / "openapi.json").read_text(encoding="utf-8")


def _site(name: str) -> str:
    if not sites.NAME.fullmatch(name):
        raise UnknownSite("No site has such a name.")
    return name


def _day(site: str, text: str) -> Day:
    on = asked.date_in_path(text)
    try:
        return days.get(ledger(), _site(site), on)
    except NoSuchDay:
        raise NoSuchDay(f"The ledger has no {on} of {site}.") from None


def _recording(recording_id: int) -> dict[str, Any]:
    row = reports.recording(ledger(), recording_id)
    if row is None:
        raise NotFound(f"The ledger has no recording {recording_id}.")
    return row


def _slots(day: Day) -> list[dict[str, Any]]:
    """The gap map, one entry a slot: what is known of each kind of file, and the state of the archive's shard."""
    by_slot: dict[str, dict[str, Any]] = {}
    for row in days.slots(ledger(), day.id):
        entry = by_slot.setdefault(row["slot"], {"slot": row["slot"], "shard": None})
        entry[row["kind"]] = {key: row[key] for key in ("finding", "name", "size")}
        entry["shard"] = entry["shard"] or row["shard_state"]
    return list(by_slot.values())


def _on_a_page(row: dict[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in _OF_PAGE} | {"flags": _flags(row)}


def _flags(row: dict[str, Any]) -> list[str]:
    return [*row["flags"], *(row["transcript_flags"] or ())]


def _following(route: str, found: Sequence[Mapping[str, Any]], limit: int, **place: Any) -> str | None:
    """Where the next page of recordings is; None after the last."""
    return url_for(route, **place, limit=limit, after=found[-1]["id"]) if len(found) == limit else None
