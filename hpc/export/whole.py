"""Files and folders that take their name when they are whole, or never."""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from db import faults
from hpc.stages.publish import sync_folder

_RANDOM = 8  # bytes in a temporary's name


@contextmanager
def replacing(target: Path, *, folder: bool = False) -> Iterator[Path]:
    """A temporary beside the target that takes its place when the block ends well, and goes when it does not."""
    _sweep(target)
    temporary = _beside(target)
    temporary.mkdir() if folder else temporary.touch(exist_ok=False)
    with _held(temporary):
        try:
            yield temporary
            if folder:  # a folder cannot be renamed over another: for a moment there is neither
                with suppress(FileNotFoundError):
                    target.rename(_beside(target))
            temporary.rename(target)
        except BaseException:
            _remove(temporary)
            raise
    faults.point("export.renamed")
    sync_folder(target.parent)
    _sweep(target)


def write(path: Path, text: str) -> None:
    """A small file, synced."""
    with path.open("wb") as out:
        out.write(text.encode("utf-8", "backslashreplace"))
        out.flush()
        os.fsync(out.fileno())


def digest(path: Path) -> str:
    """sha256 of the file, hexadecimal."""
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def _beside(target: Path) -> Path:
    return target.with_name(f".tmp-{secrets.token_hex(_RANDOM)}-{target.name}")


def _sweep(target: Path) -> None:
    """Remove what crashed exports of this target left; one that is being written is locked by its writer."""
    for left in target.parent.glob(f".tmp-{'?' * 2 * _RANDOM}-{target.name}"):
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
