"""Two versions of the same recordings side by side: how many words differ, and what else; pure, and flat in memory.

A word is what is left of it without case and punctuation; what stands in brackets is none (hpc/words.py). In scripts
that put no spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese) every sign counts as a word, with the
vowels and tones that stand on it. Rates are by the words of the first version.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import jiwer

from hpc.words import tokens as words

CONTEXT = 5  # equal words that are shown on each side of a difference
LONGEST = 120  # words of a difference that are shown
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """How one list of words becomes another: stretches of (operation, words of the one, words of the other)."""

    steps: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]  # "equal", "substitute", "delete", "insert"

    @property
    def errors(self) -> int:
        """Words that are another, are gone, or have come."""
        return sum(max(len(one), len(other)) for what, one, other in self.steps if what != "equal")

    @property
    def sizes(self) -> tuple[int, int]:
        """Words of the one, and of the other."""
        return sum(len(one) for _, one, _ in self.steps), sum(len(other) for _, _, other in self.steps)

    @property
    def share(self) -> float:
        """From 0, the same, to 1, nothing in common; the same from either side."""
        longer = max(self.sizes)
        return self.errors / longer if longer else 0.0

    def marked(self) -> str:
        """One line: [-what is gone-] {+what has come+}, with a few words around; marks that need no colour."""
        last = len(self.steps) - 1
        return " ".join(
            _around(one, begins=at == 0, ends=at == last) if what == "equal" else _marked(one, other)
            for at, (what, one, other) in enumerate(self.steps)
        )


def _around(same: Sequence[str], *, begins: bool, ends: bool) -> str:
    before, after = 0 if begins else CONTEXT, 0 if ends else CONTEXT
    if len(same) <= before + after + 1:
        return " ".join(same)
    return " ".join([*same[:before], "…", *(same[-after:] if after else ())])


def _marked(gone: Sequence[str], come: Sequence[str]) -> str:
    pairs = (("[-", gone, "-]"), ("{+", come, "+}"))
    return " ".join(f"{left}{_short(said)}{right}" for left, said, right in pairs if said)


def _short(said: Sequence[str]) -> str:
    if len(said) <= LONGEST:
        return " ".join(said)
    return f"{' '.join(said[:LONGEST])} … {len(said) - LONGEST} more words"


def change(one: Sequence[str], other: Sequence[str]) -> Change:
    """The fewest words that make the other of the one, as jiwer aligns them."""
    [found] = changes([(one, other)])
    return found


def changes(pairs: Sequence[tuple[Sequence[str], Sequence[str]]]) -> list[Change]:
    """change() of many; what is equal is not aligned."""
    differ = [(one, other) for one, other in pairs if list(one) != list(other)]
    aligned = iter(_aligned(differ))
    return [
        next(aligned) if list(one) != list(other) else Change((("equal", tuple(one), tuple(other)),) if one else ())
        for one, other in pairs
    ]


def _aligned(pairs: Sequence[tuple[Sequence[str], Sequence[str]]]) -> list[Change]:
    if not pairs:
        return []
    counted = jiwer.process_words([" ".join(one) for one, _ in pairs], [" ".join(other) for _, other in pairs])
    return [
        Change(
            tuple(
                (
                    step.type,
                    tuple(one[step.ref_start_idx : step.ref_end_idx]),
                    tuple(other[step.hyp_start_idx : step.hyp_end_idx]),
                )
                for step in steps
            )
        )
        for (one, other), steps in zip(pairs, counted.alignments, strict=True)
    ]


@dataclass(slots=True)
class Tally:
    """What a day, or all days, came to."""

    recordings: int = 0  # that the world may see
    both: int = 0  # of these, with a version of both: all that follows is of them
    only_a: int = 0
    only_b: int = 0
    same: int = 0  # not one word differs
    words_a: int = 0
    words_b: int = 0
    differences: int = 0  # words that are another, are gone, or have come
    new_empty: int = 0  # had words, and has none
    new_words: int = 0  # had none, and has words
    current_a: int = 0  # versions that readers see
    current_b: int = 0
    languages: Counter[tuple[str, str]] = field(default_factory=Counter)  # where both have one, and another
    judged: int = 0  # whose flags are known: what was gained and lost is of them
    gained: Counter[str] = field(default_factory=Counter)  # flags
    lost: Counter[str] = field(default_factory=Counter)

    @property
    def rate(self) -> float | None:
        """Words that differ, by words of A; None: A has none."""
        return self.differences / self.words_a if self.words_a else None

    def add(self, other: Tally) -> None:
        """Put another one's figures to these."""
        for part in fields(self):
            setattr(self, part.name, getattr(self, part.name) + getattr(other, part.name))

    def told(self) -> dict[str, Any]:
        """As JSON has it."""
        plain = {part.name: getattr(self, part.name) for part in fields(self)}
        languages = [{"from": a, "to": b, "recordings": n} for (a, b), n in _ranked(self.languages)]
        counted = {"gained": dict(_ranked(self.gained)), "lost": dict(_ranked(self.lost)), "languages": languages}
        return plain | counted | {"rate": self.rate, "length_change": self.words_b - self.words_a}


