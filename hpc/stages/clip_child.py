"""One recording's bytes out of the file that is open as standard input: a child of the dashboard's, shut in.

The dashboard opens the file and holds what comes out against the recording's sha256; this only reads. It is a process
of its own, so that what harms a reader of archives harms no server, and so that a slow one can be ended.
"""

from __future__ import annotations

import resource
import signal
import sys
from typing import BinaryIO

from hpc.model import Member
from hpc.stages.inflow import ArchiveLimits, Broken, Inflow
from hpc.stages.sniff import sniff
from hpc.stages.tarwalk import TarWalk

# The child runs the parent's own code, whatever is installed.
PROGRAM = "import sys; sys.path.insert(0, sys.argv.pop(1)); from hpc.stages.clip_child import main; main(*sys.argv[1:])"
SECONDS = 120  # after which it ends, should nobody end it before
BEYOND = 1 << 30  # bytes of memory it may have besides the recording itself: Python, and what xz asks for
REFUSED = 65  # exit code: there is a sentence on standard error
KINDS = {
    "mp3": "audio/mpeg", "aac": "audio/aac", "wav": "audio/wav", "flac": "audio/flac", "ogg": "audio/ogg",
    "mov": "audio/mp4", "matroska": "audio/webm", "aiff": "audio/aiff", "amr": "audio/amr",
}  # fmt: skip


def main(members: str, total_bytes: str, loose: str, ordinal: str, size: str) -> None:
    """Write its media type, a line end and its bytes; or a sentence on standard error, and leave with REFUSED. An
    archive's limits are those of workers, but for what is larger than the recording: it is stepped over, never held."""
    _shut_in(int(size))
    source = sys.stdin.buffer
    limits = ArchiveLimits(members=int(members), member_bytes=int(size), total_bytes=int(total_bytes))
    try:
        data = _whole(source, int(size)) if loose == "loose" else _member(source, int(ordinal), limits)
        kind = _kind(data)
    except Broken as broken:
        sys.stderr.write(str(broken))
        sys.exit(REFUSED)
    sys.stdout.buffer.write(kind.encode() + b"\n" + data)


def _whole(source: BinaryIO, size: int) -> bytes:
    data = source.read(size + 1)
    if len(data) != size:
        raise Broken("its file has another size than the one that was transcribed")
    return data


def _member(source: BinaryIO, ordinal: int, limits: ArchiveLimits) -> bytes:
    """Read as it was read to be transcribed, and no further."""
    try:
        walk = TarWalk(0, Inflow(source, limits), limits)
        found = next((one for one in walk if one.recording.ordinal == ordinal), None)
    except Broken as broken:
        raise Broken(f"its archive cannot be read up to it: {broken}") from None
    if found is None:
        raise Broken("its archive has no such recording any more")
    if isinstance(found, Member):
        return found.data
    raise Broken("its archive has something else in its place")


def _kind(data: bytes) -> str:
    """By its content alone, as it was decoded."""
    looks = sniff(data)
    if looks.format is None:
        raise Broken(f"it is {looks.stranger}, not audio" if looks.stranger else "nothing in it looks like audio")
    return KINDS[looks.format]


def _shut_in(size: int) -> None:
    signal.alarm(SECONDS)
    for what, most in (
        (resource.RLIMIT_AS, BEYOND + 4 * size),  # gathered in pieces, joined, and written
        (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 16),
    ):
        resource.setrlimit(what, (most, most))
