"""Samples over a real ledger and real archives: drawn, copied, judged by people, reported, and let go."""

from __future__ import annotations

import csv
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from db import samples
from db.samples import Coding, Disputed

Answer = Callable[..., Any]
DAYS = "2025-01-30..2025-01-31"
MEMBERS = ("hello", "hostile", "silence", "quarantined", "injection")  # of the first archive, in its order


@pytest.fixture(autouse=True)
def judged(versions: Any) -> None:
    versions.judge()
    versions.flag(versions.transcript("hello"), "repetition")


@pytest.fixture
def archives(versions: Any) -> Path:
    """The first archive of the open day: as the ledger has it, each member's bytes are its own name."""
    path = Path(versions.made.open.staged) / "00_00"
    path.parent.mkdir(parents=True)
    rows = versions.connection.execute("SELECT name FROM recordings WHERE day_id = %s ORDER BY shard_id, ordinal",
                                       [versions.made.open.id]).fetchall()  # fmt: skip
    with tarfile.open(path, "w:xz") as archive:
        for row in rows[: len(MEMBERS)]:
            info = tarfile.TarInfo(row["name"].decode("utf-8", "surrogateescape"))
            info.size = len(row["name"])
            archive.addfile(info, io.BytesIO(row["name"]))
    return path


def sheet(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def filled(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_a_draw_takes_every_stratum_and_says_of_how_many(answer: Answer, versions: Any) -> None:
    told = answer("sample", "draw", "first", DAYS, "--n", "4")

    assert (told["drawn"], told["recordings"], told["with_transcript"], told["new"]) == (4, 6, 5, True)
    assert [(one["stratum"], one["population"], one["drawn"]) for one in told["strata"]] == [
        ("language=de flag=none", 1, 1), ("language=en flag=none", 2, 1), ("language=en flag=repetition", 1, 1),
        ("language=none flag=none", 1, 1),
    ]  # fmt: skip
    [listed] = answer("sample", "list")
    assert (listed["name"], listed["recordings"], listed["judged"], listed["released"]) == ("first", 4, 0, None)
    assert (listed["seed"], listed["strata"]) == (0, ["language", "flag"])


def test_the_same_draw_again_changes_nothing_and_another_of_that_name_is_refused(
    answer: Answer, call: Any, versions: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = ("sample", "draw", "first", DAYS, "--n", "2", "--strata", "")
    answer(*draw)
    before = versions.connection.execute("SELECT * FROM sample_recordings ORDER BY place").fetchall()

    assert answer(*draw)["new"] is False
    assert call(*draw, "--seed", "1") == 65
    assert "There is a sample first already" in capsys.readouterr().err
    assert versions.connection.execute("SELECT * FROM sample_recordings ORDER BY place").fetchall() == before
    assert versions.value("SELECT count(*) FROM events WHERE what = 'sample.drawn'") == 1


def test_a_draw_in_small_pages_is_the_same(answer: Answer, ledger: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    answer("sample", "draw", "first", DAYS, "--n", "3", "--strata", "site,day")
    monkeypatch.setattr(samples, "PAGE", 1)
    answer("sample", "draw", "second", DAYS, "--n", "3", "--strata", "day,site")

    one, other = (
        [row["recording_id"] for row in samples.audio(ledger, samples.get(ledger, name))]
        for name in ("first", "second")
    )
    assert one == other


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("First", DAYS), (65, "A sample's name is lower-case letters")),
        (("first", "2024-01-01"), (65, "None of the 0 recordings of these days has a transcript")),
        (("first", DAYS, "--n", "2"), (65, "There are 4 strata")),
        (("first", DAYS, "--strata", "language,mood"), (2, "'mood' is none of language, flag")),
        (("first", DAYS, "--site", "basel"), (65, "no site is called 'basel'")),
    ],
)
def test_a_draw_that_makes_no_sense_leaves_nothing_behind(
    call: Any, versions: Any, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: tuple[int, str]
) -> None:
    assert call("sample", "draw", *arguments) == says[0]
    assert says[1] in capsys.readouterr().err
    assert versions.value("SELECT count(*) FROM samples") == 0


# --- audio ------------------------------------------------------------------------------------------------------------


def test_audio_is_copied_byte_for_byte_under_our_own_names_and_what_is_gone_is_named(
    answer: Answer, archives: Path, versions: Any, tmp_path: Path
) -> None:
    told = answer("sample", "draw", "first", DAYS, "--audio", str(tmp_path / "out"))

    names = {row["name"] for row in versions.connection.execute("SELECT name FROM recordings")}
    copies = sorted((tmp_path / "out").iterdir())
    assert told["copied"] == len(copies) == 4
    assert {copy.read_bytes() for copy in copies} < names
    assert [copy.name for copy in copies if not copy.name.startswith("first-0000")] == []
    [lost] = told["missing"]
    assert (lost["recording"], "is not there" in lost["why"]) == (versions.ids["calm"], True)


def test_copies_that_are_there_stay_and_nothing_is_read_for_them(
    answer: Answer, archives: Path, versions: Any, tmp_path: Path
) -> None:
    answer("sample", "draw", "first", DAYS, "--audio", str(tmp_path / "out"))
    for copy in list((tmp_path / "out").iterdir())[:1]:
        copy.write_bytes(b"broken off")
    before = {copy.name: copy.stat().st_mtime_ns for copy in (tmp_path / "out").iterdir()}

    again = answer("sample", "audio", "first", str(tmp_path / "out"))
    archives.unlink()
    without = answer("sample", "audio", "first", str(tmp_path / "out"))

    after = {copy.name: copy.stat().st_mtime_ns for copy in (tmp_path / "out").iterdir()}
    assert (again["copied"], without["copied"]) == (4, 4)
    assert sum(before[name] != after[name] for name in before) == 1
    assert set(before) == set(after)


def test_an_archive_that_is_not_the_one_that_was_transcribed_gives_no_audio(
    answer: Answer, archives: Path, versions: Any, tmp_path: Path
) -> None:
    with tarfile.open(archives, "w") as archive:
        for name in ("one.mp3", "two.mp3"):
            archive.addfile(tarfile.TarInfo(name))

    told = answer("sample", "draw", "first", "2025-01-31", "--audio", str(tmp_path / "out"))

    assert (told["copied"], list((tmp_path / "out").iterdir())) == (0, [])
    assert {one["why"] for one in told["missing"]} == {
        "other bytes are in its place: the archive was changed", "its archive has no such recording any more",
    }  # fmt: skip


def test_a_damaged_archive_gives_what_is_before_the_damage(
    answer: Answer, archives: Path, versions: Any, tmp_path: Path
) -> None:
    archives.write_bytes(archives.read_bytes()[:-40])

    told = answer("sample", "draw", "first", "2025-01-31", "--audio", str(tmp_path / "out"))

    assert told["copied"] + len(told["missing"]) == 4
    assert told["copied"] == len(list((tmp_path / "out").iterdir()))
    assert all("is damaged near byte" in one["why"] for one in told["missing"])


def test_of_a_day_that_is_not_staged_any_more_there_is_no_audio(
    answer: Answer, call: Any, versions: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    versions.connection.execute("UPDATE days SET staged = NULL")

    answer("sample", "draw", "first", DAYS)
    assert call("sample", "audio", "first", str(tmp_path / "out")) == 0

    said = capsys.readouterr()
    assert "0 of 5 have their audio in" in said.out
    assert "zurich 2025-01-30 is not staged any more; transfer the day again" in said.err


# --- judging ----------------------------------------------------------------------------------------------------------


def test_a_sheet_is_blind_goes_to_a_coder_and_comes_back_as_rates(
    answer: Answer, archives: Path, versions: Any, tmp_path: Path
) -> None:
    answer("sample", "draw", "first", DAYS, "--audio", str(tmp_path / "out"))
    told = answer("sample", "sheet", "first", "--out", str(tmp_path / "blank.csv"))
    assert (told["recordings"], told["with_audio"]) == (5, 4)
    blank = (tmp_path / "blank.csv").read_text(encoding="utf-8-sig")
    assert [word for word in ("hello", "wide", "yesterday", "1+1", "repetition", "de,", "en,") if word in blank] == []

    said = {"hello": "Hello, wide world!", "calm": "yesterday was warm", "silence": "", "injection": "one plus one"}
    by_id = {str(versions.ids[name]): text for name, text in said.items()}
    rows = sheet(tmp_path / "blank.csv")
    for row in rows:
        row["reference"] = by_id.get(row["recording"], "")
        row["no_speech"] = "x" if by_id.get(row["recording"]) == "" else ""
    answered = answer("sample", "read", "first", str(filled(tmp_path / "full.csv", rows)), "--coder", "anna")

    assert answered == {"judged_in_sheet": 4, "new": 4, "judged": 4, "of": 5}
    report = answer("sample", "report", "first")
    rates = {one["stratum"]: one for one in report["strata"]}
    english = rates["language=en flag=none"]
    assert (english["population"], english["drawn"], english["judged"], english["words"]) == (2, 2, 2, 6)
    assert (english["errors"], english["wer"]) == (1 + 3, 4 / 6)  # "yesterday was calm"; "=1+1" are two words, or one
    assert (rates["language=en flag=repetition"]["wer"], rates["language=de flag=none"]["wer"]) == (0.0, None)
    silent = rates["language=none flag=none"]
    assert (silent["silent"], silent["invented"], silent["wer"]) == (1, 0, None)
    overall = report["overall"]
    assert (overall["population"], overall["judged"], overall["drawn"], overall["wer"]) == (5, 4, 5, 4 / 9)
    assert report == answer("sample", "report", "first")
    who = versions.connection.execute(
        "SELECT DISTINCT coder FROM sample_recordings WHERE judged IS NOT NULL"
    ).fetchall()
    assert [row["coder"] for row in who] == ["anna"]


def test_a_report_says_in_words_what_it_stands_for(
    answer: Answer, call: Any, versions: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer("sample", "draw", "first", DAYS, "--strata", "")

    assert call("sample", "report", "first") == 0

    out = capsys.readouterr().out
    assert "0 of 5 drawn recordings are judged; they stand for 0 of 5 recordings with a transcript." in out


def test_one_bad_line_and_nothing_of_a_sheet_is_taken(
    answer: Answer, call: Any, versions: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer("sample", "draw", "first", DAYS)
    answer("sample", "sheet", "first", "--out", str(tmp_path / "blank.csv"))
    rows = [row | {"reference": "some words"} for row in sheet(tmp_path / "blank.csv")]
    rows[3]["recording"] = "4711"

    assert call("sample", "read", "first", str(filled(tmp_path / "full.csv", rows))) == 65

    assert "line 5: place 4 is recording" in capsys.readouterr().err
    assert versions.value("SELECT count(*) FROM sample_recordings WHERE reference IS NOT NULL") == 0


def test_a_second_coding_that_differs_is_refused_unless_it_replaces(
    answer: Answer, call: Any, versions: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer("sample", "draw", "first", DAYS)
    answer("sample", "sheet", "first", "--out", str(tmp_path / "blank.csv"))
    first = [row | {"reference": "some words"} for row in sheet(tmp_path / "blank.csv")]
    path = filled(tmp_path / "full.csv", first)
    assert answer("sample", "read", "first", str(path), "--coder", "anna")["new"] == 5
    assert answer("sample", "read", "first", str(path), "--coder", "bert")["new"] == 0
    first[0]["reference"] = "other words"
    path = filled(tmp_path / "full.csv", first)

    assert call("sample", "read", "first", str(path), "--coder", "bert") == 65
    assert "line 2: anna judged place 1 otherwise" in capsys.readouterr().err
    assert answer("sample", "read", "first", str(path), "--coder", "bert", "--replace")["new"] == 1
    rows = versions.connection.execute("SELECT coder, reference FROM sample_recordings ORDER BY place").fetchall()
    assert [tuple(row.values()) for row in rows] == [("bert", "other words"), *[("anna", "some words")] * 4]


def test_what_somebody_judged_between_the_look_and_the_writing_is_not_written_over(
    answer: Answer, ledger: Any, versions: Any
) -> None:
    answer("sample", "draw", "first", DAYS)
    sample = samples.get(ledger, "first")
    mine = [Coding(place, row["recording_id"], "mine") for place, row in samples.places(ledger, sample).items()]
    samples.judge(ledger, sample, [Coding(3, mine[2].recording_id, "theirs")], coder="anna")

    with pytest.raises(Disputed, match="place 3 of first"):
        samples.judge(ledger, sample, mine, coder="bert")

    said = [row["reference"] for row in samples.places(ledger, sample).values()]
    assert said == [None, None, "theirs", None, None]


def test_a_report_goes_by_what_was_drawn_whatever_was_made_since(
    answer: Answer, ledger: Any, versions: Any, tmp_path: Path
) -> None:
    versions.version(versions.run(b"\xbb"), "hello", "a trial that nobody sees")
    assert answer("sample", "draw", "first", DAYS)["with_transcript"] == 5
    sample = samples.get(ledger, "first")
    place = next(p for p, r in samples.places(ledger, sample).items() if r["recording_id"] == versions.ids["hello"])
    samples.judge(ledger, sample, [Coding(place, versions.ids["hello"], "hello wide world")], coder="anna")
    versions.version(versions.run(b"\xaa"), "hello", "all other words", current=True)

    assert answer("sample", "report", "first")["overall"]["errors"] == 0


def test_a_sample_is_released_once(answer: Answer, call: Any, capsys: pytest.CaptureFixture[str]) -> None:
    answer("sample", "draw", "first", DAYS)

    assert answer("sample", "release", "first")["new"] is True
    assert answer("sample", "release", "first")["new"] is False
    assert answer("sample", "list")[0]["released"] is not None
    for arguments in (("release", "none"), ("report", "none"), ("sheet", "none", "--out", "x.csv")):
        assert call("sample", *arguments) == 65
        assert "The ledger has no sample 'none'" in capsys.readouterr().err
