"""What a layout writes it reads back, it reads nothing else, and no name has two readings."""

from __future__ import annotations

import re
from datetime import date
from itertools import product

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from db.errors import BadData
from hpc.dates import MONTHS, YEARS, days_between
from hpc.errors import BadSetting
from hpc.layout import KINDS, Layout, Named
from hpc.slots import Clock

# What the default replaces.
_STEM = r"(?:.*/)?0_([0-9]{4}-[0-9]{2}-[0-9]{2})_([0-9]{2})_([0-9]{2})"
ARCHIVE = re.compile(_STEM + r"(?:\.tar(?:\.(?:xz|gz|bz2))?|\.tgz)")
COMPANION = re.compile(_STEM + r"_(metadata|subtitles|comments)\.parquet")
REFERENCE = "{site}_{year}_{monthname}/prepped_data"
FOLDS = Layout(
    REFERENCE,
    ("0_{date}_{hour}_{minute}{fold}.tar.xz",),
    *((f"0_{{date}}_{{hour}}_{{minute}}{{fold}}_{kind}.parquet",) for kind in KINDS[1:]),
)
ORDINARY = {f"{hour:02}_{ten}0" for hour in range(24) for ten in range(6)}
TEN_YEARS = days_between(date(2016, 1, 1), date(2025, 12, 31))
PLACES = (
    ("Europe/Zurich", TEN_YEARS),
    ("America/New_York", TEN_YEARS),
    ("Australia/Lord_Howe", TEN_YEARS),
    ("UTC", TEN_YEARS),
    ("Asia/Kathmandu", TEN_YEARS),
    ("America/Sao_Paulo", days_between(date(2017, 1, 1), date(2018, 12, 31))),
    ("Pacific/Apia", days_between(date(2011, 1, 1), date(2011, 12, 31))),
)
DAYS = st.dates(date(YEARS[0], 1, 1), date(YEARS[-1], 12, 31))
LABELS = st.builds("{:02}_{:02}{}".format, st.integers(0, 23), st.integers(0, 59), st.sampled_from(["", "b"]))
SITES = st.from_regex(r"[a-z][a-z0-9_-]{0,20}", fullmatch=True)
FIELDS = ("year", "month", "monthname", "day", "hour", "minute", "fold", "date", "slot")
LITERALS = st.text("b0_-.may1~ é", max_size=3)


@st.composite
def templates(draw: st.DrawFn) -> str:
    """A file's name: all that it must say, and more, in any order, with text in between."""
    month = draw(st.sampled_from(["month", "monthname"]))
    must = draw(st.sampled_from([["date", "slot"], ["year", month, "day", "slot"], ["date", "hour", "minute"]]))
    more = draw(st.lists(st.sampled_from(FIELDS), max_size=3))
    pieces = [f"{{{name}}}" for name in draw(st.permutations([*must, *more]))]
    return "".join(draw(LITERALS) + piece for piece in pieces) + draw(LITERALS)


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    try:
        return Layout(archive=tuple(draw(st.lists(templates(), min_size=1, max_size=3))), metadata=(draw(templates()),))
    except BadSetting as error:
        assume("can both match" not in str(error))
        raise


def labels_of(day: date) -> set[str]:
    """The labels that the day has in any of the places; tests/unit/test_slots.py says which an ordinary day has."""
    clocks = [Clock(zone) for zone, days in PLACES if days[0] <= day <= days[-1]]
    changed = (slot.label for clock in clocks if clock.says(day) for slot in clock.grid(day))
    return ORDINARY.union(changed) if any(clock.says(day) is None for clock in clocks) else set(changed)


def test_in_ten_years_every_file_of_every_slot_is_read_back_as_that_slot_of_that_day() -> None:
    """A name does not depend on the time zone, so each label of a date is looked at once for all zones that have it."""
    again = set()
    for day in {day: None for _, days in PLACES for day in days}:
        for slot, kind in product(labels_of(day), KINDS):
            assert FOLDS.parse(FOLDS.name(day, slot, kind)) == Named(day, slot, kind)
            if slot.endswith("b"):
                again.add(slot[:5])
    assert {"02_10", "01_10", "01_30", "23_50"} <= again


