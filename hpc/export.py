"""A day out of the ledger into files: one Parquet, or a file a recording with an index; whole or not at all."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from db import days, faults, formats, reports
from db.connect import Connection
from db.days import Day
from db.errors import TryAgain
from db.states import Finding
from hpc.stages import companions
from hpc.stages.publish import sync_folder

KINDS = ("parquet", *formats.KINDS)
VERSION = 3  # of the columns below; told in the file
GROUP_ROWS, GROUP_BYTES = 10_000, 64 << 20  # a row group ends at the first of them: memory stays flat
FILES_IN_FOLDER = 1000
COUNTS = ("recordings", "transcribed", "no_speech", "quarantined", "unsealed", "shards", "open_shards", "failed_shards")

_WORD = pa.struct({"word": pa.string(), "start": pa.float64(), "end": pa.float64(), "score": pa.float64()})
_SEGMENT = pa.struct(
    {
        "start": pa.float64(),
        "end": pa.float64(),
        "text": pa.string(),
        "avg_logprob": pa.float64(),
        "words": pa.list_(_WORD),
    }
)
_CHUNK = pa.struct(
    {
        "start": pa.float64(),
        "end": pa.float64(),
        "speech": pa.float64(),
        "avg_logprob": pa.float64(),
        "no_speech_prob": pa.float64(),
        "compression_ratio": pa.float64(),
        "flags": pa.list_(pa.string()),
    }
)
_MOMENT = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    {
        "id": pa.int64(), "site": pa.string(), "date": pa.date32(), "slot": pa.string(), "slot_time": _MOMENT,
        "shard": pa.string(), "ordinal": pa.int32(), "meta_id": pa.string(), "name": pa.string(), "size": pa.int64(),
        "sha256": pa.string(), "state": pa.string(), "seconds": pa.float64(), "language": pa.string(),
        "language_probability": pa.float64(), "avg_logprob": pa.float64(), "no_speech_prob": pa.float64(),
        "compression_ratio": pa.float64(), "coverage": pa.float64(), "text": pa.string(), "word_count": pa.int32(),
        "flags": pa.list_(pa.string()), "failure_class": pa.string(), "failure_reason": pa.string(),
        "segments": pa.list_(_SEGMENT), "chunks": pa.list_(_CHUNK), "version": pa.int32(), "run_key": pa.string(),
        "receipt_id": pa.int64(),
        # what the platform says of it (db.metadata.COLUMNS)
        "posted": _MOMENT, "description": pa.string(), "location_created": pa.string(), "text_language": pa.string(),
        "author_id": pa.string(), "author_name": pa.string(), "author_nickname": pa.string(),
        "author_verified": pa.bool_(), "digg_count": pa.int64(), "share_count": pa.int64(),
        "comment_count": pa.int64(), "play_count": pa.int64(), "collect_count": pa.int64(), "music_id": pa.string(),
        "music_title": pa.string(), "music_author": pa.string(), "video_seconds": pa.float64(),
        "subtitle_language": pa.string(), "collected": _MOMENT, "country": pa.string(),
    }
)  # fmt: skip
INDEX = (
    "id", "file", "site", "date", "slot", "shard", "ordinal", "meta_id", "name", "sha256", "state", "seconds",
    "language", "word_count", "flags", "failure_class", "failure_reason",
)  # fmt: skip


class UnfinishedDay(TryAgain):
    """The day is not finished; export it later, or with --partial what there is of it now."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote, and of how much."""

    path: Path
    recordings: int  # rows written
    partial: bool  # the day was not finished
    denominator: dict[str, int]  # what the whole day has, whatever was asked for
    metadata_rows: int | None  # None: no metadata file was written


@dataclass(frozen=True, slots=True)
class _Order:
    """One day's export as it was asked for."""

    connection: Connection
    day: Day
    kind: str
    state: str | None
    facts: dict[str, Any]
    advance: Callable[[int], None]


def export_day(
    connection: Connection,
    day: Day,
    out: Path,
    *,
    kind: str = "parquet",
    state: str | None = None,
    partial: bool = False,
    advance: Callable[[int], None] = lambda _count: None,
) -> Exported:
    """Write the day under out/SITE/: DATE.parquet, or the folder DATE_KIND. All is read from one moment's ledger."""
    folder = out / day.site
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (f"{day.date}.parquet" if kind == "parquet" else f"{day.date}_{kind}")
    # What needs no ledger, such as removing the folder of an earlier export, is done when the snapshot is over.
    with _replacing(path, folder=kind != "parquet") as temporary, reports.snapshot(connection):
        facts = _facts(connection, day, state, partial=partial)
        order = _Order(connection, day, kind, state, facts, advance)
        count = _parquet(order, temporary) if kind == "parquet" else _files(order, temporary)
    merged = _merged(connection, day, folder / f"{day.date}_metadata.parquet") if kind == "parquet" else None
    return Exported(path, count, facts["partial"], facts["denominator"], merged)


