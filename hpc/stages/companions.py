"""Reads the Parquet companions of an archive: a few typed columns for the ledger, and all rows merged into one file.

Companions come from exports of several years: columns in either spelling (`stats_playcount`, `statsPlayCount`),
booleans as 0/1 with NaN, ids as numbers, times in seconds, milliseconds or words. A cell that makes no sense is None;
it never costs its row, and a row never costs its file.
"""

from __future__ import annotations

import json
import math
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from itertools import repeat
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from db.errors import BadData

BATCH_ROWS = 2_000
LONGEST_ID = 255  # characters; what a recording's own id may have (db/names.py)
_EXACT = 2**53  # above this a float has lost digits of the number it was
_BIGINT = 2**63
_UNSAFE = re.compile("[\x00\ud800-\udfff]")  # what PostgreSQL's text cannot hold
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECONDS = {"s": 1_000_000.0, "ms": 1_000.0, "us": 1.0, "ns": 0.001}


def as_text(value: Any) -> str | None:
    """Words as they are, but for what PostgreSQL cannot hold; a number as digits, without the ".0" of a float."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float | Decimal):
        return _digits(value)
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    elif isinstance(value, dict | list | tuple):
        value = json.dumps(value, ensure_ascii=False, default=str)
    return None if value is None else _UNSAFE.sub("\ufffd", str(value))


def as_id(value: Any) -> str | None:
    """An id: digits where it is a number, and never a number that a float has rounded: that would be another's id."""
    if isinstance(value, float) and abs(value) > _EXACT:
        return None
    text = (as_text(value) or "").strip()
    whole = re.fullmatch(r"([0-9]+)\.0+", text)
    text = whole[1] if whole else text
    return None if text.lower() in {"", "nan", "none", "null"} else text


def as_number(value: Any) -> float | None:
    """A length of time: not negative, and less than a century of seconds."""
    number = _finite(value)
    return number if number is not None and 0 <= number < 3.2e9 else None


def as_count(value: Any) -> int | None:
    """A whole number that fits the ledger's bigint; a count that does not is no count."""
    if isinstance(value, str | bytes):
        try:
            value = Decimal(value.decode() if isinstance(value, bytes) else value.strip())
        except (InvalidOperation, ValueError):
            return None
    if not isinstance(value, int) and _finite(value) is None:
        return None
    if not -_BIGINT <= value < _BIGINT or value != int(value):
        return None
    return int(value)


def as_flag(value: Any) -> bool | None:
    """A boolean, which may be written as 0 or 1, as a number or in words."""
    if isinstance(value, str):
        value = {"true": 1, "false": 0}.get(value.strip().lower(), value)
    count = as_count(value)
    return bool(count) if count in (0, 1) else None


def as_time(value: Any) -> datetime | None:
    """A point in time, aware: from Unix seconds, milli-, micro- or nanoseconds, or ISO 8601 (without a zone: UTC)."""
    if isinstance(value, datetime):
        return _aware(value)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    if isinstance(value, str) and "-" in value:
        try:
            return _aware(datetime.fromisoformat(value.strip()))
        except ValueError:
            return None
    seconds = _unix_seconds(value)
    return None if seconds is None else _EPOCH + timedelta(seconds=seconds)


def as_words(value: Any) -> str | None:
    """Any cell of the merged file as text: what a float has rounded is still told as the float has it."""
    return value.isoformat() if isinstance(value, date) else as_text(value)


def _digits(value: float | Decimal) -> str | None:
    if _finite(value) is None:
        return None
    return str(int(value)) if value == int(value) else str(value)


def _finite(value: Any) -> float | None:
    """The value as a number, if it is one."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _unix_seconds(value: Any) -> float | None:
    """A number's unit is known by its size; below 1973 it is a date written as digits, or the zero of "not known"."""
    number = _finite(value)
    if number is None or not 1e8 <= number < 1e20:
        return None
    for divisor, limit in ((1.0, 1e11), (1e3, 1e14), (1e6, 1e17)):
        if number < limit:
            return number / divisor
    return number / 1e9


# Columns of the ledger: how a cell is read, and the companions' names for it, the best first.
Ways = Mapping[str, tuple[Callable[[Any], Any], tuple[str, ...]]]
WAYS: Ways = {
    "posted": (as_time, ("meta_createtime",)),
    "description": (as_text, ("meta_desc",)),
    "location_created": (as_text, ("meta_locationcreated",)),
    "text_language": (as_text, ("meta_textlanguage",)),
    "author_id": (as_id, ("author_id",)),
    "author_name": (as_text, ("author_uniqueid",)),
    "author_nickname": (as_text, ("author_nickname",)),
    "author_verified": (as_flag, ("author_verified",)),
    "digg_count": (as_count, ("stats_diggcount",)),
    "share_count": (as_count, ("stats_sharecount",)),
    "comment_count": (as_count, ("stats_commentcount",)),
    "play_count": (as_count, ("stats_playcount",)),
    "collect_count": (as_count, ("stats_collectcount",)),
    "music_id": (as_id, ("music_id",)),
    "music_title": (as_text, ("music_title",)),
    "music_author": (as_text, ("music_authorname",)),
    "video_seconds": (as_number, ("video_duration",)),
    "subtitle_language": (as_text, ("subtitle_subtitle_lang",)),
    "collected": (as_time, ("collection_timestamp", "collection_timestamp_x", "collection_timestamp_y")),
    "country": (as_text, ("country",)),
}


def rows(path: Path) -> Iterator[tuple[Any, ...]]:
    """(meta_id, *db.metadata.COLUMNS) of each row of a `_metadata.parquet` that has an id; memory stays flat."""
    return read(path, WAYS)