@given(layouts(), DAYS, LABELS, st.sampled_from(KINDS))
def test_whatever_the_templates_a_name_is_read_back(layout: Layout, day: date, slot: str, kind: str) -> None:
    tells = "{fold}" in getattr(layout, kind)[0]
    assert layout.parse(layout.name(day, slot, kind)) == Named(day, slot if tells else slot[:5], kind)


@given(layouts(), st.lists(st.tuples(DAYS, LABELS, st.sampled_from(KINDS)), min_size=2, max_size=30, unique=True))
def test_whatever_the_templates_two_files_have_one_name_only_if_it_cannot_tell_folds(
    layout: Layout, files: list[tuple[date, str, str]]
) -> None:
    names: dict[str, tuple[date, str, str]] = {}
    for day, slot, kind in files:
        tells = "{fold}" in getattr(layout, kind)[0]
        file = (day, slot if tells else slot[:5], kind)
        assert names.setdefault(layout.name(*file), file) == file


@given(layouts(), DAYS, LABELS, st.sampled_from(KINDS), st.data())
def test_a_name_with_one_character_changed_is_read_as_what_it_now_says_or_not_at_all(
    layout: Layout, day: date, slot: str, kind: str, data: st.DataObject
) -> None:
    name = layout.name(day, slot, kind)
    place = data.draw(st.integers(0, len(name) - 1))
    changed = name[:place] + data.draw(st.characters() | st.sampled_from("0123456789b_")) + name[place + 1 :]
    read = layout.parse(changed)
    if read:
        spelt = {_spelt(template, read) for template in getattr(layout, read.kind)}
        assert changed.rpartition("/")[2] in spelt


def _spelt(template: str, named: Named) -> str:
    """The name the slow way, field by field."""
    day, (hour, minute) = named.date, (named.slot[:2], named.slot[3:5])
    values = {"year": f"{day:%Y}", "month": f"{day:%m}", "day": f"{day:%d}", "monthname": MONTHS[day.month - 1]}
    values |= {"date": day.isoformat(), "hour": hour, "minute": minute, "slot": named.slot[:5], "fold": named.slot[5:]}
    return re.sub(r"\{([a-z]+)\}", lambda match: values[match[1]], template)


HOSTILE = (
    st.text()
    | st.text("0123456789_-.tarxzgb/\n\0٣", max_size=40)
    | st.builds(lambda raw: raw.decode("utf-8", "surrogateescape"), st.binary())
)


@given(HOSTILE)
@example("0_2025-01-31_00_00.tar.xz" * 5000)
@example("0_" + "1" * 100_000)
@example("/" * 100_000)
def test_any_text_is_either_a_name_of_the_layout_or_nothing(text: str) -> None:
    named = Layout().parse(text)
    if named:
        assert text.rpartition("/")[2] in {_spelt(each, named) for each in getattr(Layout(), named.kind)}


@pytest.mark.parametrize(
    "name",
    ["", "0_2025-02-29_00_00.tar.xz", "0_2025-13-01_00_00.tar.xz", "0_2025-00-01_00_00.tar", "0_2025-01-32_00_00.tar",
     "0_2025-01-31_24_00.tar.xz", "0_2025-01-31_00_60.tar.xz", "0_2025-01-31_00_00.tar.xz\n", " 0_2025-01-31_00_00.tar",
     "0_2025-01-31_00_00.TAR.XZ", "0_2025-1-31_00_00.tar.xz", "0_٢٠٢٥-01-31_00_00.tar.xz", "0_1899-12-31_00_00.tar.xz",
     "0_2101-01-01_00_00.tar.xz", "0_2025-01-31_00_00b.tar.xz", "1_2025-01-31_00_00.tar.xz",
     "0_2025-01-31_00_00.tar.zst", "0_2025-01-31_00_00_metadata.parquet.tmp", "0_2025-01-31_00_00_words.parquet",
     "2025-01-31_00-00.tar.xz",
     "0_2025-01-31_00_00.tarxxz", "0_2025-01-31_00_00.tar.xz/", "0_2025-01-31_00_00.tar.xz\udc80"],
)  # fmt: skip
def test_what_is_nearly_a_name_is_none(name: str) -> None:
    assert Layout().parse(name) is None


