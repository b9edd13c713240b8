"""The stream around the engine, with an engine in the test's hands: nothing is left behind, no shard ends too early."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pytest

from hpc.model import Audio, Recording, Result, Seal, Transcript, Unsealed
from hpc.stages.engine_process import EngineProcess
from hpc.stages.transcribe import Room, transcribe

NOTHING = Transcript(language=None, segments=())


class Obedient:
    """Answers what it holds at one kind of call only, all at once, and holds nothing from then on."""

    def __init__(self, moment: str) -> None:
        self._moment, self._pending, self._done = moment, list[Audio](), list[Result]()

    def _reached(self, moment: str) -> None:
        if moment == self._moment:
            self._done += [Result(audio.recording, NOTHING, audio.duration) for audio in self._pending]
            self._pending = []

    @property
    def held(self) -> int:
        return len(self._pending)

    @property
    def held_seconds(self) -> float:
        return sum(audio.duration for audio in self._pending)

    def submit(self, audio: Audio) -> None:
        self._pending.append(audio)
        self._reached("submit")

    def lull(self) -> None:
        self._reached("lull")

    def ready(self) -> list[Result]:
        self._reached("ready")
        done, self._done = self._done, []
        return done

    def wait(self, _: float = 0.0) -> list[Result]:
        self._reached("wait")
        return self.ready()

    def abandon(self) -> int:
        lost, self._pending = len(self._pending), []
        return lost


def items() -> Iterator[Audio | Seal | Unsealed]:
    for shard in (1, 2, 3):
        for ordinal in range(5):
            yield Audio(Recording(shard, ordinal, b"a.mp3", 1, bytes(32)), np.ones(16_000, np.int16))
        yield Unsealed(2, None) if shard == 2 else Seal(shard, bytes(32), 1, 5)


@pytest.mark.parametrize("moment", ["submit", "ready", "wait", "lull"])
@pytest.mark.parametrize("room", [Room(4, 100.0), Room(100, 3.0), Room(100, 100.0)])
def test_whenever_the_engine_answers_each_result_comes_once_and_before_its_shards_end(moment: str, room: Room) -> None:
    if moment == "lull" and room != Room(100, 100.0):
        moment = "wait"  # a full engine that answers to a lull alone would be asked for ever
    engine = Obedient(moment)
    out = list(transcribe(items(), cast(EngineProcess, engine), room))
    results: list[Any] = [item for item in out if isinstance(item, Result)]
    assert sorted((r.recording.shard_id, r.recording.ordinal) for r in results) == [
        (shard, ordinal) for shard in (1, 2, 3) for ordinal in range(5)
    ]
    ends = [item for item in out if not isinstance(item, Result)]
    assert sorted(end.shard_id for end in ends) == [1, 2, 3]
    for end in ends:
        assert all(r.recording.shard_id != end.shard_id for r in out[out.index(end) :] if isinstance(r, Result))
    assert engine.ready() == []