def read(path: Path, wanted: Ways) -> Iterator[tuple[Any, ...]]:
    """The id and the wanted columns of each row that has an id."""
    names = _schema(path).names
    ids = _named(names, ("meta_id",))
    if not ids:
        raise BadData(f"{path} has no column meta_id, so its rows belong to no recording: this is no companion.")
    groups = [ids, *(_named(names, spellings) for _, spellings in wanted.values())]
    ways = [as_id, *(way for way, _ in wanted.values())]
    for batch in _batches(path, sorted({name for group in groups for name in group})):
        cells = {name: _cells(column) for name, column in zip(batch.schema.names, batch.columns, strict=True)}
        columns = (
            _first([cells[name] for name in group], way, count=len(batch))
            for group, way in zip(groups, ways, strict=True)
        )
        for row in zip(*columns, strict=True):
            if row[0] is not None and len(row[0]) <= LONGEST_ID:
                yield row


def merge(paths: Sequence[Path], out: Path) -> int:
    """Put the whole rows of many companions into one Parquet file, all or nothing; returns how many rows it has.

    Columns whose names differ only in case are one, under the name that came first. A column whose type differs
    between files becomes text, because no number then survives in all of them.
    """
    schema = _unified(paths)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".tmp-{secrets.token_hex(8)}-{out.name}")
    count = 0
    try:
        with temporary.open("xb") as sink:
            with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
                for batch in (batch for path in paths for batch in _batches(path)):
                    writer.write_batch(_fitted(batch, schema))
                    count += len(batch)
            sink.flush()
            os.fsync(sink.fileno())
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
    return count


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        with path.open("rb") as raw, pq.ParquetFile(raw, pre_buffer=False) as file:
            yield file
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        said = (getattr(error, "strerror", None) or str(error).partition("\n")[0]).rstrip(".")
        raise BadData(f"{path} cannot be read as Parquet ({said}); fetch it again.") from error


def _schema(path: Path) -> pa.Schema:
    with _opened(path) as file:
        return file.schema_arrow


def _batches(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    with _opened(path) as file:
        yield from file.iter_batches(batch_size=BATCH_ROWS, columns=columns)


def _named(names: Sequence[str], spellings: Sequence[str]) -> list[str]:
    """The names, the best first, under which a column stands; `_` and case make no difference."""
    return [name for wanted in spellings for name in names if _bare(name) == _bare(wanted)]


def _bare(name: str) -> str:
    return name.replace("_", "").lower()


def _first(columns: Sequence[Sequence[Any]], way: Callable[[Any], Any], *, count: int) -> Iterator[Any]:
    """Row by row, the first of the columns whose cell makes sense."""
    if not columns:
        return repeat(None, count)
    return (
        next((sense for cell in cells if (sense := way(cell)) is not None), None)
        for cells in zip(*columns, strict=True)
    )


def _cells(column: pa.Array) -> Sequence[Any]:
    """The cells as Python values. Bytes that are no text are marked; a year that Python has no date for is None."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _cells(column.dictionary_decode())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        blobs: list[bytes | None] = column.cast(pa.large_binary()).to_pylist()
        return [None if blob is None else blob.decode("utf-8", "replace") for blob in blobs]
    if pa.types.is_timestamp(kind):
        return [_moment(ticks, _MICROSECONDS[kind.unit]) for ticks in column.cast(pa.int64()).to_pylist()]
    if pa.types.is_date32(kind):
        return [_moment(days, 86_400e6) for days in column.cast(pa.int32()).to_pylist()]
    return [_cell(scalar) for scalar in column]


def _cell(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError, ArithmeticError):
        return None


def _moment(ticks: int | None, microseconds: float) -> datetime | None:
    try:
        return None if ticks is None else _EPOCH + timedelta(microseconds=ticks * microseconds)
    except OverflowError:
        return None


def _aware(moment: datetime) -> datetime | None:
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        return None


def _unified(paths: Sequence[Path]) -> pa.Schema:
    """Every column of every file; one type where all agree, text where they do not."""
    fields: dict[str, pa.Field] = {}
    for field in (field for path in paths for field in _schema(path)):
        key = field.name.lower()
        before = fields.get(key)
        kind = _stored(field.type)
        if before is None:
            fields[key] = pa.field(field.name, kind)
        else:
            fields[key] = before.with_type(_common(before.type, kind))
    return pa.schema(list(fields.values()))


def _stored(kind: pa.DataType) -> pa.DataType:
    """The type without the packing of one file."""
    if pa.types.is_dictionary(kind):
        return _stored(kind.value_type)
    return pa.string() if pa.types.is_large_string(kind) else kind


def _common(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if pa.types.is_signed_integer(one) and pa.types.is_signed_integer(other):
        return max(one, other, key=lambda kind: int(kind.bit_width))
    return pa.string()


def _fitted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch in the merged file's columns."""
    names = [name.lower() for name in batch.schema.names]
    columns = [
        _fit([batch.column(place) for place, name in enumerate(names) if name == field.name.lower()], field.type, batch)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _fit(found: Sequence[pa.Array], kind: pa.DataType, batch: pa.RecordBatch) -> pa.Array:
    """One column out of none, one or several; of several the first that has a value."""
    if not found:
        return pa.nulls(len(batch), kind)
    if len(found) == 1 and (_stored(found[0].type) == kind or not pa.types.is_string(kind)) and _is_sound(found[0]):
        return found[0].cast(kind)
    way = as_words if pa.types.is_string(kind) else _itself
    return pa.array(_first([_cells(column) for column in found], way, count=len(batch)), kind)


def _is_sound(column: pa.Array) -> bool:
    """Whether its text is text; Parquet does not check."""
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _itself(value: Any) -> Any:
    return value
