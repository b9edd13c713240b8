"""Companions as exports really are: two spellings, odd types, cells that make no sense, files that are no Parquet."""

from __future__ import annotations

import math
import os
import tracemalloc
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from db import days, metadata, sites
from db.connect import Connection
from db.errors import BadData
from db.metadata import COLUMNS
from hpc.demo.clips import make_clips
from hpc.demo.companions import write_companions
from hpc.demo.trouble import Trouble, plan
from hpc.stages import companions
from hpc.stages.companions import as_count, as_flag, as_id, as_number, as_text, as_time, merge, rows

PATIENT = settings(deadline=None)  # a busy machine is no failure
MOMENT = datetime(2025, 1, 31, 8, 30, tzinfo=UTC)
UNIX = 1_738_312_200
ID = 7_465_864_560_118_239_233
# Anything that a cell of a Parquet file may be in Python.
CELLS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.decimals(), st.text(), st.binary(), st.dates(),
    st.datetimes(), st.datetimes(timezones=st.timezones()), st.timedeltas(), st.lists(st.integers() | st.text()),
    st.dictionaries(st.text(), st.floats()), st.text(st.characters(categories=["Cs", "Cc", "Lo"])),
    st.from_regex(r"-?[0-9]{1,25}(\.[0-9]+)?([eE][0-9]{1,3})?", fullmatch=True),
)  # fmt: skip


def write(path: Path, columns: Mapping[str, Any], **options: Any) -> Path:
    pq.write_table(pa.table(dict(columns)), path, **options)
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [dict(zip(("meta_id", *COLUMNS), row, strict=True)) for row in rows(path)]


def one(path: Path, **columns: Sequence[Any] | pa.Array) -> dict[str, Any]:
    (row,) = read(write(path / "x_metadata.parquet", {"meta_id": [ID], **columns}))
    return row


# Cells


@PATIENT
@given(CELLS)
@example(Decimal("sNaN"))
@example("sNaN")
@example(10**400)
@example("9" * 5000)
@example(datetime.max.replace(tzinfo=timezone(timedelta(hours=-23))))
@example(float("-inf"))
@example("\ud800\0")
def test_no_cell_raises_and_what_comes_out_fits_the_ledger(cell: Any) -> None:
    for text in (as_text(cell), as_id(cell)):
        assert text is None or ("\0" not in text and text.encode("utf-8").decode("utf-8") == text)
    count, length, flag, moment = as_count(cell), as_number(cell), as_flag(cell), as_time(cell)
    assert count is None or (type(count) is int and -(2**63) <= count < 2**63)
    assert length is None or 0 <= length < 3.4e38
    assert flag in (None, False, True)
    assert moment is None or moment.tzinfo is UTC


@PATIENT
@given(st.integers(0, 2**63 - 1))
def test_an_id_stays_itself_as_number_text_and_decimal(number: int) -> None:
    assert as_id(number) == as_id(str(number)) == as_id(Decimal(number)) == as_id(f"{number}.0") == str(number)
    assert as_id(float(number)) == (str(number) if number <= 2**53 else None)


@PATIENT
@given(st.integers(-(2**70), 2**70))
def test_a_count_is_exact_or_none(number: int) -> None:
    wanted = number if -(2**63) <= number < 2**63 else None
    assert as_count(number) == as_count(str(number)) == as_count(Decimal(number)) == wanted


@PATIENT
@given(st.text())
def test_text_changes_only_where_postgresql_could_not_hold_it(text: str) -> None:
    assert as_text(text) == text.replace("\0", "\ufffd")


@PATIENT
@given(st.datetimes(min_value=datetime(1973, 4, 1), max_value=datetime(2099, 1, 1)))
def test_a_moment_is_the_same_in_every_unit_and_as_words(naive: datetime) -> None:
    moment = naive.replace(microsecond=0, tzinfo=UTC)
    seconds = int(moment.timestamp())
    for cell in (seconds, float(seconds), str(seconds), Decimal(seconds), seconds * 10**3, seconds * 10**6,
                 seconds * 10**9, moment, moment.isoformat(), moment.replace(tzinfo=None).isoformat(" "),
                 moment.astimezone(timezone(timedelta(hours=5))).isoformat()):  # fmt: skip
        assert as_time(cell) == moment, cell


