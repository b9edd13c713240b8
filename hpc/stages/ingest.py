"""From parts to the ledger: the one way by which results become rows, for the worker and for whoever comes later."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from db import formats, parts, redo, shards
from db.connect import Connection
from db.errors import BadData
from db.names import stem
from hpc.model import Failure, Result
from hpc.stages.publish import SUFFIX, PartFile, parts_in, read_part, segment_to_dict
from hpc.stages.quality import chunk_to_dict, finite, worst
from hpc.triage import judge_settled


class PartOfAnotherLedger(BadData):
    """A part was made for another ledger."""


def ingest(connection: Connection, path: Path, *, actor: str) -> parts.Recorded:
    """Record one part; twice changes nothing."""
    part = read_part(path)
    header = part.header
    _check_shard(connection, part)
    row = parts.Part(
        name=path.name.removesuffix(SUFFIX),
        shard_id=header.shard_id,
        epoch=header.epoch,
        sha256=part.sha256,
        size=part.size,
        run_key=bytes.fromhex(header.run_key),
        receipt=header.receipt,
        engine_seconds=header.engine_seconds,
    )
    results = [_row(result) for result in part.results]
    if header.plan is None:
        recorded = parts.record(connection, row, results, _seal(part), actor=actor)
    else:
        sealed = part.seal is not None
        recorded = redo.record(connection, row, header.plan, results, sealed=sealed, actor=actor)
    if recorded.settled:
        judge_settled(connection, header.shard_id)
    return recorded


def _check_shard(connection: Connection, part: PartFile) -> None:
    """A number is no identity: in another ledger the same one is another shard's."""
    header = part.header
    here = shards.identity(connection, header.shard_id)
    if here != (header.site, header.date, header.shard):
        whose = "has no such shard" if here is None else f"has {here[0]} {here[1]} {here[2]} there"
        raise PartOfAnotherLedger(
            f"{part.path.name} is of {header.site} {header.date} {header.shard} as shard {header.shard_id}, and this"
            f" ledger {whose}: it was made for another ledger"
        )


def waiting(connection: Connection, folders: Iterable[Path]) -> Iterator[Path]:
    """The published parts that the ledger has not recorded yet, folder by folder, oldest first: a seal comes after what
    it seals, else it is refused and the shard read again."""
    for folder in folders:
        by_name = {path.name.removesuffix(SUFFIX): path for path in parts_in(folder)}
        yield from sorted((by_name[name] for name in parts.unknown(connection, list(by_name))), key=_published)


def _published(path: Path) -> tuple[int, str]:
    return path.stat().st_mtime_ns, path.name


def _seal(part: PartFile) -> parts.SealRow | None:
    seal = part.seal
    return None if seal is None else parts.SealRow(seal.sha256, seal.size, seal.recordings, seal.contents or None)


def _row(result: Result) -> dict[str, Any]:
    recording = result.recording
    row: dict[str, Any] = {
        "ordinal": recording.ordinal,
        "meta_id": stem(recording.name),
        "name": recording.name,
        "size": recording.size,
        "sha256": recording.sha256,
        "seconds": result.duration,
        "flags": list(result.flags),
        "failure_class": None,
        "failure_reason": None,
    }
    return row | (_failed(result.outcome) if isinstance(result.outcome, Failure) else _said(result))


def _failed(failure: Failure) -> dict[str, Any]:
    nothing = dict.fromkeys(("outcome", "language", "language_probability", "text", "words", "word_count"))
    failed = {"failure_class": failure.kind.value, "failure_reason": _storable(failure.reason)}
    return nothing | {"transcript_flags": []} | failed


def _said(result: Result) -> dict[str, Any]:
    said = result.outcome
    assert not isinstance(said, Failure)
    text = _storable(said.text)
    return {
        "outcome": "speech" if text else "no_speech",
        "language": said.language if text else None,
        "language_probability": finite(said.language_probability),
        "text": text,
        "words": formats.pack([_clean(segment_to_dict(segment)) for segment in said.segments]),
        "word_count": sum(len(segment.words) for segment in said.segments) or len(text.split()),
        "transcript_flags": list(said.flags),
        "chunks": formats.pack(map(chunk_to_dict, said.chunks)) if said.chunks else None,
        **worst(said.chunks, result.duration),
    }


def _clean(segment: dict[str, Any]) -> dict[str, Any]:
    words = [word | {"word": _storable(word["word"])} for word in segment["words"]]
    return segment | {"text": _storable(segment["text"]), "words": words}


def _storable(text: str) -> str:
    """Without what PostgreSQL's text cannot hold: NUL and halves of surrogate pairs."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()
