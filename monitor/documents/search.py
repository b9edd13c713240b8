"""A search: what matches, what was looked through to find it, and which languages' words cannot be told apart."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from typing import Any

from db.connect import Connection
from db.search import Question
from db.search import search as look
from db.substrings import LANGUAGES
from monitor import asked

COLUMNS = (
    "site", "date", "slot", "shard", "recording_id", "meta_id", "version", "language", "seconds", "second", "excerpt",
)  # fmt: skip
TABLE_ROWS = 10_000  # at most, of a table


def search(connection: Connection, question: Question) -> dict[str, Any]:
    """A page of hits, newest day first, with what was looked through, what is not finished, and what to know of it."""
    found = look(connection, question)
    return {
        "query": question.query, "language": question.language, "hits": found.hits, "total": found.total,
        "next": found.next, "denominator": found.denominator, "unfinished_days": found.open_days,
        "notes": [*notes(question), *([] if found.terms else [COMMON])],
    }  # fmt: skip


def every(connection: Connection, question: Question) -> list[dict[str, Any]]:
    """The hits of all pages, at most TABLE_ROWS: page by page where they are walked to, the rest at once where all of
    them were looked up for the first page."""
    found = look(connection, replace(question, limit=asked.MOST))
    rows = found.hits
    while found.next is not None and len(rows) < TABLE_ROWS:
        limit = asked.MOST if found.total is None else TABLE_ROWS - len(rows)
        found = look(connection, replace(question, limit=limit, after=found.next))
        rows += found.hits
    return rows


COMMON = (
    "The query is made of words that are too common to be looked for in this language, such as “the”: nothing was"
    " looked for."
)


def notes(question: Question) -> list[str]:
    """What a reader must know of this search to trust its silence."""
    if question.only in LANGUAGES and question.language not in LANGUAGES:
        return [
            "These texts are written without spaces, and only whole stretches of them are found: choose their language"
            " as the query's too, and any part of them is."
        ]
    if question.language in LANGUAGES:
        return [
            "This language is written without spaces: what is found are parts of texts, as they are written. Spaces are"
            " between parts that must all be there, - before one that must not."
        ]
    return []


def as_parquet(hits: list[dict[str, Any]]) -> bytes:
    """The hits as a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"date": pa.date32(), "recording_id": pa.int64(), "version": pa.int32(), "seconds": pa.float32()}
    schema = pa.schema([(name, kinds.get(name, pa.float64() if name == "second" else pa.string())) for name in COLUMNS])
    out = io.BytesIO()
    rows = [{name: hit[name] for name in COLUMNS} for hit in hits]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), out, compression="zstd")
    return out.getvalue()


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
