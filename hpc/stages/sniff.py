"""What a file is, judged by its content alone: names lie, and a demuxer must never be offered a playlist or a page."""

from __future__ import annotations

import re
from dataclasses import dataclass

JUNK = 1 << 20  # bytes before the first MPEG frame that are searched; some recorders put padding there
CHAIN = 3  # MPEG frames in a row that make us believe
_KBPS = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_HERTZ = (44_100, 48_000, 32_000)
_FORMATS = (  # (pattern at the start, demuxer)
    (rb"RIFF....WAVE|RIFX....WAVE|RF64....WAVE|BW64....WAVE", "wav"),
    (rb"fLaC", "flac"),
    (rb"OggS", "ogg"),
    (rb"....(ftyp|moov|mdat|free|skip|wide|pnot)", "mov"),
    (rb"\x1a\x45\xdf\xa3", "matroska"),
    (rb"FORM....AIF[FC]", "aiff"),
    (rb"#!AMR", "amr"),
)
_STRANGERS = (  # (pattern at the start, what it looks like)
    (rb"\x89PNG\r\n", "a PNG image"),
    (rb"\xff\xd8\xff", "a JPEG image"),
    (rb"GIF8[79]a", "a GIF image"),
    (rb"RIFF....WEBP", "a WebP image"),
    (rb"RIFF....AVI ", "an AVI film"),
    (rb"\x7fELF", "a program (ELF)"),
    (rb"MZ.{58}", "a Windows program"),
    (rb"#!", "a script"),
    (rb"%PDF-", "a PDF document"),
    (rb"PK\x03\x04", "a ZIP archive"),
    (rb"\x1f\x8b", "a gzip file"),
    (rb"\xfd7zXZ\x00", "an xz file"),
    (rb"BZh[1-9]", "a bzip2 file"),
    (rb"\x28\xb5\x2f\xfd", "a Zstandard file"),
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (rb"Rar!\x1a\x07", "a RAR archive"),
    (rb"PAR1", "a Parquet table"),
    (rb"\xff\xfe(.\x00){8}|\xfe\xff(\x00.){8}", "a UTF-16 text file"),
    (rb"SQLite format 3\x00", "a SQLite database"),
    (rb".{257}ustar", "a tar archive"),
)
_TEXTS = (  # (pattern at the start of a text, what it looks like)
    (rb"#EXTM3U", "an HLS playlist"),
    (rb"ffconcat version", "an ffconcat playlist"),
    (rb"\[playlist\]", "a PLS playlist"),
    (rb"v=0\s+o=", "an SDP session description"),
    (rb"(<\?xml.{0,300})?<MPD[\s>]", "a DASH playlist"),
    (rb"(<\?xml.{0,300})?<(CompositionPlaylist|AssetMap)[\s>]", "an IMF playlist"),
    (rb"(<!--.{0,900}-->\s*)?<(!doctype\s+html|html|head|body)[\s>]", "an HTML page"),
    (rb"<\?xml|<[a-z]+[\s>/]", "an XML document"),
    (rb"[\[{]\s*[\"{\[\]}0-9]", "a JSON document"),
)
SUFFIXES = {
    "mp3": {".mp3", ".mp2", ".mpga"},
    "aac": {".aac", ".adts"},
    "wav": {".wav", ".wave", ".bwf", ".rf64"},
    "flac": {".flac"},
    "ogg": {".ogg", ".oga", ".opus", ".spx"},
    "mov": {".m4a", ".m4b", ".mp4", ".mov", ".3gp", ".3g2"},
    "matroska": {".mka", ".mkv", ".webm"},
    "aiff": {".aif", ".aiff", ".aifc"},
    "amr": {".amr"},
}


@dataclass(frozen=True, slots=True)
class Sniffed:
    """What the content looks like: a demuxer's name, or the words for what it is instead, or neither."""

    format: str | None = None
    stranger: str | None = None
    start: int = 0  # where the format begins, after tags and junk
    junk: int = 0  # bytes before it that belong to nothing


