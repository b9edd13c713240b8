"""How recordings are gathered into batches for the engine: in the order they come, across shards, within two limits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BatchLimit:
    """What one batch may hold. A recording longer than `seconds` is a batch of its own."""

    recordings: int
    seconds: float  # of audio


@dataclass(frozen=True, slots=True)
class Load:
    """What a batch holds so far; kept as two numbers so that a day costs no more per recording than an hour."""

    recordings: int = 0
    seconds: float = 0.0  # of audio

    def plus(self, seconds: float) -> Load:
        return Load(self.recordings + 1, self.seconds + seconds)


def fits(load: Load, seconds: float, limit: BatchLimit) -> bool:
    """Whether a recording of this length may join; anything may join an empty batch."""
    return load.recordings == 0 or (load.recordings < limit.recordings and load.seconds + seconds <= limit.seconds)


def is_full(load: Load, limit: BatchLimit) -> bool:
    """Whether not even the shortest recording would fit."""
    return load.recordings >= limit.recordings or load.seconds >= limit.seconds
