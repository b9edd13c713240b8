"""A listing is never in memory whole, however long it is."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from db import days, listings, sites
from hpc.layout import Layout
from hpc.model import RemoteFile
from hpc.origin import Origin
from hpc.route import Route
from hpc.slots import Clock
from hpc.stages.listing import take_listing

ON = date(2025, 1, 31)


class Long:
    """A source of so many loose files, made while they are asked for."""

    def __init__(self, count: int) -> None:
        self.count = count

    def days(self) -> list[date]:
        return [ON]

    def listing(self, day: date) -> Iterator[RemoteFile]:
        return (RemoteFile(f"{day}/clip-{number:08}.mp3", 1000) for number in range(self.count))


def peak(dock: Any, name: str, count: int) -> int:
    """Bytes that Python held at once while a listing of so many files was taken in."""
    site = sites.put(dock.connection, name, location="/far", slot_minutes=None, route={"how": "copy"})
    days.add(dock.connection, site.id, [ON])
    day = days.get(dock.connection, name, ON)
    origin = Origin(name, "/far", Layout(), Clock("UTC", None), Route(how="copy"))
    tracemalloc.start()
    taken = take_listing(dock.session, day, origin, Long(count), Path("/here"))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken.listed == count == listings.gaps(dock.connection, day.id)[0]["expected"]
    return most


def test_a_listing_four_times_as_long_takes_no_more_memory(dock: Any) -> None:
    peak(dock, "warm", 10)
    short, long = peak(dock, "short", 3 * listings.PAGE), peak(dock, "long", 12 * listings.PAGE)
    assert long < 1.2 * short
