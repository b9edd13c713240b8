"""Batches are filled in order, within two limits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hpc.stages.batching import BatchLimit, Load, fits, is_full

LIMIT = BatchLimit(recordings=3, seconds=60.0)


def test_anything_may_join_an_empty_batch() -> None:
    assert fits(Load(), 3600.0, LIMIT)


def test_a_recording_that_would_pass_the_seconds_waits_for_the_next_batch() -> None:
    assert fits(Load(1, 40.0), 20.0, LIMIT)
    assert not fits(Load(1, 40.0), 20.1, LIMIT)


def test_a_batch_is_full_by_number_or_by_seconds() -> None:
    assert is_full(Load(3, 1.0), LIMIT)
    assert is_full(Load(1, 60.0), LIMIT)
    assert not is_full(Load(2, 59.9), LIMIT)


@given(st.lists(st.floats(0, 200), max_size=40), st.integers(1, 9), st.floats(1, 300))
def test_a_batch_filled_by_these_rules_never_passes_its_limits_unless_one_recording_does(
    lengths: list[float], recordings: int, seconds: float
) -> None:
    limit, load, batches = BatchLimit(recordings, seconds), Load(), []
    for length in lengths:
        if not fits(load, length, limit):
            batches.append(load)
            load = Load()
        load = load.plus(length)
        if is_full(load, limit):
            batches.append(load)
            load = Load()
    batches.append(load)
    assert sum(batch.recordings for batch in batches) == len(lengths)
    assert all(batch.recordings <= recordings for batch in batches)
    assert all(batch.seconds <= seconds for batch in batches if batch.recordings > 1)
