"""Who is to blame when an engine's process dies, played through with a made-up process and known culprits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.states import FailureClass
from hpc.errors import EngineLost
from hpc.model import Failure
from hpc.stages.engine_trial import Trial


def play(count: int, poison: set[int], *, at_once: int, machine: int | None = None) -> tuple[list[int], int]:
    """Who is found guilty, and how often the process died: it takes `at_once` recordings at a time and dies of poison,
    or of anything after `machine` answers."""
    trial, pending, guilty, answered, deaths = Trial(), dict.fromkeys(range(count)), list[int](), 0, 0
    while pending:
        sent = list(trial.may_be_sent(pending))
        assert sent
        for first in range(0, len(sent), at_once):
            begun = sent[first : first + at_once]
            if poison & set(begun) or (machine is not None and answered >= machine):
                deaths += 1
                trial.died(sent[first:], begun, FailureClass.ENGINE_CRASH, "SIGABRT")
                break
            for ticket in begun:
                answered += 1
                del pending[ticket]
                trial.answered(ticket)
                guilty += settle(trial, pending)
        guilty += settle(trial, pending)
        assert deaths < 10 * count + 10
    return sorted(guilty), deaths


def settle(trial: Trial, pending: dict[int, None]) -> list[int]:
    believed = trial.believed(pending)
    assert all(isinstance(failure, Failure) for _, failure in believed)
    for ticket, _ in believed:
        del pending[ticket]
    return [ticket for ticket, _ in believed]


@given(count=st.integers(2, 30), poison=st.sets(st.integers(0, 29), max_size=4), at_once=st.integers(1, 8))
def test_exactly_the_poison_is_found_and_each_costs_at_most_two_processes(
    count: int, poison: set[int], at_once: int
) -> None:
    poison = {ticket for ticket in poison if ticket < count}
    try:
        found, deaths = play(count, poison, at_once=at_once)
    except EngineLost:  # poison only, or so much of it that nothing has lived yet
        assert len(poison) >= 3
        return
    assert found == sorted(poison)
    assert deaths <= 2 * len(poison)


def test_a_machine_that_fails_is_to_blame_and_no_recording() -> None:
    with pytest.raises(EngineLost, match="ended on 3 recordings one after the other: SIGABRT"):
        play(20, set(), at_once=4, machine=8)


def test_an_engine_that_never_answered_is_lost() -> None:
    with pytest.raises(EngineLost, match="never answered"):
        play(20, set(), at_once=4, machine=0)


def test_a_machine_that_fails_with_nobody_left_but_suspects_is_to_blame_all_the_same() -> None:
    with pytest.raises(EngineLost, match="ended on 3 recordings"):
        play(6, set(range(1, 6)), at_once=1)


def test_the_last_recording_of_all_can_be_guilty_with_nobody_left_to_vouch_for_the_machine() -> None:
    assert play(5, {4}, at_once=1) == ([4], 2)
    assert play(1, {0}, at_once=1) == ([0], 2)


def test_deaths_between_two_recordings_make_all_of_them_suspects_in_the_end() -> None:
    trial = Trial()
    for _ in range(3):
        assert list(trial.may_be_sent([1, 2])) == [1, 2]
        trial.died([1, 2], (), FailureClass.ENGINE_CRASH, "SIGKILL")
    assert list(trial.may_be_sent([1, 2])) == [1]
