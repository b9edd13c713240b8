"""The slots of all days cover the time line once, whatever the clock on the wall does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from db.errors import NeedsConfiguration
from hpc.dates import days_between
from hpc.errors import BadSetting
from hpc.slots import LABEL, Clock, Slot

# With each zone the dates on which it does something strange.
STRANGE = {
    "Europe/Zurich": (date(2025, 3, 30), date(2025, 10, 26)),
    "America/New_York": (date(2025, 3, 9), date(2025, 11, 2)),
    "Australia/Lord_Howe": (date(2025, 4, 6), date(2025, 10, 5)),  # by half an hour
    "America/Sao_Paulo": (date(2018, 2, 17), date(2018, 11, 4)),  # midnight is skipped; 23:00 comes twice
    "Africa/Cairo": (date(2023, 4, 28), date(2023, 10, 26)),
    "Asia/Beirut": (date(2024, 3, 31), date(2024, 10, 26)),
    "Atlantic/Azores": (date(2025, 10, 26),),  # from 01:00 back to 00:00 of the same day
    "America/St_Johns": (date(2010, 3, 14), date(2010, 11, 6), date(2010, 11, 7)),  # from 00:01 back to 23:01
    "Pacific/Apia": (date(2011, 12, 30),),  # never was
    "Pacific/Kwajalein": (date(1969, 9, 30), date(1993, 8, 21)),  # 47 hours; never was
    "Europe/Amsterdam": (date(1937, 7, 1),),  # 28 seconds are skipped
    "Europe/London": (date(1941, 5, 4), date(1968, 10, 27)),
    "Asia/Kathmandu": (date(1986, 1, 1),),
    "UTC": (),
}
ORDINARY = [f"{hour:02}_{ten}0" for hour in range(24) for ten in range(6)]
ZONES = st.sampled_from(sorted(STRANGE))
DAYS = st.dates(date(1900, 1, 2), date(2100, 12, 30))
MINUTES = st.sampled_from([1, 5, 7, 10, 13, 15, 30, 45, 60, 90, 720, 1440]) | st.integers(1, 1440)


@st.composite
def moments(draw: st.DrawFn) -> tuple[str, date]:
    """A zone and a day, most often near a change of its clock."""
    zone = draw(ZONES)
    if STRANGE[zone] and draw(st.integers(0, 3)):
        return zone, draw(st.sampled_from(STRANGE[zone])) + timedelta(days=draw(st.integers(-2, 2)))
    return zone, draw(DAYS)


def labels(slots: tuple[Slot, ...]) -> list[str]:
    return [slot.label for slot in slots]


def walked(clock: Clock, day: date) -> Iterator[Slot]:
    """The day's slots found the slow way: by looking at the clock every minute, and every second around a change."""
    zone, end = ZoneInfo(clock.time_zone), datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(hours=60)
    instant = end - timedelta(hours=96)
    shown: list[tuple[datetime, datetime]] = []
    while instant < end:
        local = instant.astimezone(zone)
        shown.append((instant, local))
        steady = local.utcoffset() == (instant + timedelta(minutes=1)).astimezone(zone).utcoffset()
        instant += timedelta(seconds=60 - local.second if steady else 1)
    crossed = [
        number for number, (one, other) in enumerate(pairwise(shown), 1) if one[1].date() < day <= other[1].date()
    ]
    left = [number for number, (one, other) in enumerate(pairwise(shown), 1) if one[1].date() <= day < other[1].date()]
    for instant, local in shown[crossed[-1] : left[-1]]:
        minute = local.hour * 60 + local.minute
        if local.date() == day and not local.second and clock.minutes and not minute % clock.minutes:
            yield Slot(f"{local:%H_%M}" + "b" * local.fold, instant)


