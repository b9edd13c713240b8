"""What people heard against what the machine wrote: word error rates with intervals, for each stratum and over all.

A rate is the words that are wrong by the words that were said. Over all, each stratum counts by its population, not by
how many of it were drawn: mean errors and mean words of a recording are weighted before they are divided (the combined
ratio estimator). Intervals are bootstrapped over recordings within their strata by the sample's seed (Rao and Wu's
rescaled bootstrap: of n recordings n - 1 are drawn again, so that small strata do not look surer than they are; strata
with one judged recording are taken together for this). What was drawn is taken for a small part of its stratum.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpc.compare import changes
from hpc.words import tokens as words

TIMES = 2_000  # resamples
AT_ONCE = 1 << 22  # numbers held at once
SURE = 0.95
FEWEST = 2  # judged recordings with words, of fewer there is no interval
Row = Mapping[str, Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scored:
    """One judged recording."""

    stratum: str
    population: int
    words: int  # that were said
    errors: int  # of the machine: another word, one too few or too many
    silent: bool  # a person heard no speech
    blank: bool  # the machine wrote nothing


@dataclass(frozen=True, slots=True)
class Rate:
    """A word error rate with what it is of. None: no word was said, or too little is known for an interval."""

    stratum: str
    population: int
    drawn: int
    judged: int
    words: int
    errors: int
    wer: float | None
    low: float | None
    high: float | None
    silent: int  # a person heard no speech
    invented: int  # of these, the machine wrote words
    missed: int  # a person heard speech, and the machine wrote nothing


def scored(rows: Iterable[Row]) -> list[Scored]:
    """The judged rows of db.samples.judged."""
    judged = [row for row in rows if row["reference"] is not None]
    pairs = [(words(row["reference"]), words(row["text"] or "")) for row in judged]
    return [
        Scored(row["stratum"], row["population"], len(said), changed.errors, not said, not heard)
        for row, (said, heard), changed in zip(judged, pairs, changes(pairs), strict=True)
    ]


def rates(rows: Sequence[Row], seed: int) -> tuple[list[Rate], Rate]:
    """Each stratum's rate, and the one over all: its population is all strata's, its rate is of those of which
    anything was judged."""
    every = scored(rows)
    drawn = {name: [row for row in rows if row["stratum"] == name] for name in sorted({r["stratum"] for r in rows})}
    found = []
    for name, of_stratum in drawn.items():
        mine = [one for one in every if one.stratum == name]
        found.append(_rate(name, of_stratum[0]["population"], len(of_stratum), mine, seed))
    return found, _rate("all", sum(rate.population for rate in found), len(rows), every, seed)


def _rate(name: str, population: int, drawn: int, mine: Sequence[Scored], seed: int) -> Rate:
    wer = ratio(mine)
    low, high = interval(mine, seed) if wer is not None else (None, None)
    silent = [one for one in mine if one.silent]
    return Rate(
        name, population, drawn, len(mine), sum(one.words for one in mine), sum(one.errors for one in mine),
        wer, low, high, len(silent), sum(not one.blank for one in silent),
        sum(one.blank and not one.silent for one in mine),
    )  # fmt: skip


def ratio(mine: Sequence[Scored]) -> float | None:
    """Errors by words, each recording standing for as many as its stratum has by as many as were judged of it."""
    if not mine:
        return None
    stands = _stands_for(mine)
    said, wrong = stands @ _column(mine, "words"), stands @ _column(mine, "errors")
    return float(wrong / said) if said else None


def interval(
    mine: Sequence[Scored], seed: int, *, times: int = TIMES, sure: float = SURE
) -> tuple[float | None, float | None]:
    """Between which rates the true one probably is; it holds the rate of `mine`. Where nobody saw an error, resampling
    cannot say how many there could be: the upper end is None. Where words hang on so few recordings that some resamples
    have none, more than lie beyond an end, those that have some say nothing of an interval: both ends are None."""
    rate = ratio(mine)
    if rate is None or sum(one.words > 0 for one in mine) < FEWEST:
        return None, None
    if not any(one.errors for one in mine):
        return 0.0, None
    random = np.random.default_rng(seed)
    stands, said, wrong = _stands_for(mine), _column(mine, "words"), _column(mine, "errors")
    errors, spoken = np.zeros(times), np.zeros(times)
    for members in _groups(mine):
        weights = stands[members]
        for start in range(0, times, step := max(1, AT_ONCE // len(members))):
            stop = min(times, start + step)
            counts = _resampled(random, len(members), stop - start) * weights
            errors[start:stop] += counts @ wrong[members]
            spoken[start:stop] += counts @ said[members]
    found = errors[spoken > 0] / spoken[spoken > 0]
    beyond = (1 - sure) / 2
    if times - len(found) > beyond * times:
        return None, None
    low, high = np.quantile(found, [beyond, 1 - beyond])
    return min(float(low), rate), max(float(high), rate)


def _resampled(random: np.random.Generator, count: int, times: int) -> Floats:
    """How often each is drawn again, so that the variance is the one of a sample of `count`."""
    if count == 1:
        return np.ones((times, 1))
    drawn = random.multinomial(count - 1, np.full(count, 1 / count), size=times)
    return np.asarray(drawn * (count / (count - 1)), dtype=np.float64)


def _stands_for(mine: Sequence[Scored]) -> Floats:
    judged = {one.stratum: 0 for one in mine}
    for one in mine:
        judged[one.stratum] += 1
    return np.array([one.population / judged[one.stratum] for one in mine], dtype=np.float64)


def _column(mine: Sequence[Scored], name: str) -> Floats:
    return np.array([getattr(one, name) for one in mine], dtype=np.float64)


def _groups(mine: Sequence[Scored]) -> list[list[int]]:
    """Which are resampled among each other: those of a stratum; the lonely ones together, a last one with the others
    of the smallest stratum."""
    by_stratum: dict[str, list[int]] = {}
    for at, one in enumerate(mine):
        by_stratum.setdefault(one.stratum, []).append(at)
    groups = [members for _, members in sorted(by_stratum.items()) if len(members) >= FEWEST]
    lonely = [at for _, members in sorted(by_stratum.items()) if len(members) < FEWEST for at in members]
    if len(lonely) >= FEWEST or not groups:
        return [*groups, lonely] if lonely else groups
    smallest = min(groups, key=len)
    return [[*members, *lonely] if members is smallest else members for members in groups]
