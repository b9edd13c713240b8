"""What a path or a parameter names in the ledger, for routes and pages: a site, a day; a 404 if it is not there."""

from __future__ import annotations

from flask import Response
from werkzeug.exceptions import NotFound

from db import days, reports, sites
from db.days import Day, NoSuchDay
from db.search import Question
from db.sites import UnknownSite
from db.states import QualityFlag
from db.transcripts import Scope
from monitor import asked, clips
from monitor.store import hang_up, ledger


def site_asked() -> str | None:
    """The site that the parameter `site` names, which must be there; None when it is left out."""
    name = asked.text("site")
    return None if name is None else sites.get(ledger(), _possible(name)).name


def the_question(query: str) -> Question:
    """The query with where to look for it, as the parameters say."""
    scope = Scope(site_asked(), *asked.period())
    return Question(
        query.strip(), scope, (asked.text("language") or "en").lower(), asked.language("only_language"),
        asked.one_of("flag", QualityFlag), asked.limit(20), asked.number("after", 0, low=0, high=asked.LAST_ID) or None,
    )  # fmt: skip


def the_day(site: str, text: str) -> Day:
    """The day that a path names."""
    on = asked.date_in_path(text)
    try:
        return days.get(ledger(), _possible(site), on)
    except NoSuchDay:
        raise NoSuchDay(f"The ledger has no {on} of {site}.") from None


def the_audio(recording_id: int) -> Response:
    """The audio of the recording that a path names. Reading it takes time: meanwhile others may ask the ledger."""
    place = reports.place(ledger(), recording_id)
    if place is None:
        raise NotFound(f"The ledger has no recording {recording_id}.")
    hang_up()
    return clips.answer(place)


def _possible(name: str) -> str:
    """The name, if a site can have it."""
    if not sites.NAME.fullmatch(name):
        raise UnknownSite("No site has such a name.")
    return name
