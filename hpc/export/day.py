"""A day out of the ledger: one table with what it says of itself, or a file a recording; whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from db import days, reports
from db.connect import Connection
from db.days import Day
from db.reports import EVERYTHING, Choice
from db.states import Finding
from hpc.export import files, tables, whole
from hpc.export.about import about_day
from hpc.export.columns import COLUMNS
from hpc.stages import companions

KINDS = (*tables.KINDS, *files.KINDS)


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote, and of how much."""

    path: Path
    recordings: int  # rows written
    partial: bool  # the day was not finished
    denominator: dict[str, int]  # what the whole day has, whatever was asked for
    metadata_rows: int | None  # None: no metadata file was written


def export_day(
    connection: Connection,
    day: Day,
    out: Path,
    *,
    kind: str = "parquet",
    choice: Choice = EVERYTHING,
    partial: bool = False,
    advance: Callable[[int], None] = lambda _count: None,
) -> Exported:
    """Write the day under out/SITE/: DATE.parquet; DATE.jsonl or DATE.csv with an about.json; or the folder DATE_KIND.
    All is read from one moment's ledger."""
    folder = out / day.site
    folder.mkdir(parents=True, exist_ok=True)
    separate = kind in files.KINDS
    path = folder / (f"{day.date}_{kind}" if separate else f"{day.date}.{kind}")
    beside = path.with_name(f"{path.name}.about.json")
    # What needs no ledger, such as removing the folder of an earlier export, is done when the snapshot is over.
    with whole.replacing(path, folder=separate) as temporary:
        with reports.snapshot(connection):
            chosen = reports.choose(connection, day.id, choice)
            about = about_day(connection, day, choice, chosen, partial=partial)
            pages = tables.told(reports.pages(connection, chosen.ids), advance)
            if separate:
                count = files.write_files(temporary, kind, about, pages)
            else:
                count = tables.write_table(temporary, kind, COLUMNS, about, pages)
        digest = None if separate or kind == "parquet" else whole.digest(temporary)
        beside.unlink(missing_ok=True)  # what it says is not of the file that comes
    if digest is not None:
        _tell(beside, about | {"file": path.name, "sha256": digest})
    merged = _merged(connection, day, folder / f"{day.date}_metadata.parquet") if kind == "parquet" else None
    return Exported(path, count, about["partial"], about["denominator"], merged)


def _tell(beside: Path, about: dict[str, Any]) -> None:
    """What the table cannot say itself; the digest says of which table."""
    with whole.replacing(beside) as temporary:
        whole.write(temporary, json.dumps(about, sort_keys=True, indent=2) + "\n")


def _merged(connection: Connection, day: Day, out: Path) -> int | None:
    """Put the day's metadata files that are still staged into one, in the order of their slots; None without any."""
    if day.staged is None:
        return None
    there = {path.name: path for path in Path(day.staged).rglob("*_metadata.parquet")}
    rows = [row for row in days.slots(connection, day.id) if row["kind"] == "metadata"]
    found = [there[row["name"]] for row in rows if row["finding"] == Finding.ARRIVED and row["name"] in there]
    return companions.merge(found, out) if found else None
