"""The words this pipeline speaks: plain frozen values, no imports of ours but errors."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from db.errors import BadData
from db.states import FailureClass, TransferState

SAMPLE_RATE = 16_000  # Hz; what Whisper hears, mono


@dataclass(frozen=True, slots=True)
class Checksum:
    """What a file's bytes come to."""

    algorithm: str  # as hashlib names it: "sha256", "md5", …
    value: str  # lower-case hexadecimal


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file as its source lists it."""

    path: str  # relative to the source's root, "/" between folders
    size: int  # bytes
    checksum: Checksum | None = None  # where the source offers one
    modified: datetime | None = None  # aware


@dataclass(frozen=True, slots=True)
class Move:
    """What is asked of a mover: these files, under an id that was stored before anything was asked."""

    submission: UUID  # the same one twice is the same task
    label: str  # what a person reads in the mover's own list of tasks
    files: tuple[tuple[str, str], ...]  # (path below the mover's source, path below its destination)
    deadline: datetime  # aware; what has not arrived by then never will

    def __post_init__(self) -> None:
        """Whoever moves is the last who can refuse a way out of the two folders."""
        for path in (one for pair in self.files for one in pair):
            if "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
                raise BadData(f"{path[:200]!r} is no path below a folder, so it is not moved")


@dataclass(frozen=True, slots=True)
class Progress:
    """What a mover says of a task. SUCCEEDED is its opinion: the files are looked at all the same."""

    state: TransferState  # never INTENT
    message: str = ""  # one sentence, for what is neither going on nor well over
    bytes: int = 0  # moved so far
    files: int = 0
    skipped: tuple[str, ...] = ()  # source paths that it says it left out


@dataclass(frozen=True, slots=True)
class Shard:
    """What a worker leases: one archive, or a group of loose files."""

    id: int
    site: str
    date: date
    name: str  # the archive's file name; data, never used to build a path of ours
    files: tuple[Path, ...]  # one archive, or the loose files in order
    slot: str | None = None  # "HH_MM"
    loose: bool = False
    plan: int | None = None  # the plan for which it is read again


@dataclass(frozen=True, slots=True)
class Recording:
    """One audio file of a shard. Identity is (shard_id, ordinal); everything else is data from outside."""

    shard_id: int
    ordinal: int  # position among the shard's recordings, from 0
    name: bytes  # the member's name as the archive has it
    size: int  # bytes
    sha256: bytes  # of the file's bytes, 32 bytes


@dataclass(frozen=True, slots=True)
class Member:
    """A recording with its encoded bytes, as read from the archive."""

    recording: Recording
    data: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a recording has no transcript."""

    kind: FailureClass
    reason: str  # one sentence, safe to show


@dataclass(frozen=True, slots=True)
class Seal:
    """The statement that a shard was read to its end."""

    shard_id: int
    sha256: bytes  # of the archive's compressed bytes (for loose files: of their hashes in order), 32 bytes
    size: int  # bytes read
    recordings: int  # ordinals 0 … recordings - 1 exist
    contents: bytes = b""  # sha256 over the recordings' sha256s in order, as this reading found them


@dataclass(frozen=True, slots=True)
class Unsealed:
    """The reading of a shard ended without a seal: it is damaged, could not be read now, or a stop was asked for."""

    shard_id: int
    error: Exception | None  # None: stopped on request, nothing is wrong with it


@dataclass(frozen=True, slots=True)
class Word:
    """A word with its time; start, end and score are None where the aligner found no place for it."""

    text: str
    start: float | None  # seconds
    end: float | None
    score: float | None  # 0 … 1


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of timed text, as WhisperX gives it."""

    text: str
    start: float  # seconds
    end: float
    words: tuple[Word, ...] = ()
    avg_logprob: float | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of speech as the model saw it, and what tells how far its text can be trusted."""

    start: float  # seconds
    end: float
    speech: float | None = None  # seconds of it that the voice detector calls speech: its share is the coverage
    avg_logprob: float | None = None
    no_speech_prob: float | None = None  # 0 … 1
    compression_ratio: float | None = None  # of its text, see compression_ratio()
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Transcript:
    """What an engine says of one recording. No segments means that no speech was found, and nothing else."""

    language: str | None  # ISO 639-1; None when there is no speech to judge by
    segments: tuple[Segment, ...]
    language_probability: float | None = None
    flags: tuple[str, ...] = ()  # "unaligned", …
    chunks: tuple[Chunk, ...] = ()

    @property
    def text(self) -> str:
        return " ".join(stripped for segment in self.segments if (stripped := segment.text.strip()))


@dataclass(frozen=True, slots=True)
class Audio:
    """A decoded recording."""

    recording: Recording
    pcm: NDArray[np.int16]  # shape (samples,), 16 kHz mono
    flags: tuple[str, ...] = ()  # what the decoder noticed: "decode_warnings", "multichannel", …
    said: Transcript | None = None  # what was heard in it: only the times of these words are wanted

    @property
    def duration(self) -> float:
        """Seconds."""
        return len(self.pcm) / SAMPLE_RATE


def compression_ratio(text: str) -> float | None:
    """How much shorter zlib makes the text, as Whisper counts it: what repeats itself is far above 2. None: no text."""
    plain = text.strip().encode("utf-8", "replace")
    return len(plain) / len(zlib.compress(plain)) if plain else None


@dataclass(frozen=True, slots=True)
class Result:
    """The end of one recording's way: a transcript or a failure, never both, never neither."""

    recording: Recording
    outcome: Transcript | Failure
    duration: float | None = None  # seconds of audio; None when it could not be decoded
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """A receipt. `key` digests only what changes the output; `receipt` says everything."""

    key: bytes  # 16 bytes
    receipt: Mapping[str, Any] = field(default_factory=dict)
