"""The synthetic day: what it holds, that it follows from its seed, that a kill costs nothing, and its troubles."""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from datetime import date
from os import fsdecode
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from db.errors import TryAgain
from hpc.cli.main import cli
from hpc.demo import speech
from hpc.demo.day import NotOurs, make_day
from hpc.demo.trouble import BAD_MEMBERS, Trouble, plan
from hpc.demo.truth import ClipTruth, DayTruth, read_truth
from hpc.errors import ArchiveDamaged, BadSetting
from hpc.layout import Layout
from hpc.model import Audio, Result, Seal, Shard
from hpc.origin import Origin
from hpc.route import Route
from hpc.slots import Clock
from hpc.sources.local import LocalSource
from hpc.stages.decode import DecodeLimits, DecoderPool
from hpc.stages.listing import sorted_out
from hpc.stages.unpack import ArchiveLimits, unpack

ON = date(2025, 1, 31)
SWITCHES = Trouble.all().names


def make(folder: Path, *, trouble: str = "none", slots: int = 1, clips: int = 3, **more: Any) -> DayTruth:
    asked = {"site": "demo", "date": ON, "seed": 7, **more}
    return make_day(folder, slots=slots, clips=clips, trouble=Trouble.named(trouble), **asked)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file under the folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Which file is which; a file that was written again is another."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files if "prepped" in str(path)}


