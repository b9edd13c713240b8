"""What a day should have: a listing becomes slots and shards; one that grew raises the day's revision."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from db import days, events, faults, metadata, shards, sites
from db.days import Day, SlotFinding
from db.errors import BadData
from db.session import Session
from db.states import DayState, Finding
from hpc.errors import SourceMissing
from hpc.model import RemoteFile
from hpc.ports import Source
from hpc.stages import companions

_STEM = r"(?:.*/)?0_([0-9]{4}-[0-9]{2}-[0-9]{2})_([0-9]{2})_([0-9]{2})"
ARCHIVE = re.compile(_STEM + r"(?:\.tar(?:\.(?:xz|gz|bz2))?|\.tgz)")
COMPANION = re.compile(_STEM + r"_(metadata|subtitles|comments)\.parquet")
AUDIO = re.compile(r".*\.(mp3|wav|flac|ogg|opus|m4a|aac|mp4|webm|mka|aiff?|amr|wma)", re.IGNORECASE | re.DOTALL)
LOOSE_FILES = 500  # loose files in one shard
Known = Sequence[dict[str, Any]]
KINDS = ("archive", "metadata", "subtitles", "comments")


@dataclass(frozen=True, slots=True)
class Registered:
    """What registering a listing changed."""

    day: Day
    new_shards: int
    metadata_rows: int  # rows the day has now; 0 when no companion was new
    changed: tuple[str, ...]  # archives whose size is not what it was when they were listed first


@dataclass(frozen=True, slots=True)
class _Sorted:
    """A listing by what its files are."""

    archives: dict[str, RemoteFile]  # slot → archive
    companions: dict[tuple[str, str], RemoteFile]  # (slot, kind) → parquet
    loose: list[RemoteFile]


def register(
    session: Session, site: sites.Site, on: date, source: Source, staged: Path, *, max_attempts: int
) -> Registered:
    """List the day at its source and write what it shows; a second time it adds only what is new."""
    session(days.add, site.id, [on])
    day = session(days.get, site.name, on)
    listing = sort_listing(source.listing(on), on)
    known = session(shards.of_day, day.id)
    revision = day.revision + bool(known)
    new = [*_archives(listing, known), *_loose(site, listing, known, revision)]
    if not new and not known:
        raise SourceMissing(
            f"{staged} holds no audio of {on}: neither archives named 0_{on}_HH_MM.tar.xz"
            + ("" if site.slot_minutes else " nor audio files")
        )
    revision = revision if new else day.revision
    session(days.listed, day.id, staged=str(staged), revision=revision)
    added = session(shards.add, day.id, new, revision=revision, max_attempts=max_attempts)
    faults.point("days.listed")
    if day.state == DayState.PENDING:
        message = f"{len(known) + added} shards listed"
        ready = DayState.READY_TO_PROCESS
        session(days.move, day.id, ready, actor="listing", message=message, only_from=DayState.PENDING)
    changed = _changed(listing, known)
    if changed:
        session(events.add, "listing.changed", actor="listing", day_id=day.id, archives=list(changed))
    rows = _take_metadata(session, day.id, staged, listing)
    session(days.put_slots, day.id, revision=revision, slots=_slots(site, listing))
    return Registered(session(days.by_id, day.id), added, rows, changed)


def sort_listing(files: Iterable[RemoteFile], on: date) -> _Sorted:
    """Archives and companions of this date by slot; everything else that looks like audio is loose."""
    archives: dict[str, RemoteFile] = {}
    companions: dict[tuple[str, str], RemoteFile] = {}
    loose: list[RemoteFile] = []
    for file in files:
        if match := ARCHIVE.fullmatch(file.path):
            if match[1] == on.isoformat():
                archives[f"{match[2]}_{match[3]}"] = file
        elif match := COMPANION.fullmatch(file.path):
            if match[1] == on.isoformat():
                companions[f"{match[2]}_{match[3]}", match[4]] = file
        elif AUDIO.fullmatch(file.path):
            loose.append(file)
    return _Sorted(archives, companions, loose)


def grid(slot_minutes: int | None) -> list[str]:
    """The day's slots on its grid, "HH_MM"; none without a grid."""
    if not slot_minutes:
        return []
    return [f"{minute // 60:02}_{minute % 60:02}" for minute in range(0, 24 * 60, slot_minutes)]


def _archives(listing: _Sorted, known: Known) -> Iterable[shards.NewShard]:
    have = {row["name"] for row in known}
    for slot, file in sorted(listing.archives.items()):
        name = Path(file.path).name
        if name not in have:
            yield shards.NewShard(name, (os.fsencode(file.path),), file.size, slot)


def _loose(site: sites.Site, listing: _Sorted, known: Known, revision: int) -> Iterable[shards.NewShard]:
    """Loose files that no shard has yet, in groups; only a site without a grid has any."""
    if site.slot_minutes is not None:
        return
    have = {path for row in known if row["loose"] for path in row["paths"]}
    files = [file for file in listing.loose if os.fsencode(file.path) not in have]
    for start in range(0, len(files), LOOSE_FILES):
        group = files[start : start + LOOSE_FILES]
        paths = tuple(os.fsencode(file.path) for file in group)
        yield shards.NewShard(f"loose-{revision}-{start:06}", paths, sum(file.size for file in group), loose=True)


def _changed(listing: _Sorted, known: Known) -> tuple[str, ...]:
    """Archives that the ledger knows with another size. They are told of, not silently read again."""
    sizes = {row["name"]: row["size"] for row in known}
    names = ((Path(file.path).name, file.size) for file in listing.archives.values())
    return tuple(sorted(name for name, size in names if sizes.get(name, size) != size))


def _slots(site: sites.Site, listing: _Sorted) -> Sequence[SlotFinding]:
    """Every slot of the grid, and every slot that has an archive although the grid has not."""
    found = []
    for slot in sorted({*grid(site.slot_minutes), *listing.archives}):
        for kind in KINDS:
            file = listing.archives.get(slot) if kind == "archive" else listing.companions.get((slot, kind))
            if file is None:
                found.append(SlotFinding(slot, kind, Finding.ABSENT_AT_SOURCE))
            else:
                finding = Finding.ARRIVED if file.size else Finding.EMPTY
                found.append(SlotFinding(slot, kind, finding, Path(file.path).name, file.size))
    return found


def _take_metadata(session: Session, day_id: int, staged: Path, listing: _Sorted) -> int:
    """Read the metadata companions that are new or changed; they may come late, and never reopen or hold up the day."""
    before = {(row["slot"], row["kind"]): (row["name"], row["size"]) for row in session(days.slots, day_id)}
    taken = 0
    for (slot, kind), file in sorted(listing.companions.items()):
        if kind == "metadata" and file.size and before.get((slot, kind)) != (Path(file.path).name, file.size):
            try:
                rows = list(companions.rows(staged / file.path))  # a list: a broken connection is tried again with it
            except BadData as error:
                session(events.add, "companion.unreadable", actor="listing", day_id=day_id, reason=str(error))
            else:
                taken = session(metadata.put, day_id, rows)
    return taken
