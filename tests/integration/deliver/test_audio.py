"""Opus audio of a slot: one tar of what was transcribed, under the recordings' own ids, the same bytes every time."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest

DAY = "2025-01-01"
DATA = 65
TAR = "audio/2025/01/01/{}/audio.tar"


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path, "r:") as tar:
        files = {}
        for member in tar:
            assert (member.isfile(), member.mtime, member.uid, member.gid, member.uname) == (True, 0, 0, 0, "")
            data = tar.extractfile(member)
            assert data is not None
            files[member.name] = data.read()
        return files


def seconds(data: bytes) -> float:
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.audio[0]
        assert (stream.codec_context.name, stream.layout.name) == ("opus", "mono")
        return sum(frame.samples for frame in container.decode(audio=0)) / 48_000


def test_a_slot_is_one_tar_in_order_without_a_name_that_leads_anywhere(lab: Any, answer: Any, target: Path) -> None:
    told = answer("--target", str(target), "--audio")

    first, second = (members(target / TAR.format(slot)) for slot in ("00_00", "00_10"))
    assert list(first) == [
        "first.opus", "x.opus", "-e sh.opus", "new\\x0aline.opus", "same.opus", "same_2.opus", "same_2_2.opus",
    ]  # fmt: skip
    assert list(second) == ["$(touch pwned).opus", "ünï.opus"]
    assert all(seconds(data) == pytest.approx(0.5, abs=0.001) for data in (first | second).values())
    [left] = told["without_audio"]
    assert (left["meta_id"], left["expected"], left["why"].split(":")[0]) == ("broken", True, "empty")


def test_two_of_the_same_name_are_two_recordings(lab: Any, answer: Any, target: Path) -> None:
    answer("--target", str(target), "--audio")
    made = members(target / TAR.format("00_00"))
    assert len({made[name] for name in ("same.opus", "same_2.opus", "same_2_2.opus")}) == 3


def test_the_same_recordings_make_the_same_bytes(lab: Any, answer: Any, target: Path, tmp_path: Path) -> None:
    answer("--target", str(target), "--audio")
    shutil.rmtree(lab.home / "deliveries")
    (tmp_path / "other").mkdir()
    answer("--target", str(tmp_path / "other"), "--audio")
    for slot in ("00_00", "00_10"):
        assert (target / TAR.format(slot)).read_bytes() == (tmp_path / "other" / TAR.format(slot)).read_bytes()


def test_a_packed_tar_that_was_damaged_here_is_made_again(lab: Any, answer: Any, target: Path, tmp_path: Path) -> None:
    answer("--target", str(target), "--audio")
    packed = lab.packed / TAR.format("00_10")
    good = packed.read_bytes()
    packed.write_bytes(good[:100])
    (tmp_path / "other").mkdir()
    answer("--target", str(tmp_path / "other"), "--audio")
    assert packed.read_bytes() == good == (tmp_path / "other" / TAR.format("00_10")).read_bytes()


@pytest.fixture
def gone(lab: Any) -> Iterator[Path]:
    """The day's staged audio, away for a while."""
    away = lab.audio.with_name("away")
    yield away
    if away.exists():
        away.rename(lab.audio)


def test_audio_that_is_no_longer_staged_is_said_with_its_day(
    lab: Any, deliver: Any, gone: Path, target: Path, tree_of: Any
) -> None:
    lab.audio.rename(gone)
    assert deliver("--target", str(target), "--audio") == DATA
    assert f"audio {DAY}: its audio is no longer staged" in lab.said[1]
    assert tree_of(target) == {}
    assert deliver("--target", str(target)) == 0, lab.said[1]


def test_what_was_packed_before_its_audio_went_is_still_delivered(
    lab: Any, answer: Any, gone: Path, target: Path, tmp_path: Path
) -> None:
    answer("--target", str(target), "--audio")
    lab.audio.rename(gone)
    (tmp_path / "other").mkdir()
    assert answer("--target", str(tmp_path / "other"), "--audio")["state"] == "verified"


def test_an_archive_that_is_not_the_one_that_was_transcribed_makes_no_audio(
    lab: Any, deliver: Any, target: Path, tree_of: Any
) -> None:
    one, other = (lab.audio / f"0_{DAY}_{slot}.tar.xz" for slot in ("00_00", "00_10"))
    good = one.read_bytes()
    one.write_bytes(other.read_bytes())
    try:
        assert deliver("--target", str(target), "--audio") == DATA
        assert "is not the one that was transcribed" in lab.said[1]
        assert tree_of(target) == {}
        assert not (lab.packed / TAR.format("00_00")).exists()
    finally:
        one.write_bytes(good)
