"""What has arrived: looked at byte by byte where a checksum is known, opened as shards, and joined to the ledger."""

from __future__ import annotations

import hashlib
import os
import stat
from functools import partial
from pathlib import Path
from typing import Any

import db.captions
from db import events, listings, metadata, shards
from db.connect import Connection
from db.errors import BadData
from db.session import Session
from db.states import FileState
from db.transfers import Outcome
from hpc.model import Checksum
from hpc.stages import captions, companions

MARK = ".dayscribe-staging"
LOOSE_FILES = 500  # loose files in one shard
ARCHIVES = 1_000  # archives opened in one step


def examine(  # noqa: PLR0911 - one line for each thing that can be wrong
    staged: Path, path: bytes, size: int | None, checksum: Checksum | None, *, of: str = "the one that was sent"
) -> Outcome:
    """Whether a file is there, is a file and no link, has the size that was listed, and the bytes if that is known;
    `of`: whose checksum that is."""
    where = staged / os.fsdecode(path)
    try:
        found = where.lstat()
        if not stat.S_ISREG(found.st_mode):
            return Outcome(path, "it is there, but is no regular file", FileState.WRONG)
        if size is not None and found.st_size != size:
            return Outcome(path, f"{found.st_size:,} bytes arrived, {size:,} were listed", FileState.WRONG)
        if checksum is None:
            return Outcome(path, None)
        with where.open("rb") as file:
            value = hashlib.file_digest(file, partial(_hasher, checksum.algorithm)).hexdigest()
    except FileNotFoundError:
        return Outcome(path, "it was listed and did not arrive", FileState.MISSING)
    except ValueError:  # an algorithm that this machine has not
        return Outcome(path, None)
    except OSError as error:
        return Outcome(path, f"it cannot be read: {error.strerror}", FileState.WRONG)
    if value != checksum.value:
        return Outcome(path, f"its {checksum.algorithm} is not {of}", FileState.WRONG)
    return Outcome(path, None, verified=True)


def _hasher(algorithm: str) -> Any:
    """To compare, not to protect: where md5 is forbidden for that, it still compares."""
    return hashlib.new(algorithm, usedforsecurity=False)


def open_shards(session: Session, day_id: int, *, revision: int, max_attempts: int) -> int:
    """Every archive that arrived is a shard, and so are groups of loose files; how many are new."""
    opened = 0
    for kind, limit in (("archive", ARCHIVES), ("loose", LOOSE_FILES)):
        if kind == "loose" and session(listings.to_open, day_id, kind, limit=1):
            session(listings.adopt, day_id)
        while page := session(listings.to_open, day_id, kind, limit=limit):
            new = _shards(page) if kind == "archive" else [_group(page, revision)]
            opened += session(_open, day_id, new, revision=revision, max_attempts=max_attempts)
    return opened


def _shards(page: list[dict[str, Any]]) -> list[shards.NewShard]:
    return [shards.NewShard(_name(row["path"]), (row["path"],), row["size"] or 0, row["slot"]) for row in page]


def _group(page: list[dict[str, Any]], revision: int) -> shards.NewShard:
    paths = tuple(row["path"] for row in page)
    digest = hashlib.sha256(b"\0".join(paths)).hexdigest()
    return shards.NewShard(f"loose-{revision}-{digest[:12]}", paths, sum(row["size"] or 0 for row in page), loose=True)


def _open(connection: Connection, day_id: int, new: list[shards.NewShard], *, revision: int, max_attempts: int) -> int:
    """The shards, and whose files are whose, at once: no file is ever in two."""
    with connection.transaction():
        opened = shards.add(connection, day_id, new, revision=revision, max_attempts=max_attempts)
        for shard in new:
            listings.opened(connection, day_id, shard.paths, shard.name)
    return opened


def _name(path: bytes) -> str:
    return os.fsdecode(path.rpartition(b"/")[2])


def _put_metadata(connection: Connection, *, day_id: int, path: Path) -> int:
    """Row by row, so that memory stays flat; asked a second time, the file is read a second time."""
    return metadata.put(connection, day_id, companions.rows(path))


def _put_captions(connection: Connection, *, day_id: int, path: Path) -> int:
    return db.captions.put(connection, day_id, captions.rows(path))


def join_metadata(session: Session, day_id: int, staged: Path) -> int:
    """Read the metadata and the captions that arrived into the ledger; how many rows of metadata the day has now, 0
    when none was new. They may come late, and never reopen or hold up the day."""
    rows_now = 0
    for row in session(listings.to_join, day_id):
        if row["size"]:
            path = staged / os.fsdecode(row["path"])
            try:
                if row["kind"] == "metadata":
                    rows_now = session(partial(_put_metadata, day_id=day_id, path=path))
                else:
                    session(partial(_put_captions, day_id=day_id, path=path))
            except BadData as error:
                session(events.add, "companion.unreadable", actor="listing", day_id=day_id, reason=str(error))
        session(listings.joined, day_id, row["path"])
    return rows_now


def miss_lost(session: Session, day_id: int, staged: Path) -> int:
    """Staging may be a scratch that is purged: what arrived, is not worked yet and is gone has to come again; how many
    files that are. What a host does not show at all is not gone."""
    count, after = 0, b""
    while seen_from_here(staged) and (page := session(listings.unworked, day_id, after, limit=ARCHIVES)):
        gone, after = [path for path in page if _gone(staged / os.fsdecode(path))], page[-1]
        count += session(listings.lost, day_id, gone) if gone else 0
    return count


def _gone(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:  # it is there, or nobody knows
        return False
    return False


def mark_staging(staged: Path) -> None:
    """Leave a word in the folder that days are staged in, SITE/DATE below it: who sees it sees what arrives there."""
    root = staged.parents[1]
    root.mkdir(parents=True, exist_ok=True)
    (root / MARK).touch()


def seen_from_here(staged: Path) -> bool:
    """Whether this host shows what is staged: an empty mount point is no sign that nothing has arrived."""
    return (staged.parents[1] / MARK).exists() or (staged.is_dir() and any(staged.iterdir()))