@pytest.mark.parametrize("zone", ["Europe/Zurich", "America/New_York", "Australia/Lord_Howe", "UTC", "Asia/Kathmandu"])
def test_in_ten_years_every_ten_minutes_belong_to_one_slot_of_one_day(zone: str) -> None:
    clock, begins, changed = Clock(zone), list[datetime](), 0
    for day in days_between(date(2016, 1, 1), date(2025, 12, 31)):
        grid = clock.grid(day)
        begins += [slot.begins for slot in grid]
        if clock.says(day):
            changed += 1
            assert len(grid) in (138, 141, 147, 150)
        else:
            assert labels(grid) == ORDINARY
    assert begins[0] == datetime(2016, 1, 1, tzinfo=ZoneInfo(zone))
    assert begins[-1] == datetime(2025, 12, 31, 23, 50, tzinfo=ZoneInfo(zone))
    assert {after - before for before, after in pairwise(begins)} == {timedelta(minutes=10)}
    assert changed == (0 if zone in ("UTC", "Asia/Kathmandu") else 20)


@pytest.mark.parametrize(
    "zone, first, last",
    [
        ("America/Sao_Paulo", date(2016, 1, 1), date(2019, 12, 31)),
        ("Pacific/Apia", date(2010, 1, 1), date(2013, 12, 31)),
        ("Africa/Cairo", date(2023, 1, 1), date(2024, 12, 31)),
        ("Asia/Beirut", date(2023, 1, 1), date(2024, 12, 31)),
        ("Atlantic/Azores", date(2024, 1, 1), date(2025, 12, 31)),
        ("Pacific/Kwajalein", date(1969, 1, 1), date(1970, 12, 31)),
    ],
)
def test_so_they_do_where_midnight_or_a_whole_date_is_skipped_or_comes_twice(
    zone: str, first: date, last: date
) -> None:
    clock = Clock(zone)
    begins = [slot.begins for day in days_between(first, last) for slot in clock.grid(day)]
    assert {after - before for before, after in pairwise(begins)} == {timedelta(minutes=10)}


@given(moments(), MINUTES, st.sampled_from(["local", "utc"]))
def test_any_grid_goes_strictly_forward_from_day_to_day(moment: tuple[str, date], minutes: int, reading: str) -> None:
    zone, day = moment
    clock = Clock(zone, minutes, "utc" if reading == "utc" else "local")
    week = days_between(
        max(day - timedelta(days=3), date(1900, 1, 1)), min(day + timedelta(days=3), date(2100, 12, 31))
    )
    begins = [slot.begins for each in week for slot in clock.grid(each)]
    assert all(before < after for before, after in pairwise(begins))
    assert all(instant.tzinfo is UTC for instant in begins)
    for each in week:
        assert all(
            clock.starts(each) <= slot.begins < clock.starts(each + timedelta(days=1)) for slot in clock.grid(each)
        )


@given(moments(), MINUTES)
@example(("America/St_Johns", date(2010, 11, 7)), 10)
@example(("Europe/Amsterdam", date(1937, 7, 1)), 1)
def test_the_grid_is_what_one_sees_who_watches_the_clock_all_day(moment: tuple[str, date], minutes: int) -> None:
    zone, day = moment
    clock = Clock(zone, minutes)
    if clock.starts(day) < clock.starts(day + timedelta(days=1)):
        assert clock.grid(day) == tuple(walked(clock, day))
    else:
        assert clock.grid(day) == ()


@given(moments(), MINUTES, st.sampled_from(["local", "utc"]))
def test_a_slot_begins_when_its_label_says(moment: tuple[str, date], minutes: int, reading: str) -> None:
    zone, day = moment
    clock = Clock(zone, minutes, "utc" if reading == "utc" else "local")
    for slot in clock.grid(day):
        assert clock.begins(day, slot.label) == slot.begins
        local = slot.begins.astimezone(ZoneInfo(zone) if reading == "local" else UTC)
        assert (local.date(), f"{local:%H_%M}" + "b" * local.fold) == (day, slot.label)


