"""The search page: a form that is a link, hits with their words marked, and always what was looked through."""

from __future__ import annotations

import re
from typing import Any

from flask import Response, url_for
from markupsafe import Markup, escape

from db import sites
from db.printable import printable
from db.transcripts import Scope
from monitor import asked
from monitor.documents import search as documents
from monitor.named import site_asked
from monitor.pages.base import pages, show
from monitor.store import ledger

_HIT = re.compile(r"<<(.*?)>>", re.DOTALL)
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
    asked.known("q", "site", "from", "to", "language", "only_language", "limit")
    query, site = asked.text("q"), site_asked()
    scope = Scope(site, asked.day("from"), asked.day("to"))
    language, only = asked.text("language", "en") or "en", asked.text("only_language")
    question = documents.Question((query or "").strip(), scope, language, only, asked.limit(20))
    found = documents.search(ledger(), question) if question.query else None
    csv = url_for("v1.search_csv", **_asked(question))
    return show(
        "search.html", found=found, question=question, notes=documents.warnings(question), csv=csv, languages=LANGUAGES,
        sites=[one.name for one in sites.every(ledger())], marked=marked,
    )  # fmt: skip


def marked(excerpt: str) -> Markup:
    """The excerpt with what matched marked; all of it, the words too, is somebody's and is escaped."""
    safe, end = Markup(), 0
    for hit in _HIT.finditer(excerpt):
        safe += escape(printable(excerpt[end : hit.start()])) + Markup("<mark>{}</mark>").format(printable(hit[1]))
        end = hit.end()
    return safe + escape(printable(excerpt[end:]))


def _asked(question: documents.Question) -> dict[str, Any]:
    scope = question.scope
    return {
        "q": question.query, "site": scope.site, "from": scope.start, "to": scope.stop, "language": question.language,
        "only_language": question.only, "limit": asked.MOST,
    }  # fmt: skip
