"""Files to another collection by a mover whose tasks go on without us: asked under an id that is remembered first,
followed, and then looked at in the destination, since a task that succeeded is only its mover's opinion."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from db import faults
from db.states import MOVING, TransferState
from hpc.errors import InFlight, Interrupted, NotVerified
from hpc.model import Checksum, Move, Progress
from hpc.parcel import Packed, Slip
from hpc.ports import Mover

Sizes = Callable[[Sequence[str]], Mapping[str, int]]  # paths below the target → sizes of those that are there


@dataclass(slots=True)
class CarriedSender:
    """`Sender` by a `Mover`."""

    mover: Mover
    sizes: Sizes
    wait: bool  # follow a task to its end; else ask once and leave (law 5)
    deadline: timedelta = timedelta(hours=24)
    pause: Callable[[], None] = lambda: time.sleep(10)
    stop: Callable[[], bool] = lambda: False
    _told: dict[str, Checksum] = field(default_factory=dict)

    def withdraw(self, root: Path, manifest: Packed) -> bool:  # noqa: ARG002
        """A mover takes nothing away; the manifest is replaced last."""
        return False

    def send(self, root: Path, files: Sequence[Packed], slip: Slip, advance: Callable[[int], None]) -> None:  # noqa: ARG002
        """One task for all of them; a task that was asked for before is gone on with."""
        if slip.task is None:
            if slip.submission is None:
                slip.submission = self.mover.new_submission()
                slip.note(slip.step, slip.submission, None)
            faults.point("deliver.intended")
            until = datetime.now(UTC) + self.deadline
            move = Move(slip.submission, slip.label, tuple((file.path, file.path) for file in files), until)
            slip.task = self.mover.submit(move)
            slip.note(slip.step, slip.submission, slip.task)
            faults.point("deliver.submitted")
        self._follow(slip, advance)
        self._told |= self.mover.checksums(slip.task)
        slip.submission = slip.task = None

    def _follow(self, slip: Slip, advance: Callable[[int], None]) -> None:
        assert slip.task is not None
        moved = 0
        while True:
            said = self.mover.look(slip.task)
            slip.polled()
            advance(said.bytes - moved)
            moved = said.bytes
            if said.state not in MOVING:
                break
            if not self.wait:
                raise InFlight(f"Task {slip.task} is on its way ({_word(said)}); it is looked at again later.")
            if self.stop():
                raise Interrupted
            self.pause()
        if said.state is not TransferState.SUCCEEDED:
            task, slip.task, slip.submission = slip.task, None, None
            slip.note(slip.step, None, None)  # the next try is another task
            raise NotVerified(
                f"Task {task} ended otherwise than it should ({_word(said)}); run the same command again."
            )

    def differing(self, root: Path, files: Sequence[Packed]) -> list[str]:
        """By the sizes that the destination lists, and the checksums that the mover told of what it moved."""
        there = self.sizes([file.path for file in files])
        return [file.path for file in files if there.get(file.path) != file.size or not self._same(root, file)]

    def confirm(self, manifest: Packed) -> None:
        """A collection runs nothing."""

    def _same(self, root: Path, file: Packed) -> bool:
        told = self._told.get(file.path)
        if told is None:
            return True
        if told.algorithm == "sha256":
            return told.value == file.sha256
        with (root / file.path).open("rb") as data:
            return hashlib.file_digest(data, told.algorithm).hexdigest() == told.value


def _word(said: Progress) -> str:
    return f"{said.state}: {said.message}" if said.message else said.state.value
