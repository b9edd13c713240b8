"""Samples: fair shares, a draw that only the seed decides, and sheets that come back safely."""

from __future__ import annotations

import csv
import random
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, date, datetime
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from db.errors import BadData
from db.samples import Coding, Sample
from hpc.sample import TooManyStrata, Urn, allocate, stratum_of
from hpc.sample.audio import file_name
from hpc.sample.sheet import read_sheet, write_sheet

POPULATIONS = st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.integers(0, 10_000), max_size=12)
SAMPLE = Sample(1, "march", "me", 7, ("language",), {}, datetime(2025, 3, 1, tzinfo=UTC), None)


# --- how many ---------------------------------------------------------------------------------------------------------


@given(POPULATIONS, st.integers(1, 5_000))
def test_a_share_is_proportional_at_least_one_never_too_many_and_all_that_was_asked_for(
    populations: dict[str, int], count: int
) -> None:
    there = {name: size for name, size in populations.items() if size}
    assume(count >= len(there))

    chosen = allocate(populations, count)

    total = sum(there.values())
    assert set(chosen) == set(there)
    assert sum(chosen.values()) == min(count, total)
    for name, size in there.items():
        fair = Fraction(count * size, total) if total > count else Fraction(size)
        assert 1 <= chosen[name] <= size
        assert chosen[name] <= max(1, fair + 1)  # who is small takes from who is large, never the other way round
    assert all(chosen[one] <= chosen[other] for one in there for other in there if there[one] < there[other]), (
        "a larger stratum has no smaller share"
    )


@given(POPULATIONS, st.integers(12, 500), st.randoms(use_true_random=False))
def test_shares_do_not_depend_on_the_order_of_the_strata(
    populations: dict[str, int], count: int, shuffled: random.Random
) -> None:
    names = list(populations)
    shuffled.shuffle(names)

    assert allocate({name: populations[name] for name in names}, count) == allocate(populations, count)


def test_the_largest_remainders_have_what_is_left() -> None:
    assert allocate({"a": 47, "b": 33, "c": 20}, 10) == {"a": 5, "b": 3, "c": 2}
    assert allocate({"a": 9_990, "b": 9, "c": 1}, 10) == {"a": 8, "b": 1, "c": 1}
    assert allocate({"a": 1, "b": 1, "c": 1}, 3) == {"a": 1, "b": 1, "c": 1}
    assert allocate({"a": 5, "b": 0}, 100) == {"a": 5}
    assert allocate({}, 5) == {}


def test_more_strata_than_recordings_to_draw_are_refused_with_what_to_do() -> None:
    with pytest.raises(TooManyStrata, match=r"There are 3 strata.*--n 3 or more, or for fewer --strata"):
        allocate({"a": 10, "b": 10, "c": 10}, 2)


# --- which ------------------------------------------------------------------------------------------------------------


def framed(number: int, *, language: str | None = "en", **more: Any) -> dict[str, Any]:
    return {
        "id": number, "sha256": number.to_bytes(32), "ordinal": number, "state": "transcribed", "shard": "0_x.tar.xz",
        "transcript_id": 1000 + number, "site": "zurich", "date": date(2025, 1, 31), "language": language,
        "judged": True, "quality_flags": [],
    } | more  # fmt: skip


ROWS = [framed(number, language="de" if number % 10 == 0 else "en") for number in range(500)]


def drawn(rows: list[dict[str, Any]], *, seed: int = 1, count: int = 20, pages: int = 7) -> list[Any]:
    urn = Urn(seed, count, ["language"])
    for start in range(pages):
        urn.put(rows[start::pages])
    return urn.draw()


def test_a_draw_depends_on_the_seed_and_on_nothing_else() -> None:
    first = drawn(ROWS)
    shuffled = random.Random(3).sample(ROWS, len(ROWS))

    assert drawn(shuffled, pages=1) == first
    assert drawn(ROWS, seed=2) != first
    assert [place.place for place in first] == list(range(1, 21))
    assert Counter(place.stratum for place in first) == {"language=en": 18, "language=de": 2}
    assert {place.population for place in first if place.stratum == "language=de"} == {50}
    assert all(place.transcript_id == 1000 + place.recording_id for place in first)


def test_a_larger_draw_by_the_same_seed_has_the_smaller_one_in_it() -> None:
    few, many = ({place.recording_id for place in drawn(ROWS, count=count)} for count in (20, 60))

    assert few < many


