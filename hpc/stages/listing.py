"""A day's listing: what the source shows, sorted by what each file is, on its way into the ledger a page at a time."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import IO

from db import days, listings
from db.days import SlotFinding
from db.errors import BadData
from db.listings import Listed, Taken
from db.names import display
from db.session import Session
from db.states import FileState, Finding
from hpc.layout import KINDS
from hpc.model import RemoteFile
from hpc.origin import Origin
from hpc.ports import Source

AUDIO = re.compile(r".*\.(mp3|wav|flac|ogg|opus|m4a|aac|mp4|webm|mka|aiff?|amr|wma)", re.IGNORECASE | re.DOTALL)
LONGEST_PATH = 2_000  # bytes
FINDINGS = {
    FileState.LISTED: Finding.LISTED,
    FileState.ARRIVED: Finding.ARRIVED,
    FileState.REMOVED: Finding.ARRIVED,
    FileState.MISSING: Finding.LISTED_BUT_MISSING,
    FileState.WRONG: Finding.LISTED_BUT_MISSING,
    FileState.WAIVED: Finding.LISTED_BUT_MISSING,
    FileState.GONE: Finding.LISTED_BUT_MISSING,  # it was there, and never came
}


class Spool:
    """A listing on disk: read from its source once and to its end, gone through as often as the ledger asks, and never
    in memory whole."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def __iter__(self) -> Iterator[Listed]:
        self._file.seek(0)
        for line in self._file:
            path, kind, slot, size, algorithm, checksum, when = json.loads(line)
            modified = None if when is None else datetime.fromisoformat(when)
            yield Listed(os.fsencode(path), kind, slot, size, algorithm, checksum, modified)


@contextmanager
def spooled(files: Iterable[Listed]) -> Iterator[Spool]:
    """The files, all of them read; an error of their source comes through, and nothing is left on disk."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="surrogateescape", prefix="dayscribe-") as file:
        for one in files:
            when = None if one.modified is None else one.modified.isoformat()
            row = [os.fsdecode(one.path), one.kind, one.slot, one.size, one.algorithm, one.checksum, when]
            file.write(json.dumps(row) + "\n")
        yield Spool(file)


def sorted_out(files: Iterable[RemoteFile], origin: Origin, on: date) -> Iterator[Listed]:
    """The files of this date by what they are. What looks like audio is loose, where the site has no slots; the rest is
    none of ours."""
    for file in files:
        _refuse_impossible(file)
        named = origin.layout.parse(file.path)
        if named is not None:
            if named.date == on:
                yield _listed(file, named.kind, named.slot)
        elif origin.clock.minutes is None and AUDIO.fullmatch(file.path):
            yield _listed(file, "loose", None)


def _refuse_impossible(file: RemoteFile) -> None:
    """A path below the day's folder, here as there: what would lead out of it, or no file system has, is nobody's name
    for a file. Neither is a size that no file has."""
    path = file.path
    try:
        known = len(os.fsencode(path)) <= LONGEST_PATH and "\0" not in path
    except UnicodeEncodeError:
        known = False
    if not known or any(part in ("", ".", "..") for part in path.split("/")):
        shown = path[:100].encode("utf-8", "backslashreplace")
        raise BadData(f"its source lists {display(shown)}, which is no name of a file")
    if not 0 <= file.size < 2**63:
        raise BadData(f"its source lists {display(os.fsencode(path))} with a size that no file has")


def _listed(file: RemoteFile, kind: str, slot: str | None) -> Listed:
    algorithm, value = (file.checksum.algorithm, file.checksum.value) if file.checksum else (None, None)
    return Listed(os.fsencode(file.path), kind, slot, file.size, algorithm, value, file.modified)


def take_listing(
    session: Session, day: days.Day, origin: Origin, source: Source, staged: Path, *, actor: str = "listing"
) -> Taken:
    """List the day at its source and take in what it shows. A source that fails halfway changes nothing."""
    with spooled(sorted_out(source.listing(day.date), origin, day.date)) as spool:
        taken = session(listings.take, day.id, spool, staged=str(staged), at_hand=not origin.route.moves, actor=actor)
    put_slots(session, day.id, origin, day.date)
    return taken


def put_slots(session: Session, day_id: int, origin: Origin, on: date) -> None:
    """The gap map anew: every slot of the grid and every slot that has a file, with what is known of each kind."""
    there = {(row["slot"], row["kind"]): row for row in session(listings.slot_files, day_id)}
    begins = {slot.label: slot.begins for slot in origin.clock.grid(on)}
    archives = {slot for slot, kind in there if kind == "archive"}
    found = []
    for slot in sorted({*begins, *archives}):
        when = begins.get(slot) or origin.clock.begins(on, slot)
        for kind in KINDS:
            found.append(_finding(slot, kind, there.get((slot, kind)), when))
    session(days.put_slots, day_id, revision=session(days.by_id, day_id).revision, slots=found)


def _finding(slot: str, kind: str, row: dict[str, object] | None, begins: datetime | None) -> SlotFinding:
    if row is None or (row["state"] == FileState.GONE and row["came"]):
        return SlotFinding(slot, kind, Finding.ABSENT_AT_SOURCE, begins=begins)
    path, size = row["path"], row["size"]
    assert isinstance(path, bytes)
    assert size is None or isinstance(size, int)
    finding = FINDINGS[FileState(str(row["state"]))]
    if finding is Finding.ARRIVED and size == 0:
        finding = Finding.EMPTY
    name = path.rpartition(b"/")[2].decode("utf-8", "backslashreplace")
    return SlotFinding(slot, kind, finding, name, size, begins)