def _ranked(counted: Counter[Any]) -> list[tuple[Any, int]]:
    return sorted(counted.items(), key=lambda item: (-item[1], item[0]))


@dataclass(slots=True)
class Examples:
    """The few pairs that differ most, whatever the order in which they come."""

    count: int
    _kept: list[tuple[float, int, int, dict[str, Any]]] = field(default_factory=list)

    def offer(self, row: Row, changed: Change, about: Row) -> None:
        """Keep it if it is among the most different: by its share, then by its words, then the older recording."""
        errors, share = changed.errors, changed.share
        if not errors or not self.count:
            return
        rank = (share, errors, -row["id"])
        if len(self._kept) == self.count and rank < self._kept[0][:3]:
            return
        told = {"recording": row["id"], **about, "meta_id": row["meta_id"], "differences": errors, "share": share}
        told |= {side: _side(row, side) for side in ("a", "b")} | {"diff": changed.marked()}
        push = heapq.heappush if len(self._kept) < self.count else heapq.heappushpop
        push(self._kept, (*rank, told))

    def add(self, other: Examples) -> None:
        for one in other._kept:
            push = heapq.heappush if len(self._kept) < self.count else heapq.heappushpop
            push(self._kept, one)

    def told(self) -> list[dict[str, Any]]:
        """The most different first."""
        return [one[3] for one in sorted(self._kept, key=lambda one: one[:3], reverse=True)]


def _side(row: Row, side: str) -> dict[str, Any]:
    return {name: row[f"{side}_{name}"] for name in ("version", "language", "text", "quality_flags", "current")}


def compare(pages: Iterable[Sequence[Row]], *, recordings: int, examples: int, about: Row) -> tuple[Tally, Examples]:
    """A day's pairs, page by page, as db.runs.pairs gives them; `about` is said of each example."""
    tally, kept = Tally(recordings=recordings), Examples(examples)
    for page in pages:
        both = [row for row in page if row["a_id"] is not None and row["b_id"] is not None]
        tally.only_a += sum(row["b_id"] is None for row in page)
        tally.only_b += sum(row["a_id"] is None for row in page)
        found = changes([(words(row["a_text"]), words(row["b_text"])) for row in both])
        for row, changed in zip(both, found, strict=True):
            _count(tally, row, changed)
            kept.offer(row, changed, about)
    return tally, kept


def _count(tally: Tally, row: Row, changed: Change) -> None:
    first, second = changed.sizes
    tally.both += 1
    tally.same += not changed.errors
    tally.words_a += first
    tally.words_b += second
    tally.differences += changed.errors
    tally.new_empty += bool(row["a_text"]) and not row["b_text"]
    tally.new_words += bool(row["b_text"]) and not row["a_text"]
    tally.current_a += row["a_current"]
    tally.current_b += row["b_current"]
    languages = row["a_language"], row["b_language"]
    if None not in languages and languages[0] != languages[1]:
        tally.languages[languages] += 1
    if not row["judged"]:
        return
    tally.judged += 1
    tally.gained.update(set(row["b_quality_flags"]) - set(row["a_quality_flags"]))
    tally.lost.update(set(row["a_quality_flags"]) - set(row["b_quality_flags"]))
