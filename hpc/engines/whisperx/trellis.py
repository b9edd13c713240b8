"""WhisperX's trellis and backtrack in NumPy: the same numbers to the last bit, in a fraction of the time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from whisperx import alignment


@dataclass(frozen=True, slots=True)
class Path:
    """The best way through a trellis: from frame `start` on, one token and one probability a frame."""

    start: int
    tokens: list[int]
    probabilities: list[float]


def get_trellis(emission: Any, tokens: list[int], blank_id: int = 0) -> Any:
    """`whisperx.alignment.get_trellis`; upstream's own does what its callers never ask of it."""
    if emission.dtype != torch.float32 or not tokens:
        return alignment.get_trellis(emission, tokens, blank_id)
    return torch.from_numpy(_filled(emission, tokens, blank_id))


def backtrack(trellis: Any, emission: Any, tokens: list[int], blank_id: int = 0) -> list[Any] | None:
    """`whisperx.alignment.backtrack`: the path's points in the order of time, or None if there is no path."""
    if not trellis.dtype == emission.dtype == torch.float32 or not tokens:
        points: list[Any] | None = alignment.backtrack(trellis, emission, tokens, blank_id)
        return points
    path = walk(trellis, emission, tokens, blank_id)
    if path is None:
        return None
    steps = zip(path.tokens, path.probabilities, strict=True)
    return [alignment.Point(token, time, score) for time, (token, score) in enumerate(steps, path.start)]


def _filled(emission: Any, tokens: list[int], blank_id: int) -> NDArray[np.float32]:
    frames, count = emission.shape[0], len(tokens)
    scores = emission.numpy()
    trellis = np.empty((frames + 1, count + 1), np.float32)
    trellis[0, 0] = 0
    trellis[1:, 0] = torch.cumsum(emission[:, blank_id], 0).numpy()  # NumPy adds up in another order
    trellis[0, -count:] = -np.inf
    trellis[-count:, 0] = np.inf
    stayed, changed = np.empty((2, count), np.float32)
    blanks, entered = scores[:, blank_id].tolist(), scores.take(tokens, axis=1)
    with np.errstate(invalid="ignore", over="ignore"):  # torch says nothing about inf - inf
        rows = zip(trellis[:-1, 1:], trellis[:-1, :-1], trellis[1:, 1:], strict=True)
        for (same, before, after), blank, token in zip(rows, blanks, entered, strict=True):
            np.add(same, blank, out=stayed)
            np.add(before, token, out=changed)
            np.maximum(stayed, changed, out=after)
    return trellis


def walk(trellis: Any, emission: Any, tokens: list[int], blank_id: int) -> Path | None:
    """Back from where the last token is likeliest to have ended, to where the first one began."""
    known, scores = trellis.numpy(), emission.numpy()
    end = int(torch.argmax(trellis[:, -1]))  # torch's choice among equals
    with np.errstate(invalid="ignore", over="ignore"):
        stayed = known[:end, 1:] + scores[:end, blank_id, None]
        changed = known[:end, :-1] + scores[:end].take(tokens, axis=1)
    width = len(tokens)
    moved = (changed > stayed).tobytes()
    column, reached, entered = width - 1, [], []
    for time in range(end - 1, -1, -1):
        step = moved[time * width + column]
        reached.append(column)
        entered.append(tokens[column] if step else blank_id)
        if step:
            column -= 1
            if column < 0:
                break
    else:
        return None
    reached.reverse()
    entered.reverse()
    chosen = emission[torch.arange(time, end), torch.tensor(entered)]
    return Path(time, reached, chosen.exp().tolist())
