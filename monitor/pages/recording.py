"""A recording's page: words with times, audio, versions, evidence, receipt; `version` and `t` pin it for citing."""

from __future__ import annotations

import json
from typing import Any

from flask import Response, request
from werkzeug.exceptions import BadRequest, NotFound

from db import reports
from monitor import asked, named
from monitor.answers import plain
from monitor.documents import recording as documents
from monitor.pages.base import pages, show
from monitor.store import ledger


@pages.get(f"/recordings/<{asked.ID}:recording_id>")
def recording(recording_id: int) -> Response:
    """A recording, in the version that readers see or the one asked for."""
    asked.known("version", "against", "t")
    version = asked.number("version", 0, low=0, high=asked.LAST_VERSION) or None
    against = asked.number("against", 0, low=0, high=asked.LAST_VERSION) or None
    told = documents.recording(ledger(), recording_id, version)
    if told is None:
        raise NotFound(f"The ledger has no recording {recording_id}.")
    shown = told["shown"]
    if version is not None and shown is None:
        raise NotFound(f"Recording {recording_id} has no version {version} that may be shown.")
    other = None if against is None or shown is None else reports.pinned(ledger(), recording_id, against)
    if against is not None and other is None:
        raise NotFound(f"Recording {recording_id} has no version {against} that may be shown.")
    different = documents.differences(shown["segments"], other["segments"]) if shown and other else None
    receipt = json.dumps(plain(shown["receipt"]), indent=2, sort_keys=True) if shown else None
    second = _second()
    return show(
        "recording.html", recording=told, shown=shown, other=other, different=different, receipt=receipt,
        segments=_segments(shown, second), second=second,
    )  # fmt: skip


@pages.get(f"/recordings/<{asked.ID}:recording_id>/audio")
def audio(recording_id: int) -> Response:
    """What its player plays; who follows a link to it without scripts hears it from the second that the link names."""
    asked.known()
    return named.the_audio(recording_id)


def _second() -> float | None:
    """The second that a link cites."""
    text = request.args.get("t")
    if not text:
        return None
    try:
        second = float(text)
    except ValueError:
        second = -1.0
    if not 0 <= second < 1e7:
        raise BadRequest("t is a second of the recording, such as 12.5.")
    return second


def _segments(shown: dict[str, Any] | None, second: float | None) -> list[dict[str, Any]]:
    """The segments as they are shown: words by how sure the aligner is, and whether the cited second is theirs."""
    if shown is None or shown["segments"] is None:  # hidden
        return []
    found = []
    for segment in shown["segments"]:
        words = [
            {
                "word": word["word"],
                "start": word.get("start"),
                "score": word.get("score"),
                "sure": _sure(word.get("score")),
            }
            for word in segment.get("words") or ()
        ]
        start, end = segment.get("start"), segment.get("end")
        cited = second is not None and start is not None and end is not None and start <= second <= end
        found.append({"start": start, "end": end, "text": segment["text"], "words": words, "cited": cited})
    return found


def _sure(score: float | None) -> str:
    if score is None:
        return "unknown"
    return "high" if score >= 0.7 else "middle" if score >= 0.4 else "low"
