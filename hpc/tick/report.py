"""What a tick tells: what it saw, what it did, and why it did nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was done, or was not."""

    what: str
    about: str
    detail: str = ""


@dataclass(slots=True)
class Report:
    """What a tick saw, did, and why it did nothing."""

    saw: dict[str, Any] = field(default_factory=dict)
    did: list[Line] = field(default_factory=list)
    waits: list[Line] = field(default_factory=list)
    room: dict[str, Any] = field(default_factory=dict)  # what is staged, by which budget, and what the disks have left
    parts_left: dict[str, int] = field(default_factory=dict)  # published and not recorded, by what they are of
    parts_all: bool = True  # that was looked at of everything that is open

    def left(self, about: str, parts: int) -> None:
        """So many parts of this wait to be recorded; who looks again knows better."""
        self.parts_left.pop(about, None)
        if parts:
            self.parts_left[about] = parts

    def done(self, what: str, about: object, detail: str = "") -> None:
        self.did.append(Line(what, str(about), detail))

    def waiting(self, what: str, about: object, detail: str = "") -> None:
        self.waits.append(Line(what, str(about), detail))
