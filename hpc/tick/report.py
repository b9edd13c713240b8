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

    def done(self, what: str, about: object, detail: str = "") -> None:
        self.did.append(Line(what, str(about), detail))

    def waiting(self, what: str, about: object, detail: str = "") -> None:
        self.waits.append(Line(what, str(about), detail))