def test_a_draw_does_not_depend_on_the_numbers_of_this_ledger() -> None:
    elsewhere = [row | {"id": 9_000 - row["id"], "transcript_id": 1} for row in ROWS]

    assert [9_000 - place.recording_id for place in drawn(elsewhere)] == [place.recording_id for place in drawn(ROWS)]


def test_every_recording_is_drawn_about_as_often_as_any_other() -> None:
    rows = ROWS[:50]
    times = Counter(place.recording_id for seed in range(400) for place in drawn(rows, seed=seed, count=10, pages=1))

    # 400 draws of 10 in 50: 80 each; five standard deviations of a binomial are 40. In the small stratum the same.
    assert set(times) == set(range(50))
    assert all(40 < number < 120 for number in times.values())


def test_copies_of_the_same_sound_are_drawn_apart() -> None:
    copies = [framed(number, sha256=b"s" * 32) for number in range(100)]

    chosen = sorted(place.recording_id for place in drawn(copies, count=10))

    assert chosen != list(range(chosen[0], chosen[0] + 10))


def test_the_order_of_places_tells_no_stratum() -> None:
    rows = [framed(number, language="de" if number < 100 else "en") for number in range(200)]

    order = [place.stratum for place in drawn(rows, count=40)]

    changes = sum(one != other for one, other in pairwise(order))
    assert 10 < changes < 30  # sorted it would be one


@pytest.mark.parametrize(
    ("more", "strata", "expected"),
    [
        ({}, [], "all"),
        ({}, ["language", "flag"], "language=en flag=none"),
        ({"language": None}, ["language"], "language=none"),
        ({"quality_flags": ["gap"]}, ["flag"], "flag=gap"),
        ({"quality_flags": ["gap", "unsure"]}, ["flag"], "flag=several"),
        ({"judged": False}, ["flag"], "flag=unjudged"),
        ({}, ["site", "state", "day"], "site=zurich state=transcribed day=2025-01-31"),
    ],
)
def test_a_recording_is_in_one_stratum(more: dict[str, Any], strata: list[str], expected: str) -> None:
    assert stratum_of(framed(1) | more, strata) == expected


# --- sheets -----------------------------------------------------------------------------------------------------------


def heard(place: int, name: bytes = b"clip.mp3", **more: Any) -> dict[str, Any]:
    return {
        "place": place, "recording_id": 100 + place, "name": name, "shard": "0_x.tar.xz", "seconds": 12.345,
    } | more  # fmt: skip


def asked(*references: str | None) -> dict[int, Mapping[str, Any]]:
    """Places 1, 2, … as the ledger has them."""
    return {
        place: {"place": place, "recording_id": 100 + place, "coder": "anna", "reference": reference}
        for place, reference in enumerate(references, start=1)
    }


def saved(path: Path, *lines: str, head: str = "place,recording,audio,seconds,reference,no_speech") -> Path:
    path.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    return path


def cells(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file))


def test_a_sheet_is_blank_and_says_nothing_of_what_the_machine_heard(tmp_path: Path) -> None:
    out = tmp_path / "sheet.csv"

    write_sheet([heard(1), heard(2, b"=cmd|'/C calc'!A0\xff.mp3", seconds=None)], SAMPLE, out)

    rows = cells(out)
    assert rows == [
        ["place", "recording", "audio", "seconds", "reference", "no_speech"],
        ["1", "101", "0_x.tar.xz: clip.mp3", "12.3", "", ""],
        ["2", "102", "0_x.tar.xz: =cmd|'/C calc'!A0\\xff.mp3", "", "", ""],
    ]
    assert read_sheet(out, asked(None, None)) == []


def test_a_cell_of_a_sheet_is_never_a_formula(tmp_path: Path) -> None:
    write_sheet([heard(1, shard="=1+1")], SAMPLE, tmp_path / "sheet.csv")

    [_, row] = cells(tmp_path / "sheet.csv")
    assert row[2] == "'=1+1: clip.mp3"


def test_a_sheet_names_the_copy_where_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "march-00001.mp3").touch()
    sample = Sample(1, "march", "me", 7, (), {"audio": str(tmp_path)}, SAMPLE.created, None)

    assert write_sheet([heard(1), heard(2)], sample, tmp_path / "sheet.csv") == 1

    rows = cells(tmp_path / "sheet.csv")
    assert [row[2] for row in rows] == ["audio", "march-00001.mp3", "0_x.tar.xz: clip.mp3"]