@given(moments(), st.integers(0, 1439))
def test_every_minute_is_either_skipped_shown_once_or_repeated(moment: tuple[str, date], minute: int) -> None:
    zone, day = moment
    clock, label = Clock(zone, 1), f"{minute // 60:02}_{minute % 60:02}"
    passes = [begins for begins in (clock.begins(day, label), clock.begins(day, label + "b")) if begins]
    assert (label in clock.skipped(day)) == (not passes)
    assert (label in clock.repeated(day)) == (len(passes) == 2)
    assert passes == sorted(set(passes))


def test_a_label_off_the_grid_has_an_instant_too() -> None:
    assert Clock("Europe/Zurich").begins(date(2025, 7, 1), "03_07") == datetime(2025, 7, 1, 1, 7, tzinfo=UTC)
    assert Clock("Europe/Zurich", None).begins(date(2025, 7, 1), "03_07") == datetime(2025, 7, 1, 1, 7, tzinfo=UTC)
    assert Clock("Europe/Zurich", reading="utc").begins(date(2025, 7, 1), "03_07") == datetime(
        2025, 7, 1, 3, 7, tzinfo=UTC
    )


def test_a_time_that_the_clock_never_shows_has_none() -> None:
    zurich = Clock("Europe/Zurich")
    assert zurich.begins(date(2025, 3, 30), "02_10") is None
    assert zurich.begins(date(2025, 3, 30), "03_00") == datetime(2025, 3, 30, 1, tzinfo=UTC)
    assert zurich.begins(date(2025, 7, 1), "02_10b") is None
    assert Clock("Europe/Zurich", reading="utc").begins(date(2025, 10, 26), "02_10b") is None


def test_the_second_pass_of_a_repeated_hour_begins_an_hour_later() -> None:
    zurich = Clock("Europe/Zurich")
    assert zurich.begins(date(2025, 10, 26), "02_10") == datetime(2025, 10, 26, 0, 10, tzinfo=UTC)
    assert zurich.begins(date(2025, 10, 26), "02_10b") == datetime(2025, 10, 26, 1, 10, tzinfo=UTC)
    assert zurich.begins(date(2025, 10, 26), "02_10bb") is None
    assert labels(zurich.grid(date(2025, 10, 26)))[12:24] == [
        *(f"02_{minute}0" for minute in range(6)),
        *(f"02_{minute}0b" for minute in range(6)),
    ]


@given(st.text(max_size=8) | st.text("0123456789_b", max_size=7))
@example("02_10\n")
@example("24_00")
@example("23_60")
@example("٠٢_١٠")
@example("\udc80")
def test_a_malformed_label_has_no_instant(label: str) -> None:
    begins = Clock("UTC").begins(date(2025, 1, 1), label)
    assert (begins is not None) == bool(LABEL.fullmatch(label) and label[-1] != "b")


