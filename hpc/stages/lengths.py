"""What a file says of its own length, read from its headers, so that a decode that stops early is noticed."""

from __future__ import annotations

from dataclasses import dataclass
from struct import unpack_from

from hpc.stages.sniff import Sniffed, mpeg_frame

_ATOMS = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"uuid", b"meta", b"moof", b"mfra", b"sidx", b"styp"}
_OPEN = 0xFFFFFFFF  # a size that a streaming writer never came back to fill in
_OGG_PAGE = 65_307  # bytes, at most


@dataclass(frozen=True, slots=True)
class Claim:
    """A file's own word on how long it is."""

    seconds: float | None = None  # None: it does not say here
    cut: str | None = None  # how its structure shows that the end is missing
    empty: bool = False  # it ends before any sound begins
    open: bool = False  # its structure leaves the length open


def claim(data: bytes, sniffed: Sniffed) -> Claim:
    """Read the claim of a sniffed file."""
    reader = {
        "mp3": _mpeg, "wav": _wav, "aiff": _aiff, "flac": _flac, "ogg": _ogg, "mov": _mov, "matroska": _matroska,
    }.get(sniffed.format or "")  # fmt: skip
    return reader(data, sniffed.start) if reader else Claim(open=True)


def _mpeg(data: bytes, start: int) -> Claim:
    """The frame count of a Xing, Info or VBRI header, less the three frames an encoder may add around the sound."""
    frame = mpeg_frame(data, start)
    if frame is None:
        return Claim()
    frames = 0
    xing = start + 4 + frame.side
    if data[xing : xing + 4] in (b"Xing", b"Info") and len(data) >= xing + 12 and data[xing + 7] & 1:
        (frames,) = unpack_from(">I", data, xing + 8)
    elif data[start + 36 : start + 40] == b"VBRI" and len(data) >= start + 54:
        (frames,) = unpack_from(">I", data, start + 50)
    return Claim(seconds=max(frames - 3, 0) * frame.samples / frame.rate) if frames else Claim()


def _wav(data: bytes, start: int) -> Claim:
    endian = ">" if data[start : start + 4] == b"RIFX" else "<"
    large = None
    at = start + 12
    while at + 8 <= len(data):
        name, (size,) = data[at : at + 4], unpack_from(f"{endian}I", data, at + 4)
        at += 8
        if name == b"ds64" and at + 16 <= len(data):
            (large,) = unpack_from("<Q", data, at + 8)
        if name == b"data":
            return _sound(large if size == _OPEN and large else size, len(data) - at)
        at += size + size % 2
    return Claim(empty=True)


def _aiff(data: bytes, start: int) -> Claim:
    at = start + 12
    while at + 8 <= len(data):
        name, (size,) = data[at : at + 4], unpack_from(">I", data, at + 4)
        if name == b"SSND":
            return _sound(size, len(data) - at - 8)
        at += 8 + size + size % 2
    return Claim(empty=True)


def _sound(stated: int, present: int) -> Claim:
    if not present:
        return Claim(empty=True)
    if stated in (0, _OPEN):
        return Claim(open=True)
    if stated > present:
        return Claim(cut=f"its header states {stated} bytes of sound, {present} are there")
    return Claim()


def _flac(data: bytes, start: int) -> Claim:
    """STREAMINFO: 20 bits of rate, 3 of channels, 5 of depth, 36 of samples."""
    if len(data) < start + 26 or data[start + 4] & 0x7F:
        return Claim()
    (packed,) = unpack_from(">Q", data, start + 18)
    rate, samples = packed >> 44, packed & (1 << 36) - 1
    return Claim(seconds=samples / rate) if rate and samples else Claim(open=True)


def _ogg(data: bytes, start: int) -> Claim:
    """The last page must be whole and marked as the end of its stream."""
    at = data.rfind(b"OggS", max(start, len(data) - 2 * _OGG_PAGE))
    page = data[at : at + 27 + 255] if at >= 0 else b""
    if len(page) < 27 or at + 27 + page[26] + sum(page[27 : 27 + page[26]]) > len(data):
        return Claim(cut="it ends inside a page")
    return Claim() if page[5] & 4 else Claim(cut="its last page is not marked as the end")


def _mov(data: bytes, start: int) -> Claim:
    at, index, fragments = start, False, False
    while at + 8 <= len(data):
        (size,), name = unpack_from(">I", data, at), data[at + 4 : at + 8]
        if size == 1 and at + 16 <= len(data):
            (size,) = unpack_from(">Q", data, at + 8)
        if size < 8 and size != 0:
            break
        if name in _ATOMS and at + size > len(data):
            return Claim(cut=f"its part {name.decode()} states {size} bytes, {len(data) - at} are there")
        index, fragments = index or name == b"moov", fragments or name == b"moof"
        at = at + size if size else len(data)
    return Claim(open=fragments) if index else Claim(cut="its index (moov) is missing")


def _matroska(data: bytes, start: int) -> Claim:
    _, at = _vint(data, start + 4)  # the EBML header's size, where its body begins
    size, _ = _vint(data, start + 4)
    segment = at + (size or 0)
    if size is None or data[segment : segment + 4] != b"\x18\x53\x80\x67":
        return Claim(cut="it ends before its segment begins") if segment >= len(data) else Claim()
    length, body = _vint(data, segment + 4)
    if length is None:
        return Claim(open=True)
    if body + length > len(data):
        return Claim(cut=f"its segment states {length} bytes, {len(data) - body} are there")
    return Claim()


def _vint(data: bytes, at: int) -> tuple[int | None, int]:
    """A variable-length number and the place after it; None when its bits are all ones, which means unknown."""
    if at >= len(data) or not data[at]:
        return None, at + 1
    width = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + width], "big") & (1 << 7 * width) - 1
    return (None if value == (1 << 7 * width) - 1 else value), at + width
