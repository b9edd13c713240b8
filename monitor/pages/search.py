"""The search page: a form that is a link, hits with their words marked, and always what was looked through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Response, url_for
from markupsafe import Markup, escape

from db import sites
from db.printable import printable
from db.search import Question
from db.states import QualityFlag
from monitor import asked
from monitor.documents import search as documents
from monitor.named import the_question
from monitor.pages.base import pages, show
from monitor.store import ledger

# Of the dictionaries that PostgreSQL has; another language's words are compared as they stand.
LANGUAGES = {
    "en": "English", "ar": "Arabic", "da": "Danish", "de": "German", "el": "Greek", "es": "Spanish", "fi": "Finnish",
    "fr": "French", "hi": "Hindi", "hu": "Hungarian", "id": "Indonesian", "it": "Italian", "nl": "Dutch",
    "no": "Norwegian", "pt": "Portuguese", "ro": "Romanian", "ru": "Russian", "sv": "Swedish", "ta": "Tamil",
    "tr": "Turkish", "zh": "Chinese", "ja": "Japanese", "th": "Thai", "simple": "another",
}  # fmt: skip


@pages.get("/search")
def search() -> Response:
    """Look for words in all transcripts."""
    asked.known("q", "site", "from", "to", "language", "only_language", "flag", "limit", "after")
    question = the_question(asked.text("q") or "")
    found = documents.search(ledger(), question) if question.query else None
    files = {kind: url_for(f"v1.search_{kind}", **_asked(question)) for kind in ("csv", "parquet")}
    return show(
        "search.html", found=found, question=question, notes=found["notes"] if found else documents.notes(question),
        files=files, most=documents.TABLE_ROWS, languages=LANGUAGES, flags=[flag.value for flag in QualityFlag],
        sites=[one.name for one in sites.every(ledger())], marked=marked, place=place,
        following=_page(question, found["next"]) if found and found["next"] else None,
        first=_page(question, None) if question.after else None,
    )  # fmt: skip


def marked(hit: Mapping[str, Any]) -> Markup:
    """The excerpt with what matched marked; all of it, the words too, is somebody's and is escaped."""
    safe, end, excerpt = Markup(), 0, hit["excerpt"]
    for start, stop in hit["marks"]:
        safe += escape(printable(excerpt[end:start])) + Markup("<mark>{}</mark>").format(printable(excerpt[start:stop]))
        end = stop
    return safe + escape(printable(excerpt[end:]))


def place(hit: Mapping[str, Any]) -> str:
    """The recording's page, in this version, at the second that the first mark is said."""
    if hit["second"] is None:
        return url_for("pages.recording", recording_id=hit["recording_id"], version=hit["version"])
    return url_for(
        "pages.recording", recording_id=hit["recording_id"], version=hit["version"], t=f"{hit['second']:.2f}",
        _anchor=f"t{hit['segment']:.2f}",
    )  # fmt: skip


def _page(question: Question, after: int | None) -> str:
    return url_for("pages.search", limit=question.limit, after=after, **_asked(question))


def _asked(question: Question) -> dict[str, Any]:
    scope = question.scope
    return {
        "q": question.query, "site": scope.site, "from": scope.start, "to": scope.stop, "language": question.language,
        "only_language": question.only, "flag": question.flag,
    }  # fmt: skip