def test_a_sheet_that_may_be_somebodys_work_is_not_written_over(tmp_path: Path) -> None:
    out = saved(tmp_path / "sheet.csv", "1,101,x,1,hello,")

    with pytest.raises(BadData, match="is there already, and may hold somebody's work"):
        write_sheet([heard(1)], SAMPLE, out)
    assert "hello" in out.read_text()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"a/b/7000.MP3", "march-00004.mp3"),
        (b"../../etc/passwd", "march-00004.audio"),
        (b"x.mp3/..", "march-00004.audio"),
        (b"x.sh", "march-00004.audio"),
        (b"x.m\xffp3", "march-00004.audio"),
        (b".mp3", "march-00004.audio"),
        (b"", "march-00004.audio"),
    ],
)
def test_a_copys_name_is_our_own_and_its_suffix_one_of_audio(name: bytes, expected: str) -> None:
    assert file_name("march", {"place": 4, "name": name}) == expected


@pytest.mark.parametrize(("mark", "encoding"), [(",", "utf-8"), (";", "utf-8-sig"), ("\t", "utf-8-sig")])
def test_a_sheet_comes_back_as_spreadsheets_save_it(tmp_path: Path, mark: str, encoding: str) -> None:
    path = tmp_path / "sheet.csv"
    lines = [
        ["place", "recording", "audio", "seconds", "reference", "no_speech", "my notes"],
        ["1", "101", "x", "1", f'she said "hi{mark} you"\nand left', "", "loud"],
        ["2", "102", "x", "1", "", "X", ""],
        ["3", "103", "x", "1", "  ", "", ""],
        ["", "", "", "", "", "", ""],
    ]
    with path.open("w", encoding=encoding, newline="") as sink:
        csv.writer(sink, delimiter=mark).writerows(lines)

    found = read_sheet(path, asked(None, None, None))

    assert found == [Coding(1, 101, f'she said "hi{mark} you"\nand left'), Coding(2, 102, "")]


def test_every_bad_line_is_named_and_nothing_is_taken(tmp_path: Path) -> None:
    path = saved(
        tmp_path / "sheet.csv",
        '1,101,x,1,"fine,\ntwo lines",',
        "1,101,x,1,again,",
        "2,999,x,1,hello,",
        "9,109,x,1,hello,",
        "two,102,x,1,hello,",
        "3,103,x,1,hello,x",
        "4,104,x,1,...,",
        "5,105,x,1,,perhaps",
        "6,106,x,1,other words,",
    )

    with pytest.raises(BadData) as refused:
        read_sheet(path, asked(None, None, None, None, None, "some words"))

    assert str(refused.value).splitlines() == [
        "Nothing was changed.",
        f"{path}, line 4: place 1 was on line 2 already",
        f"{path}, line 5: place 2 is recording 102, not 999",
        f"{path}, line 6: the sample has no place 9",
        f"{path}, line 7: place is a number, not 'two'",
        f"{path}, line 8: it has a reference, and no_speech is marked",
        f"{path}, line 9: its reference has no words; mark no_speech if nobody speaks",
        f"{path}, line 10: no_speech is x or empty, not 'perhaps'",
        f"{path}, line 11: anna judged place 6 otherwise; --replace takes this one instead",
    ]


def test_what_was_judged_alike_is_welcome_again_and_other_words_only_when_asked_for(tmp_path: Path) -> None:
    path = saved(tmp_path / "sheet.csv", "1,101,x,1,some words,", "2,102,x,1,,x")

    assert len(read_sheet(path, asked("some words", ""))) == 2
    assert len(read_sheet(path, asked("other", "spoken"), replace=True)) == 2
    with pytest.raises(BadData, match="line 3: anna judged place 2 otherwise"):
        read_sheet(path, asked("some words", "spoken"))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"place,recording,reference\n1,101,x\n", "has no column no_speech"),
        (b"place,place,recording,reference,no_speech\n", "has no column place, or twice"),
        ("place,recording,reference,no_speech\n1,101,grüezi,\n".encode("cp1252"), "is not UTF-8; save it as"),
        (b'place,recording,reference,no_speech\n1,101,"open,\n', "line 2: it cannot be read as CSV"),
        (b"place,recording,reference,no_speech\n1,101,a\0b,\n", "NUL"),
    ],
)
def test_a_file_that_is_no_sheet_is_refused_in_words(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "sheet.csv"
    path.write_bytes(content)

    with pytest.raises(BadData, match=says):
        read_sheet(path, asked(None))


def test_words_that_would_be_lost_behind_a_comma_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "sheet.csv", "1,1,a.mp3,1.0,well, no, I think so")
    with pytest.raises(BadData, match=r"line 2: it has more cells than columns"):
        read_sheet(path, asked(None), replace=False)
