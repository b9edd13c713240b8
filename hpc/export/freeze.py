"""A snapshot is made: which recordings and which of their transcripts, and what else was true, in one moment."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from typing import Any

from db import faults, reports, snapshots
from db.connect import Connection
from db.days import Day
from db.errors import BadData, TryAgain
from db.reports import EVERYTHING, Choice
from db.snapshots import NameTaken, NoSuchSnapshot, Snapshot
from hpc.export.about import about_day
from hpc.export.columns import VERSION
from hpc.export.tables import plain

FORMAT = 1  # of a snapshot's files
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_PERSONAL = ("who", "why")  # of a receipt: they stay in the ledger


class NotJudged(TryAgain):
    """What a snapshot chooses by is not known of everything yet."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for: it makes the snapshot the first time, and has to be the same every other time."""

    sites: tuple[str, ...] | None  # None: all there are
    first: date
    last: date
    choice: Choice = EVERYTHING
    partial: bool = False

    def told(self) -> dict[str, Any]:
        sites = "all" if self.sites is None else sorted(set(self.sites))
        span = {"first": self.first.isoformat(), "last": self.last.isoformat()}
        return {"sites": sites, **span, **self.choice.told(), "partial": self.partial}


def check_name(name: str) -> None:
    """It becomes a folder's name."""
    if not NAME.fullmatch(name):
        raise BadData(
            f"{name[:80]!r} is no name for a snapshot: 1 to 63 lower-case letters, digits, '-' and '_', beginning with"
            " a letter or a digit"
        )


def find(connection: Connection, name: str, wish: Wish | None) -> Snapshot | None:
    """The snapshot of that name, if there is one; NameTaken when it was made of something else than is asked for."""
    check_name(name)
    found = snapshots.get(connection, name)
    if found is None:
        if wish is None:
            raise NoSuchSnapshot(f"The ledger has no snapshot {name}; say of which days it shall be, and it is made.")
        return None
    asked = found.selection if wish is None else wish.told()
    if differing := [key for key in asked if asked[key] != found.selection.get(key)]:
        differs = "; ".join(
            f"{key} is {_shown(found.selection.get(key))}, not {_shown(asked[key])}" for key in differing
        )
        raise NameTaken(
            f"There is a snapshot {name} of something else ({differs}). Choose another name, or leave DAYS and the"
            " filters out to write that one."
        )
    return found


def freeze(
    connection: Connection,
    name: str,
    wish: Wish,
    days: Sequence[Day],
    *,
    kind: str,
    who: str,
    absent: Sequence[str] = (),
    advance: Callable[[int], None] = lambda _count: None,
) -> Snapshot:
    """Make the snapshot; all is read in one moment, and written in the same transaction. Somebody who made the same one
    meanwhile made it for us, too."""
    check_name(name)
    try:
        with reports.snapshot(connection):
            _put(connection, name, wish, days, kind=kind, who=who, absent=absent, advance=advance)
            faults.point("export.freezing")
    except NameTaken:
        pass
    faults.point("export.frozen")
    made = find(connection, name, wish)
    assert made is not None
    return made


def _put(
    connection: Connection,
    name: str,
    wish: Wish,
    days: Sequence[Day],
    *,
    kind: str,
    who: str,
    absent: Sequence[str],
    advance: Callable[[int], None],
) -> None:
    abouts, frozen, ids = [], {}, []
    receipts: dict[int, dict[str, Any]] = {}
    for day in days:
        chosen = reports.choose(connection, day.id, wish.choice)
        about = about_day(connection, day, wish.choice, chosen, partial=wish.partial)
        about.pop("receipts")  # those of the whole day; the snapshot has those of what it holds
        if wish.choice.flags and about["denominator"]["unjudged"]:
            raise NotJudged(
                f"{about['denominator']['unjudged']} transcripts of {day.site} {day.date} are not judged yet, and a"
                f" snapshot by flag leaves them out for good. First: dayscribe quality {day.date} --site {day.site}"
            )
        abouts.append(about | {"day_id": day.id})
        frozen[day.id] = snapshots.freeze_day(connection, day.id, chosen.ids)
        ids.append(chosen.ids)
        _gather(receipts, snapshots.receipts(connection, chosen.ids))
        advance(len(chosen))
    facts = {
        "format": FORMAT,
        "columns": VERSION,
        "unicode": unicodedata.unidata_version,  # which characters of a name are shown as they are
        "kind": kind,
        "tool": f"dayscribe {version('dayscribe')}",
        "days": abouts,
        "absent": sorted(absent),
        "totals": _totals(abouts),
        "receipts": [receipts[number] for number in sorted(receipts)],
    }
    snapshots.put(connection, name, who=who, selection=wish.told(), facts=facts, frozen=frozen, ids=ids)


def _gather(receipts: dict[int, dict[str, Any]], more: Sequence[Mapping[str, Any]]) -> None:
    for one in more:
        known = receipts.setdefault(one["id"], plain(one) | {"recordings": 0})
        known["receipt"] = {key: value for key, value in one["receipt"].items() if key not in _PERSONAL}
        known["recordings"] += one["recordings"]


def _totals(abouts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    kept, counts = Counter[str](), Counter[str]()
    for about in abouts:
        kept.update(about["kept"])
        counts.update(about["denominator"])
    return {"days": len(abouts), "kept": dict(kept), "denominator": dict(counts)}


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "not chosen"
    return "not chosen" if value is None else str(value)
