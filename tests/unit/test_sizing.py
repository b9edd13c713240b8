"""How many tasks for how long: bounded by every limit, and more work never gets less."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc.sections import SlurmSettings
from hpc.tick.sizing import ROUND, Size, Speed, size

MB = 1_000_000
WANTED = SlurmSettings()
COUNTS = st.integers(1, 50)
SETTINGS = st.builds(
    lambda least, more, **rest: SlurmSettings(minutes_least=least, minutes_most=least + more, **rest),
    st.integers(1, 200),
    st.integers(0, 2000),
    task_minutes=st.integers(1, 500),
    first_tasks=COUNTS,
    tasks_per_day=COUNTS,
    at_once=COUNTS,
    max_array=COUNTS,
)
SPEEDS = st.builds(Speed, st.none() | st.floats(1.0, 1e9), st.floats(0, 3000))
BYTES = st.integers(0, 10**13)


def one(
    wanted: SlurmSettings = WANTED, *, shards: int = 100, minutes: float, room: int = 64, load: float = 300
) -> Size:
    """For so many minutes of one task's work, at one MB a second."""
    return size(wanted, shards=shards, byte_count=round(minutes * 60 * MB), speed=Speed(MB, load), room=room)


@given(SETTINGS, st.integers(1, 300), BYTES, SPEEDS, st.integers(1, 80))
def test_a_job_keeps_within_every_limit(
    wanted: SlurmSettings, shards: int, byte_count: int, speed: Speed, room: int
) -> None:
    found = size(wanted, shards=shards, byte_count=byte_count, speed=speed, room=room)

    assert 1 <= found.tasks <= min(shards, room, wanted.tasks_per_day, wanted.max_array)
    assert wanted.minutes_least <= found.minutes <= wanted.minutes_most
    assert found.minutes % ROUND == 0 or found.minutes in (wanted.minutes_least, wanted.minutes_most)


@given(SETTINGS, st.integers(1, 300), st.tuples(BYTES, BYTES), SPEEDS, st.integers(1, 80))
def test_more_bytes_never_get_fewer_tasks_and_as_many_tasks_never_less_time(
    wanted: SlurmSettings, shards: int, counts: tuple[int, int], speed: Speed, room: int
) -> None:
    few, many = (size(wanted, shards=shards, byte_count=one, speed=speed, room=room) for one in sorted(counts))

    assert many.tasks >= few.tasks
    assert many.tasks > few.tasks or many.minutes >= few.minutes


@given(SETTINGS, st.integers(1, 300), BYTES, st.floats(1.0, 1e9), st.integers(1, 80))
def test_the_time_of_a_measured_job_is_enough_for_its_share_or_all_that_there_is(
    wanted: SlurmSettings, shards: int, byte_count: int, measured: float, room: int
) -> None:
    found = size(wanted, shards=shards, byte_count=byte_count, speed=Speed(measured), room=room)
    share = byte_count / measured / found.tasks

    assert found.minutes * 60 >= 300 + share or found.minutes == wanted.minutes_most


@pytest.mark.parametrize(
    ("minutes", "tasks", "limit"),
    [
        (0, 1, 15),  # as short as it may be
        (20, 1, 35),  # 5 to load, 30 for 20
        (60, 1, 95),
        (61, 2, 55),  # 5 + 45.75
        (240, 4, 95),
        (241, 5, 115),  # not all at once: 5 + 1.5 * 1.5 * 48.2
        (960, 16, 140),
        (9600, 16, 240),  # as long as it may be
    ],
)
def test_tasks_and_minutes_follow_from_the_measured_speed(minutes: float, tasks: int, limit: int) -> None:
    found = one(minutes=minutes)

    assert (found.tasks, found.minutes) == (tasks, limit)
    assert found.why == f"100 shards, about {minutes} minutes of one task at measured speed"


@pytest.mark.parametrize(
    ("settings", "shards", "room", "tasks"),
    [
        ({}, 3, 64, 3),
        ({}, 100, 2, 2),
        ({}, 100, 0, 1),
        ({"tasks_per_day": 7}, 100, 64, 7),
        ({"max_array": 6}, 100, 64, 6),
    ],
)
def test_the_narrowest_limit_counts(settings: dict[str, int], shards: int, room: int, tasks: int) -> None:
    assert one(SlurmSettings(**settings), minutes=6000, shards=shards, room=room).tasks == tasks


@pytest.mark.parametrize(("shards", "room", "tasks"), [(100, 64, 4), (2, 64, 2), (100, 1, 1)])
def test_without_a_measured_speed_a_few_tasks_get_all_the_time(shards: int, room: int, tasks: int) -> None:
    found = size(WANTED, shards=shards, byte_count=10**12, speed=Speed(None), room=room)

    assert found == Size(tasks, 240, f"{shards} shards, no speed measured yet")


def test_the_time_that_a_model_takes_to_load_is_added() -> None:
    assert (one(minutes=20, load=0).minutes, one(minutes=20, load=1200).minutes) == (30, 50)
