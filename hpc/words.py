"""Texts of all languages made comparable: what is a word here is one in every comparison, flag and error rate."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

# Scripts written without spaces between words: Thai, Lao, Tibetan, Burmese, Khmer, Javanese, kana, Han.
_UNSPACED = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\ua980-\ua9df"
    "\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U00020000-\U0003ffff"
)
# How many Latin letters one sign stands for, by how much of a syllable it is; every other letter is one.
_WEIGHTS = (("\u3400", "\u9fff", 4.0), ("\uf900", "\ufaff", 4.0), ("\U00020000", "\U0003ffff", 4.0),
            ("\u3040", "\u30ff", 2.5), ("\uac00", "\ud7a3", 3.0))  # fmt: skip
_BRACKETED = re.compile(r"[\[(【（〔<][^\])】）〕>]{0,80}[\])】）〕>]|[♪♫]")  # [music], (laughs): no words
NUMBER = "#"  # no token is: the year in a phrase is another one each year


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """A token (a sign without spaces, or a word with its accents), and a run of one word. Made once, when needed."""
    marks = "".join(_ranges(code for code in range(0x10000) if unicodedata.category(chr(code))[0] == "M"))
    sign, letter = f"[{_UNSPACED}]", f"(?:(?![{_UNSPACED}])(?:[^\\W_]|[{marks}]))"
    apostrophe = f"(?:['’ʼ]{letter}+)*"  # "don't" is a word
    return re.compile(f"{sign}[{marks}]*|{letter}+{apostrophe}"), re.compile(f"{letter}+")


def _ranges(codes: Iterable[int]) -> Iterator[str]:
    first = last = -1
    for code in (*codes, sys.maxunicode):
        if code != last + 1:
            if first >= 0:
                yield f"{chr(first)}-{chr(last)}"
            first = code
        last = code


def tokens(text: str) -> list[str]:
    """The words of a text in one spelling, without what is no word; in scripts without spaces each sign is one."""
    plain = _BRACKETED.sub(" ", unicodedata.normalize("NFKC", text)).casefold()
    return [token.translate(_APOSTROPHES) for token in _patterns()[0].findall(plain) if any(map(str.isalnum, token))]


def numberless(said: Sequence[str]) -> list[str]:
    """The same with one sign for every number."""
    return [NUMBER if token.isdecimal() else token for token in said]


_APOSTROPHES = str.maketrans("", "", "'’ʼ")


def is_mark(sign: str) -> bool:
    """Whether it is an accent; alone it is no word."""
    return unicodedata.category(sign)[0] == "M"


def is_sign(token: str) -> bool:
    """Whether the token is one sign of a script without spaces, with the vowels and tones that stand on it."""
    return re.match(f"[{_UNSPACED}]", token) is not None


def longest_word(text: str) -> str:
    """The longest run of letters and digits of a script with spaces; what stands between hyphens is its own word."""
    words = _patterns()[1].findall(unicodedata.normalize("NFC", text))
    return max(words, key=_letters, default="")


def length(word: str) -> int:
    """Letters of a word: an accent is none."""
    return _letters(word)


def _letters(word: str) -> int:
    return sum(not is_mark(sign) for sign in word) if not word.isascii() else len(word)


def size(text: str) -> float:
    """How much text it is, in Latin letters: a Chinese sign says as much as four."""
    if text.isascii():
        return float(sum(map(str.isalnum, text)))
    return sum(_weight(sign) for sign in unicodedata.normalize("NFC", text) if sign.isalnum())


def _weight(sign: str) -> float:
    return next((weight for first, last, weight in _WEIGHTS if first <= sign <= last), 1.0)


def loop(said: Sequence[str], longest: int) -> Iterator[tuple[tuple[str, ...], int]]:
    """What is said again and again without a break: the words, and how many times in a row; for each length of a
    repeated stretch the longest such run."""
    for period in range(1, min(longest, len(said) // 2) + 1):
        best = run = end = 0
        for at in range(period, len(said)):
            run = run + 1 if said[at] == said[at - period] else 0
            if run > best:
                best, end = run, at
        if best >= period:
            start = end - best - period + 1
            yield tuple(said[start : start + period]), best // period + 1
