"""Parts, the durable copy of results: a temporary name, synced, renamed, the folder synced; then recorded."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import secrets
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from db import faults
from db.errors import BadData, LeaseLost
from db.states import FailureClass
from hpc.model import Failure, Recording, Result, Run, Seal, Segment, Shard, Transcript, Word
from hpc.stages.quality import chunk_from, chunk_to_dict, finite

FORMAT = 1
SUFFIX = ".jsonl.gz"


class PartDamaged(BadData):
    """A part is not whole."""


@dataclass(frozen=True, slots=True)
class Header:
    """The first line of a part: whose results these are."""

    site: str
    date: date
    shard_id: int
    shard: str
    epoch: int
    run_key: str  # hex
    receipt: Mapping[str, Any]
    engine_seconds: float
    plan: int | None = None  # the plan whose results these are


@dataclass(frozen=True, slots=True)
class PartFile:
    """A part as read back and verified."""

    path: Path
    sha256: bytes
    size: int
    header: Header
    results: tuple[Result, ...]
    seal: Seal | None


def folder_of(results: Path, site: str, on: date, plan: int | None = None) -> Path:
    """Where the parts of a day lie, or those that a plan made of it. `site` is a validated name of ours, never a name
    from outside."""
    day = results / site / on.isoformat()
    return day / "parts" if plan is None else day / "plans" / str(plan)


def write_part(results: Path, header: Header, batch: Sequence[Result], seal: Seal | None) -> Path:
    """Publish one part: two fsyncs, whatever the batch's size. A crash at any point leaves a whole part or none."""
    folder = folder_of(results, header.site, header.date, header.plan)
    if not folder.is_dir():
        make_folder(folder)
    name = f"{header.shard_id}-{header.epoch}-{secrets.token_hex(8)}{SUFFIX}"
    temporary = folder / f".tmp-{name}"
    data = _encode(header, batch, seal)
    try:
        with temporary.open("xb") as out:
            faults.point("publish.opened")
            out.write(data[: len(data) // 2])
            out.flush()
            faults.point("publish.half")
            out.write(data[len(data) // 2 :])
            out.flush()
            faults.point("publish.written")
            os.fsync(out.fileno())
            faults.point("publish.fsynced")
        temporary.rename(folder / name)
    except FileNotFoundError as error:
        raise LeaseLost(f"{temporary.name} is gone: another worker has settled the shard and swept up") from error
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    faults.point("publish.renamed")
    sync_folder(folder)
    faults.point("publish.dirsynced")
    return folder / name


def make_folder(folder: Path) -> None:
    """Make the folder and what is missing above it; a new folder is only sure to be there once its own folder is
    synced. Once a day, not once a batch. Closed to others; where new files are the group's to write (`shared` sets the
    umask so), folders are too, and hand their group on."""
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    mask = os.umask(0o077)
    os.umask(mask)
    for each in reversed(new):
        with suppress(FileExistsError):  # another worker was quicker
            each.mkdir(mode=0o700)
            if not mask & 0o020 and mask & 0o007 == 0o007:
                each.chmod(0o2770)
        sync_folder(each.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename in the folder survive a crash of the machine."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_part(path: Path) -> PartFile:
    """Read a part back, whole or not at all: the count and the end mark are checked, and gzip's own checksum."""
    raw = path.read_bytes()
    try:
        lines = [json.loads(line) for line in gzip.decompress(raw).splitlines()]
        first, *middle, last = lines
        if first["format"] != FORMAT or last.get("end") != len(middle):
            raise ValueError(f"it says {last.get('end')} results and has {len(middle)}")
        header = Header(**first["header"] | {"date": date.fromisoformat(first["header"]["date"])})
        results = tuple(_result(header.shard_id, line) for line in middle)
        seal = _seal(header.shard_id, last["seal"]) if last["seal"] else None
    except (OSError, EOFError, ValueError, KeyError, TypeError, zlib.error) as error:
        raise PartDamaged(f"{path.name} is not a whole part ({error}); move it away and run the day again") from error
    return PartFile(path, hashlib.sha256(raw).digest(), len(raw), header, results, seal)


def parts_in(folder: Path) -> Iterator[Path]:
    """The published parts of a folder, in the order of their names; leftovers of crashes (.tmp-…) are none."""
    return iter(sorted(folder.glob(f"[0-9]*{SUFFIX}")))


def published(folder: Path, shard_id: int, epoch: int) -> tuple[dict[int, bytes], bool]:
    """What the parts of a shard hold that were published under this epoch: ordinal → sha256, and whether one has the
    seal. For who cannot ask the ledger what is known; a part that is not whole is left to whoever records it."""
    known: dict[int, bytes] = {}
    sealed = False
    for path in sorted(folder.glob(f"{shard_id}-{epoch}-*{SUFFIX}")):
        try:
            part = read_part(path)
        except PartDamaged:
            continue
        known |= {result.recording.ordinal: result.recording.sha256 for result in part.results}
        sealed |= part.seal is not None
    return known, sealed


def header_of(run: Run, shard: Shard, epoch: int, engine_seconds: float) -> Header:
    """The header for a shard's next part."""
    return Header(
        shard.site, shard.date, shard.id, shard.name, epoch, run.key.hex(), dict(run.receipt), round(engine_seconds, 3),
        shard.plan,
    )  # fmt: skip


def _encode(header: Header, batch: Sequence[Result], seal: Seal | None) -> bytes:
    told = asdict(header) | {"date": header.date.isoformat()}
    if header.plan is None:
        del told["plan"]
    first = {"format": FORMAT, "header": told}
    end: dict[str, Any] = {"end": len(batch), "seal": None}
    if seal:
        told = {"sha256": seal.sha256.hex(), "size": seal.size, "recordings": seal.recordings}
        end["seal"] = told | {"contents": seal.contents.hex()}
    lines = [first, *(_line(result) for result in batch), end]
    text = "\n".join(json.dumps(line, ensure_ascii=False, separators=(",", ":"), allow_nan=False) for line in lines)
    return gzip.compress(text.encode("utf-8", "backslashreplace"), compresslevel=6, mtime=0)


def _line(result: Result) -> dict[str, Any]:
    recording = result.recording
    line: dict[str, Any] = {
        "ordinal": recording.ordinal,
        "name": base64.b64encode(recording.name).decode(),
        "size": recording.size,
        "sha256": recording.sha256.hex(),
        "seconds": result.duration,
        "flags": list(result.flags),
    }
    if isinstance(result.outcome, Failure):
        return line | {"failure": {"class": result.outcome.kind.value, "reason": result.outcome.reason}}
    said = result.outcome
    return line | {
        "transcript": {
            "language": said.language,
            "language_probability": finite(said.language_probability),
            "flags": list(said.flags),
            "chunks": [chunk_to_dict(chunk) for chunk in said.chunks],
            "segments": [segment_to_dict(segment) for segment in said.segments],
        }
    }


def segment_to_dict(segment: Segment) -> dict[str, Any]:
    """A segment in WhisperX's shape."""
    words = [
        {"word": word.text, "start": finite(word.start), "end": finite(word.end), "score": finite(word.score)}
        for word in segment.words
    ]
    return {
        "start": segment.start,
        "end": segment.end,
        "text": segment.text,
        "avg_logprob": finite(segment.avg_logprob),
        "words": words,
    }


def segment_from(said: Mapping[str, Any]) -> Segment:
    """The segment that segment_to_dict wrote; the ledger leaves out what is not known."""
    words = tuple(Word(w["word"], w.get("start"), w.get("end"), w.get("score")) for w in said.get("words", ()))
    return Segment(said["text"], said["start"], said["end"], words, said.get("avg_logprob"))


def _result(shard_id: int, line: Mapping[str, Any]) -> Result:
    name, digest = base64.b64decode(line["name"], validate=True), bytes.fromhex(line["sha256"])
    recording = Recording(shard_id, line["ordinal"], name, line["size"], digest)
    outcome: Transcript | Failure
    if "failure" in line:
        outcome = Failure(FailureClass(line["failure"]["class"]), line["failure"]["reason"])
    else:
        said = line["transcript"]
        segments = tuple(segment_from(segment) for segment in said["segments"])
        chunks = tuple(chunk_from(chunk) for chunk in said.get("chunks", ()))  # older parts have none
        outcome = Transcript(said["language"], segments, said["language_probability"], tuple(said["flags"]), chunks)
    return Result(recording, outcome, line["seconds"], tuple(line["flags"]))


def _seal(shard_id: int, said: Mapping[str, Any]) -> Seal:
    contents = bytes.fromhex(said["contents"])
    return Seal(shard_id, bytes.fromhex(said["sha256"]), said["size"], said["recordings"], contents)


def sweep(results: Path, shard: Shard, epoch: int) -> None:
    """Remove what crashed writers of this settled shard left, up to our epoch; published parts stay."""
    for left in folder_of(results, shard.site, shard.date, shard.plan).glob(f".tmp-{shard.id}-*{SUFFIX}"):
        if int(left.name.split("-")[2]) <= epoch:
            left.unlink(missing_ok=True)
