"""A recording's audio for those who may hear it: its file opened without following a link, read by a child that is shut
in, held against the recording's sha256, and served in ranges. Off unless the server was told who reads archives."""

from __future__ import annotations

import errno
import hashlib
import os
import shlex
import stat
import subprocess
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flask import Flask, Response, current_app, request
from werkzeug.exceptions import NotFound, ServiceUnavailable
from werkzeug.http import parse_range_header

from db.names import display
from db.printable import plain

READER = "DAYSCRIBE_MONITOR_AUDIO"  # the command that reads a recording out of its file; unset: nobody hears anything
MEGABYTES = "DAYSCRIBE_SERVE__AUDIO_MB"  # the setting of this name, as the command line knows it
AT_ONCE = 2  # archives that are read: one may be hundreds of megabytes, and cannot be sought in
PATIENCE = 15.0  # seconds that a request waits for its turn
SECONDS = 60.0  # that reading may take
KEPT_CLIPS = 2  # of the largest size: a browser asks for one and the same in many ranges
SUFFIXES = {  # of a downloaded file's name
    "audio/mpeg": ".mp3", "audio/aac": ".aac", "audio/wav": ".wav", "audio/flac": ".flac", "audio/ogg": ".ogg",
    "audio/mp4": ".m4a", "audio/webm": ".webm", "audio/aiff": ".aiff", "audio/amr": ".amr",
}  # fmt: skip
NO_AUDIO = ("not_audio", "not_a_file", "duplicate_member")  # classes of failures
_KEPT = ("LD_LIBRARY_PATH", "LANG", "LC_ALL")  # of the environment: a reader needs no secrets
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # many would take the memory it may have
_REFUSED = 65  # the reader's exit code when it says why in a sentence

Row = Mapping[str, Any]  # of db.reports.place


class NotHere(Exception):
    """There is no audio to be heard, and why, as a sentence."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A recording's bytes as they were transcribed."""

    mimetype: str
    data: bytes


