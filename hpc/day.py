"""What a day should have, where its files are at hand: a listing becomes slots and shards; one that grew raises its
revision. Days whose files have to be moved first are the porter's (hpc/tick/porter.py)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from os import fsdecode
from pathlib import Path

from db import days
from db.days import Day
from db.session import Session
from db.sites import Site
from db.states import DayState
from hpc.errors import SourceMissing
from hpc.origin import Origin
from hpc.ports import Source
from hpc.stages.arrival import join_metadata, open_shards
from hpc.stages.listing import take_listing


@dataclass(frozen=True, slots=True)
class Registered:
    """What registering a listing changed."""

    day: Day
    new_shards: int
    metadata_rows: int  # rows the day has now; 0 when no companion was new
    changed: tuple[str, ...]  # archives whose size is not what it was when they were listed first


def register(
    session: Session, site: Site, on: date, *, origin: Origin, source: Source, staged: Path, max_attempts: int
) -> Registered:
    """List the day at its source and write what it shows; a second time it adds only what is new."""
    session(days.add, site.id, [on])
    day = session(days.get, site.name, on)
    taken = take_listing(session, day, origin, source, staged)
    added = open_shards(session, day.id, revision=taken.revision, max_attempts=max_attempts)
    counted = session(days.tally, day.id)["shards"]
    if not counted:
        raise SourceMissing(
            f"{staged} holds no audio of {on}: no archives named {origin.layout.name(on, '00_00', 'archive')} and so on"
            + ("" if site.slot_minutes else ", nor audio files")
        )
    if day.state in (DayState.PENDING, DayState.TRANSFERRING, DayState.TRANSFER_FAILED):  # its site may have changed
        ready, message = DayState.READY_TO_PROCESS, f"{counted} shards listed"
        session(days.move, day.id, ready, actor="listing", message=message, only_from=day.state)
    rows = join_metadata(session, day.id, staged)
    changed = tuple(sorted(Path(fsdecode(path)).name for path in taken.changed))
    return Registered(session(days.by_id, day.id), added, rows, changed)
