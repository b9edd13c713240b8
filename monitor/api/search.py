"""Search over the current transcripts, always with what was looked through."""

from __future__ import annotations

from flask import Response

from db import transcripts
from monitor import asked
from monitor.answers import answer
from monitor.api.base import site_asked, v1
from monitor.store import ledger


@v1.get("/search")
def search() -> Response:
    """Current transcripts that match, and always what was looked through to find them."""
    asked.known("q", "site", "from", "to", "language", "only_language", "limit")
    query, site, connection = asked.needed("q"), site_asked(), ledger()
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
