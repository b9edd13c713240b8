"""What a source is told of its site: its name and place, the layout of names, the clock, the way that files come."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import date

from hpc.dates import MONTHS
from hpc.layout import KINDS, Layout
from hpc.route import Route
from hpc.slots import Clock

_OF_PLACES = re.compile(r"\{(site|date|year|month|monthname|day)\}")
_OF_SLOTS = re.compile(r"\{(slot|hour|minute|fold)\}")


@dataclass(frozen=True, slots=True)
class Origin:
    """A site, as sources see it."""

    site: str
    location: str  # a folder at the source; it may hold {site} {date} {year} {month} {monthname} {day}
    layout: Layout
    clock: Clock
    route: Route

    def folder(self, day: date) -> str:
        """The day's folder at the source."""
        base, below = _filled(self.location, self.site, day), self.layout.folder_of(self.site, day)
        return f"{base.rstrip('/')}/{below}" if below else base

    @property
    def root(self) -> str:
        """The folder that holds every day's folder."""
        fixed, *more = _OF_PLACES.split(self.location, maxsplit=1)
        return (fixed.rpartition("/")[0] or "/") if more else fixed

    def prefix(self, day: date) -> str:
        """What all names of the day's files begin with; loose files begin with anything."""
        if self.clock.minutes is None:
            return ""
        templates = [template for kind in KINDS for template in getattr(self.layout, kind)]
        begins = [_filled(_OF_SLOTS.split(one)[0], self.site, day) for one in templates]
        return os.path.commonprefix(begins)  # noqa: RUF071 - of names, not of paths


def _filled(template: str, site: str, day: date) -> str:
    """Only what is known as a field is one: a folder's name may hold braces."""
    values = {
        "site": site,
        "date": day.isoformat(),
        "year": f"{day.year:04}",
        "month": f"{day.month:02}",
        "monthname": MONTHS[day.month - 1],
        "day": f"{day.day:02}",
    }
    return _OF_PLACES.sub(lambda match: values[match[1]], template)
