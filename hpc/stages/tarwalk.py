"""The walk through a tar archive's headers and data: strict about every byte, holding one member at a time."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field

from db import faults
from db.names import display
from db.states import FailureClass
from hpc.model import Failure, Member, Recording, Result
from hpc.stages.inflow import PIECE, ArchiveLimits, Broken, Inflow

BLOCK = tarfile.BLOCKSIZE
COMPANIONS = (b".txt", b".json", b".csv", b".parquet", b".md5", b".sha256")
_PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE)
_LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_NO_DATA = (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE)
_NO_RECORDING = (tarfile.DIRTYPE, b"V")  # V: a volume's label
_KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a character device",
    tarfile.BLKTYPE: "a block device",
    tarfile.FIFOTYPE: "a fifo",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


def companion(name: bytes) -> bool:
    """Whether a file travels with recordings and is none: a table, a checksum, what a Mac leaves behind."""
    last = name.rpartition(b"/")[2]
    return last.startswith(b"._") or last.lower().endswith(COMPANIONS)


def too_large(size: int, limits: ArchiveLimits) -> Failure | None:
    if size <= limits.member_bytes:
        return None
    return Failure(FailureClass.MEMBER_TOO_LARGE, f"{size} bytes, more than {limits.member_bytes} (limit member_bytes)")


@dataclass(frozen=True, slots=True)
class _Header:
    """What a tar header and its extensions say of one member."""

    name: bytes
    kind: bytes
    size: int  # bytes of data that follow


@dataclass(slots=True)
class TarWalk:
    """One walk; iterate it once. `members` and `place` tell where it stands."""

    shard_id: int
    inflow: Inflow
    limits: ArchiveLimits
    recordings: int = 0
    _members: int = 0
    _headers: int = 0
    _name: bytes = b""
    _inside: bool = False  # between a member's header and the end of its data
    _seen: set[bytes] = field(default_factory=set)
    _common: dict[bytes, bytes] = field(default_factory=dict)  # from global extended headers

    def __iter__(self) -> Iterator[Member | Result]:
        while (header := self._next()) is not None:
            self._members, self._name, self._inside = self._members + 1, header.name, True
            found = self._member(header)
            self._inside = False
            if found is not None:
                self.recordings += 1
                faults.point("unpack.member")
                yield found
        self._to_the_end()

    def place(self) -> str:
        """Where the walk stands, for a message."""
        if not self._members:
            return ""
        return f", {'in' if self._inside else 'after'} member {self._members} ({display(self._name)})"

    def _next(self) -> _Header | None:
        """The next member's header with its extensions applied; None at the end mark."""
        said: dict[bytes, bytes] = {}
        extended = False
        while True:
            block = self._exactly(BLOCK)
            if not block.strip(b"\0"):
                self._end_mark(extended)
                return None
            info = self._parsed(block)
            if info.type in _PAX:
                records = _records(self._extension(info.size, self.limits.header_bytes))
                (self._common if info.type == tarfile.XGLTYPE else said).update(records)
            elif info.type in _LONG:
                name = self._extension(info.size, self.limits.name_bytes + 1).split(b"\0")[0]
                if info.type == tarfile.GNUTYPE_LONGNAME:
                    said[b"path"] = name
            else:
                return self._header(info, block, {**self._common, **said})
            extended = info.type != tarfile.XGLTYPE

    def _parsed(self, block: bytes) -> tarfile.TarInfo:
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError, OverflowError) as error:
            raise Broken(f"a member's header is not valid ({error})") from None
        self._headers += 1
        if self._headers > self.limits.members:
            raise Broken(f"it has more than {self.limits.members} members (limit members)")
        return info

    def _header(self, info: tarfile.TarInfo, block: bytes, said: dict[bytes, bytes]) -> _Header:
        name = info.name.encode("utf-8", "surrogateescape")
        name = said.get(b"GNU.sparse.name", said.get(b"path", name))
        if len(name) > self.limits.name_bytes:
            raise Broken(f"a member's name is longer than {self.limits.name_bytes} bytes (limit name_bytes)")
        if info.type == tarfile.GNUTYPE_SPARSE and block[482]:  # the old GNU form continues its map in more blocks
            while self._exactly(BLOCK)[504]:
                pass
        size = _number(said[b"size"]) if b"size" in said else info.size
        size = 0 if info.type in _NO_DATA else size
        if size < 0 or self.inflow.given + size > self.limits.total_bytes:
            raise Broken(f"{display(name)} claims {size} bytes, more than an archive may hold (limit total_bytes)")
        sparse = any(key.startswith(b"GNU.sparse.") for key in said)
        return _Header(name, tarfile.GNUTYPE_SPARSE if sparse else info.type, size)

    def _member(self, header: _Header) -> Member | Result | None:
        ignored = header.kind in _NO_RECORDING or companion(header.name)
        refused = None if ignored else self._refused(header)
        data = b""
        if ignored or refused:
            digest = self._hashed(header.size)
        else:
            data = self._exactly(header.size)
            digest = hashlib.sha256(data).digest()
        self._exactly(-header.size % BLOCK)
        if ignored:
            return None
        recording = Recording(self.shard_id, self.recordings, header.name, header.size, digest)
        return Result(recording, refused) if refused else Member(recording, data)

    def _refused(self, header: _Header) -> Failure | None:
        if header.kind not in _PLAIN:
            what = _KINDS.get(header.kind, f"a member of the unknown type {display(header.kind)}")
            return Failure(FailureClass.NOT_A_FILE, f"{what}, not a recording; it was not followed")
        key = hashlib.blake2b(header.name, digest_size=16).digest()
        if key in self._seen:
            return Failure(FailureClass.DUPLICATE_MEMBER, "a second member of this name; the first one counts")
        self._seen.add(key)
        return too_large(header.size, self.limits)

    def _end_mark(self, extended: bool) -> None:
        block = self.inflow.read(BLOCK)
        if extended or len(block) < BLOCK or block.strip(b"\0"):
            raise Broken("its end mark (two blocks of zeros) is incomplete")

    def _to_the_end(self) -> None:
        """Only zeros may follow the end mark; reading them proves every checksum and finishes the hash."""
        while rest := self.inflow.read(PIECE):
            if rest.strip(b"\0"):
                raise Broken("something follows its end mark (two archives in one file?)")
        if self.inflow.given % BLOCK:
            raise Broken("it is cut off after its end mark")

    def _extension(self, size: int, most: int) -> bytes:
        if not 0 <= size <= most:
            raise Broken(f"an extended header claims {size} bytes (limit {most})")
        data = self._exactly(size)
        self._exactly(-size % BLOCK)
        return data

    def _hashed(self, size: int) -> bytes:
        """sha256 of data that is stepped over, never held."""
        digest = hashlib.sha256()
        while size:
            piece = self._exactly(min(size, PIECE))
            digest.update(piece)
            size -= len(piece)
        return digest.digest()

    def _exactly(self, size: int) -> bytes:
        data = self.inflow.read(size)
        if len(data) < size:
            raise Broken(f"it is cut off {'inside a member' if self._inside else 'before its end mark'}")
        return data


def _records(data: bytes) -> dict[bytes, bytes]:
    """The keys and values of a pax header: lines of `<length> <key>=<value>`, the length counting the whole line."""
    records: dict[bytes, bytes] = {}
    at = 0
    while data[at:].strip(b"\0"):
        digits = data[at : at + 21].partition(b" ")[0]
        end = at + _number(digits)
        key, equals, value = data[at + len(digits) + 1 : end - 1].partition(b"=")
        if not equals or end > len(data) or data[end - 1 : end] != b"\n":
            raise Broken("an extended header is malformed")
        records[key] = value
        at = end
    return records


def _number(digits: bytes) -> int:
    if not (digits.isdigit() and len(digits) <= 20):
        raise Broken("an extended header is malformed")
    return int(digits)