def members(archive: Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    """As a stranger's program reads it."""
    with tarfile.open(archive, encoding="utf-8", errors="surrogateescape") as tar:
        return [(info, file.read()) for info in tar if (file := tar.extractfile(info))]


def of(day: DayTruth, archive: str) -> list[ClipTruth]:
    return [clip for clip in day.clips if clip.shard == archive]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> DayTruth:
    """Three archives of eight good clips."""
    return make(tmp_path_factory.mktemp("plain"), slots=3, clips=8)


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> DayTruth:
    """Every trouble there is."""
    return make(tmp_path_factory.mktemp("troubled"), slots=5, clips=7, trouble="all")


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a day of two small archives, to be looked at or copied."""
    folder = tmp_path_factory.mktemp("twice")
    make(folder, slots=2)
    return folder


@pytest.fixture
def mine(tmp_path: Path, twice: Path) -> Path:
    """A copy of it to do things to."""
    return shutil.copytree(twice, tmp_path / "mine")


# What it holds


def test_a_day_has_its_slots_with_their_clips_and_their_companions(plain: DayTruth) -> None:
    stems = [f"0_{ON}_00_00", f"0_{ON}_00_10", f"0_{ON}_00_20"]
    kinds = (".tar.xz", "_comments.parquet", "_metadata.parquet", "_subtitles.parquet")
    assert sorted(path.name for path in plain.audio.iterdir()) == [f"{stem}{kind}" for stem in stems for kind in kinds]
    assert [len(of(plain, archive)) for archive in plain.archives] == [8, 8, 8]
    assert plain.audio.relative_to(plain.truth.parent.parent) == Path("demo_2025_january/prepped_data")


def test_an_id_is_a_clip_s_own_and_carries_a_time_inside_its_slot(plain: DayTruth) -> None:
    ids = [int(clip.meta_id) for clip in plain.clips]
    assert len(set(ids)) == len(ids)
    assert {len(clip.meta_id) for clip in plain.clips} == {19}
    midnight = 1_738_281_600  # 2025-01-31 00:00 UTC
    for clip, number in zip(plain.clips, ids, strict=True):
        start = midnight + 60 * int(clip.slot[3:])
        assert start <= number >> 32 < start + 600


def test_the_truth_names_the_members_in_order_and_each_has_its_format(plain: DayTruth) -> None:
    beginnings = {"mp3": (b"ID3", b"\xff"), "opus": (b"OggS",), "wav": (b"RIFF",), "m4a": (b"\0\0\0",)}
    for archive in plain.archives:
        found = members(plain.audio / archive)
        clips = of(plain, archive)
        assert [info.name for info, _ in found] == [clip.member for clip in clips]
        assert [clip.ordinal for clip in clips] == list(range(8))
        assert all(data.startswith(beginnings[clip.codec]) for clip, (_, data) in zip(clips, found, strict=True))
        assert all(clip.member == f"{clip.meta_id}.{clip.codec}" for clip in clips)
    codecs = [clip.codec for clip in plain.clips]
    assert set(codecs) == set(beginnings)
    assert codecs.count("mp3") > len(codecs) / 2


def test_words_lie_inside_their_clip_in_order_and_negatives_have_none(plain: DayTruth) -> None:
    assert {clip.kind for clip in plain.clips} >= {"speech", "silence", "noise", "music"}
    for clip in plain.clips:
        assert 3.0 <= clip.seconds <= 25.0
        if clip.kind == "speech":
            assert clip.text == " ".join(word for word, _, _ in clip.words)
            assert set(clip.text.split()) <= set(speech.WORDS)
            times = [time for _, start, end in clip.words for time in (start, end)]
            assert times == sorted(times)
            assert 0.3 <= times[0] < times[-1] <= clip.seconds
            assert clip.voice in speech.TRAINED_VOICES
        else:
            assert (clip.text, clip.words, clip.voice) == ("", (), None)
    gaps = [
        after[1] - before[2] for clip in plain.clips for before, after in zip(clip.words, clip.words[1:], strict=False)
    ]
    assert max(gaps) >= 2.0, "no clip has a pause"


def test_the_pipeline_finds_what_the_truth_says_of_every_clip(troubled: DayTruth) -> None:
    truth = {(clip.shard, clip.ordinal): clip for clip in troubled.clips}
    found: dict[str, int] = {}
    with DecoderPool(children=2, limits=DecodeLimits()) as pool:
        for archive in set(troubled.archives) - set(troubled.damaged):
            for item in pool.decode(
                unpack(Shard(1, "demo", ON, archive, (troubled.audio / archive,)), limits=ArchiveLimits())
            ):
                if isinstance(item, Seal):
                    found[archive] = item.recordings
                    continue
                assert isinstance(item, Audio | Result)
                clip = truth[archive, item.recording.ordinal]
                assert item.recording.name.decode("utf-8", "surrogateescape") == clip.member
                if isinstance(item, Audio):
                    assert clip.failure is None
                    assert item.duration == pytest.approx(clip.seconds, abs=0.1)
                    assert item.flags == ()
                else:
                    assert getattr(item.outcome, "kind", None) == clip.failure
    assert found == {name: len(of(troubled, name)) for name in troubled.archives if name not in troubled.damaged}


def test_the_source_lists_a_day_without_its_truth_and_its_late_files(troubled: DayTruth) -> None:
    origin = Origin("demo", troubled.location, Layout(), Clock("UTC"), Route())
    source = LocalSource(origin)
    listed = list(sorted_out(source.listing(ON), origin, ON))
    archives = sorted(fsdecode(file.path) for file in listed if file.kind == "archive")
    assert archives == sorted(troubled.archives)
    assert len(source.listing(ON)) == len(listed) == 4 * 5 - 3
    assert not [file for file in listed if file.kind == "loose"]


def test_companions_speak_of_every_clip_once_in_turning_spellings(plain: DayTruth) -> None:
    spellings = []
    for archive in plain.archives:
        stem = plain.audio / archive.removesuffix(".tar.xz")
        table = pq.read_table(f"{stem}_metadata.parquet")
        assert [str(one) for one in table["meta_id"].to_pylist()] == [clip.meta_id for clip in of(plain, archive)]
        spellings.append([name for name in table.schema.names if name.lower() == "stats_playcount"])
        said = {clip.meta_id: clip for clip in of(plain, archive)}
        for row in pq.read_table(f"{stem}_subtitles.parquet").to_pylist():
            assert said[str(row["meta_id"])].text in row["content"]
        assert {str(one) for one in pq.read_table(f"{stem}_comments.parquet")["meta_id"].to_pylist()} <= set(said)
    assert sorted(map(len, spellings)) == [1, 1, 2]
    assert len({name for names in spellings for name in names}) == 2


def test_the_truth_reads_back_as_it_was_made(troubled: DayTruth) -> None:
    assert read_truth(troubled.truth.parent.parent, ON) == troubled
    assert len(troubled.truth.read_text().splitlines()) == len(troubled.clips)


# It follows from its seed


def test_a_second_making_gives_the_same_bytes_in_one_process_or_several(
    tmp_path: Path, plain: DayTruth, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    make(tmp_path, slots=3, clips=8)
    assert tree(tmp_path) == tree(plain.truth.parent.parent)


@pytest.mark.parametrize("change", [{"seed": 8}, {"site": "other"}, {"date": date(2025, 2, 1)}])
def test_another_seed_site_or_date_says_something_else(tmp_path: Path, twice: Path, change: dict[str, Any]) -> None:
    said = {clip.text for clip in read_truth(twice, ON).clips}
    assert not said & {clip.text for clip in make(tmp_path, **change).clips}


def test_a_day_that_is_there_is_not_written_again(mine: Path) -> None:
    before, told = stamps(mine), list[int]()
    assert make(mine, slots=2, progress=told.append) == read_truth(mine, ON)
    assert stamps(mine) == before
    assert told == [6]


def test_progress_counts_clips_up_to_all(tmp_path: Path) -> None:
    told: list[int] = []
    make(tmp_path, slots=2, clips=2, progress=told.append)
    assert told == [0, 2, 2]


@pytest.mark.parametrize("damage", ["gone", "changed", "companion gone"])
def test_an_archive_that_was_lost_or_changed_is_made_again_alone(mine: Path, twice: Path, damage: str) -> None:
    day, before = read_truth(mine, ON), stamps(mine)
    if damage == "companion gone":
        (day.audio / f"0_{ON}_00_10_comments.parquet").unlink()
    elif damage == "gone":
        (day.audio / day.archives[1]).unlink()
    else:
        (day.audio / day.archives[1]).write_bytes(b"something else")
    make(mine, slots=2)
    assert tree(mine) == tree(twice)
    assert {name for name, stamp in stamps(mine).items() if stamp == before[name]} == {
        name for name in before if "00_00" in name
    }


# A kill costs nothing


def command(folder: Path, *, makers: int) -> list[str]:
    """`dayscribe demo-day` for the day of `twice`, on a machine of so many cores."""
    program = f"import os; os.sched_getaffinity = lambda _: set(range({makers})); from hpc.cli.main import main; main()"
    options = ["--slots", "2", "--clips", "3", "--trouble", "none"]
    return [sys.executable, "-c", program, "demo-day", str(folder), *options]


def armed(point: str, action: str) -> dict[str, str]:
    return os.environ | {"DAYSCRIBE_FAULTS_ARMED": "yes", "DAYSCRIBE_FAULT": f"{point}:{action}"}


@pytest.mark.parametrize("point", ["demo.archive_half", "demo.archive_renamed", "demo.archive_renamed:2"])
def test_a_command_killed_at_any_point_goes_on_to_the_same_bytes(tmp_path: Path, twice: Path, point: str) -> None:
    killed = subprocess.run(command(tmp_path, makers=1), env=armed(point, "kill"), timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL
    left, wanted = tree(tmp_path), tree(twice)
    assert all(left[name] == wanted[name] for name in left if name.endswith(".tar.xz") and "/." not in name)
    make(tmp_path, slots=2)
    assert tree(tmp_path) == wanted


@pytest.mark.parametrize("point", ["demo.archive_half", "demo.archive_renamed"])
def test_a_maker_killed_beside_others_is_told_in_one_sentence_and_costs_nothing(
    tmp_path: Path, twice: Path, point: str
) -> None:
    failed = subprocess.run(
        command(tmp_path, makers=2), env=armed(point, "kill"), capture_output=True, text=True, timeout=120, check=False
    )
    assert failed.returncode == 75
    assert failed.stderr.splitlines()[-1] == (
        "dayscribe: A process making the day was ended; run the same command again to go on."
    )
    make(tmp_path, slots=2)
    assert tree(tmp_path) == tree(twice)


def test_makers_end_with_a_killed_command(tmp_path: Path) -> None:
    with subprocess.Popen(command(tmp_path, makers=2), env=armed("demo.archive_half", "stop")) as parent:
        makers = wait_for_stopped_children(parent.pid)
        descriptors = [os.pidfd_open(maker) for maker in makers]
        parent.kill()
    for maker in makers:
        os.kill(maker, signal.SIGCONT)
    try:
        for descriptor in descriptors:
            assert select.select([descriptor], [], [], 20)[0], "a maker outlived its command"
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def wait_for_stopped_children(parent: int) -> list[int]:
    """The makers, once all of them have stopped at their fault point."""
    for _ in patience():
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        states = {
            int(child): Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] for child in children
        }
        if (stopped := [child for child, state in states.items() if state == "T"]) and len(stopped) == 2:
            return stopped
    raise AssertionError("the makers never came to their fault point")


def patience(seconds: float = 60) -> Iterator[None]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(0.02)


# What it refuses


def test_archives_that_were_not_made_here_are_never_touched(tmp_path: Path) -> None:
    audio = tmp_path / "demo_2025_january" / "prepped_data"
    audio.mkdir(parents=True)
    theirs = audio / f"0_{ON}_23_50.tar.xz"
    theirs.write_bytes(b"somebody's")
    with pytest.raises(NotOurs, match=str(theirs)):
        make(tmp_path)
    assert list(tmp_path.rglob("*.tar.xz")) == [theirs]
    assert make(tmp_path, date=date(2025, 1, 30)).archives


@pytest.mark.parametrize("change", [{"seed": 8}, {"slots": 3}, {"clips": 4}, {"trouble": "plain-tar"}, {"site": "b"}])
def test_another_day_in_the_same_folder_is_refused(twice: Path, change: dict[str, Any]) -> None:
    before = tree(twice)
    with pytest.raises(BadSetting, match="holds another synthetic day"):
        make(twice, **{"slots": 2, **change})
    assert tree(twice) == before


def test_two_commands_never_make_one_day_at_the_same_time(twice: Path) -> None:
    with (twice / "truth" / f".{ON}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(TryAgain, match="Another command"):
            make(twice, slots=2)


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ({"slots": 0}, "1 to 144 slots"), ({"slots": 145}, "1 to 144 slots"), ({"clips": 0}, "of 1 to 5000 clips"),
        ({"date": date(2038, 1, 1)}, "1978 to 2037"), ({"site": "../evil"}, "A site's name"),
        ({"trouble": "html,zero-bytes", "clips": 1}, "2 are needed"),
        ({"trouble": "flipped-bit", "slots": 1}, "one must stay whole"),
        ({"trouble": "htlm"}, "No trouble is called 'htlm'"),
    ],
)  # fmt: skip
def test_what_cannot_be_made_is_said_before_anything_is_written(
    tmp_path: Path, asked: dict[str, Any], answer: str
) -> None:
    with pytest.raises(BadSetting, match=answer):
        make(tmp_path / "day", **asked)
    assert not (tmp_path / "day").exists()


def test_a_day_that_was_never_finished_has_no_truth(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="dayscribe demo-day"):
        read_truth(tmp_path, ON)


def test_a_machine_without_the_synthesiser_is_told_which_package_it_lacks(tmp_path: Path) -> None:
    program = """if 1:
        import ctypes, os
        os.sched_getaffinity = lambda _: {0}
        whole = ctypes.CDLL
        def without(name, *rest, **more):
            if name and "espeak" in name:
                raise OSError(f"{name}: cannot open shared object file")
            return whole(name, *rest, **more)
        ctypes.CDLL = without
        from hpc.cli.main import main
        main()"""
    arguments = ["demo-day", str(tmp_path), "--slots", "1", "--clips", "1", "--trouble", "none"]
    told = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert told.returncode == 78
    assert "libespeak-ng1 espeak-ng-data" in told.stderr.splitlines()[-1]


# Its troubles, one by one


def test_the_default_is_a_missing_slot_a_misnamed_tar_a_duplicate_and_six_bad_members() -> None:
    assert Trouble.default().names == (
        "missing_slot", "zero_bytes", "html", "truncated", "one_hertz", "playlist", "garbage", "duplicate", "plain_tar",
    )  # fmt: skip
    assert Trouble.none().names == ()
    assert Trouble.named(",".join(SWITCHES)) == Trouble.named("all") == Trouble.all()
    assert Trouble.named("missing-slot, late_parquet").names == ("missing_slot", "late_parquet")


@pytest.mark.parametrize("slots", [1, 2, 6, 143, 144])
def test_a_missing_slot_is_one_more_in_the_midst_while_the_day_has_room(slots: int) -> None:
    plans, missing = plan(Trouble(missing_slot=True), slots=slots, clips=1)
    assert len(plans) == min(slots, 143)
    assert len(missing) == 1
    assert missing[0] not in {one.slot for one in plans}
    assert missing[0] > plans[0].slot
    if slots > 1:
        assert missing[0] < plans[-1].slot


@pytest.mark.parametrize("slots", [3, 4, 7, 144])
def test_every_trouble_is_planted_once_and_never_inside_a_damaged_archive(slots: int) -> None:
    plans, _ = plan(Trouble.all(), slots=slots, clips=20)
    sound = [one for one in plans if not one.damaged]
    assert sorted(name for one in sound for name in one.bad) == sorted(BAD_MEMBERS)
    for what in ("duplicate", "plain", "late", "hostile"):
        assert [bool(getattr(one, what)) for one in sound].count(True) == 1, what
    assert [(one.flipped, one.cut) for one in plans if one.damaged] == [(True, False), (False, True)]


def test_each_bad_member_takes_the_place_of_one_clip(tmp_path: Path) -> None:
    day = make(tmp_path, trouble=",".join(BAD_MEMBERS), clips=7)
    bad = [clip for clip in day.clips if clip.kind != "speech"]
    assert sorted(clip.kind for clip in bad) == sorted(f"bad:{failure}" for failure, _, _ in BAD_MEMBERS.values())
    assert {(clip.wanted, clip.text, clip.words) for clip in bad} == {("quarantined", "", ())}
    data = {info.name: data for info, data in members(day.audio / day.archives[0])}
    assert len(data) == 7
    held = sorted((clip.failure or "", data[clip.member]) for clip in bad)
    assert [(failure, look(data)) for failure, data in held] == [
        ("empty", "nothing"), ("not_audio", "playlist"), ("not_audio", "page"), ("resource_limit", "wav of 1 Hz"),
        ("truncated", "mp3"), ("undecodable", "noise"),
    ]  # fmt: skip


def look(data: bytes) -> str:
    signs = {
        b"#EXTM3U": "playlist",
        b"<!DOCTYPE": "page",
        b"RIFF": f"wav of {int.from_bytes(data[24:28], 'little')} Hz",
    }
    sign = next((name for start, name in signs.items() if data.startswith(start)), None)
    return sign or ("nothing" if not data else "mp3" if data.startswith((b"ID3", b"\xff")) else "noise")


def test_a_duplicate_is_the_same_member_again(tmp_path: Path) -> None:
    day = make(tmp_path, trouble="duplicate")
    first, *_, last = members(day.audio / day.archives[0])
    assert (first[0].name, first[1]) == (last[0].name, last[1])
    assert [clip.kind for clip in day.clips] == ["speech"] * 3 + ["bad:duplicate_member"]
    assert day.clips[0].meta_id == day.clips[3].meta_id


def test_hostile_names_hold_good_clips(tmp_path: Path) -> None:
    day = make(tmp_path, trouble="hostile-names", clips=4)
    names = {clip.member.replace(clip.meta_id[:19], "ID") for clip in day.clips}
    assert names >= {"../../evil/ID.mp3", "/evil/ID.mp3", "ID-\udcff\udcfe\x1b[31m.mp3"}
    assert [(clip.wanted, bool(clip.text)) for clip in day.clips] == [("transcribed", True)] * 4
    assert not (tmp_path.parent / "evil").exists()


def test_a_plain_tar_is_no_xz_whatever_its_name_says(tmp_path: Path) -> None:
    day = make(tmp_path, trouble="plain-tar", slots=2)
    starts = {archive: (day.audio / archive).read_bytes()[:6] for archive in day.archives}
    assert [archive for archive, start in starts.items() if start != b"\xfd7zXZ\0"] == list(day.misnamed)
    assert [info.name for info, _ in members(day.audio / day.misnamed[0])] == [
        clip.member for clip in of(day, day.misnamed[0])
    ]


def test_late_companions_are_kept_once_they_have_arrived(tmp_path: Path) -> None:
    day = make(tmp_path, trouble="late-parquet", slots=2)
    assert [path.name for path in day.late] == [
        f"0_{ON}_00_10_{kind}.parquet" for kind in ("comments", "metadata", "subtitles")
    ]
    assert not list(day.audio.glob(f"0_{ON}_00_10_*"))
    for path in day.late:
        shutil.move(path, day.audio)
    before = stamps(tmp_path)
    assert make(tmp_path, trouble="late-parquet", slots=2).late == ()
    assert stamps(tmp_path) == before


@pytest.mark.parametrize("name", ["flipped-bit", "cut-archive"])
def test_a_damaged_archive_is_refused_whole_and_the_truth_expects_nothing_of_it(tmp_path: Path, name: str) -> None:
    day = make(tmp_path, trouble=name, slots=2, clips=4)
    assert day.damaged == day.archives[1:]
    assert {clip.wanted for clip in of(day, day.damaged[0])} == {""}
    assert {clip.wanted for clip in of(day, day.archives[0])} == {"transcribed"}
    shard = Shard(1, "demo", ON, day.damaged[0], (day.audio / day.damaged[0],))
    with pytest.raises(ArchiveDamaged, match=day.damaged[0]):
        list(unpack(shard, limits=ArchiveLimits()))


# The command


def invoke(*arguments: str) -> tuple[int, str]:
    outcome = CliRunner().invoke(cli, ["demo-day", *arguments])
    return outcome.exit_code, outcome.stdout


def test_the_command_makes_the_day_and_says_where_it_lies(tmp_path: Path) -> None:
    code, printed = invoke(str(tmp_path), "--slots", "1", "--clips", "2", "--trouble", "html,missing-slot", "--json")
    told = json.loads(printed)
    day = read_truth(tmp_path, ON)
    assert code == 0
    assert (told["audio"], told["truth"], told["location"]) == (str(day.audio), str(day.truth), day.location)
    assert (told["archives"], told["clips"], told["missing"]) == (1, 2, ["00_10"])
    assert told["broken"] == [f"{clip.shard}: {clip.member} (not_audio)" for clip in day.clips if clip.failure]
    code, printed = invoke(str(tmp_path), "--slots", "1", "--clips", "2", "--trouble", "html,missing-slot")
    assert code == 0
    assert str(day.audio) in printed


def test_the_help_names_every_trouble() -> None:
    _, text = invoke("--help")
    assert [name for name in SWITCHES if name.replace("_", "-") not in text] == []
