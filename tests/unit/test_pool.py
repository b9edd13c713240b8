"""Chunks waiting for the model: like lengths together, nobody for ever."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hpc.engines.whisperx.pool import Pool

lengths = st.lists(st.floats(0, 30), max_size=60)


@given(lengths=lengths, most=st.integers(1, 9))
def test_everything_comes_out_once_the_oldest_always_with_the_next_batch(lengths: list[float], most: int) -> None:
    pool: Pool[int] = Pool()
    for number, length in enumerate(lengths):
        pool.add(number, length)
    left = list(range(len(lengths)))
    while left:
        assert len(pool) == len(left)
        batch = pool.take(most)
        assert len(batch) == min(most, len(left))
        assert left[0] in batch
        assert [lengths[number] for number in batch] == sorted(lengths[number] for number in batch)
        left = [number for number in left if number not in batch]
    assert (len(pool), pool.take(most)) == (0, [])


@given(lengths=lengths, most=st.integers(1, 9))
def test_a_batch_is_a_stretch_of_the_sorted_lengths(lengths: list[float], most: int) -> None:
    pool: Pool[int] = Pool()
    for number, length in enumerate(lengths):
        pool.add(number, length)
    batch = pool.take(most)
    chosen = sorted(lengths[number] for number in batch)
    others = [length for number, length in enumerate(lengths) if number not in batch]
    assert not [length for length in others if chosen and chosen[0] < length < chosen[-1]]