@pytest.mark.parametrize(
    ("cell", "wanted"),
    [
        (0, False), (1.0, True), (math.nan, None), (None, None), (True, True), ("1", True), ("0.0", False),
        ("True", True), (" false ", False), (2, None), ("yes", None), (-1, None),
    ],
)  # fmt: skip
def test_a_flag_is_zero_one_or_unknown(cell: Any, wanted: bool | None) -> None:
    assert as_flag(cell) is wanted


@pytest.mark.parametrize(
    "cell", [0, -5, 1, "20250131", "", "soon", math.nan, math.inf, None, "2025-13-01", b"\xff", []]
)
def test_what_is_no_time_is_none(cell: Any) -> None:
    assert as_time(cell) is None


@pytest.mark.parametrize("cell", ["", "  ", "nan", "None", "NULL", None, math.nan])
def test_what_is_no_id_is_none(cell: Any) -> None:
    assert as_id(cell) is None


# Files


@pytest.mark.parametrize(
    ("created", "plays", "verified"),
    [
        ("meta_createtime", "stats_playcount", "author_verified"),
        ("meta_createTime", "stats_playCount", "author_verified"),
        ("metaCreateTime", "statsPlayCount", "authorVerified"),
        ("META_CREATETIME", "statsplaycount", "AUTHOR_VERIFIED"),
    ],
)
def test_every_spelling_of_a_column_is_read(tmp_path: Path, created: str, plays: str, verified: str) -> None:
    row = one(tmp_path, **{created: [UNIX], plays: [2**40], verified: [1.0]})
    assert (row["meta_id"], row["posted"], row["play_count"], row["author_verified"]) == (str(ID), MOMENT, 2**40, True)


def test_of_two_spellings_in_one_file_the_one_with_a_value_is_read_row_by_row(tmp_path: Path) -> None:
    path = write(
        tmp_path / "both.parquet",
        {"meta_id": ["1", "2", "3"], "stats_playcount": [5, None, None], "stats_playCount": ["7", "8", "many"]},
    )
    assert [row["play_count"] for row in read(path)] == [5, 8, None]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Zurich"])
def test_timestamps_of_every_unit_and_zone_are_aware_utc(tmp_path: Path, unit: str, zone: str | None) -> None:
    ticks = pa.array([UNIX * 10 ** {"s": 0, "ms": 3, "us": 6, "ns": 9}[unit]], pa.timestamp(unit, zone))
    assert one(tmp_path, meta_createtime=ticks)["posted"] == MOMENT


def test_dates_and_times_that_python_has_none_for_cost_only_their_cell(tmp_path: Path) -> None:
    far = pa.array([2**62, UNIX * 10**6, None], pa.timestamp("us"))
    day = pa.array([2**31 - 1, 20119, None], pa.int32()).cast(pa.date32())
    path = write(tmp_path / "far.parquet", {"meta_id": [1, 2, 3], "meta_createtime": far, "collection_timestamp": day})
    assert [row["posted"] for row in read(path)] == [None, MOMENT, None]
    assert [row["collected"] for row in read(path)] == [None, datetime(2025, 1, 31, tzinfo=UTC), None]


def test_bytes_that_are_no_text_cost_only_themselves(tmp_path: Path) -> None:
    blobs = pa.array([b"caf\xe9 \xed\xa0\x80", "naïve \0 \U0001f600".encode(), None], pa.binary())
    broken = pa.StringArray.from_buffers(3, blobs.buffers()[1], blobs.buffers()[2], blobs.buffers()[0])
    path = write(tmp_path / "bytes.parquet", {"meta_id": [1, 2, 3], "meta_desc": broken})
    first, second, third = (row["description"] for row in read(path))
    assert (first[:4], set(first[5:])) == ("caf\ufffd", {"\ufffd"})
    assert (second, third) == ("naïve \ufffd \U0001f600", None)


