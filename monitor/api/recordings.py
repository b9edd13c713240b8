"""A recording whole, and its transcript as a file."""

from __future__ import annotations

from typing import Any

from flask import Response
from werkzeug.exceptions import NotFound

from db import flags, formats, reports
from monitor import asked, hidden, named
from monitor.answers import MIMETYPES, answer, inert
from monitor.api.base import the_recording, v1
from monitor.documents import recording as documents
from monitor.store import ledger


@v1.get(f"/recordings/<{asked.ID}:recording_id>")
def one_recording(recording_id: int) -> Response:
    """A recording whole: words, receipt, versions, why it is suspect, and what its platform says of it."""
    asked.known("version")
    row, pinned = _in_version(recording_id)
    suspect = flags.of_recording(ledger(), recording_id) if pinned is None else pinned["quality_flags"]
    versions = reports.versions(ledger(), recording_id)
    audio = documents.audio(ledger(), recording_id)
    return answer(row | {"quality_flags": suspect, "versions": versions, "audio": audio})


@v1.get(f"/recordings/<{asked.ID}:recording_id>.<any({','.join(formats.KINDS)}):kind>")
def one_transcript(recording_id: int, kind: str) -> Response:
    """A recording's transcript as a file: the version readers see, or the one asked for."""
    asked.known("version")
    hidden.texts_needed()
    row, _ = _in_version(recording_id)
    if row["segments"] is None:
        why = f" ({row['failure_class']}: {row['failure_reason']})" if row["failure_class"] else ""
        raise NotFound(f"Recording {recording_id} is {row['state']}{why}: it has no transcript.")
    text = formats.render(reports.document(row), kind)
    return Response(inert(text) if kind == "json" else text, mimetype=MIMETYPES[kind])


@v1.get(f"/recordings/<{asked.ID}:recording_id>/audio")
def one_audio(recording_id: int) -> Response:
    """A recording's audio, as it was transcribed."""
    asked.known()
    return named.the_audio(recording_id)


def _in_version(recording_id: int) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The recording that a path names, told in the version that is asked for; and that version by itself."""
    row, version = the_recording(recording_id), asked.number("version", 0, low=0, high=asked.LAST_VERSION)
    if not version:
        return row, None
    pinned = reports.pinned(ledger(), recording_id, version)
    if pinned is None:
        raise NotFound(f"Recording {recording_id} has no version {version} that may be shown.")
    return row | {key: pinned[key] for key in row.keys() & pinned.keys() - {"id"}}, pinned
