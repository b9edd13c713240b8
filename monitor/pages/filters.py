"""How templates write numbers, times, states and texts of unknown origin."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from db.printable import printable
from db.states import DayState


class Look(NamedTuple):
    """How a state is shown besides its colour, which not everybody sees."""

    mark: str
    words: str


STATES = {
    DayState.PENDING: Look("·", "waits to be fetched"),
    DayState.TRANSFERRING: Look("↓", "its audio is on its way"),
    DayState.TRANSFER_FAILED: Look("✗", "not all of its audio came"),
    DayState.READY_TO_PROCESS: Look("○", "queued: its audio is here, nobody works on it yet"),
    DayState.PROCESSING: Look("◐", "being transcribed"),
    DayState.PROCESSING_FAILED: Look("✗", "its transcription failed"),
    DayState.COMPLETED: Look("✓", "all of it is transcribed"),
    DayState.COMPLETED_WITH_ERRORS: Look("!", "finished; some of it could not be transcribed"),
    DayState.HELD: Look("‖", "held by a person"),
}


def count(value: float | None) -> str:
    """A number with its thousands apart: 201 344."""
    return "–" if value is None else f"{value:,.0f}".replace(",", "\u202f")


def decimal(value: float | None, places: int = 1) -> str:
    """A number with that many decimals."""
    return "–" if value is None or not math.isfinite(value) else f"{value:,.{places}f}".replace(",", "\u202f")


def percent(part: float | None, whole: float | None) -> str:
    """How much of the whole a part is; never 100 % while something is missing, never 0 % when something is there."""
    if part is None or not whole:
        return "–"
    share = 100 * part / whole
    if part < whole and share > 99.9:
        return "99.9\u202f%"
    return "0.1\u202f%" if part > 0 and share < 0.1 else f"{share:.1f}".removesuffix(".0") + "\u202f%"


def duration(seconds: float | None) -> str:
    """A length of time in its two greatest units: 3 h 12 min."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    if seconds < 60:
        return f"{seconds:.0f}\u202fs"
    units = [("d", 86400), ("h", 3600), ("min", 60), ("s", 1)]
    left, said = round(seconds), []
    for unit, size in units:
        number, left = divmod(left, size)
        said.append((number, unit))
    first = next(place for place, (number, _) in enumerate(said) if number)
    return " ".join(f"{number}\u202f{unit}" for number, unit in said[first : first + 2] if number)


def clock(seconds: float | None) -> str:
    """A place in a recording: 1:02:03.4."""
    if seconds is None:
        return "–"
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    text = f"{minutes:02d}:{rest // 10:02d}.{rest % 10}"
    return f"{hours}:{text}" if hours else text


def size(value: float | None) -> str:
    """Bytes, in the unit that fits."""
    if value is None:
        return "–"
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f}\u202f{unit}" if unit == "B" else f"{value:.1f}\u202f{unit}"
        value /= 1000
    return f"{value:.1f}\u202fTB"


def when(value: datetime | None) -> str:
    """A moment, in UTC: the cluster, the site and the reader may each have a clock of their own."""
    return "–" if value is None else value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def state(value: str) -> str:
    """A state as its users write it, in words that a page may break."""
    return value.replace("_", " ")


def shown(value: object) -> str:
    """A text from outside, in which nothing can reorder, hide or break what stands around it."""
    return printable(str(value))


def shown_lines(value: object) -> str:
    """The same of a text whose line ends are meant."""
    return printable(str(value), lines=True)


def counted(value: object) -> str:
    """A witness' word, or its words with how often each was said: 3 done, 1 stopped."""
    if isinstance(value, Mapping):
        return ", ".join(f"{number} {word}" for word, number in sorted(value.items())) or "–"
    return "–" if value is None else str(value)


FILTERS: dict[str, Callable[..., Any]] = {
    "count": count, "decimal": decimal, "percent": percent, "duration": duration, "clock": clock, "size": size,
    "when": when, "state": state, "counted": counted, "shown": shown, "shown_lines": shown_lines,
}  # fmt: skip
