"""How many tasks for how long: from the work at hand and the speed that was measured. Pure functions."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hpc.sections import SlurmSettings

ROUND = 5  # minutes: limits of a kind look alike to the scheduler, and a person
RESERVE = 1.5  # of the time that the measured speed promises
LOAD_SECONDS = 300.0  # until a model is loaded, where nothing was measured


@dataclass(frozen=True, slots=True)
class Speed:
    """What tasks of a site got through: bytes of archives a second, with the model loaded; None: not measured."""

    bytes_per_second: float | None
    load_seconds: float = LOAD_SECONDS


@dataclass(frozen=True, slots=True)
class Size:
    """A job's size, and why."""

    tasks: int
    minutes: int
    why: str


def size(wanted: SlurmSettings, *, shards: int, byte_count: int, speed: Speed, room: int) -> Size:
    """Tasks and time limit for so many shards. `room`: how many more tasks of the site may wait or run (1 or more)."""
    most = max(1, min(shards, wanted.tasks_per_day, wanted.max_array, room))
    if speed.bytes_per_second is None:
        tasks = min(most, wanted.first_tasks)
        return Size(tasks, wanted.minutes_most, f"{shards} shards, no speed measured yet")
    seconds = byte_count / speed.bytes_per_second
    tasks = max(1, min(most, math.ceil(seconds / (wanted.task_minutes * 60))))
    # All tasks of a day draw from one pot, but the last to start must not find that its time is too short.
    rounds = math.ceil(tasks / wanted.at_once)
    each = speed.load_seconds + RESERVE * seconds / tasks * (1 if rounds == 1 else RESERVE)
    minutes = ROUND * math.ceil(each / 60 / ROUND)
    minutes = min(max(minutes, wanted.minutes_least), wanted.minutes_most)
    return Size(tasks, minutes, f"{shards} shards, about {seconds / 60:.0f} minutes of one task at measured speed")