def test_lists_dictionaries_and_decimals_are_read_for_what_they_say(tmp_path: Path) -> None:
    row = one(
        tmp_path,
        subtitle_subtitle_lang=[["eng-US", "deu-DE"]],
        author_nickname=pa.array(["Zoë"]).dictionary_encode(),
        author_id=pa.array([Decimal(ID)], pa.decimal128(38, 0)),
        stats_diggcount=pa.array([2**64 - 1], pa.uint64()),
        video_duration=["12.5"],
    )
    assert row["subtitle_language"] == '["eng-US", "deu-DE"]'
    assert (row["author_nickname"], row["author_id"]) == ("Zoë", str(ID))
    assert (row["digg_count"], row["video_seconds"]) == (None, 12.5)


def test_rows_without_an_id_are_left_out_and_their_neighbours_are_not(tmp_path: Path) -> None:
    path = write(
        tmp_path / "ids.parquet", {"meta_id": ["1", None, "", "nan", "x" * 256, "2"], "country": list("abcdef")}
    )
    assert [(row["meta_id"], row["country"]) for row in read(path)] == [("1", "a"), ("2", "f")]


def test_a_file_without_rows_or_other_columns_is_no_error(tmp_path: Path) -> None:
    assert read(write(tmp_path / "none.parquet", {"meta_id": pa.array([], pa.int64())})) == []
    assert set(one(tmp_path).values()) == {str(ID), None}


