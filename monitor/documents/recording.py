"""A recording: one version of its words, the others beside it, what is suspect, what others say, and its receipt."""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import Any

from db import formats, reports
from db.connect import Connection
from monitor import clips

MOST_COMPARED = 5000  # words a side; comparing more takes longer than a page may


def recording(connection: Connection, recording_id: int, version: int | None) -> dict[str, Any] | None:
    """The recording, with the wanted version or the one the world sees as `shown`; None if there is none."""
    row = reports.recording(connection, recording_id)
    if row is None:
        return None
    wanted = version or row["version"]
    shown = None if wanted is None else reports.pinned(connection, recording_id, wanted)
    about = (
        "id", "site", "date", "slot", "shard_id", "shard", "ordinal", "meta_id", "name", "size", "sha256", "state",
        "seconds", "failure_class", "failure_reason", "metadata",
    )  # fmt: skip
    return {key: row[key] for key in about} | {
        "flags": (shown or row)["flags"], "shown": shown, "versions": reports.versions(connection, recording_id),
        "captions": reports.captions(connection, recording_id), "kinds": list(formats.KINDS),
        "audio": audio(connection, recording_id),
    }  # fmt: skip


def audio(connection: Connection, recording_id: int) -> dict[str, Any]:
    """Whether the recording can be heard, and why not."""
    place = reports.place(connection, recording_id)
    why = "There is no such recording." if place is None else clips.why_not(place)
    return {"available": why is None, "why_not": why}


def differences(ours: list[dict[str, Any]] | None, theirs: list[dict[str, Any]] | None) -> list[tuple[str, str, str]]:
    """Two versions' words as stretches (`equal`, `changed`; this one's words; the other's), in order."""
    one, other = (_words(segments)[:MOST_COMPARED] for segments in (ours, theirs))
    return [
        ("equal" if tag == "equal" else "changed", " ".join(one[a:b]), " ".join(other[c:d]))
        for tag, a, b, c, d in SequenceMatcher(None, one, other, autojunk=False).get_opcodes()
    ]


def _words(segments: list[dict[str, Any]] | None) -> list[str]:
    return " ".join(segment["text"] for segment in segments or ()).split()  # None: they are hidden
