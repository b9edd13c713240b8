"""WhisperX's sentences and words with their times, in plain Python: for regular segments, equal to the last digit.

`whisperx.align` makes several tables for each sentence, which takes longer than everything else it does without a
GPU. Here is what those tables come to when nothing unusual happens. Whatever is unusual is left to WhisperX.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from whisperx.alignment import LANGUAGES_WITHOUT_SPACES, PUNKT_LANGUAGES

from hpc.engines.whisperx.aligning import splitter
from hpc.engines.whisperx.trellis import Path, get_trellis, walk

Span = tuple[int, int]


@dataclass(frozen=True)
class Timed:
    """The times and scores of a text's characters, by position; None for a character that has none."""

    starts: list[float | None]
    ends: list[float | None]
    scores: list[float | None]


def place(segment: Mapping[str, Any], emission: Any, description: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """What `whisperx.align` gives for this one segment, or None if it must be asked."""
    text, language = segment["text"], description["language"]
    if language in LANGUAGES_WITHOUT_SPACES or not _is_plain(segment) or not len(emission):
        return None
    letters = _letters(text, description["dictionary"])
    if not letters:
        return None
    path = _path(list(letters.values()), emission, description["dictionary"])
    if path is None:
        return None
    timed = _timed(text, list(letters), path, segment, len(emission))
    resource = f"tokenizers/punkt_tab/{PUNKT_LANGUAGES.get(language, 'english')}.pickle"
    sentences = [_sentence(text, timed, span) for span in splitter(resource).span_tokenize(text)]
    whole = [sentence for sentence in sentences if sentence is not None]
    if len(whole) < len(sentences) or not _in_order(whole):
        return None
    logprob = segment.get("avg_logprob")
    return [sentence if logprob is None else sentence | {"avg_logprob": logprob} for sentence in whole]


def _is_plain(segment: Mapping[str, Any]) -> bool:
    start, end, logprob, text = segment["start"], segment["end"], segment.get("avg_logprob"), segment["text"]
    numbers = [start, end, 0.0 if logprob is None else logprob]
    return (
        all(isinstance(number, float) and math.isfinite(number) for number in numbers)
        and 0 <= start < end
        and not any("\ud800" <= letter <= "\udfff" for letter in text)  # no table of text can hold these
    )


def _letters(text: str, dictionary: Mapping[str, int]) -> dict[int, str]:
    """What is to be placed, by its position: not the spaces around the text, nor any if the aligner knows none."""
    first, last = len(text) - len(text.lstrip()), len(text.rstrip())
    letters = {at: letter.lower().replace(" ", "|") for at, letter in enumerate(text[first:last], first)}
    if any(len(letter) != 1 for letter in letters.values()):
        return {}  # İ is two letters in lower case, and WhisperX then counts wrongly
    return {at: letter for at, letter in letters.items() if letter != "|" or letter in dictionary}


def _path(letters: Sequence[str], emission: Any, dictionary: Mapping[str, int]) -> Path | None:
    blank = 0
    for letter, code in dictionary.items():
        if letter in ("[pad]", "<pad>"):
            blank = code  # the last one, as in WhisperX
    unknown = emission.shape[1]
    tokens = [dictionary.get(letter, unknown) for letter in letters]
    if unknown in tokens:  # a column of its own: the best of all letters, frame by frame
        best = torch.cat((emission[:, :blank], emission[:, blank + 1 :]), dim=1).max(dim=1).values
        emission = torch.cat((emission, best[:, None]), dim=1)
    return walk(get_trellis(emission, tokens, blank), emission, tokens, blank)


def _timed(text: str, positions: Sequence[int], path: Path, segment: Mapping[str, Any], frames: int) -> Timed:
    start, end = segment["start"], segment["end"]
    ratio = (end - start) / frames
    timed = Timed([None] * len(text), [None] * len(text), [None] * len(text))
    for at, (first, last, score) in zip(positions, _runs(path), strict=True):
        timed.starts[at] = round(first * ratio + start, 3)
        timed.ends[at] = round(last * ratio + start, 3)
        timed.scores[at] = round(score, 3)
    return timed


def _runs(path: Path) -> Iterator[tuple[int, int, float]]:
    """Each token's first frame, the one after its last, and its mean probability."""
    tokens, first, count = path.tokens, 0, len(path.tokens)
    while first < count:
        last = first + 1
        while last < count and tokens[last] == tokens[first]:
            last += 1
        yield path.start + first, path.start + last, sum(path.probabilities[first:last]) / (last - first)
        first = last


def _sentence(text: str, timed: Timed, span: Span) -> dict[str, Any] | None:
    """The sentence, or None if it has a word without times."""
    first, last = span[0], min(span[1] + 1, len(text))  # WhisperX includes the character after a sentence
    words = []
    for begin, after in _pieces(text, first, last):
        word = text[begin:after].strip()
        if word:
            begun = begin + (text[begin] == " ")
            if None in timed.starts[begun:after]:
                return None
            score = _mean(timed.scores[begun:after])
            words.append({"word": word, "start": timed.starts[begun], "end": timed.ends[after - 1], "score": score})
    starts = (start for start in timed.starts[first:last] if start is not None)
    backwards = range(last - 1, first - 1, -1)
    ends = (timed.ends[at] for at in backwards if text[at] != " " and timed.ends[at] is not None)
    start, end = next(starts, None), next(ends, None)
    if not words or start is None or end is None or any(word["score"] is None for word in words):
        return None
    return {"text": text[slice(*span)], "start": start, "end": end, "words": words}


def _pieces(text: str, first: int, last: int) -> Iterator[Span]:
    """WhisperX's words: a space belongs to the word after it."""
    while first < last:
        end = text.find(" ", first + 1, last)
        end = last if end < 0 else end
        yield first, end
        first = end


def _mean(scores: Sequence[Any]) -> float | None:
    """pandas' mean, rounded as NumPy rounds; None for what is not a number."""
    total = 0.0
    if len(scores) < 8:
        for score in scores:
            total += score
    else:
        total = float(np.add.reduce(np.array(scores)))  # from eight numbers on it adds up in pairs
    mean = total / len(scores)
    return round(mean * 1000) / 1000 if math.isfinite(mean) else None


def _in_order(sentences: Sequence[Mapping[str, Any]]) -> bool:
    """WhisperX sorts sentences by time, and joins those that have the same."""
    starts = [sentence["start"] for sentence in sentences]
    return bool(starts) and all(before < after for before, after in pairwise(starts))
