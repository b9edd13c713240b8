"""A slot's recordings as Opus in one tar, streamed out of its archives: nothing is unpacked to the disk, and the same
recordings always make the same bytes."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass
from typing import IO, Any

from db import faults
from db.errors import TryAgain
from hpc.errors import ArchiveDamaged, Interrupted
from hpc.model import Audio, Failure, Member, Result, Seal, Shard
from hpc.stages.decode import DecoderPool
from hpc.stages.opus import encode
from hpc.stages.unpack import ArchiveLimits, unpack

SUFFIX = ".opus"
NAME_BYTES = 230  # a file's name has 255, and the number and the suffix come to it
VERSION = 1  # of what is made here: another one makes all of it anew


@dataclass(frozen=True, slots=True)
class Take:
    """A shard, and which of its recordings go into the tar: ordinal → (its own id, sha256 of its bytes)."""

    shard: Shard
    recordings: Mapping[int, tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A recording without audio in its slot's tar, and why."""

    shard_id: int
    ordinal: int
    meta_id: str
    why: str
    expected: bool  # the ledger has it quarantined; else it could be decoded once and cannot be now


@dataclass(frozen=True, slots=True)
class Studio:
    """What makes audio: children that decode, children that encode, and what both hold to."""

    decoders: DecoderPool
    encoders: Executor
    limits: ArchiveLimits
    kbit: int
    ahead: int  # encoded clips that wait for their turn


class HashingSink:
    """Writes on, and knows size and sha256 of what went through."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out, self._hash, self.size = out, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        self.size += len(data)
        return self._out.write(data)

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


def write_tar(
    out: HashingSink, takes: Sequence[Take], studio: Studio, *, advance: Callable[[int], None], stop: Callable[[], bool]
) -> list[LeftOut]:
    """All of it in order, or an error: an archive that is not the one that was worked makes no audio."""
    left: list[LeftOut] = []
    sink: Any = out  # a stream that is written needs no more than `write`
    with tarfile.open(mode="w|", fileobj=sink, format=tarfile.PAX_FORMAT, encoding="utf-8", errors="strict") as tar:
        namer = Namer()
        for take in takes:
            for one in _encoded(studio.decoders.decode(_members(take, studio.limits, stop)), studio):
                meta_id = take.recordings[one.ordinal][0]
                if isinstance(one.made, str):
                    left.append(LeftOut(take.shard.id, one.ordinal, meta_id, one.made, expected=False))
                else:
                    _add(tar, namer(meta_id), one.made)
                faults.point("deliver.tar_half")
                advance(1)
    return left


class Namer:
    """Member names: the recording's own id, and a number where a slot has it several times."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    def __call__(self, meta_id: str) -> str:
        base = meta_id.replace("/", "_").encode("utf-8", "backslashreplace")[:NAME_BYTES].decode("utf-8", "ignore")
        name, number = base, 1
        while name in self._used:
            number += 1
            name = f"{base}_{number}"
        self._used.add(name)
        return name + SUFFIX


@dataclass(frozen=True, slots=True)
class _Outcome:
    ordinal: int
    made: bytes | str  # the file, or why there is none


def _members(take: Take, limits: ArchiveLimits, stop: Callable[[], bool]) -> Iterator[Member | Result | Seal]:
    found = 0
    for item in unpack(take.shard, limits=limits):
        if stop():
            raise Interrupted
        if isinstance(item, Seal):
            continue
        wanted = take.recordings.get(item.recording.ordinal)
        if wanted is None:
            continue
        if wanted[1] != item.recording.sha256:
            raise _changed(take.shard)
        found += 1
        yield item
    if found != len(take.recordings):
        raise _changed(take.shard)


def _changed(shard: Shard) -> ArchiveDamaged:
    return ArchiveDamaged(
        f"{shard.site} {shard.date}: the archive of slot {shard.slot or '-'} is not the one that was transcribed; its"
        " audio is not delivered. Put the right one back, or deliver without --audio."
    )


def _encoded(decoded: Iterable[object], studio: Studio) -> Iterator[_Outcome]:
    """In order, a few ahead."""
    waiting: deque[_Outcome | tuple[Audio, Future[bytes]]] = deque()
    try:
        for item in decoded:
            if isinstance(item, Audio):
                waiting.append((item, studio.encoders.submit(encode, item.pcm, kbit=studio.kbit)))
            elif isinstance(item, Result):
                assert isinstance(item.outcome, Failure)
                waiting.append(_Outcome(item.recording.ordinal, f"{item.outcome.kind}: {item.outcome.reason}"))
            while len(waiting) > studio.ahead:
                yield _finished(waiting.popleft())
        while waiting:
            yield _finished(waiting.popleft())
    except BrokenExecutor as error:
        raise TryAgain("A process that encodes audio was ended; run the same command again to go on.") from error
    finally:
        for left in waiting:
            if isinstance(left, tuple):
                left[1].cancel()


def _finished(one: _Outcome | tuple[Audio, Future[bytes]]) -> _Outcome:
    return one if isinstance(one, _Outcome) else _Outcome(one[0].recording.ordinal, one[1].result())


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # its time is 0 and it is root's, whoever makes it
    member.size, member.mode = len(data), 0o644
    tar.addfile(member, io.BytesIO(data))