def test_digits_of_other_scripts_are_none() -> None:
    name = FOLDS.name(date(2025, 11, 11), "11_11", "archive")
    for place, zero, value in product(range(len(name)), "٠０०𝟎", range(10)):
        if name[place].isdigit():
            foreign = chr(ord(zero) + value)
            assert int(foreign) == value
            assert FOLDS.parse(name[:place] + foreign + name[place + 1 :]) is None


@given(DAYS, LABELS, st.sampled_from(["", "a/", "/a/../b/", "zurich_2025_january/prepped_data/"]), st.data())
def test_the_default_reads_the_names_that_a_listing_has_always_read(
    day: date, label: str, folder: str, data: st.DataObject
) -> None:
    slot = label[:5]
    suffixes = [".tar", ".tar.xz", ".tar.gz", ".tar.bz2", ".tgz", ".tar.zst", ".zip", ".tgz.xz", "", ".parquet"]
    companions = [f"_{kind}.parquet" for kind in (*KINDS, "words")]
    path = f"{folder}0_{day}_{slot}{data.draw(st.sampled_from(suffixes + companions))}"
    named = Layout().parse(path)
    if match := ARCHIVE.fullmatch(path):
        assert named == Named(day, slot, "archive")
    elif match := COMPANION.fullmatch(path):
        assert named == Named(day, slot, match[4])
    else:
        assert named is None


def test_a_repeated_hour_has_one_name_where_the_layout_cannot_tell() -> None:
    assert Layout().name(date(2025, 10, 26), "02_10b", "archive") == "0_2025-10-26_02_10.tar.xz"
    assert FOLDS.name(date(2025, 10, 26), "02_10b", "archive") == "0_2025-10-26_02_10b.tar.xz"


def test_fields_that_say_the_same_thing_must_agree() -> None:
    layout = Layout(archive=("{monthname}_{month}_{date}_{slot}_{hour}.tar",))
    assert layout.parse("may_05_2025-05-31_07_10_07.tar") == Named(date(2025, 5, 31), "07_10", "archive")
    assert layout.parse("may_06_2025-05-31_07_10_07.tar") is None
    assert layout.parse("june_05_2025-05-31_07_10_07.tar") is None
    assert layout.parse("may_05_2025-05-31_07_10_08.tar") is None


def test_the_reference_folder_is_the_month_s() -> None:
    layout = Layout(REFERENCE)
    assert layout.folder_of("zurich", date(2025, 1, 31)) == "zurich_2025_january/prepped_data"


@pytest.mark.parametrize("site", ["", "..", "a/b", "Zurich", "a\n", "\0"])
def test_what_is_no_site_makes_no_path(site: str) -> None:
    with pytest.raises(BadData):
        Layout(REFERENCE).folder_of(site, date(2025, 1, 1))


@given(layouts())
def test_a_layout_is_what_its_data_says(layout: Layout) -> None:
    again = Layout.of(layout.as_dict())
    assert (again, hash(again), again.as_dict()) == (layout, hash(layout), layout.as_dict())
    assert Layout.of({}) == Layout()
    assert Layout.of({"archive": "{date}_{slot}.tar"}).archive == ("{date}_{slot}.tar",)


GOOD = "{date}_{slot}"


