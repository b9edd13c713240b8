"""A search: what matches, what was looked through to find it, and which languages' words cannot be told apart."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from typing import Any

from db.connect import Connection
from db.search import Question
from db.search import search as look

# Written without spaces: PostgreSQL takes a whole phrase for one word.
UNSPACED = frozenset({"zh", "ja", "th", "lo", "km", "my", "yue"})
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
    """The hits of all pages, at most TABLE_ROWS."""
    return look(connection, replace(question, limit=TABLE_ROWS)).hits


COMMON = (
    "The query is made of words that are too common to be looked for in this language, such as “the”: nothing was"
    " looked for."
)


def notes(question: Question) -> list[str]:
    """What a reader must know of this search to trust its silence."""
    if {question.language, question.only} & UNSPACED:
        return [
            "This language is written without spaces, and PostgreSQL does not know its words: only whole stretches"
            " between spaces and punctuation are found. For parts of them, export the days and search the files."
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
