"""What is said to people: a title, plain text, and the same as fields; nothing in it can do harm on its way."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

LONGEST_TITLE = 120


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that is told of."""

    kind: str
    subject: str
    message: str
    fix: str = ""
    since: datetime | None = None
    over: datetime | None = None  # when it ended


@dataclass(frozen=True, slots=True)
class Message:
    """What a channel sends."""

    about: str  # alert, digest, test
    title: str
    text: str
    items: tuple[Item, ...] = ()
