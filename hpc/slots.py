"""The slot clock of a site: which slots a day has, and at which instant each begins.

A slot begins whenever the site's clock shows a time of its grid, and lasts until the next one begins. So the slots of
all days, in order, cover the time line without a gap or an overlap, whatever the clock does:

- an hour that the clock skips has no slots; a date that it skips (Pacific/Apia, 2011-12-30) has none at all;
- an hour that it repeats has them twice, the second time with a "b" after the label;
- where it goes back over midnight (from 00:01 to 23:01, St. John's until 2011) the new date begins when midnight comes
  for good, so that no slot of the old day comes after one of the new.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Literal
from zoneinfo import ZoneInfo

from hpc.errors import BadSetting

LABEL = re.compile(r"([01][0-9]|2[0-3])_([0-5][0-9])(b?)")  # hour, minute, second pass
REPEAT = "b"
DAY = 24 * 60  # minutes
Reading = Literal["local", "utc"]


@dataclass(frozen=True, slots=True)
class Slot:
    """A position in a day."""

    label: str  # "HH_MM"; the second pass of a time that the clock repeats: "HH_MMb"
    begins: datetime  # aware, UTC


@dataclass(frozen=True, slots=True)
class Clock:
    """How a site's files tell the time. A time zone nobody knows, or an impossible grid, raises BadSetting.

    Days are within hpc.dates.YEARS; with reading "utc" a day is the date in UTC.
    """

    time_zone: str  # IANA: "Europe/Zurich"
    minutes: int | None = 10  # from one slot to the next; None: the site has no slots
    reading: Reading = "local"  # the clock that dates and labels are read from

    def __post_init__(self) -> None:
        _zone(self.time_zone)
        if self.minutes is not None and not 1 <= self.minutes <= DAY:
            raise BadSetting(f"A slot lasts from 1 to {DAY} minutes, not {self.minutes}.")
        if self.reading not in ("local", "utc"):
            raise BadSetting(f"A slot clock is read as 'local' or 'utc', not as {self.reading!r}.")

    def grid(self, day: date) -> tuple[Slot, ...]:
        """The day's slots in the order of time; none without a grid."""
        starts = self.starts(day)
        found = (Slot(_label(minute, number), begins) for minute, number, begins in self._shown(day))
        return tuple(sorted((slot for slot in found if slot.begins >= starts), key=lambda slot: slot.begins))

    def begins(self, day: date, label: str) -> datetime | None:
        """When the clock shows this label, on the grid or off it; None: malformed, or a time it never shows."""
        if not (match := LABEL.fullmatch(label)):
            return None
        passes = self._passes(day, int(match[1]) * 60 + int(match[2]))
        number = 1 if match[3] else 0
        return passes[number] if number < len(passes) else None

    def skipped(self, day: date) -> tuple[str, ...]:
        """The labels of the grid that the clock never shows on this day."""
        return tuple(_label(minute) for minute in self._minutes() if not self._passes(day, minute))

    def repeated(self, day: date) -> tuple[str, ...]:
        """The labels of the grid that the clock shows twice on this day, without the "b"."""
        return tuple(_label(minute) for minute in self._minutes() if len(self._passes(day, minute)) > 1)

    def says(self, day: date) -> str | None:
        """A sentence for a person when the day has not 24 hours; None else."""
        lasts = self.starts(day + timedelta(days=1)) - self.starts(day)
        if lasts == timedelta(days=1):
            return None
        if not lasts:
            return "The clocks skip this date" + (": no slots." if self.minutes else ".")
        if lasts > timedelta(days=1):
            what, labels, verbs = "The clocks go back", self.repeated(day), ("happens twice", "happen twice")
        else:
            what, labels, verbs = "The clocks go forward", self.skipped(day), ("never comes", "never come")
        changed = _stretch(labels, *verbs) if labels else f"the day has {lasts / timedelta(hours=1):g} hours"
        if self.minutes is None:
            return f"{what}: {changed}."
        number = len(self.grid(day))
        return f"{what}: {changed}, {number or 'no'} slot{'' if number == 1 else 's'}."

    def starts(self, day: date) -> datetime:
        """The instant from which on the clock shows this day, or a later one: where the day before ends."""
        passes = self._passes(day, 0)
        if not passes:
            return self._jump(day)
        first, last = passes[0], passes[-1]
        # Midnight comes twice either because the clock goes back to it, or because it goes back over it.
        return last if self._shows(last - timedelta(microseconds=1)) < day else first

    def _jump(self, day: date) -> datetime:
        """The instant at which the clock jumps over this day's midnight."""
        midnight = datetime.combine(day, time(), _zone(self.time_zone))
        earliest = _instant(midnight.replace(fold=1))  # by the offset after the jump
        seconds = range(int((_instant(midnight) - earliest).total_seconds()) + 1)
        after = bisect_left(seconds, True, key=lambda n: self._shows(earliest + timedelta(seconds=n)) >= day)
        return earliest + timedelta(seconds=after)

    def _shows(self, instant: datetime) -> date:
        return instant.astimezone(_zone(self.time_zone) if self.reading == "local" else UTC).date()

    def _minutes(self) -> range:
        """The grid's times, in minutes from midnight by the clock on the wall."""
        return range(0, DAY, self.minutes) if self.minutes else range(0)

    def _shown(self, day: date) -> list[tuple[int, int, datetime]]:
        """The minute, the pass (0 or 1) and the instant of every grid time that the clock shows on this day."""
        return [
            (minute, number, begins)
            for minute in self._minutes()
            for number, begins in enumerate(self._passes(day, minute))
        ]

    def _passes(self, day: date, minute: int) -> tuple[datetime, ...]:
        """When the clock shows this minute of the day: once; where it jumps never, where it repeats twice."""
        wall = datetime.combine(day, time(minute // 60, minute % 60), UTC)
        if self.reading == "utc":
            return (wall,)
        local = wall.replace(tzinfo=_zone(self.time_zone))
        before, after = local.utcoffset(), local.replace(fold=1).utcoffset()
        assert before is not None and after is not None
        # PEP 495: the two differ only beside a change, where `before` is the offset that was and `after` the new one.
        if before == after:
            return (wall - before,)
        return (wall - before, wall - after) if before > after else ()


def _instant(local: datetime) -> datetime:
    return local.astimezone(UTC)


@cache
def _label(minute: int, number: int = 0) -> str:
    return f"{minute // 60:02}_{minute % 60:02}{REPEAT * number}"


def _stretch(labels: tuple[str, ...], one: str, many: str) -> str:
    return f"{labels[0]} {one}" if len(labels) == 1 else f"{labels[0]} to {labels[-1]} {many}"


def _zone(name: str) -> ZoneInfo:
    """The zone's rules from the system or from the package tzdata; ZoneInfo itself keeps those in use."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # not found; not a key ("../x", NUL); a folder of zones ("Europe")
        raise BadSetting(
            f"{name!r} is not a time zone that this machine knows; write an IANA name such as Europe/Zurich or UTC. "
            "If it is one, the system package tzdata is missing here."
        ) from None
