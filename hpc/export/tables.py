"""Rows as one table: Parquet and JSON lines whole, CSV flat; a little at a time, the same rows always the same bytes.

Parquet is the same under the same pyarrow, which writes its own version into the file; the other two always.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from db import faults
from hpc.export.columns import Field, flat, schema_of

GROUP_ROWS, GROUP_BYTES = 10_000, 64 << 20  # a row group ends at the first of them: memory stays flat
PARQUET = {"compression": "zstd", "compression_level": 3, "version": "2.6", "data_page_version": "1.0"}

Row = Mapping[str, Any]
Pages = Iterable[Sequence[Row]]

# Whoever splits a text into lines may take these for line ends; inside JSON they can be escapes.
_LINE_ENDS = {ord(mark): f"\\u{ord(mark):04x}" for mark in "\u0085\u2028\u2029"}
_FORMULA = frozenset("=+-@\t\r\n＝＋－＠")


def write_table(target: Path, kind: str, columns: tuple[Field, ...], about: Mapping[str, Any], pages: Pages) -> int:
    """Fill the file with a row a recording and sync it; returns how many there are. Parquet carries `about`."""
    with target.open("wb") as sink:
        count = _WRITERS[kind](sink, columns, about, pages)
        sink.flush()
        os.fsync(sink.fileno())
    return count


def told(pages: Iterable[Sequence[Row]], advance: Callable[[int], None]) -> Iterator[Sequence[Row]]:
    """The pages, each told of as it is taken."""
    for page in pages:
        advance(len(page))
        yield page


def plain(row: Row) -> dict[str, Any]:
    """The row with bytes as hexadecimal text."""
    return {key: value.hex() if isinstance(value, bytes) else value for key, value in row.items()}


def safe_cell(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in _FORMULA else value


def _parquet(sink: IO[bytes], columns: tuple[Field, ...], about: Mapping[str, Any], pages: Pages) -> int:
    schema = schema_of(columns).with_metadata({"dayscribe": json.dumps(about, sort_keys=True)})
    count = 0
    with pq.ParquetWriter(sink, schema, **PARQUET) as writer:
        for group in _groups(pages, schema):
            writer.write_table(group)
            count += group.num_rows
            faults.point("export.half")
    return count


def _groups(pages: Pages, schema: Any) -> Iterator[Any]:
    """Tables that are large enough for a row group and no larger."""
    batches: list[Any] = []
    for page in pages:
        batches.append(_batch([plain(row) for row in page], schema))
        if sum(map(len, batches)) >= GROUP_ROWS or sum(batch.nbytes for batch in batches) >= GROUP_BYTES:
            yield pa.Table.from_batches(batches)
            batches = []
    if batches:
        yield pa.Table.from_batches(batches)


def _batch(rows: list[dict[str, Any]], schema: Any) -> Any:
    try:
        return pa.RecordBatch.from_pylist(rows, schema=schema)
    except UnicodeEncodeError:  # half a character, which Arrow's text cannot hold
        return pa.RecordBatch.from_pylist([_sayable(row) for row in rows], schema=schema)


def _jsonl(sink: IO[bytes], columns: tuple[Field, ...], _about: Mapping[str, Any], pages: Pages) -> int:
    names = [column.name for column in columns]
    count = 0
    for page in pages:
        for row in page:
            whole = plain(row)
            sink.write(_line({name: whole[name] for name in names}))
        count += len(page)
        faults.point("export.half")
    return count


def _line(row: dict[str, Any]) -> bytes:
    try:
        return _json(row)
    except ValueError:  # a number that JSON cannot say, or half a character, which no reader takes
        return _json(_sayable(row))


def _json(row: dict[str, Any]) -> bytes:
    text = json.dumps(row, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_moment)
    return (text.translate(_LINE_ENDS) + "\n").encode()


def _moment(value: date) -> str:
    """A day, or an instant to its microsecond."""
    return value.isoformat()


def _sayable(value: Any) -> Any:
    """The value with null for what is no number, and escapes for half characters."""
    if isinstance(value, Mapping):
        return {key: _sayable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_sayable(item) for item in value]
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _csv(sink: IO[bytes], columns: tuple[Field, ...], _about: Mapping[str, Any], pages: Pages) -> int:
    names = flat(columns)
    count = 0
    text = io.TextIOWrapper(sink, "utf-8", "backslashreplace", newline="")
    table = csv.writer(text)
    table.writerow(names)
    for page in pages:
        for row in page:
            whole = plain(row)
            table.writerow([cell(whole[name]) for name in names])
        count += len(page)
        faults.point("export.half")
    text.detach()
    return count


def cell(value: Any) -> Any:
    """A value as one cell of CSV. Text that a spreadsheet might run gets an apostrophe in front, and so does text that
    begins with one: whoever drops one leading apostrophe has the text itself."""
    if isinstance(value, str):
        return f"'{value}" if value.startswith("'") else safe_cell(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, date):  # a moment is one too
        return value.isoformat()
    if isinstance(value, list):
        return " ".join(_item(item) for item in value)
    return value


def _item(item: Any) -> str:
    if not isinstance(item, Mapping):
        return str(item)
    return str(item["flag"]) if item["value"] is None else f"{item['flag']}={item['value']!r}"


_WRITERS: dict[str, Callable[[IO[bytes], tuple[Field, ...], Mapping[str, Any], Pages], int]] = {
    "parquet": _parquet,
    "jsonl": _jsonl,
    "csv": _csv,
}
KINDS = tuple(_WRITERS)