@pytest.mark.parametrize(
    "data, says",
    [
        ({"folder": "/srv/audio"}, "begins with '/'"),
        ({"folder": "a//b"}, "empty, '.' or '..'"),
        ({"folder": "a/"}, "empty, '.' or '..'"),
        ({"folder": "../a"}, "empty, '.' or '..'"),
        ({"folder": "a/../b"}, "empty, '.' or '..'"),
        ({"folder": "a\0b"}, "cannot be printed"),
        ({"folder": "a\udc80"}, "cannot be printed"),
        ({"folder": "{hour}"}, "no use for {hour}"),
        ({"folder": "{month}"}, "a month without its year"),
        ({"folder": "{year}/{day}"}, "a day without its month"),
        ({"folder": 7}, "one template"),
        ({"archive": ["{date_{slot}"]}, "no use for|without its partner"),
        ({"archive": [GOOD + "}"]}, "without its partner"),
        ({"archive": ["{" + GOOD]}, "without its partner"),
        ({"archive": ["{" + GOOD + "}"]}, "without its partner|no use for"),
        ({"archive": [GOOD + "{}"]}, "no use for {}"),
        ({"archive": [GOOD + "{Site}"]}, "no use for {Site}"),
        ({"archive": ["{site}" + GOOD]}, "no use for {site}"),
        ({"archive": ["{date:>10}{slot}"]}, "no use for"),
        ({"archive": ["a/" + GOOD]}, "not a file's name"),
        ({"archive": [".."]}, "not a file's name"),
        ({"archive": [""]}, "not a file's name"),
        ({"archive": [GOOD + "\n"]}, "cannot be printed"),
        ({"archive": [GOOD + "x" * 241]}, "longer than 255 bytes"),
        ({"archive": ["{slot}.tar"]}, "does not say the date"),
        ({"archive": ["{year}{day}_{slot}.tar"]}, "does not say the date"),
        ({"archive": ["{date}_{hour}.tar"]}, "does not say the slot"),
        ({"archive": []}, "at least one template"),
        ({"archive": [3]}, "list of templates"),
        ({"archive": {"a": 1}}, "list of templates"),
        ({"audio": [GOOD]}, "no 'audio'"),
        ({"archive": [GOOD, GOOD]}, "can both match"),
        ({"archive": [GOOD], "metadata": ["{year}-{month}-{day}_{hour}_{minute}"]}, "can both match"),
        ({"archive": ["{year}{month}{day}{slot}", "{year}{day}{month}{slot}"]}, "can both match"),
        ({"archive": [GOOD + "{fold}", GOOD + "b"]}, "can both match"),
        ({"archive": [GOOD + "{fold}", GOOD]}, "can both match"),
        ({"archive": [GOOD + ".tar", GOOD + "{fold}.tar"]}, "can both match"),
        ({"archive": ["{year}{monthname}{day}{slot}", "2025may{day}{slot}{month}{year}"]}, None),
    ],
)
def test_a_mistake_in_a_layout_is_told_when_it_is_made(data: dict[str, object], says: str | None) -> None:
    if says is None:
        assert Layout.of(data)
        return
    with pytest.raises(BadSetting) as caught:
        Layout.of(data)
    assert any(each in str(caught.value) for each in says.split("|"))


@given(st.dictionaries(st.sampled_from(["folder", *KINDS]), st.text() | st.lists(st.text() | st.none()) | st.none()))
def test_any_data_is_a_layout_or_a_bad_setting(data: dict[str, object]) -> None:
    try:
        assert Layout.of(Layout.of(data).as_dict()) == Layout.of(data)
    except BadSetting as error:
        assert str(error).isprintable()


@pytest.mark.parametrize("slot", ["", "2_10", "24_00", "02_60", "02_10c", "02_10bb", "02_10\n", "../..", "٠٢_١٠"])
def test_what_is_no_slot_names_no_file(slot: str) -> None:
    with pytest.raises(BadData):
        Layout().name(date(2025, 1, 1), slot, "archive")


def test_a_year_that_would_not_be_read_back_names_no_file() -> None:
    with pytest.raises(BadData):
        Layout().name(date(2101, 1, 1), "00_00", "archive")


def test_a_kind_without_a_template_has_no_names() -> None:
    layout = Layout(comments=())
    assert layout.parse("0_2025-01-31_00_00_comments.parquet") is None
    with pytest.raises(BadSetting, match="comments"):
        layout.name(date(2025, 1, 31), "00_00", "comments")
