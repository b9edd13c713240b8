"""Chunks that wait for the model. Batches are of like length, because a batch lasts as long as its longest item."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T")


class Pool(Generic[T]):
    """What came first is always in the next batch, with those nearest to it in length: nothing waits for ever."""

    def __init__(self) -> None:
        self._sorted: list[tuple[float, int]] = []  # (length, number)
        self._waiting: dict[int, tuple[float, T]] = {}
        self._oldest: deque[int] = deque()  # numbers in the order they came; some are gone already
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, item: T, length: float) -> None:
        """`length` in any unit that grows with the work."""
        number = next(self._numbers)
        self._waiting[number] = length, item
        self._oldest.append(number)
        insort(self._sorted, (length, number))

    def take(self, most: int) -> list[T]:
        """At most so many, the shortest first."""
        while self._oldest and self._oldest[0] not in self._waiting:
            self._oldest.popleft()
        if not self._oldest:
            return []
        number = self._oldest[0]
        at = bisect_left(self._sorted, (self._waiting[number][0], number))
        first = max(0, min(at - most // 2, len(self._sorted) - most))
        chosen = self._sorted[first : first + most]
        del self._sorted[first : first + most]
        return [self._waiting.pop(number)[1] for _, number in chosen]
