"""An archive's plain bytes out of its compressed ones, read once, checked to the end, counted against limits."""

from __future__ import annotations

import bz2
import hashlib
import lzma
import zlib
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from hpc.stages.sniff import stranger

CHUNK = 1 << 16  # bytes read from the file at a time; the place of damage is known to this precision
PIECE = 1 << 20  # bytes decompressed at a time: a bomb is seen after at most this much more
PLAIN = "plain"
MAGIC = {"xz": b"\xfd7zXZ\x00", "gzip": b"\x1f\x8b", "bzip2": b"BZh"}
_CHECKS = {check for check in range(16) if lzma.is_check_supported(check)} | {
    lzma.CHECK_UNKNOWN
}  # UNKNOWN: not read yet


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """How much an archive may hold before we take it for an attack. Generous for audio, deadly for bombs."""

    members: int = 20_000
    member_bytes: int = 512 << 20
    total_bytes: int = 64 << 30  # uncompressed
    ratio: float = 200.0  # uncompressed to compressed, once `ratio_from` bytes have come out
    ratio_from: int = 64 << 20
    name_bytes: int = 4096
    header_bytes: int = 1 << 20  # of one extended header
    dictionary_bytes: int = 256 << 20  # memory the xz decoder may ask for


class Broken(Exception):
    """What is wrong with an archive, without the place; `unpack` adds that."""


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def needs_input(self) -> bool: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Gzip:
    """zlib's decompressor with the manners of the other two."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(wbits=31)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        piece = self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)
        # a full answer may leave output inside zlib although it has taken all its input
        self.needs_input = not self._zlib.unconsumed_tail and len(piece) != max_length
        return piece


class Inflow:
    """Reads a file once. `read` gives fewer bytes than asked only at an end that every checksum confirms."""

    def __init__(self, file: BinaryIO, limits: ArchiveLimits) -> None:
        self._file = file
        self._limits = limits
        self._hash = hashlib.sha256()
        self.taken = 0  # compressed bytes read
        self.given = 0  # plain bytes handed out
        self._left = self._raw()  # bytes no decompressor has seen
        self.kind = next((kind for kind, magic in MAGIC.items() if self._left.startswith(magic)), PLAIN)
        self._decompressor: _Decompressor | None = None
        if not self._left:
            raise Broken("the file is empty (0 bytes)")
        if self.kind == PLAIN and self._left[257:262] != b"ustar" and (looks := stranger(self._left[:4096])):
            raise Broken(f"the file is {looks}, not an archive")

    def read(self, size: int) -> bytes:
        """Exactly so many plain bytes, fewer only at the true end."""
        pieces = []
        while size and (piece := self._piece(min(size, PIECE))):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    @property
    def at(self) -> int:
        """How far into the file the walk is, in bytes; for compressed data up to CHUNK too far."""
        return self.given if self.kind == PLAIN else self.taken

    def digest(self) -> bytes:
        """sha256 of the compressed bytes; of the whole file once `read` has met the end."""
        return self._hash.digest()

    def _piece(self, most: int) -> bytes:
        piece = self._plain(most) if self.kind == PLAIN else self._decompressed(most)
        self.given += len(piece)
        limits = self._limits
        if self.given > limits.total_bytes:
            raise Broken(f"it holds more than {limits.total_bytes} bytes (limit total_bytes)")
        if self.given > limits.ratio_from and self.given > limits.ratio * self.taken:
            raise Broken(f"it unpacks to more than {limits.ratio:g} times its size (limit ratio)")
        return piece

    def _plain(self, most: int) -> bytes:
        if not self._left:
            self._left = self._raw()
        piece, self._left = self._left[:most], self._left[most:]
        return piece

    def _decompressed(self, most: int) -> bytes:
        while True:
            if self._decompressor is None and not self._next_stream():
                return b""
            stream = self._decompressor
            assert stream is not None
            data, self._left = self._left, b""
            if not data and stream.needs_input:
                data = self._raw()
                if not data:
                    raise Broken(f"the file ends in the middle of its {self.kind} data")
            piece = self._decoded(stream, data, most)
            if stream.eof:
                self._left, self._decompressor = stream.unused_data, None
            if piece:
                return piece

    def _decoded(self, stream: _Decompressor, data: bytes, most: int) -> bytes:
        try:
            piece = stream.decompress(data, max_length=most)
        except (lzma.LZMAError, zlib.error, OSError, EOFError, ValueError) as error:
            limit = " (limit dictionary_bytes)" if "Memory usage" in str(error) else ""
            raise Broken(f"its {self.kind} data does not decode: {str(error).rstrip('.')}{limit}") from None
        if isinstance(stream, lzma.LZMADecompressor) and stream.check not in _CHECKS:
            raise Broken("its xz data carries a checksum of a kind that cannot be verified here")
        return piece

    def _next_stream(self) -> bool:
        """Step over padding to the next compressed stream; False at the end of the file."""
        padding = 0
        while True:
            stripped = self._left.lstrip(b"\0")
            padding += len(self._left) - len(stripped)
            self._left = stripped or self._raw()
            if stripped or not self._left:
                break
        if self.kind == "xz" and padding % 4:
            raise Broken("the padding after its xz data has a wrong length")
        if not self._left:
            return False
        while len(self._left) < 6 and (more := self._raw()):
            self._left += more
        if not self._left.startswith(MAGIC[self.kind]):
            raise Broken(f"something that is not {self.kind} follows the end of its {self.kind} data")
        self._decompressor = self._open()
        return True

    def _open(self) -> _Decompressor:
        if self.kind == "gzip":
            return _Gzip()
        if self.kind == "bzip2":
            return bz2.BZ2Decompressor()
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=self._limits.dictionary_bytes)

    def _raw(self) -> bytes:
        data = self._file.read(CHUNK)
        self._hash.update(data)
        self.taken += len(data)
        return data
