"""Search over the current transcripts, always with what was looked through; the hits as CSV and Parquet too."""

from __future__ import annotations

from typing import Any

from flask import Response

from monitor import asked
from monitor.answers import answer
from monitor.api.base import v1
from monitor.documents import search as documents
from monitor.named import the_question
from monitor.store import ledger


@v1.get("/search")
def search() -> Response:
    """Current transcripts that match, and always what was looked through to find them."""
    asked.known("q", "site", "from", "to", "language", "only_language", "flag", "limit", "after")
    return answer(documents.search(ledger(), the_question(asked.needed("q"))))


@v1.get("/search.csv")
def search_csv() -> Response:
    """The hits as a table."""
    asked.known("q", "site", "from", "to", "language", "only_language", "flag")
    return _file("search.csv", "text/csv", documents.as_csv(_hits()))


@v1.get("/search.parquet")
def search_parquet() -> Response:
    """The hits as a table that other programs read without guessing."""
    asked.known("q", "site", "from", "to", "language", "only_language", "flag")
    return _file("search.parquet", "application/vnd.apache.parquet", documents.as_parquet(_hits()))


def _hits() -> list[dict[str, Any]]:
    return documents.every(ledger(), the_question(asked.needed("q")))


def _file(name: str, mimetype: str, content: str | bytes) -> Response:
    response = Response(content, mimetype=mimetype)
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response