@given(moments(), st.integers(1, 1440))
def test_in_utc_every_day_is_alike(moment: tuple[str, date], minutes: int) -> None:
    zone, day = moment
    clock = Clock(zone, minutes, "utc")
    assert len(clock.grid(day)) == -(-1440 // minutes)
    assert clock.grid(day)[0].begins == datetime(day.year, day.month, day.day, tzinfo=UTC)
    assert (clock.skipped(day), clock.repeated(day), clock.says(day)) == ((), (), None)


@given(moments())
def test_without_a_grid_there_are_no_slots(moment: tuple[str, date]) -> None:
    zone, day = moment
    clock = Clock(zone, None)
    assert (clock.grid(day), clock.skipped(day), clock.repeated(day)) == ((), (), ())


@given(moments(), st.none() | MINUTES)
def test_it_speaks_of_the_days_that_have_not_24_hours_and_of_no_others(
    moment: tuple[str, date], minutes: int | None
) -> None:
    zone, day = moment
    clock = Clock(zone, minutes)
    lasts = clock.starts(day + timedelta(days=1)) - clock.starts(day)
    assert (clock.says(day) is None) == (lasts == timedelta(days=1))


@pytest.mark.parametrize(
    "zone, day, minutes, says",
    [
        ("Europe/Zurich", date(2025, 10, 26), 10, "The clocks go back: 02_00 to 02_50 happen twice, 150 slots."),
        ("Europe/Zurich", date(2025, 3, 30), 10, "The clocks go forward: 02_00 to 02_50 never come, 138 slots."),
        ("Europe/Zurich", date(2025, 3, 30), 60, "The clocks go forward: 02_00 never comes, 23 slots."),
        ("Europe/Zurich", date(2025, 10, 26), 1440, "The clocks go back: the day has 25 hours, 1 slot."),
        ("Europe/Zurich", date(2025, 10, 26), None, "The clocks go back: the day has 25 hours."),
        ("Australia/Lord_Howe", date(2025, 4, 6), 10, "The clocks go back: 01_30 to 01_50 happen twice, 147 slots."),
        ("Australia/Lord_Howe", date(2025, 10, 5), 10, "The clocks go forward: 02_00 to 02_20 never come, 141 slots."),
        ("America/Sao_Paulo", date(2018, 11, 4), 10, "The clocks go forward: 00_00 to 00_50 never come, 138 slots."),
        ("America/Sao_Paulo", date(2018, 11, 4), 1440, "The clocks go forward: 00_00 never comes, no slots."),
        ("America/St_Johns", date(2010, 11, 6), 10, "The clocks go back: 23_10 to 23_50 happen twice, 149 slots."),
        ("America/St_Johns", date(2010, 11, 7), 10, None),
        ("Pacific/Apia", date(2011, 12, 30), 10, "The clocks skip this date: no slots."),
        ("Pacific/Apia", date(2011, 12, 30), None, "The clocks skip this date."),
        ("Pacific/Apia", date(2011, 12, 31), 10, None),
    ],
)
def test_a_person_reads_what_the_clock_does(zone: str, day: date, minutes: int | None, says: str | None) -> None:
    assert Clock(zone, minutes).says(day) == says


def test_where_the_clock_goes_back_over_midnight_the_new_day_begins_when_midnight_comes_for_good() -> None:
    clock = Clock("America/St_Johns")  # on 2010-11-07, from 00:01 back to 23:01
    before, after = clock.grid(date(2010, 11, 6)), clock.grid(date(2010, 11, 7))
    assert labels(before)[-6:] == ["23_50", "23_10b", "23_20b", "23_30b", "23_40b", "23_50b"]
    assert labels(after)[:2] == ["00_00b", "00_10"]
    assert clock.repeated(date(2010, 11, 7)) == ("00_00",)


@pytest.mark.parametrize(
    "zone",
    ["", "Europe", "Mars/Olympus", "../etc/passwd", "/etc/passwd", "UTC\0", "\udc80", "europe zurich", "x" * 5000, "."],
)
def test_a_time_zone_that_nobody_knows_is_refused(zone: str) -> None:
    with pytest.raises(BadSetting, match="is not a time zone") as caught:
        Clock(zone)
    assert isinstance(caught.value, NeedsConfiguration)


@pytest.mark.parametrize("minutes", [0, -10, 1441])
def test_an_impossible_grid_is_refused(minutes: int) -> None:
    with pytest.raises(BadSetting, match="from 1 to 1440 minutes"):
        Clock("UTC", minutes)


def test_an_unknown_reading_is_refused() -> None:
    with pytest.raises(BadSetting, match="'local' or 'utc'"):
        Clock("UTC", 10, "solar")  # type: ignore[arg-type]


def test_time_zones_are_known_on_a_machine_that_has_none_of_its_own() -> None:
    """The Python package tzdata stands in."""
    code = (
        "from datetime import date; from hpc.slots import Clock; "
        "print(len(Clock('Europe/Zurich').grid(date(2025, 10, 26))))"
    )
    bare = {**os.environ, "PYTHONTZPATH": ""}
    done = subprocess.run([sys.executable, "-c", code], env=bare, capture_output=True, text=True, check=True)
    assert done.stdout == "150\n"
