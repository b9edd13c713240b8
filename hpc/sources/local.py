"""A folder of this machine or of a shared file system: worked where it lies, or brought to staging by link or copy."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import stat
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

from db import faults
from db.errors import BadData
from db.states import TransferState
from hpc.errors import MoverTrouble, SourceMissing
from hpc.model import Checksum, Move, Progress, RemoteFile
from hpc.origin import Origin

CHUNK = 1 << 20
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
MEMORY = ".moves"  # beside the days: what each move came to
MEMORY_DAYS = 30


class LocalSource:
    """The files of a folder, folders below it included."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin

    def days(self) -> Iterable[date]:
        """The dates for which the place has an archive or a companion, in order."""
        return sorted(set(self._days()))

    def listing(self, day: date) -> Sequence[RemoteFile]:
        """All regular files of the day's folder, by name, folders below it included; links are not followed."""
        folder = Path(self._origin.folder(day))
        try:
            if not stat.S_ISDIR(folder.stat().st_mode):
                raise SourceMissing(f"{folder} is not a folder; a site's location is the folder that holds its files")
            return sorted(_files(folder, folder), key=lambda file: os.fsencode(file.path))
        except FileNotFoundError as error:
            raise SourceMissing(f"there is no folder {folder}; check the site's location and the date") from error
        except OSError as error:
            raise BadData(f"{folder} cannot be listed: {error.strerror}") from error

    def _days(self) -> Iterator[date]:
        root = Path(self._origin.root)
        for file in _files(root, root):
            named = self._origin.layout.parse(file.path)
            if named and (root / file.path).is_relative_to(self._origin.folder(named.date)):
                yield named.date


class LocalMover:
    """Links or copies. `submit` does the work, reads what it wrote once more, and leaves a note of it; a file that is
    there whole is not made again, so that the same move may be made twice."""

    prompt = False

    def __init__(self, source: Path, destination: Path, memory: Path, *, link: bool) -> None:
        self._source, self._destination, self._memory, self._link = source, destination, memory / MEMORY, link

    def new_submission(self) -> UUID:
        return uuid.uuid4()

    def submit(self, move: Move) -> UUID:
        moved: dict[str, str] = {}
        skipped: list[str] = []
        size, state, message = 0, TransferState.SUCCEEDED, ""
        for source, destination in move.files:
            try:
                moved[destination], count = self._one(source, destination)
                size += count
            except _Unreadable:
                skipped.append(source)
            except PermissionError as error:
                raise MoverTrouble(f"{error.filename} cannot be written: {error.strerror}") from error
            except OSError as error:
                if error.errno == errno.EXDEV:
                    raise MoverTrouble(
                        f"{self._source} and {self._destination} are different file systems, between which nothing"
                        " can be linked: let the site's files be copied (dayscribe sites add --copy)"
                    ) from error
                state = TransferState.OVER_QUOTA if error.errno in FULL else TransferState.FAILED
                message = f"{error.filename or destination}: {error.strerror}"
                break
        told = {"state": state, "message": message, "bytes": size, "files": len(moved), "skipped": skipped}
        self._remember(move.submission, told | {"checksums": moved})
        return move.submission

    def look(self, task: UUID) -> Progress:
        told = self._recall(task)
        if told is None:  # forgotten: our own look at the files tells
            return Progress(TransferState.UNKNOWN, "nothing is known of this move any more")
        state = TransferState(told["state"])
        return Progress(state, told["message"], told["bytes"], told["files"], tuple(told["skipped"]))

    def checksums(self, task: UUID) -> Mapping[str, Checksum]:
        told = self._recall(task) or {"checksums": {}}
        return {path: Checksum("sha256", value) for path, value in told["checksums"].items() if value}

    def cancel(self, task: UUID) -> None:
        """Nothing to be done: what was submitted is over."""

    def _one(self, source: str, destination: str) -> tuple[str, int]:
        """sha256 of what the source had and the new file has, "" for a link; and how many bytes were written."""
        here, there = self._source / source, self._destination / destination
        with _reading():
            before = here.lstat()
            if not stat.S_ISREG(before.st_mode):
                raise FileNotFoundError(errno.ENOENT, "not a regular file", os.fspath(here))
        there.parent.mkdir(parents=True, exist_ok=True)
        if self._link:
            return self._linked(here, there, before)
        if there.is_file() and not there.is_symlink() and there.stat().st_size == before.st_size:
            with _reading():
                digest = _sha256(here)
            if digest == _sha256(there):
                return digest, 0
        return self._copied(here, there), before.st_size

    def _linked(self, here: Path, there: Path, before: os.stat_result) -> tuple[str, int]:
        making = _beside(there)
        try:
            try:
                os.link(here, making, follow_symlinks=False)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.EPERM):  # EACCES is said of the folder that it would lie in
                    raise
                raise _Unreadable from error
            faults.point("move.written")
            making.replace(there)
        finally:
            making.unlink(missing_ok=True)  # a rename onto the same file leaves both names
        faults.point("move.renamed")
        return "", before.st_size

    def _copied(self, here: Path, there: Path) -> str:
        making, digest = _beside(there), hashlib.sha256()
        try:
            with _reading():
                reading = here.open("rb")
            with reading, making.open("xb") as writing:
                while chunk := _chunk(reading):
                    digest.update(chunk)
                    writing.write(chunk)
                    faults.point("move.half")
                writing.flush()
                os.fsync(writing.fileno())
                status = os.fstat(reading.fileno())
            os.utime(making, ns=(status.st_atime_ns, status.st_mtime_ns))
            faults.point("move.written")
            making.replace(there)
        except BaseException:
            making.unlink(missing_ok=True)
            raise
        faults.point("move.renamed")
        return digest.hexdigest()

    def _remember(self, task: UUID, told: Mapping[str, Any]) -> None:
        making = self._memory / f".new-{secrets.token_hex(4)}"
        try:
            self._memory.mkdir(parents=True, exist_ok=True)
            making.write_text(json.dumps(told), encoding="utf-8")
            making.replace(self._memory / f"{task}.json")
        except OSError as error:
            raise MoverTrouble(f"{self._memory} cannot be written: {error.strerror}") from error
        for old in self._memory.glob("*.json"):
            with suppress(OSError):  # another job removes the same
                if old.stat().st_mtime < time.time() - MEMORY_DAYS * 86_400:
                    old.unlink()

    def _recall(self, task: UUID) -> dict[str, Any] | None:
        try:
            told: dict[str, Any] = json.loads((self._memory / f"{task}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return told


class _Unreadable(Exception):
    """It is the source that cannot be read, and this one file of it."""


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EXDEV, *FULL):  # of a link, it is where it would lie
            raise
        raise _Unreadable from error


def _chunk(file: BinaryIO) -> bytes:
    with _reading():
        return file.read(CHUNK)


def _beside(path: Path) -> Path:
    """A name of our own: the file's may be of any length."""
    return path.with_name(f".new-{secrets.token_hex(8)}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(folder: Path, root: Path) -> Iterator[RemoteFile]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if not entry.name.startswith("."):
                    yield from _files(Path(entry.path), root)
            elif entry.is_file(follow_symlinks=False):
                yield RemoteFile(os.path.relpath(entry.path, root), entry.stat(follow_symlinks=False).st_size)
