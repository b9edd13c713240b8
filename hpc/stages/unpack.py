"""A shard's recordings in one pass over its archive: nothing touches the disk, nothing is sealed before the true end.

What is found: in xz and bzip2 and in the data of gzip every bit of content is under a checksum, so a flipped bit or a
cut anywhere is ArchiveDamaged. A plain tar has checksums over its headers only: a cut or a damaged header is found, a
flipped bit inside a member is not; the seal's sha256 tells it where the source lists one.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from io import BufferedReader
from pathlib import Path

from db import faults
from db.errors import TryAgain
from db.names import display
from db.states import FailureClass
from hpc.errors import ArchiveDamaged, SourceMissing
from hpc.model import Failure, Member, Recording, Result, Seal, Shard
from hpc.stages.inflow import ArchiveLimits, Broken, Inflow
from hpc.stages.tarwalk import TarWalk, companion, too_large

__all__ = ["ArchiveLimits", "unpack"]

_NOTHING = hashlib.sha256().digest()
_KINDS = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a fifo", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


def unpack(shard: Shard, *, limits: ArchiveLimits) -> Iterator[Member | Result | Seal]:
    """The shard's recordings in order, a refused one as a Result; last the Seal, only if the end was reached."""
    return _loose(shard, limits) if shard.loose else _archive(shard, limits)


def _archive(shard: Shard, limits: ArchiveLimits) -> Iterator[Member | Result | Seal]:
    (path,) = shard.files
    try:
        file, size = _open(path, follow=True)
    except _NotAFile as found:
        raise ArchiveDamaged(f"{_shown(path)} is {found}, not an archive.") from None
    inflow = walk = None
    with file:
        faults.point("unpack.opened")
        try:
            inflow = Inflow(file, limits)
            walk = TarWalk(shard.id, inflow, limits)
            yield from walk
        except Broken as broken:
            near = f"near byte {inflow.at if inflow else 0} of {size}{walk.place() if walk else ''}"
            raise ArchiveDamaged(
                f"{display(os.fsencode(shard.name))} is damaged {near}: {broken}. "
                "Nothing of it becomes visible; fetch it again."
            ) from None
        except OSError as error:
            raise _unreadable(path, error) from error
    faults.point("unpack.ended")
    yield Seal(shard.id, inflow.digest(), inflow.taken, walk.recordings)


def _loose(shard: Shard, limits: ArchiveLimits) -> Iterator[Member | Result | Seal]:
    hashes = hashlib.sha256()
    total = ordinal = 0
    faults.point("unpack.opened")
    for path in shard.files:
        name = os.fsencode(path.name)
        if companion(name):
            continue
        found = _file(path, Recording(shard.id, ordinal, name, 0, _NOTHING), limits)
        hashes.update(found.recording.sha256)
        total += found.recording.size
        ordinal += 1
        faults.point("unpack.member")
        yield found
    faults.point("unpack.ended")
    yield Seal(shard.id, hashes.digest(), total, ordinal)


def _file(path: Path, blank: Recording, limits: ArchiveLimits) -> Member | Result:
    try:
        file, size = _open(path, follow=False)
    except _NotAFile as found:
        return Result(blank, Failure(FailureClass.NOT_A_FILE, f"{found}, not a recording; it was not followed"))
    with file:
        try:
            if refused := too_large(size, limits):
                return Result(replace(blank, size=size, sha256=hashlib.file_digest(file, "sha256").digest()), refused)
            data = file.read(size + 1)
        except OSError as error:
            raise _unreadable(path, error) from error
    if len(data) != size:
        raise TryAgain(f"{_shown(path)} changed while it was read; run again when it is complete.")
    return Member(replace(blank, size=size, sha256=hashlib.sha256(data).digest()), data)


class _NotAFile(Exception):
    """What stands at a path instead of a file."""


def _open(path: Path, *, follow: bool) -> tuple[BufferedReader, int]:
    """Open a regular file, never waiting on a fifo and, unless told so, never following a link."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError):
        raise SourceMissing(f"{_shown(path)} is not there; transfer the day again, or list it anew.") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _NotAFile("a symbolic link") from None
        if error.errno == errno.ENXIO:
            raise _NotAFile("a socket") from None
        raise _unreadable(path, error) from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise _NotAFile(_KINDS.get(stat.S_IFMT(status.st_mode), "no regular file"))
    return os.fdopen(descriptor, "rb"), status.st_size


def _unreadable(path: Path, error: OSError) -> TryAgain:
    return TryAgain(f"{_shown(path)} cannot be read: {error.strerror or error}.")


def _shown(path: Path) -> str:
    return display(os.fsencode(path))
