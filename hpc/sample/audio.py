"""A sample's audio out of the staged archives: exact copies, under our own names, of the bytes the ledger knows."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

from db import faults
from db.errors import DayscribeError
from db.names import AUDIO_SUFFIXES
from hpc.model import Member, Shard
from hpc.stages.publish import sync_folder
from hpc.stages.unpack import ArchiveLimits, unpack

OTHER = ".audio"  # of what has no suffix that we know
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Missing:
    """A recording whose audio could not be had, and why."""

    place: int
    recording: int
    why: str


def file_name(sample: str, row: Row) -> str:
    """The copy's name: the sample's and the place, which tell nothing, and the suffix if it is one of audio."""
    suffix = PurePosixPath(os.fsdecode(row["name"].rpartition(b"/")[2])).suffix.lower()
    return f"{sample}-{row['place']:05}{suffix if suffix in AUDIO_SUFFIXES else OTHER}"


def copy_audio(
    sample: str, rows: Sequence[Row], folder: Path, limits: ArchiveLimits, *, advance: Callable[[int], None]
) -> list[Missing]:
    """Copy the audio of these rows (db.samples.audio); what is there already stays. Each archive is read once, and no
    further than needed."""
    folder.mkdir(parents=True, exist_ok=True)
    for broken in folder.glob(f".tmp-{sample}-[0-9]*"):  # of one that was ended
        broken.unlink(missing_ok=True)
    wanted = [row for row in rows if not _is_there(folder / file_name(sample, row), row["sha256"])]
    advance(len(rows) - len(wanted))
    missing: list[Missing] = []
    for _, group in groupby(sorted(wanted, key=lambda row: (row["shard_id"], row["ordinal"])), lambda r: r["shard_id"]):
        of_shard = list(group)
        lost = {row["ordinal"]: "its archive has no such recording any more" for row in of_shard}
        try:
            for row, data in _found(of_shard, limits):
                if hashlib.sha256(data).digest() == row["sha256"]:
                    _write(folder / file_name(sample, row), data)
                    del lost[row["ordinal"]]
                else:
                    lost[row["ordinal"]] = "other bytes are in its place: the archive was changed"
        except DayscribeError as error:
            lost = dict.fromkeys(lost, str(error))
        left = [row for row in of_shard if row["ordinal"] in lost]
        missing += [Missing(row["place"], row["recording_id"], lost[row["ordinal"]]) for row in left]
        advance(len(of_shard))
    sync_folder(folder)
    return sorted(missing, key=lambda one: one.place)


def _found(rows: Sequence[Row], limits: ArchiveLimits) -> Iterator[tuple[Row, bytes]]:
    """The bytes of these recordings of one shard, as far as they are there."""
    first, left = rows[0], {row["ordinal"]: row for row in rows}
    if first["staged"] is None:
        raise _Gone(f"{first['site']} {first['date']} is not staged any more; transfer the day again")
    files = tuple(Path(first["staged"]) / os.fsdecode(path) for path in first["paths"])
    shard = Shard(
        first["shard_id"], first["site"], first["date"], first["shard"], files, first["slot"], loose=first["loose"]
    )
    for item in unpack(shard, limits=limits):
        if isinstance(item, Member) and (row := left.pop(item.recording.ordinal, None)) is not None:
            yield row, item.data
        if not left:
            return


class _Gone(DayscribeError):
    """The day is not staged."""


def _is_there(path: Path, sha256: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest() == sha256
    except FileNotFoundError:
        return False


def _write(path: Path, data: bytes) -> None:
    """Whole under its name, or not at all."""
    making = path.with_name(f".tmp-{path.name}-{secrets.token_hex(8)}")
    try:
        with making.open("xb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        faults.point("sample.half")
        making.rename(path)
    except BaseException:
        making.unlink(missing_ok=True)
        raise
    faults.point("sample.copied")