def _facts(connection: Connection, day: Day, state: str | None, *, partial: bool) -> dict[str, Any]:
    """What the export says of itself; UnfinishedDay when it may not be made."""
    now = days.by_id(connection, day.id)
    finished = days.is_finished(now)
    if not finished and not partial:
        raise UnfinishedDay(
            f"{day.site} {day.date} is {now.state}, not finished; export it later, or with --partial what there is"
        )
    tally = days.tally(connection, day.id)
    return {
        "version": VERSION,
        "site": day.site,
        "date": day.date.isoformat(),
        "state": now.state.value,
        "partial": not finished,
        "only": state,
        "denominator": {name: tally[name] for name in COUNTS},
        "receipts": [_plain(receipt) for receipt in reports.receipts(connection, day.id)],
    }


def _parquet(order: _Order, target: Path) -> int:
    """One row a recording, a page at a time."""
    schema = SCHEMA.with_metadata({"dayscribe": json.dumps(order.facts, sort_keys=True)})
    count = 0
    with target.open("r+b") as sink:
        with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
            for group in _groups(order):
                writer.write_table(group)
                count += group.num_rows
                faults.point("export.half")
        sink.flush()
        os.fsync(sink.fileno())
    return count


def _groups(order: _Order) -> Iterator[pa.Table]:
    """The day's rows as tables that are large enough for a row group and no larger."""
    batches: list[pa.RecordBatch] = []
    for page in reports.rows(order.connection, order.day.id, state=order.state):
        batches.append(pa.RecordBatch.from_pylist([_plain(row) for row in page], schema=SCHEMA))
        order.advance(len(page))
        if sum(map(len, batches)) >= GROUP_ROWS or sum(batch.nbytes for batch in batches) >= GROUP_BYTES:
            yield pa.Table.from_batches(batches)
            batches = []
    if batches:
        yield pa.Table.from_batches(batches)


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with bytes as hexadecimal text."""
    return {key: value.hex() if isinstance(value, bytes) else value for key, value in row.items()}


def _files(order: _Order, target: Path) -> int:
    """One file for each recording that has a transcript, under our own ids, and an index of all of them."""
    count = written = 0
    about = json.dumps(order.facts, sort_keys=True, indent=2)
    (target / "about.json").write_text(about + "\n", encoding="utf-8")
    with (target / "index.csv").open("w", encoding="utf-8", newline="") as sink:
        index = csv.writer(sink)
        index.writerow(INDEX)
        for page in reports.rows(order.connection, order.day.id, state=order.state):
            for row in page:
                place = _file(order, target, row, written)
                written += place is not None
                index.writerow([safe_cell(value) for value in _index_row(row, place)])
            count += len(page)
            order.advance(len(page))
            faults.point("export.half")
    return count


def _file(order: _Order, folder: Path, row: Mapping[str, Any], number: int) -> str | None:
    """Write one transcript; returns its place in the folder."""
    if row["segments"] is None:
        return None
    place = f"{number // FILES_IN_FOLDER:03}/{row['id']}.{order.kind}"
    if number % FILES_IN_FOLDER == 0:
        (folder / place).parent.mkdir()
    by_id = {receipt["id"]: receipt for receipt in order.facts["receipts"]}
    receipt = by_id.get(row["receipt_id"], {}).get("receipt")
    text = formats.render(reports.document({**row, "receipt": receipt}), order.kind)
    (folder / place).write_text(text, encoding="utf-8", newline="")
    return place


def _index_row(row: Mapping[str, Any], place: str | None) -> list[Any]:
    shown = _plain(row) | {"file": place, "flags": " ".join(row["flags"])}
    return [shown[name] for name in INDEX]


def safe_cell(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in set("=+-@\t\r\n＝＋－＠") else value


def _merged(connection: Connection, day: Day, out: Path) -> int | None:
    """Put the day's metadata files that are still staged into one, in the order of their slots; None without any."""
    if day.staged is None:
        return None
    there = {path.name: path for path in Path(day.staged).rglob("*_metadata.parquet")}
    rows = [row for row in days.slots(connection, day.id) if row["kind"] == "metadata"]
    found = [there[row["name"]] for row in rows if row["finding"] == Finding.ARRIVED and row["name"] in there]
    return companions.merge(found, out) if found else None


@contextmanager
def _replacing(target: Path, *, folder: bool = False) -> Iterator[Path]:
    """A temporary beside the target that takes its place when the block ends well, and goes when it does not."""
    _sweep(target)
    temporary = target.with_name(f".tmp-{secrets.token_hex(8)}-{target.name}")
    temporary.mkdir() if folder else temporary.touch(exist_ok=False)
    with _held(temporary):
        try:
            yield temporary
            if folder:  # a folder cannot be renamed over another: for a moment the day has its old name only
                _put_away(target)
            temporary.rename(target)
        except BaseException:
            _remove(temporary)
            raise
    faults.point("export.renamed")
    sync_folder(target.parent)
    _sweep(target)


def _put_away(target: Path) -> None:
    with suppress(FileNotFoundError):
        target.rename(target.with_name(f".tmp-{secrets.token_hex(8)}-{target.name}"))


def _sweep(target: Path) -> None:
    """Remove what crashed exports of this target left; one that is being written is locked by its writer."""
    for left in target.parent.glob(f".tmp-*-{target.name}"):
        with suppress(FileNotFoundError), _held(left) as ours:
            if ours:
                _remove(left)


@contextmanager
def _held(path: Path) -> Iterator[bool]:
    """Hold the file or folder until the end, or until its holder dies; False when another has it, or locks are none."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
