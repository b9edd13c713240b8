"""Days as people write them: one strict spelling, ranges, and the queue file `year, month, day, location`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from db.errors import BadData

YEARS = range(1900, 2101)  # outside these a year is a slip of the keyboard
SITE = re.compile(r"[a-z][a-z0-9_-]{0,62}")  # as db.sites.NAME, without importing the driver
MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
MONTH_NUMBERS = (
    {name: number for number, name in enumerate(MONTHS, start=1)}
    | {name[:3]: number for number, name in enumerate(MONTHS, start=1)}
    | {"sept": 9}
)


@dataclass(frozen=True, slots=True)
class QueuedDay:
    """One line of a queue file."""

    site: str
    date: date


def parse_day(text: str, *, today: date | None = None) -> date:
    """YYYY-MM-DD and nothing else, or `yesterday` (by this machine's clock)."""
    if text == "yesterday":
        return (today or date.today()) - timedelta(days=1)
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        raise BadData(f"{text!r} is not a day; write it as YYYY-MM-DD, such as 2025-01-31.")
    year, month, day = (int(part) for part in text.split("-"))
    return _day(year, month, day)


def parse_days(text: str, *, today: date | None = None) -> list[date]:
    """One day, or a range FIRST..LAST with both ends in it."""
    first, dots, last = text.partition("..")
    start = parse_day(first, today=today)
    return days_between(start, parse_day(last, today=today) if dots else start)


def days_between(first: date, last: date) -> list[date]:
    """Every day from the first to the last, both included."""
    if last < first:
        raise BadData(f"The range ends on {last} before it begins on {first}.")
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def read_queue(file: Path) -> list[QueuedDay]:
    """The days of a queue file, each once, in the file's order; every bad line is named before anything is done."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise BadData(f"The queue file {file} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise BadData(f"The queue file {file} is not UTF-8 text: {error.reason}.") from error
    found: dict[QueuedDay, None] = {}
    problems: list[str] = []
    for number, line in enumerate(lines, start=1):
        fields = [field.strip() for field in line.partition("#")[0].split(",")]
        if fields == [""] or [field.lower() for field in fields] == ["year", "month", "day", "location"]:
            continue
        try:
            found[_queued(fields)] = None
        except BadData as error:
            problems.append(f"{file}, line {number}: {error}")
    if problems:
        raise BadData("\n".join(problems))
    return list(found)


def _queued(fields: Sequence[str]) -> QueuedDay:
    if len(fields) != 4:
        raise BadData(f"wants four fields, year, month, day, location, and has {len(fields)}.")
    year, month, day, site = fields
    if not SITE.fullmatch(site.lower()):
        raise BadData(f"{site!r} is not a site's name.")
    if not re.fullmatch("[0-9]{4}", year):
        raise BadData(f"{year!r} is not a year of four digits.")
    if not re.fullmatch("[0-9]{1,2}", day):
        raise BadData(f"{day!r} is not a day of the month.")
    return QueuedDay(site.lower(), _day(int(year), _month(month), int(day)))


def _month(text: str) -> int:
    if re.fullmatch("0?[1-9]|1[0-2]", text):
        return int(text)
    try:
        return MONTH_NUMBERS[text.lower().rstrip(".")]
    except KeyError:
        raise BadData(f"{text!r} is not a month; write its number, its English name or three letters of it.") from None


def _day(year: int, month: int, day: int) -> date:
    if year not in YEARS:
        raise BadData(f"The year {year} is not between {YEARS[0]} and {YEARS[-1]}.")
    try:
        return date(year, month, day)
    except ValueError as error:
        raise BadData(f"{year:04}-{month:02}-{day:02} is not in the calendar: {error}.") from None
