"""Days have one spelling, ranges include both ends, and a queue file's bad lines are named."""

from __future__ import annotations

import string
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import db.sites
from db.errors import BadData
from hpc.dates import MONTHS, SITE, QueuedDay, parse_day, parse_days, read_queue


def queue(folder: Path, text: str | bytes) -> Path:
    file = folder / "queue.txt"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


@given(st.dates(min_value=date(1900, 1, 1), max_value=date(2100, 12, 31)))
def test_every_day_is_read_back_from_its_iso_spelling(day: date) -> None:
    assert parse_day(day.isoformat()) == day


@given(st.text(alphabet=string.digits + "-+ W\n٣", max_size=12))
def test_whatever_is_accepted_is_the_iso_spelling(text: str) -> None:
    try:
        day = parse_day(text)
    except BadData:
        return
    assert day.isoformat() == text


@pytest.mark.parametrize(
    "text",
    ["", "2025-1-31", "20250131", "2025-01-31 ", "2025-01-31\n", "2025-W05-5", "٢٠٢٥-٠١-٣١", "31.01.2025", "tomorrow",
     "2025-02-29", "2025-13-01", "2025-00-10", "0001-01-01", "9999-12-31", "../2025-01-31", "2025-01-31T00:00"],
)  # fmt: skip
def test_any_other_spelling_and_any_day_that_never_was_is_refused(text: str) -> None:
    with pytest.raises(BadData) as caught:
        parse_day(text)
    assert caught.value.exit_code == 65


def test_yesterday_is_the_day_before_this_one() -> None:
    assert parse_day("yesterday", today=date(2024, 3, 1)) == date(2024, 2, 29)


def test_a_range_has_both_its_ends() -> None:
    assert parse_days("2024-12-31..2025-01-02") == [date(2024, 12, 31), date(2025, 1, 1), date(2025, 1, 2)]
    assert parse_days("2025-01-02") == [date(2025, 1, 2)]
    assert parse_days("2025-01-01..yesterday", today=date(2025, 1, 3)) == [date(2025, 1, 1), date(2025, 1, 2)]


@pytest.mark.parametrize("text", ["2025-01-02..2025-01-01", "..2025-01-01", "2025-01-01..", "2025-01-01...2025-01-02"])
def test_a_range_that_runs_backwards_or_lacks_an_end_is_refused(text: str) -> None:
    with pytest.raises(BadData):
        parse_days(text)


@pytest.mark.parametrize(
    ("month", "number"),
    [(name, number) for number, name in enumerate(MONTHS, start=1)]
    + [("Jan", 1), ("SEPT", 9), ("sep", 9), ("Dec.", 12), ("7", 7), ("07", 7)],
)
def test_a_month_is_a_number_a_name_or_an_abbreviation(tmp_path: Path, month: str, number: int) -> None:
    assert read_queue(queue(tmp_path, f"2025, {month}, 5, zurich")) == [QueuedDay("zurich", date(2025, number, 5))]


def test_a_queue_has_comments_blank_lines_a_heading_and_doubles(tmp_path: Path) -> None:
    text = (
        "\ufeffyear, month, day, location\r\n# winter\r\n\r\n"
        "2025,jan,1,zurich # first\r\n2025,1,2,basel\r\n2025, 1,1, Zurich"
    )

    assert read_queue(queue(tmp_path, text)) == [
        QueuedDay("zurich", date(2025, 1, 1)),
        QueuedDay("basel", date(2025, 1, 2)),
    ]


def test_every_bad_line_of_a_queue_is_named_with_file_and_line(tmp_path: Path) -> None:
    file = queue(
        tmp_path,
        "2025,1,1,zurich\n2025,2,30,zurich\n25,1,1,zurich\n2025,Brumaire,1,zurich\n2025,1,1\n2025,1,1,../etc\n2025,1,x,b",
    )

    with pytest.raises(BadData) as caught:
        read_queue(file)

    assert [line.split(": ", 1) for line in str(caught.value).splitlines()] == [
        [f"{file}, line 2", "2025-02-30 is not in the calendar: day is out of range for month."],
        [f"{file}, line 3", "'25' is not a year of four digits."],
        [f"{file}, line 4", "'Brumaire' is not a month; write its number, its English name or three letters of it."],
        [f"{file}, line 5", "wants four fields, year, month, day, location, and has 3."],
        [f"{file}, line 6", "'../etc' is not a site's name."],
        [f"{file}, line 7", "'x' is not a day of the month."],
    ]


def test_a_queue_and_the_ledger_agree_on_what_a_site_may_be_called() -> None:
    assert SITE.pattern == db.sites.NAME.pattern


def test_a_queue_that_is_absent_or_no_text_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="cannot be read: No such file"):
        read_queue(tmp_path / "none")
    with pytest.raises(BadData, match="not UTF-8"):
        read_queue(queue(tmp_path, b"\xff\xfe2025"))
