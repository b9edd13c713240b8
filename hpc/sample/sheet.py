"""The coder's sheet: a CSV that says nothing of what the machine heard, and its way back, every row looked at."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from db.errors import BadData
from db.names import display
from db.samples import Coding, Sample
from hpc.export.tables import safe_cell
from hpc.sample.audio import file_name
from hpc.words import tokens as words

COLUMNS = ("place", "recording", "audio", "seconds", "reference", "no_speech")
NEEDED = ("place", "recording", "reference", "no_speech")
SHOWN = 20  # bad lines that are named
LARGEST = 64 << 20  # bytes of a sheet that comes back
_YES, _NO = frozenset({"x", "1", "y", "yes", "true"}), frozenset({"", "0", "n", "no", "false"})
Row = Mapping[str, Any]


def write_sheet(rows: Sequence[Row], sample: Sample, out: Path) -> int:
    """Write the rows of db.samples.audio as a blank sheet; how many recordings have their audio copied. A file that is
    there may hold somebody's work: it is never written over."""
    folder = sample.selection.get("audio")
    copied, text = 0, io.StringIO(newline="")
    sheet = csv.writer(text)
    sheet.writerow(COLUMNS)
    for row in rows:
        name = file_name(sample.name, row)
        here = folder is not None and (Path(folder) / name).is_file()
        copied += here
        where = name if here else f"{display(row['shard'].encode())}: {display(row['name'])}"
        seconds = "" if row["seconds"] is None else f"{row['seconds']:.1f}"
        sheet.writerow([row["place"], row["recording_id"], safe_cell(where), seconds, "", ""])
    try:
        with out.open("x", encoding="utf-8-sig", newline="") as sink:
            sink.write(text.getvalue())
    except FileExistsError:
        raise BadData(f"{out} is there already, and may hold somebody's work; name another file.") from None
    return copied


def read_sheet(path: Path, places: Mapping[int, Row], *, replace: bool = False) -> list[Coding]:
    """What the sheet says, for db.samples.judge; rows that are still blank are left out. BadData names every bad line.

    `places` is what the ledger has of each place; what was judged otherwise is refused, unless it is to be replaced.
    """
    found: dict[int, Coding] = {}
    lines: dict[int, int] = {}
    problems: list[str] = []
    for number, row in _rows(path):
        try:
            coding = _coding(row, places)
            if coding.place in lines:
                raise BadData(f"place {coding.place} was on line {lines[coding.place]} already")
            lines[coding.place] = number
            if _said(row):
                _refuse_dispute(coding, places[coding.place], replace=replace)
                found[coding.place] = coding
        except BadData as error:
            problems.append(f"{path}, line {number}: {error}")
    if problems:
        more = f"\nand {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise BadData("Nothing was changed.\n" + "\n".join(problems[:SHOWN]) + more)
    return list(found.values())


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Each row with the line it begins on; by commas, semicolons or tabs, as spreadsheets write them."""
    text = _text(path)
    first = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True)
    line = 1
    names: list[str] = []
    try:
        for cells in reader:
            if not names:
                names = [cell.strip().lower() for cell in cells]
                if missing := [name for name in NEEDED if names.count(name) != 1]:
                    raise BadData(f"{path} has no column {', '.join(missing)}, or twice; keep the sheet's first line.")
            elif any(cell.strip() for cell in cells[len(names) :]):
                raise BadData(
                    f"Nothing was changed.\n{path}, line {line}: it has more cells than columns; put a text with commas"
                    " into quotation marks."
                )
            elif any(cell.strip() for cell in cells):
                padded = [*cells, *[""] * (len(names) - len(cells))]
                yield line, dict(zip(names, padded, strict=False))
            line = reader.line_num + 1
    except csv.Error as error:
        raise BadData(f"{path}, line {reader.line_num}: it cannot be read as CSV: {error}.") from None
    if not names:
        raise BadData(f"{path} is empty.")


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST:
            raise BadData(f"{path} is larger than any sheet ({LARGEST >> 20} MB).")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise BadData(f"{path} is not UTF-8; save it as “CSV UTF-8” in the spreadsheet program.") from None
    except OSError as error:
        raise BadData(f"{path} cannot be read: {error.strerror}.") from None


def _coding(row: Mapping[str, str], places: Mapping[int, Row]) -> Coding:
    place, recording = (_number(row, name) for name in ("place", "recording"))
    if place not in places:
        raise BadData(f"the sample has no place {place}")
    if places[place]["recording_id"] != recording:
        raise BadData(f"place {place} is recording {places[place]['recording_id']}, not {recording}")
    reference, silent = row["reference"].strip(), row["no_speech"].strip().lower()
    if silent not in _YES | _NO:
        raise BadData(f"no_speech is x or empty, not {silent[:20]!r}")
    if silent in _YES and reference:
        raise BadData("it has a reference, and no_speech is marked")
    if reference and not words(reference):
        raise BadData("its reference has no words; mark no_speech if nobody speaks")
    if "\0" in reference:
        raise BadData("its reference holds a NUL character")
    return Coding(place, recording, reference)


def _said(row: Mapping[str, str]) -> bool:
    return bool(row["reference"].strip()) or row["no_speech"].strip().lower() in _YES


def _number(row: Mapping[str, str], name: str) -> int:
    said = row[name].strip()
    if not (said.isascii() and said.isdigit() and len(said) < 19):
        raise BadData(f"{name} is a number, not {said[:40]!r}")
    return int(said)


def _refuse_dispute(coding: Coding, known: Row, *, replace: bool) -> None:
    before = known["reference"]
    if before is not None and before != coding.reference and not replace:
        raise BadData(f"{known['coder']} judged place {coding.place} otherwise; --replace takes this one instead")
