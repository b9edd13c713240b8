"""Which recordings people are asked to judge: strata, how many of each, and a draw that a seed decides; pure.

Whoever draws with the same seed from the same recordings draws the same ones, in whatever order they are looked at: a
recording's lot is a digest of the seed, its bytes and its place in its archive.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from db.errors import BadData
from db.samples import Place

STRATA = ("language", "flag", "site", "state", "day")
EVERYTHING = "all"  # the one stratum where none were asked for
NOTHING = "none"  # no language, no flag
UNJUDGED, SEVERAL = "unjudged", "several"
Row = Mapping[str, Any]


class TooManyStrata(BadData):
    """There are more strata than recordings to draw."""


def allocate(populations: Mapping[str, int], count: int) -> dict[str, int]:
    """How many to draw of each stratum: in proportion, at least one, the rest by largest remainder; all, if there are
    not so many."""
    there = {name: size for name, size in sorted(populations.items()) if size > 0}
    total = sum(there.values())
    if count >= total:
        return there
    if count < len(there):
        raise TooManyStrata(
            f"There are {len(there)} strata, and of each at least one recording is drawn: ask for --n {len(there)} or"
            " more, or for fewer --strata."
        )
    chosen: dict[str, int] = {}
    rest = dict(there)
    while True:  # a stratum whose share is less than one has one; what is left is shared among the others
        left, of = count - len(chosen), sum(rest.values())
        small = [name for name, size in rest.items() if left * size < of]
        if not small:
            break
        chosen |= dict.fromkeys(small, 1)
        rest = {name: size for name, size in rest.items() if name not in chosen}
    floors = {name: left * size // of for name, size in rest.items()}
    last = sorted(rest, key=lambda name: (-(left * rest[name] % of), name))[: left - sum(floors.values())]
    return dict(sorted((chosen | floors | {name: floors[name] + 1 for name in last}).items()))


def stratum_of(row: Row, strata: Sequence[str]) -> str:
    """The one stratum that a recording is in: `language=de flag=none`."""
    said = {"language": row["language"] or NOTHING, "flag": _flag(row), "day": str(row["date"])}
    return " ".join(f"{name}={said[name] if name in said else row[name]}" for name in strata) or EVERYTHING


def _flag(row: Row) -> str:
    """The flag, if it is one: with several the strata would be as many as their combinations."""
    if not row["judged"]:
        return UNJUDGED
    flags = row["quality_flags"]
    return SEVERAL if len(flags) > 1 else flags[0] if flags else NOTHING


@dataclass(slots=True)
class Urn:
    """Takes rows as db.samples.frame gives them, in any order, and holds no more of a stratum than could be drawn."""

    seed: int
    count: int
    strata: Sequence[str]
    populations: Counter[str] = field(default_factory=Counter)
    _lots: dict[str, list[tuple[int, int, int]]] = field(default_factory=dict)

    def put(self, rows: Iterable[Row]) -> None:
        for row in rows:
            stratum = stratum_of(row, self.strata)
            self.populations[stratum] += 1
            lots = self._lots.setdefault(stratum, [])
            lot = (-_lot(self.seed, row), -row["id"], row["transcript_id"])  # the heap's first is the one to give away
            if len(lots) < self.count:
                heapq.heappush(lots, lot)
            else:
                heapq.heappushpop(lots, lot)

    def draw(self) -> list[Place]:
        """The drawn recordings; their places are shuffled, so that a sheet does not tell the strata by its order."""
        chosen = allocate(self.populations, self.count)
        drawn = [
            (_digest(self.seed, "place", -negative), -recording, transcript, stratum)
            for stratum, number in chosen.items()
            for negative, recording, transcript in sorted(self._lots[stratum], reverse=True)[:number]
        ]
        return [
            Place(place, recording, transcript, stratum, self.populations[stratum])
            for place, (_, recording, transcript, stratum) in enumerate(sorted(drawn), start=1)
        ]


def _lot(seed: int, row: Row) -> int:
    return _digest(seed, row["sha256"].hex(), row["site"], row["date"], row["shard"], row["ordinal"])


def _digest(*said: object) -> int:
    return int.from_bytes(hashlib.sha256("\0".join(map(str, said)).encode("utf-8", "surrogateescape")).digest())