class Clips:
    """Reads recordings, and keeps the last ones. One for an application; its threads share it."""

    def __init__(self, reader: Sequence[str], megabytes: int) -> None:
        self._reader, self._most = tuple(reader), megabytes << 20
        self._turns = threading.BoundedSemaphore(AT_ONCE)
        self._lock = threading.Lock()
        self._kept: OrderedDict[bytes, Clip] = OrderedDict()

    def why_not(self, row: Row) -> str | None:
        """Why nobody can hear this recording; None: it seems to be here."""
        try:
            os.close(self._open(row))
        except NotHere as why:
            return str(why)
        return None

    def get(self, row: Row) -> Clip:
        """The recording's audio; NotHere says why there is none."""
        file = self._open(row)
        try:
            if (known := self._known(row)) is not None:
                return known
            if not self._turns.acquire(timeout=PATIENCE):
                raise ServiceUnavailable("Others are waiting for audio too; ask again.")
            try:
                known = self._known(row)  # whoever had the turn before may have wanted the same
                return known or self._keep(row, self._read(file, row))
            finally:
                self._turns.release()
        finally:
            os.close(file)

    def _open(self, row: Row) -> int:
        """Its file, if the ledger, the settings and this machine let us have it."""
        if not self._reader:
            raise NotHere("Audio is switched off on this server; the setting serve.audio switches it on.")
        if row["state"] == "provisional":
            raise NotHere("Its archive is not read to its end yet.")
        if not row["size"]:
            raise NotHere("It holds no bytes.")
        if row["failure_class"] in NO_AUDIO:
            raise NotHere(f"It was set aside as {row['failure_class']}: there is nothing to be heard.")
        if row["size"] > self._most:
            raise NotHere(f"It is larger than {self._most >> 20} MB (setting serve.audio_mb).")
        if row["staged"] is None or row["let_go"]:
            raise NotHere("Its audio is not kept here any more: it was let go after it was transcribed.")
        path = _path(row)
        try:
            return _open_below(row["staged"], path)
        except OSError as error:
            why = "links are not followed" if error.errno == errno.ELOOP else error.strerror
            raise NotHere(f"This machine cannot read {display(path)}: {why}.") from None

    def _read(self, file: int, row: Row) -> Clip:
        how = "loose" if row["loose"] else "archive"
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ} | _ONE_THREAD
        try:
            said = subprocess.run(
                [*self._reader, how, str(row["ordinal"]), str(row["size"])], stdin=file, capture_output=True,
                env=environment, cwd="/", timeout=SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise ServiceUnavailable(f"Its archive was not read up to it in {SECONDS:g} seconds.") from None
        if said.returncode == _REFUSED:
            raise NotHere(f"It cannot be heard: {said.stderr.decode('utf-8', 'replace')}.")
        kind, _, data = said.stdout.partition(b"\n")
        if said.returncode or kind.decode("ascii", "replace") not in SUFFIXES:
            last = said.stderr.decode("utf-8", "replace").rstrip().rpartition("\n")[2].partition(":")[0]  # no names
            current_app.logger.error("the reader of audio ended with %s: %s", said.returncode, plain(last, 80))
            raise NotHere("It cannot be heard: reading its archive failed; the server's log shows how.")
        if len(data) != row["size"] or hashlib.sha256(data).digest() != row["sha256"]:
            raise NotHere("It cannot be heard: its archive holds other bytes than those that were transcribed.")
        return Clip(kind.decode(), data)

    def _known(self, row: Row) -> Clip | None:
        with self._lock:
            found = self._kept.get(row["sha256"])
            if found is not None:
                self._kept.move_to_end(row["sha256"])
            return found

    def _keep(self, row: Row, clip: Clip) -> Clip:
        with self._lock:
            self._kept[row["sha256"]] = clip
            while sum(len(kept.data) for kept in self._kept.values()) > KEPT_CLIPS * self._most:
                self._kept.popitem(last=False)
        return clip


def install(app: Flask) -> None:
    """Give the application its ears, if it has any."""
    reader = shlex.split(os.environ.get(READER, ""))
    app.extensions["clips"] = Clips(reader, int(os.environ.get(MEGABYTES, "64")))


def why_not(row: Row) -> str | None:
    """Why nobody can hear this recording; None: it seems to be here."""
    found: str | None = current_app.extensions["clips"].why_not(row)
    return found


def answer(row: Row) -> Response:
    """The recording's audio, or the range of it that is asked for."""
    try:
        clip: Clip = current_app.extensions["clips"].get(row)
    except NotHere as why:
        raise NotFound(str(why)) from None
    response = Response(clip.data, mimetype=clip.mimetype)
    suffix = SUFFIXES.get(clip.mimetype, "")
    response.headers["Content-Disposition"] = f"inline; filename=recording-{row['id']}{suffix}"
    response.set_etag(row["sha256"].hex())
    response.make_conditional(request, accept_ranges=True, complete_length=len(clip.data) if _ranged() else None)
    return response


def _ranged() -> bool:
    """Whether one range of bytes is asked for; what is no such question is as good as left out (RFC 9110)."""
    found = parse_range_header(request.headers.get("Range"))
    return found is not None and found.units == "bytes" and len(found.ranges) == 1


def _path(row: Row) -> bytes:
    """Below the day's folder: the archive, or among loose files the one of the recording's name."""
    if not row["loose"]:
        return bytes(row["paths"][0])
    named = [bytes(path) for path in row["paths"] if bytes(path).rpartition(b"/")[2] == row["name"]]
    if len(named) != 1:
        raise NotHere("Its file cannot be told from others of its name.")
    return named[0]


def _open_below(folder: str, path: bytes) -> int:
    """A regular file below a folder. Whatever stands in the path, nothing outside is opened and no link followed; and
    nothing waits, as the opening of a fifo would."""
    *folders, name = path.split(b"/")
    if {b"", b".", b".."} & {*folders, name} or b"\0" in path:
        raise OSError(0, "not a path below the day's folder")
    aside = os.O_CLOEXEC | os.O_NOFOLLOW
    here = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for step in folders:
            below = os.open(step, os.O_PATH | os.O_DIRECTORY | aside, dir_fd=here)
            os.close(here)
            here = below
        file = os.open(name, os.O_RDONLY | os.O_NONBLOCK | aside, dir_fd=here)
    finally:
        os.close(here)
    if stat.S_ISREG(os.fstat(file).st_mode):
        return file
    os.close(file)
    raise OSError(0, "it is no regular file")
