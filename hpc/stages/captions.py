"""Reads `*_subtitles.parquet`: what the platform wrote down of each recording, as plain text without its times."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from db.captions import Row
from hpc.stages.companions import Ways, as_text, as_time, read

LONGEST = 50_000  # characters of text: an hour of speech
LONGEST_FILE = 1_000_000  # of a subtitle file with its times
LONGEST_NAME = 64  # of a language or a kind
UNKNOWN = "und"  # ISO 639-2's word for a language that is not told

_TIMES = re.compile(r"^\s*(?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3}\s*-->\s*(?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3}")
_BLOCKS = re.compile(r"^(?:WEBVTT|NOTE|STYLE|REGION)\b")  # up to the next empty line they are no words
_TAG = re.compile(r"<[^<>\n]{0,200}>|\{\\[^{}\n]{0,200}\}")


def as_name(value: Any) -> str | None:
    """A language or a kind, as the platform writes it."""
    return (as_text(value) or "").strip()[:LONGEST_NAME] or None


def as_words(value: Any) -> str | None:
    """The words of a subtitle file: WebVTT, SubRip, a list of utterances in JSON, or plain text; None without any."""
    text = (as_text(value) or "")[:LONGEST_FILE].strip().removeprefix("\ufeff")
    said = _uttered(text) if text.startswith(("{", "[")) else None
    said = _lines(text) if said is None else said
    return as_text(" ".join(said.split())[:LONGEST]) or None


WAYS: Ways = {
    "language": (as_name, ("lang",)),
    "kind": (as_name, ("type",)),
    "text": (as_words, ("content",)),
    "collected": (as_time, ("collection_timestamp", "collection_timestamp_x", "collection_timestamp_y")),
}


def rows(path: Path) -> Iterator[Row]:
    """What db.captions.put takes, of each row that has an id and words; memory stays flat."""
    for meta_id, language, kind, text, collected in read(path, WAYS):
        if text is not None:
            yield meta_id, language or UNKNOWN, kind or "", text, collected


def _lines(text: str) -> str:
    """What is said: no header, no times, no numbers of cues, no tags; and once what rolls from cue to cue."""
    said: list[str] = []
    lines = text.splitlines()
    timed = any(map(_TIMES.match, lines))
    skipping = False
    for at, line in enumerate(lines):
        skipping = (skipping or (timed and bool(_BLOCKS.match(line)))) and bool(line.strip())
        names_a_cue = timed and at + 1 < len(lines) and _TIMES.match(lines[at + 1])
        if skipping or names_a_cue or _TIMES.match(line):
            continue
        words = html.unescape(_TAG.sub("", line)).strip()
        if words and not (timed and said and said[-1] == words):
            said.append(words)
    return "\n".join(said)


def _uttered(text: str) -> str | None:
    """The texts of {"utterances": [{"text": …}, …]}; None if it is no such thing."""
    try:
        told = json.loads(text)
        each = told["utterances"] if isinstance(told, dict) else told
        return "\n".join(str(one["text"]) for one in each)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