@dataclass(frozen=True, slots=True)
class Frame:
    """One MPEG audio frame's header."""

    size: int  # bytes, header included
    samples: int
    rate: int  # Hz
    side: int  # bytes between header and payload in layer 3, where a Xing header would begin


def sniff(data: bytes) -> Sniffed:
    """Judge the content. A leading ID3 tag is stepped over."""
    start = _after_id3(data)
    head = data[start : start + 4096]
    for pattern, name in _FORMATS:
        if _begins(pattern, head):
            return Sniffed(format=name, start=start)
    if looks := stranger(head):
        return Sniffed(stranger=looks)
    if start < len(data) and _is_adts(data, start):
        return Sniffed(format="aac", start=start)
    if (first := _first_frame(data, start)) is not None:
        return Sniffed(format="mp3", start=first, junk=first - start)
    return Sniffed(start=start)


def stranger(head: bytes) -> str | None:
    """The words for a well-known kind of file that is not audio; None when the beginning says nothing."""
    for pattern, looks in _STRANGERS:
        if _begins(pattern, head):
            return looks
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for pattern, looks in _TEXTS:
        if re.match(pattern, text, re.DOTALL | re.IGNORECASE):
            return looks
    return "a text file" if _is_text(head) else None


def mpeg_frame(data: bytes, at: int) -> Frame | None:
    """The MPEG audio frame header at this place, if there is a valid one."""
    if at + 4 > len(data) or data[at] != 0xFF or data[at + 1] & 0xE0 != 0xE0:
        return None
    version_bits, layer = (data[at + 1] >> 3) & 3, 4 - ((data[at + 1] >> 1) & 3)
    rate_index, hertz_index = data[at + 2] >> 4, (data[at + 2] >> 2) & 3
    if version_bits == 1 or layer == 4 or rate_index in (0, 15) or hertz_index == 3:
        return None
    version = 1 if version_bits == 3 else 2
    rate = _HERTZ[hertz_index] // {3: 1, 2: 2, 0: 4}[version_bits]
    samples = 384 if layer == 1 else 576 if (layer == 3 and version == 2) else 1152
    bits = _KBPS[version, layer][rate_index - 1] * 1000
    padding = (data[at + 2] >> 1) & 1
    size = (12 * bits // rate + padding) * 4 if layer == 1 else samples // 8 * bits // rate + padding
    mono = data[at + 3] >> 6 == 3
    side = (17 if mono else 32) if version == 1 else (9 if mono else 17)
    return Frame(size=size, samples=samples, rate=rate, side=side)


def _begins(pattern: bytes, head: bytes) -> bool:
    return re.match(pattern, head, re.DOTALL) is not None


def _after_id3(data: bytes) -> int:
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    size = 0
    for byte in data[6:10]:
        size = size << 7 | byte & 0x7F
    return min(10 + size + (10 if data[5] & 0x10 else 0), len(data))


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3 or not error.start:  # a character cut by the end of the head is no evidence
            return False
        text = head[: error.start].decode("utf-8")
    return bool(text) and all(character.isprintable() or character in "\t\r\n\f\x1b" for character in text)


def _is_adts(data: bytes, at: int) -> bool:
    for _ in range(CHAIN):
        if data[at : at + 1] != b"\xff" or len(data) < at + 7 or data[at + 1] & 0xF6 != 0xF0:
            return False
        size = (data[at + 3] & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5
        if size < 7:
            return False
        at += size
        if at >= len(data):
            return True
    return True


def _first_frame(data: bytes, start: int) -> int | None:
    """Where a chain of MPEG frames begins; one that the end of the file cuts short counts where it begins the file."""
    for match in re.finditer(rb"\xff[\xe0-\xff]", data[start : start + JUNK]):
        at = first = start + match.start()
        for length in range(CHAIN):
            frame = mpeg_frame(data, at)
            if frame is None:
                if at >= len(data) - 4 and length and first == start:
                    return first
                break
            at += frame.size
        else:
            return first
    return None
