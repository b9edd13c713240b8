"""A day as a file a recording, under our own ids, with an index of all of them."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from db import faults, formats, reports
from hpc.export.tables import Pages, plain, safe_cell

KINDS = formats.KINDS
FILES_IN_FOLDER = 1000
INDEX = (
    "id", "file", "site", "date", "slot", "shard", "ordinal", "meta_id", "name", "sha256", "state", "seconds",
    "language", "word_count", "flags", "failure_class", "failure_reason",
)  # fmt: skip


def write_files(target: Path, kind: str, about: Mapping[str, Any], pages: Pages) -> int:
    """Fill the folder; returns how many recordings the index has."""
    count = written = 0
    receipts = {receipt["id"]: receipt["receipt"] for receipt in about["receipts"]}
    told = json.dumps(about, sort_keys=True, indent=2)
    (target / "about.json").write_text(told + "\n", encoding="utf-8")
    with (target / "index.csv").open("w", encoding="utf-8", newline="") as sink:
        index = csv.writer(sink)
        index.writerow(INDEX)
        for page in pages:
            for row in page:
                place = _file(target, kind, {**row, "receipt": receipts.get(row["receipt_id"])}, written)
                written += place is not None
                index.writerow([safe_cell(value) for value in _index_row(row, place)])
            count += len(page)
            faults.point("export.half")
    return count


def _file(folder: Path, kind: str, row: Mapping[str, Any], number: int) -> str | None:
    """Write one transcript; returns its place in the folder, None without one."""
    if row["segments"] is None:
        return None
    place = f"{number // FILES_IN_FOLDER:03}/{row['id']}.{kind}"
    if number % FILES_IN_FOLDER == 0:
        (folder / place).parent.mkdir()
    (folder / place).write_text(formats.render(reports.document(row), kind), encoding="utf-8", newline="")
    return place


def _index_row(row: Mapping[str, Any], place: str | None) -> list[Any]:
    shown = plain(row) | {"file": place, "flags": " ".join(row["flags"])}
    return [shown[name] for name in INDEX]
