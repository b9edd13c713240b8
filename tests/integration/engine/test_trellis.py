"""The trellis in NumPy against WhisperX's own: every number, every tie and every failure."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.speech
torch = pytest.importorskip("torch")

from whisperx import alignment  # noqa: E402

from hpc.engines.whisperx import trellis  # noqa: E402

NUMBERS = st.sampled_from([0.0, -0.5, -1.0, -1.5, -3.25, -20.0])  # few, so that many ways are equally good
ODD = st.one_of(NUMBERS, st.sampled_from([math.nan, -math.inf, math.inf]))


@st.composite
def emission_and_tokens(draw: st.DrawFn) -> tuple[Any, list[int], int]:
    letters, frames = draw(st.integers(2, 6)), draw(st.integers(1, 24))
    kind = draw(st.sampled_from(["ties", "odd", "random"]))
    if kind == "random":
        scores = torch.randn(frames, letters, generator=torch.Generator().manual_seed(draw(st.integers(0, 2**31))))
        scores = torch.log_softmax(scores * draw(st.sampled_from([0.1, 1, 10, 200])), dim=-1)
    else:
        row = st.lists(NUMBERS if kind == "ties" else ODD, min_size=letters, max_size=letters)
        scores = torch.tensor(draw(st.lists(row, min_size=frames, max_size=frames)))
    tokens = draw(st.lists(st.integers(0, letters - 1), min_size=1, max_size=28))
    return scores, tokens, draw(st.integers(0, letters - 1))


def bits(numbers: Any) -> bytes:
    """Every number to the last bit; all that are none are one."""
    values = numbers.numpy().copy()
    values[np.isnan(values)] = np.nan
    return bytes(values.tobytes())


@settings(deadline=None, max_examples=500)
@given(emission_and_tokens())
def test_the_trellis_and_the_way_back_are_whisperxs_to_the_last_bit(case: tuple[Any, list[int], int]) -> None:
    emission, tokens, blank = case
    theirs = alignment.get_trellis(emission, tokens, blank)
    ours = trellis.get_trellis(emission, tokens, blank)
    assert bits(ours) == bits(theirs)
    assert repr(trellis.backtrack(ours, emission, tokens, blank)) == repr(
        alignment.backtrack(theirs, emission, tokens, blank)
    )


@pytest.mark.parametrize(("frames", "count"), [(1499, 340), (200, 340), (640, 1)])
def test_a_whole_chunk_goes_the_same_way(frames: int, count: int) -> None:
    noise = torch.Generator().manual_seed(frames)
    emission = torch.log_softmax(torch.randn(frames, 32, generator=noise) * 4, dim=-1)
    tokens = torch.randint(1, 32, (count,), generator=noise).tolist()
    theirs = alignment.get_trellis(emission, tokens)
    assert bits(trellis.get_trellis(emission, tokens)) == bits(theirs)
    path = alignment.backtrack(theirs, emission, tokens)
    assert trellis.backtrack(theirs, emission, tokens) == path
    assert (path is None) == (count > frames)


def test_other_precisions_are_left_to_whisperx() -> None:
    emission = torch.log_softmax(torch.randn(30, 5, generator=torch.Generator().manual_seed(1)).double(), dim=-1)
    theirs = alignment.get_trellis(emission, [1, 2, 3])
    assert torch.equal(trellis.get_trellis(emission, [1, 2, 3]), theirs)
    assert trellis.backtrack(theirs, emission, [1, 2, 3]) == alignment.backtrack(theirs, emission, [1, 2, 3])
