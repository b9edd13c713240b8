"""Text from outside, made safe to show in a terminal or a log: nothing in it can move a cursor, hide or reorder."""

from __future__ import annotations

import re

LONGEST = 500  # characters of one thing from outside, where it is told among others
# C0, DEL and C1 controls; line and paragraph separators; marks that reorder text; halves of surrogate pairs.
_CONTROLS = r"\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff"
_UNSAFE = re.compile(f"[{_CONTROLS}]")
_UNSAFE_BUT_LINES = re.compile(rf"(?![\n\t])[{_CONTROLS}]")


def printable(text: str, *, lines: bool = False) -> str:
    """The text with every control character written as an escape; `lines` lets line breaks and tabs through."""
    return (_UNSAFE_BUT_LINES if lines else _UNSAFE).sub(_escape, text)


def plain(text: str, longest: int = LONGEST) -> str:
    """What came from outside, on one line, without controls, and not longer than that."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= longest else line[: longest - 1] + "…"


def escaped_json(document: str) -> str:
    """A JSON document with its control characters as JSON's own escapes; it means the same."""
    return _UNSAFE_BUT_LINES.sub(lambda match: f"\\u{ord(match[0]):04x}", document)


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()
