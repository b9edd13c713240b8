"""The known phrases of phrases.toml, and whether a text is little more than one of them."""

from __future__ import annotations

import hashlib
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from importlib.resources import files

from hpc.triage import languages
from hpc.words import numberless, tokens


class Whole(IntEnum):
    """What a phrase has to be the whole of to be suspect."""

    SEGMENT = 0
    CHUNK = 1
    TEXT = 2


KINDS = {"credits": Whole.SEGMENT, "farewells": Whole.CHUNK, "alone": Whole.TEXT}


@dataclass(frozen=True, slots=True)
class Phrase:
    """One of them."""

    text: str
    words: tuple[str, ...]
    language: str
    least: Whole


@cache
def digest() -> str:
    """sha256 of the phrases, hexadecimal."""
    return hashlib.sha256(files(__package__).joinpath("phrases.toml").read_bytes()).hexdigest()


@cache
def known() -> Mapping[str, Sequence[Phrase]]:
    """All phrases by their first word, the longest first."""
    read = tomllib.loads(files(__package__).joinpath("phrases.toml").read_text(encoding="utf-8"))
    by_first: dict[str, list[Phrase]] = defaultdict(list)
    for language, kinds in read.items():
        for kind, texts in kinds.items():
            for text in texts:
                words = tuple(numberless(tokens(text)))
                by_first[words[0]].append(Phrase(text, words, languages.code(language) or language, KINDS[kind]))
    return {first: sorted(some, key=lambda one: -len(one.words)) for first, some in by_first.items()}


def share(said: Sequence[str], language: str | None, whole: Whole) -> tuple[float, str]:
    """The share of the words that known phrases make up, and the first of these; `whole`: what the words are all of."""
    said = numberless(said)
    covered, first, at = 0, "", 0
    while at < len(said):
        found = next(_at(said, at, language, whole), None)
        if found is not None:
            first = first or found.text
            covered += len(found.words)
        at += 1 if found is None else len(found.words)
    return (covered / len(said) if said else 0.0), first


def _at(said: Sequence[str], at: int, language: str | None, whole: Whole) -> Iterator[Phrase]:
    for phrase in known().get(said[at], ()):
        foreign = phrase.least is Whole.TEXT and language not in (None, phrase.language)
        if phrase.least <= whole and not foreign and tuple(said[at : at + len(phrase.words)]) == phrase.words:
            yield phrase
