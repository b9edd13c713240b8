"""Ground truth of a synthetic day: what was said in each clip, and which trouble was planted where."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from db.errors import BadData

SPEECH, SILENCE, NOISE, MUSIC, BAD = "speech", "silence", "noise", "music", "bad:"


@dataclass(frozen=True, slots=True)
class ClipTruth:
    """One clip of the day. Its archive is read in the order of `ordinal`."""

    meta_id: str  # as the ledger will show it
    slot: str
    shard: str  # the archive's file name
    ordinal: int
    member: str  # the member's name; bytes that are not UTF-8 stand as surrogate escapes
    kind: str  # speech, silence, noise, music, or bad:<failure class>
    text: str  # what is said, in lower case; "" when nothing is
    words: tuple[tuple[str, float, float], ...]  # word, start, end; seconds
    voice: str | None
    codec: str
    seconds: float  # of sound, before any damage
    damaged: bool = False  # its archive is planted as damaged: nothing of it may ever be visible

    @property
    def wanted(self) -> str:
        """The state that the ledger should give the recording; "" where it should have none."""
        if self.damaged:
            return ""
        if self.kind.startswith(BAD):
            return "quarantined"
        return "transcribed" if self.kind == SPEECH else "no_speech"

    @property
    def failure(self) -> str | None:
        """The failure class it was planted with."""
        return self.kind.removeprefix(BAD) if self.kind.startswith(BAD) else None


@dataclass(frozen=True, slots=True)
class DayTruth:
    """The whole day."""

    site: str
    date: date
    location: str  # the site's location: a folder, with {year} and {monthname} to fill in
    audio: Path  # that folder for this date: the archives and their companions, and nothing else
    truth: Path  # the lines of this page; outside of what the pipeline reads
    archives: tuple[str, ...]  # file names
    missing: tuple[str, ...]  # slots planted without an archive
    damaged: tuple[str, ...]  # archives planted as damaged
    misnamed: tuple[str, ...]  # plain tar files called .tar.xz
    late: tuple[Path, ...]  # companions that have not arrived: to be moved into `audio` later
    clips: tuple[ClipTruth, ...]


def to_line(clip: ClipTruth) -> str:
    return json.dumps(asdict(clip))


def from_line(line: str) -> ClipTruth:
    fields = json.loads(line)
    return ClipTruth(**fields | {"words": tuple((word, start, end) for word, start, end in fields["words"])})


def read_truth(folder: Path, on: date) -> DayTruth:
    """The truth of a day that make_day() has finished in this folder."""
    path = folder / "truth" / f"{on}.jsonl"
    try:
        head: Mapping[str, Any] = json.loads(path.with_suffix(".json").read_text())
        clips = tuple(from_line(line) for line in path.read_text().splitlines())
    except FileNotFoundError as error:
        raise BadData(f"{folder} holds no finished synthetic day {on}; make it with: dayscribe demo-day") from error
    return day_truth(folder, on, head, clips)


def day_truth(folder: Path, on: date, head: Mapping[str, Any], clips: Iterable[ClipTruth]) -> DayTruth:
    """The day from the head and the clips that its files hold."""
    location = f"{folder}/{head['site']}_{{year}}_{{monthname}}/prepped_data"
    return DayTruth(
        site=head["site"],
        date=on,
        location=location,
        audio=folder / head["audio"],
        truth=folder / "truth" / f"{on}.jsonl",
        archives=tuple(head["archives"]),
        missing=tuple(head["missing"]),
        damaged=tuple(head["damaged"]),
        misnamed=tuple(head["misnamed"]),
        late=tuple(sorted((folder / "late").glob(f"0_{on}_*.parquet"))),
        clips=tuple(clips),
    )
