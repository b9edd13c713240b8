"""What people heard against what the machine wrote: rates by population, and intervals that are honest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hpc.sample.report import Scored, interval, rates, ratio


def one(stratum: str, population: int, words: int, errors: int) -> Scored:
    return Scored(stratum, population, words, errors, silent=not words, blank=False)


def told(place: int, stratum: str, population: int, reference: str | None, text: str) -> dict[str, Any]:
    return {"place": place, "stratum": stratum, "population": population, "reference": reference, "text": text}


def test_over_all_a_stratum_counts_by_its_population_and_not_by_how_many_were_drawn() -> None:
    common = [one("common", 9_000, 10, 0) for _ in range(5)]
    rare = [one("rare", 1_000, 10, 5) for _ in range(5)]

    assert ratio(rare) == 0.5
    assert ratio([*common, *rare]) == pytest.approx(0.05)


def test_errors_are_counted_on_the_words_people_wrote_and_silence_has_only_inventions() -> None:
    rows = [
        told(1, "de", 100, "Guten Tag, Welt!", "guten tag Wald"),
        told(2, "de", 100, "", "thank you for watching"),
        told(3, "de", 100, "was ist das", ""),
        told(4, "de", 100, None, "not judged"),
        told(5, "fr", 50, None, "nobody came to this"),
    ]

    strata, overall = rates(rows, seed=1)

    german, french = strata
    assert (german.words, german.errors, german.wer) == (6, 1 + 4 + 3, pytest.approx(8 / 6))
    assert (german.drawn, german.judged, german.silent, german.invented, german.missed) == (4, 3, 1, 1, 1)
    assert (french.judged, french.wer, french.low, french.high) == (0, None, None, None)
    assert (overall.population, overall.drawn, overall.judged, overall.wer) == (150, 5, 3, pytest.approx(8 / 6))


def test_before_anything_is_judged_the_population_over_all_is_that_of_all_strata() -> None:
    rows = [told(1, "de", 100, None, "not judged"), told(2, "fr", 50, None, "nor this")]

    _, overall = rates(rows, seed=1)

    assert (overall.population, overall.drawn, overall.judged, overall.wer) == (150, 2, 0, None)


def test_an_interval_is_the_same_each_time_holds_the_rate_and_is_wider_for_fewer() -> None:
    random = np.random.default_rng(5)
    many = [one("all", 10_000, 20, int(errors)) for errors in random.binomial(20, 0.2, 400)]
    few = many[:25]

    assert interval(many, 3) == interval(many, 3)
    (low, high), (lowest, highest) = interval(many, 3), interval(few, 3)
    assert low is not None and high is not None and lowest is not None and highest is not None
    rate = ratio(many)
    assert rate is not None
    assert low < rate < high
    assert highest - lowest > 2 * (high - low)


def test_where_too_little_is_known_no_interval_is_told() -> None:
    assert interval([one("all", 100, 10, 1)], 1) == (None, None)
    assert interval([one("all", 100, 10, 0) for _ in range(5)], 1) == (0.0, None)
    assert interval([one("all", 100, 0, 2) for _ in range(5)], 1) == (None, None)


@pytest.mark.parametrize("counts", [[(10, 1), (0, 2)], [(100, 5), (0, 0)], [(50, 0), (0, 0)]], ids=str)
def test_where_one_judged_recording_has_words_there_is_no_interval(counts: list[tuple[int, int]]) -> None:
    assert interval([one("all", 100, *each) for each in counts], 1) == (None, None)


def test_where_too_many_resamples_have_no_words_there_is_no_interval() -> None:
    silent = [one("all", 100, 0, 1) for _ in range(20)]

    assert interval([one("all", 100, 10, 1), one("all", 100, 10, 4), *silent], 1) == (None, None)
    assert None not in interval([*(one("all", 100, 10, wrong) for wrong in (1, 2, 3, 4, 5)), *silent], 1)


def test_an_interval_holds_its_own_rate_however_few_recordings_have_words() -> None:
    random, told_of = np.random.default_rng(9), 0
    for seed in range(300):
        mine = [
            one(f"s{random.integers(3)}", int(random.integers(1, 500)), int(random.choice([0, 0, 1, 40])), int(wrong))
            for wrong in random.integers(0, 6, random.integers(2, 9))
        ]
        (low, high), rate = interval(mine, seed, times=200), ratio(mine)
        if low is None or rate is None:
            continue
        told_of += 1
        assert low <= rate and (high is None or rate <= high)
    assert told_of > 50


def test_how_strata_differ_is_no_uncertainty() -> None:
    mine = [one("good", 900, 10, 1) for _ in range(6)] + [one("bad", 100, 10, 5) for _ in range(2)]

    assert interval(mine, 1) == (pytest.approx(0.14), pytest.approx(0.14))


def test_of_small_strata_the_interval_is_as_wide_as_theory_says() -> None:
    random = np.random.default_rng(11)
    errors = random.binomial(10, 0.3, (200, 2))
    mine = [one(f"s{number:03}", 1_000, 10, int(wrong)) for number, pair in enumerate(errors) for wrong in pair]

    low, high = interval(mine, 1)

    assert low is not None and high is not None
    within = errors.var(axis=1, ddof=1).mean()  # of recordings of one stratum
    wanted = 2 * 1.96 * (within / errors.size) ** 0.5 / 10
    assert 0.9 < (high - low) / wanted < 1.1  # drawing n again instead of n - 1 gives 0.71


def test_strata_with_one_judged_recording_are_not_taken_for_certain() -> None:
    lonely = [one(f"s{number}", 1_000, 10, number % 3) for number in range(30)]

    low, high = interval(lonely, 1)

    assert low is not None and high is not None
    assert high - low > 0.03
    pair = [one("a", 100, 10, 5), one("b", 100, 10, 1), one("b", 100, 10, 2)]
    assert interval(pair, 1)[0] != interval(pair, 1)[1]


@pytest.mark.parametrize(("judged", "least"), [({"easy": 60, "hard": 40}, 0.90), ({"easy": 12, "hard": 8}, 0.88)])
def test_of_many_samples_about_nineteen_in_twenty_intervals_hold_the_true_rate(
    judged: dict[str, int], least: float
) -> None:
    """Of known populations: lengths and errors go together, as in speech. A bootstrap of 20 is a little too sure."""
    random = np.random.default_rng(2025)
    populations = {"easy": _population(random, 8_000, 0.05), "hard": _population(random, 2_000, 0.4)}
    said, wrong = (sum(people[column].sum() for people in populations.values()) for column in (0, 1))
    times, held = 200, 0
    for number in range(times):
        mine = [
            one(name, people.shape[1], int(people[0, at]), int(people[1, at]))
            for name, people in populations.items()
            for at in random.choice(people.shape[1], judged[name], replace=False)
        ]
        low, high = interval(mine, number, times=400)
        assert low is not None and high is not None
        held += low <= wrong / said <= high

    assert least <= held / times <= 0.99


def _population(random: np.random.Generator, size: int, rate: float) -> Any:
    """Words and errors of each recording."""
    words = random.geometric(1 / 25, size)
    own = random.beta(2, 2 / rate - 2, size)  # some recordings are bad throughout
    return np.array([words, random.binomial(words, own)])
