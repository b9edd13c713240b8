"""Names from outside, made safe to show: what a person sees of an archive member's name, and the id taken from it."""

from __future__ import annotations

import unicodedata
from itertools import accumulate

AUDIO_SUFFIXES = frozenset(
    {
        ".mp3", ".mp2", ".mpga", ".wav", ".wave", ".bwf", ".rf64", ".w64", ".flac", ".ogg", ".oga", ".opus",
        ".spx", ".m4a", ".m4b", ".mp4", ".mov", ".3gp", ".3g2", ".aac", ".adts", ".mka", ".mkv", ".webm", ".aif",
        ".aiff", ".aifc", ".amr", ".caf", ".au", ".wma", ".ac3",
    }
)  # fmt: skip
MAX_SHOWN = 255  # characters
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})  # controls, bidi overrides, zero widths, line ends …


def display(name: bytes) -> str:
    r"""The name as it may be shown anywhere: printable, on one line, at most 255 characters.

    Whatever cannot be seen is written as an escape (`\xff`, `\u202e`) and a backslash is doubled, so that two
    different names that fit whole are never shown alike.
    """
    pieces = [_piece(character) for character in name.decode("utf-8", "surrogateescape")]
    if sum(map(len, pieces)) <= MAX_SHOWN:
        return "".join(pieces)
    ends = accumulate(map(len, pieces))
    return "".join(piece for piece, end in zip(pieces, ends, strict=True) if end < MAX_SHOWN) + "…"


def stem(name: bytes) -> str:
    """The recording's own id (`meta_id`): the last path component without its audio suffix, safe to show."""
    last = name.rstrip(b"/").rpartition(b"/")[2]
    base, dot, suffix = last.rpartition(b".")
    if dot and base.strip(b".") and f".{suffix.decode('ascii', 'replace').lower()}" in AUDIO_SUFFIXES:
        last = base
    return display(last)


def _piece(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if character == "\\":
        return "\\\\"
    if unicodedata.category(character) not in _UNSEEN:
        return character
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
