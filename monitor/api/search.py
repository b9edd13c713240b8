"""Search over the current transcripts, always with what was looked through; the hits as CSV too."""

from __future__ import annotations

from flask import Response

from db.transcripts import Scope
from monitor import asked
from monitor.answers import answer
from monitor.api.base import v1
from monitor.documents import search as documents
from monitor.named import site_asked
from monitor.store import ledger


@v1.get("/search")
def search() -> Response:
    """Current transcripts that match, and always what was looked through to find them."""
    asked.known("q", "site", "from", "to", "language", "only_language", "limit")
    return answer(documents.search(ledger(), _question()))


@v1.get("/search.csv")
def search_csv() -> Response:
    """The hits as a table."""
    asked.known("q", "site", "from", "to", "language", "only_language", "limit")
    text = documents.as_csv(documents.search(ledger(), _question())["hits"])
    response = Response(text, mimetype="text/csv")
    response.headers["Content-Disposition"] = 'attachment; filename="search.csv"'
    return response


def _question() -> documents.Question:
    query, site = asked.needed("q"), site_asked()
    language = asked.text("language", "en") or "en"
    scope = Scope(site, asked.day("from"), asked.day("to"))
    return documents.Question(query, scope, language, asked.text("only_language"), asked.limit(20))
