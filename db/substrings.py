"""Parts of texts in languages that are written without spaces, whose words PostgreSQL cannot tell apart."""

from __future__ import annotations

import re
from dataclasses import dataclass

from db.errors import BadData

# Those of the index transcripts_pieces, in the order it names them.
LANGUAGES = ("zh", "yue", "ja", "th", "lo", "km", "my")
AROUND = 40  # signs before and after what was found
_TERM = re.compile(r'(-?)(?:"([^"]*)"?|(\S+))')


class BadQuery(BadData):
    """The query asks for nothing, or for what has no meaning in this language."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a text has to hold, each somewhere, and what it must not; without spaces and in small letters."""

    wanted: list[str]
    without: list[str]

    def pieces(self) -> list[str]:
        """What the index knows of them: signs in pairs, a single one as it is."""
        return sorted({one[i : i + 2] for one in self.wanted for i in range(max(len(one) - 1, 1))})


def parts(query: str) -> Parts:
    """The parts that a query asks for: apart by spaces, `-` before what must not be there."""
    found = Parts([], [])
    for minus, quoted, word in _TERM.findall(query):
        if word.lower() == "or":
            raise BadQuery("In a language without spaces `or` is not understood: search for each of the two by itself.")
        one = "".join(bare(quoted or word))
        if one:
            (found.without if minus else found.wanted).append(one)
    if found.without and not found.wanted:
        raise BadQuery("Say what to look for, and not only what must not be there.")
    return found


def bare(text: str) -> list[str]:
    """The text's signs as the function `bare` of the ledger gives them."""
    return [_small(sign) for sign in text if not sign.isspace()]


def excerpt(text: str, wanted: list[str]) -> tuple[str, list[list[int]], int]:
    """The text around the first of what was found, what matches in it [start, stop], and the signs before the first."""
    places = [place for place, sign in enumerate(text) if not sign.isspace()]
    plain = "".join(bare(text))
    found = sorted((hit.start(), hit.end()) for one in wanted for hit in re.finditer(re.escape(one), plain))
    if not found:
        return text[: 2 * AROUND], [], -1
    first = places[found[0][0]]
    start, stop = max(first - AROUND, 0), first + AROUND
    marks: list[list[int]] = []
    for begin, end in found:
        here = [max(places[begin] - start, marks[-1][1] if marks else 0), places[end - 1] + 1 - start]
        if here[0] < here[1] <= stop - start:
            marks.append(here)
    return text[start:stop], marks, found[0][0]


def _small(sign: str) -> str:
    small = sign.lower()
    return small if len(small) == 1 else sign
