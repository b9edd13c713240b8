"""A search: what matches, what was looked through to find it, and which languages' words cannot be told apart."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Any

from db import transcripts
from db.connect import Connection
from db.transcripts import Scope

# Written without spaces: PostgreSQL takes a whole phrase for one word.
UNSPACED = frozenset({"zh", "ja", "th", "lo", "km", "my", "yue"})
COLUMNS = ("site", "date", "slot", "shard", "recording_id", "meta_id", "language", "seconds", "excerpt")


@dataclass(frozen=True, slots=True)
class Question:
    """What is looked for and where; `language` is the query's own, `only` the texts'."""

    query: str
    scope: Scope
    language: str = "en"
    only: str | None = None
    limit: int = 20


def search(connection: Connection, question: Question) -> dict[str, Any]:
    """The hits, newest day first, with the denominator and the days that are not finished."""
    found = transcripts.search(
        connection, question.query, scope=question.scope, language=question.language, only=question.only,
        limit=question.limit,
    )  # fmt: skip
    return {
        "query": question.query, "language": question.language, "hits": found.hits, "denominator": found.denominator,
        "unfinished_days": found.open_days,
    }  # fmt: skip


def warnings(question: Question) -> list[str]:
    """What a reader must know of this search to trust its silence."""
    if {question.language, question.only} & UNSPACED:
        return [
            "This language is written without spaces, and PostgreSQL does not know its words: only whole stretches"
            " between spaces and punctuation are found. For parts of them, export the days and search the files."
        ]
    return []


def as_csv(hits: list[dict[str, Any]]) -> str:
    """The hits as CSV; a cell that a spreadsheet would run as a formula begins with an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    writer.writerows([_cell(hit[name]) for name in COLUMNS] for hit in hits)
    return out.getvalue()


def _cell(value: Any) -> str:
    text = "" if value is None else str(value).replace("\0", "")
    return f"'{text}" if isinstance(value, str) and text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
