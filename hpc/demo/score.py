"""How well a day was transcribed: the ledger's recordings held against the ground truth."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from hpc.demo.truth import SPEECH, ClipTruth, DayTruth

Row = Mapping[str, Any]
Pair = tuple[ClipTruth, Row | None]
_NOT_WORD = re.compile(r"[^\w\s]|_")
_FAILED = "quarantined"


@dataclass(frozen=True, slots=True)
class Score:
    """The figures. Lists name recordings by their meta_id."""

    kinds: Mapping[str, Mapping[str, int]]  # planted kind → state in the ledger → clips; "absent": it has no such row
    words: int  # spoken
    word_errors: int  # substituted, left out or put in
    speech_clips: int
    exact_clips: int
    unheard: tuple[str, ...]  # speech that has no text
    hallucinated: tuple[str, ...]  # text on silence, noise or music
    as_planted: tuple[str, ...]  # broken clips quarantined under the class they were planted with
    not_as_planted: tuple[tuple[str, str, str], ...]  # meta_id, what it should be, what it is
    strangers: tuple[str, ...]  # recordings that were never planted, or whose archive is damaged
    median_start_error_ms: float | None  # of the words that were heard right

    @property
    def word_error_rate(self) -> float:
        return self.word_errors / self.words if self.words else 0.0

    @property
    def exactly_right(self) -> float:
        """The share of the speech clips without any error."""
        return self.exact_clips / self.speech_clips if self.speech_clips else 1.0

    @property
    def unexpected(self) -> int:
        """Recordings that are quarantined or absent and should not be, or the other way round."""
        return len(self.not_as_planted) + len(self.strangers)


def score(truth: DayTruth | Iterable[ClipTruth], rows: Iterable[Row]) -> Score:
    """Judge rows of {meta_id, shard, state, failure_class, text, segments}. Speech without text is all errors."""
    clips = truth.clips if isinstance(truth, DayTruth) else tuple(truth)
    pairs, strangers = _matched([clip for clip in clips if clip.wanted], rows)
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for clip, row in pairs:
        kinds[clip.kind][row["state"] if row else "absent"] += 1
    compared = [(clip, row, _compare(clip, row)) for clip, row in pairs if clip.kind == SPEECH]
    starts = [error for _, _, (_, errors) in compared for error in errors]
    return Score(
        kinds={kind: dict(states) for kind, states in kinds.items()},
        words=sum(len(normal(clip.text)) for clip, _, _ in compared),
        word_errors=sum(wrong for _, _, (wrong, _) in compared),
        speech_clips=len(compared),
        exact_clips=sum(wrong == 0 for _, _, (wrong, _) in compared),
        unheard=tuple(clip.meta_id for clip, row, _ in compared if not _heard(row)),
        hallucinated=tuple(clip.meta_id for clip, row in pairs if clip.kind != SPEECH and _heard(row)),
        as_planted=tuple(clip.meta_id for clip, row in pairs if clip.failure and clip.failure == _failure(row)),
        not_as_planted=tuple(_surprises(pairs)),
        strangers=tuple(str(row["meta_id"]) for row in strangers),
        median_start_error_ms=median(starts) * 1000 if starts else None,
    )


def normal(text: str) -> list[str]:
    """The words of a text without case and punctuation."""
    return _NOT_WORD.sub(" ", text.lower()).split()


def align(spoken: Sequence[str], heard: Sequence[str]) -> tuple[int, list[tuple[int, int]]]:
    """The fewest word errors between the two, and the places in both of the words that agree."""
    if spoken == heard:
        return 0, [(place, place) for place in range(len(spoken))]
    costs = [list(range(len(heard) + 1))]
    for row, word in enumerate(spoken, start=1):
        above, costs_here = costs[-1], [row]
        for column, other in enumerate(heard, start=1):
            costs_here.append(min(above[column - 1] + (word != other), above[column] + 1, costs_here[column - 1] + 1))
        costs.append(costs_here)
    return costs[-1][-1], list(_agreeing(spoken, heard, costs))[::-1]


def _agreeing(spoken: Sequence[str], heard: Sequence[str], costs: Sequence[Sequence[int]]) -> Iterator[tuple[int, int]]:
    """Walk the cheapest way back, from the last words to the first."""
    row, column = len(spoken), len(heard)
    while row and column:
        same = spoken[row - 1] == heard[column - 1]
        if costs[row][column] == costs[row - 1][column - 1] + (not same):
            row, column = row - 1, column - 1
            if same:
                yield row, column
        elif costs[row][column] == costs[row - 1][column] + 1:
            row -= 1
        else:
            column -= 1


def _matched(clips: Sequence[ClipTruth], rows: Iterable[Row]) -> tuple[list[Pair], list[Row]]:
    """Each clip with its row, if it has one, and the rows that are left; twins of one name are known by failure."""
    waiting: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        waiting[row["shard"], str(row["meta_id"])].append(row)
    pairs: list[Pair] = []
    for clip in clips:
        mine = waiting[clip.shard, clip.meta_id]
        best = min(mine, key=lambda row: _failure(row) != clip.failure, default=None)
        if best is not None:
            mine.remove(best)
        pairs.append((clip, best))
    return pairs, [row for left in waiting.values() for row in left]


def _failure(row: Row | None) -> str | None:
    return str(row["failure_class"]) if row and row["state"] == _FAILED else None


def _heard(row: Row | None) -> bool:
    return bool(row and normal(row["text"] or ""))


def _surprises(pairs: Iterable[Pair]) -> Iterator[tuple[str, str, str]]:
    """Quarantined where it should not be, or not, or under another class. What was heard is no matter here."""
    for clip, row in pairs:
        got = _failure(row)
        if row is None or got != clip.failure:
            state = "absent" if row is None else f"{row['state']} {got or ''}".strip()
            yield clip.meta_id, f"{clip.wanted} {clip.failure or ''}".strip(), state


def _compare(clip: ClipTruth, row: Row | None) -> tuple[int, list[float]]:
    """Word errors, and how far off the starts of the words are that were heard right, in seconds."""
    spoken = normal(clip.text)
    heard = normal((row["text"] or "") if row else "")
    wrong, agreeing = align(spoken, heard)
    starts = [word.get("start") for word in _timed(row)]
    if len(starts) != len(heard):  # not aligned, or tokens that are more than a word
        return wrong, []
    pairs = ((clip.words[mine][1], starts[theirs]) for mine, theirs in agreeing)
    return wrong, [abs(said - start) for said, start in pairs if start is not None]


def _timed(row: Row | None) -> list[Row]:
    segments = (row["segments"] or ()) if row else ()
    return [word for segment in segments for word in segment.get("words") or () if normal(word["word"])]