@pytest.mark.parametrize("damage", ["missing", "empty", "text", "cut", "scrambled", "folder"])
def test_what_is_no_parquet_is_bad_data_that_names_the_file(tmp_path: Path, damage: str) -> None:
    path = write(
        tmp_path / "0_2025-01-31_00_00_metadata.parquet", {"meta_id": list(range(5000)), "country": ["x"] * 5000}
    )
    whole = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        scrambled = whole[:4] + bytes(len(whole) // 2) + whole[4 + len(whole) // 2 :]
        path.write_bytes({"empty": b"", "text": b"<html>" * 99, "cut": whole[:-9], "scrambled": scrambled}[damage])
    for call in (lambda: list(rows(path)), lambda: merge([path], tmp_path / "out.parquet")):
        with pytest.raises(BadData, match=path.name):
            call()
    assert not list(tmp_path.glob("*out.parquet"))


def test_a_file_without_ids_is_bad_data(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="no column meta_id"):
        list(rows(write(tmp_path / "x.parquet", {"cid": [1]})))


def test_a_path_that_is_no_text_is_read(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    folder.mkdir()
    assert len(read(write(tmp_path / "x.parquet", {"meta_id": [1]}).rename(folder / "x.parquet"))) == 1


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    def peak(count: int) -> tuple[int, int]:
        path = write(
            tmp_path / f"{count}.parquet",
            {"meta_id": list(range(count)), "meta_desc": [f"{place} " * 20 for place in range(count)]},
            row_group_size=5000,
        )
        pool = pa.default_memory_pool()
        before, highest = pool.bytes_allocated(), 0
        tracemalloc.start()
        for _ in rows(path):
            highest = max(highest, pool.bytes_allocated() - before)
        python = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest, python

    (arrow_small, python_small), (arrow_large, python_large) = peak(10_000), peak(60_000)
    assert arrow_large < 1.5 * arrow_small + 2**20
    assert python_large < 1.5 * python_small + 2**20


# The ledger


def test_synthetic_companions_of_every_style_reach_the_ledger(tmp_path: Path, ledger: Connection) -> None:
    plans, _ = plan(Trouble.none(), slots=3, clips=4)
    site = sites.put(ledger, "demo", location=str(tmp_path))
    on = date(2025, 1, 31)
    days.add(ledger, site.id, [on])
    day = days.get(ledger, "demo", on)
    for style, one_plan in enumerate(plans):
        clips = [clip for clip, _ in make_clips(one_plan, on=on, shard="a", source=f"test {style}")]
        write_companions(clips, number=style, stem=tmp_path / f"0_{on}_{one_plan.slot}", source="test")
        path = tmp_path / f"0_{on}_{one_plan.slot}_metadata.parquet"
        assert metadata.put(ledger, day.id, rows(path)) == 4 * (style + 1)
        for clip in clips:
            row = metadata.get(ledger, day.id, clip.truth.meta_id)
            assert row is not None
            assert row["posted"] == datetime.fromtimestamp(clip.posted, UTC)
            assert row["play_count"] >= 2**31
            assert (row["author_id"] + row["music_id"]).isdigit()
            assert row["collected"] > row["posted"]
        odd = metadata.get(ledger, day.id, clips[1].truth.meta_id)
        assert odd is not None
        assert odd["description"].startswith("morning\ufffdcall \u202e")


# One file a day


def merged(tmp_path: Path, *tables: Mapping[str, Any]) -> pa.Table:
    paths = [write(tmp_path / f"{place}.parquet", table) for place, table in enumerate(tables)]
    assert merge(paths, tmp_path / "day" / "all.parquet") == sum(pq.read_metadata(path).num_rows for path in paths)
    assert [path.name for path in (tmp_path / "day").iterdir()] == ["all.parquet"]
    return pq.read_table(tmp_path / "day" / "all.parquet")


def test_merging_keeps_every_row_and_every_column_in_order(tmp_path: Path) -> None:
    table = merged(tmp_path, {"meta_id": [1, 2], "a": ["x", None]}, {"meta_id": [3], "b": [True]})
    assert table.to_pylist() == [
        {"meta_id": 1, "a": "x", "b": None}, {"meta_id": 2, "a": None, "b": None}, {"meta_id": 3, "a": None, "b": True},
    ]  # fmt: skip


def test_columns_that_differ_in_case_are_one(tmp_path: Path) -> None:
    table = merged(
        tmp_path,
        {"meta_id": [1], "stats_playCount": [5]},
        {"META_ID": [2, 3], "stats_playcount": [6, None], "stats_playCount": [None, 7]},
    )
    assert table.to_pydict() == {"meta_id": [1, 2, 3], "stats_playCount": [5, 6, 7]}


def test_types_that_differ_become_text_and_no_digit_is_lost(tmp_path: Path) -> None:
    table = merged(
        tmp_path,
        {"id": [ID], "n": pa.array([1], pa.int32()), "t": pa.array([UNIX], pa.timestamp("s", "UTC")), "z": pa.nulls(1)},
        {"id": [str(ID)], "n": pa.array([2**40], pa.int64()), "t": [float(UNIX)], "z": [0.5]},
        {"id": [12.0], "n": pa.nulls(1), "t": [None], "z": pa.array([None], pa.float64())},
    )
    assert [str(field.type) for field in table.schema] == ["string", "int64", "string", "double"]
    assert table.to_pydict() == {
        "id": [str(ID), str(ID), "12"],
        "n": [1, 2**40, None],
        "t": [MOMENT.isoformat(), str(UNIX), None],
        "z": [None, 0.5, None],
    }


def test_merged_text_is_text_and_packings_are_undone(tmp_path: Path) -> None:
    blobs = pa.array([b"caf\xe9"], pa.binary())
    broken = pa.StringArray.from_buffers(1, blobs.buffers()[1], blobs.buffers()[2])
    table = merged(
        tmp_path,
        {"a": pa.array(["x"]).dictionary_encode(), "b": broken, "c": pa.array(["l"], pa.large_string())},
        {"a": ["y"], "b": ["é"], "c": ["s"]},
    )
    assert table.to_pydict() == {"a": ["x", "y"], "b": ["caf\ufffd", "é"], "c": ["l", "s"]}


def test_merging_nothing_gives_an_empty_file(tmp_path: Path) -> None:
    assert merged(tmp_path).num_rows == 0


def test_a_merge_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    good = write(tmp_path / "good.parquet", {"meta_id": [1]})
    out = tmp_path / "out.parquet"
    merge([good], out)
    before = out.read_bytes()
    (tmp_path / "bad.parquet").write_bytes(b"nothing")
    with pytest.raises(BadData, match=r"bad\.parquet"):
        merge([good, tmp_path / "bad.parquet"], out)
    assert out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.parquet", "good.parquet", "out.parquet"]


def test_every_ledger_column_has_its_names() -> None:
    assert tuple(companions.WAYS) == COLUMNS
