"""Archives good, hostile and damaged: what comes out of them, and that nothing is sealed before the true end."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import importlib.util
import io
import lzma
import os
import random
import resource
import socket
import stat
import sys
import tarfile
import time
from datetime import date
from pathlib import Path
from types import ModuleType

import pytest

from db.errors import TryAgain
from db.states import FailureClass
from hpc.errors import ArchiveDamaged, SourceMissing
from hpc.model import Failure, Member, Result, Seal, Shard
from hpc.stages.unpack import ArchiveLimits, unpack


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / f"{name}.py")
    assert spec and spec.loader
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hostile = _load("hostile")
COMPRESSIONS, END, block, bomb = hostile.COMPRESSIONS, hostile.END, hostile.block, hostile.bomb
clips, signed, tar, REFUSED = hostile.clips, hostile.signed, hostile.tar, hostile.REFUSED


class Reader:
    """Reads bytes as if they were an archive of the day."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "0_2025-02-01_08_10.tar.xz"

    def __call__(self, data: bytes, **limits: float) -> list[Member | Result | Seal]:
        self.path.write_bytes(data)
        return self.again(**limits)

    def again(self, **limits: float) -> list[Member | Result | Seal]:
        shard = Shard(7, "zurich", date(2025, 2, 1), self.path.name, (self.path,))
        return list(unpack(shard, limits=ArchiveLimits(**limits)))


@pytest.fixture
def read(tmp_path: Path) -> Reader:
    return Reader(tmp_path)


def outcomes(items: list[Member | Result | Seal]) -> list[bytes | FailureClass]:
    """The data of members, the classes of refusals; the seal is checked and left out."""
    *found, seal = items
    assert isinstance(seal, Seal)
    assert seal.recordings == len(found)
    assert [item.recording.ordinal for item in found] == list(range(len(found)))
    return [item.data if isinstance(item, Member) else item.outcome.kind for item in found]


@pytest.mark.parametrize("how", COMPRESSIONS)
def test_whatever_the_name_says_the_content_decides_how_it_is_read(how: str, read: Reader) -> None:
    members = clips(20)
    data = COMPRESSIONS[how](tar(members))
    *found, seal = read(data)
    assert [(item.recording.name, item.data) for item in found] == members
    assert [item.recording.sha256 for item in found] == [hashlib.sha256(data).digest() for _, data in members]
    assert {(item.recording.shard_id, item.recording.size) for item in found} == {(7, 5_000)}
    assert seal == Seal(shard_id=7, sha256=hashlib.sha256(data).digest(), size=len(data), recordings=20)


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_every_name_arrives_byte_for_byte_and_none_touches_the_disk(format, read, tmp_path, monkeypatch) -> None:
    members = [(name, hashlib.sha256(name).digest()) for name in hostile.NAMES]
    inside = tmp_path / "inside"
    inside.mkdir()
    monkeypatch.chdir(inside)
    *found, seal = read(lzma.compress(tar(members, format)))
    assert [(item.recording.name, item.data) for item in found] == members
    assert seal.recordings == len(members)
    assert sorted(tmp_path.iterdir()) == [read.path, inside]
    assert list(inside.iterdir()) == []


def test_companions_and_folders_are_no_recordings(read: Reader) -> None:
    names = [
        b"a.mp3",
        b"a.txt",
        b"b.JSON",
        b"c.csv",
        b"0_metadata.parquet",
        b"d.md5",
        b"d.sha256",
        b"._a.mp3",
        b"d/._b.mp3",
    ]
    data = block(b"d/", type=tarfile.DIRTYPE) + b"".join(block(name, name) for name in names)
    data += block(b"label", type=b"V") + block(b"z.wav", b"z") + END
    assert outcomes(read(data)) == [b"a.mp3", b"z"]


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_file_is_refused_and_listed_and_the_rest_is_read(what: str, read: Reader) -> None:
    data = block(b"a.mp3", b"first") + REFUSED[what] + block(b"z.mp3", b"last") + END
    assert outcomes(read(data)) == [b"first", FailureClass.NOT_A_FILE, b"last"]
    assert "not a recording" in read.again()[1].outcome.reason


def test_a_sparse_file_with_a_long_map_is_stepped_over(read: Reader) -> None:
    header = bytearray(block(b"s.mp3", b"x" * 700, type=tarfile.GNUTYPE_SPARSE))
    header[482] = 1
    more = bytearray(512)
    more[504] = 1
    sparse = signed(header[:512]) + bytes(more) + bytes(512) + bytes(header[512:])
    assert outcomes(read(sparse + block(b"z.mp3", b"last") + END)) == [FailureClass.NOT_A_FILE, b"last"]


@pytest.mark.parametrize("key", ["GNU.sparse.major", "GNU.sparse.map"])
def test_a_sparse_file_of_the_newer_form_is_refused(key: str, read: Reader) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("GNUSparseFile.0/s.mp3")
        info.pax_headers = {key: "1", "GNU.sparse.name": "s.mp3"}
        info.size = 3
        archive.addfile(info, io.BytesIO(b"abc"))
    found, _ = read(out.getvalue())
    assert (found.recording.name, found.outcome.kind) == (b"s.mp3", FailureClass.NOT_A_FILE)


def test_a_setuid_file_is_a_recording_like_any_other(read: Reader) -> None:
    assert outcomes(read(block(b"s.mp3", b"x", mode=0o4777) + END)) == [b"x"]


def test_a_second_member_of_a_name_is_refused_and_look_alikes_are_not(read: Reader) -> None:
    names = [b"a.mp3", b"A.mp3", b"a.mp3", b"d/a.mp3", "é".encode(), "e\u0301".encode(), b"a.mp3"]
    found = outcomes(read(tar((name, b"%d" % number) for number, name in enumerate(names))))
    assert found == [b"0", b"1", FailureClass.DUPLICATE_MEMBER, b"3", b"4", b"5", FailureClass.DUPLICATE_MEMBER]
    assert read.again()[2].recording.sha256 == hashlib.sha256(b"2").digest()


def test_the_same_bytes_under_two_names_are_two_recordings(read: Reader) -> None:
    assert outcomes(read(tar([(b"a.mp3", b"same"), (b"b.mp3", b"same")]))) == [b"same", b"same"]


def test_a_member_over_the_limit_is_refused_with_its_hash_and_the_rest_is_read(read: Reader) -> None:
    members = [(b"a.mp3", b"1" * 100), (b"b.mp3", b"2" * 101), (b"c.mp3", b"3")]
    assert outcomes(read(tar(members), member_bytes=100)) == [b"1" * 100, FailureClass.MEMBER_TOO_LARGE, b"3"]
    (refused,) = (item for item in read.again(member_bytes=100) if isinstance(item, Result))
    assert refused.recording.sha256 == hashlib.sha256(b"2" * 101).digest()
    assert isinstance(refused.outcome, Failure)


def test_an_archive_with_nothing_in_it_is_sealed_with_nothing(read: Reader) -> None:
    assert outcomes(read(lzma.compress(tar([])))) == []


@pytest.mark.parametrize("padding", [0, 4, 512])
def test_several_xz_streams_and_padding_between_them_are_one_archive(padding: int, read: Reader) -> None:
    data = tar(clips(6))
    parts = [lzma.compress(data[at : at + 7_000]) + bytes(padding) for at in range(0, len(data), 7_000)]
    assert len(outcomes(read(b"".join(parts)))) == 6


@pytest.mark.parametrize("how", ["gzip", "bzip2"])
def test_several_streams_of_the_other_compressions_are_one_archive(how: str, read: Reader) -> None:
    data = tar(clips(6))
    assert len(outcomes(read(COMPRESSIONS[how](data[:9_000]) + COMPRESSIONS[how](data[9_000:])))) == 6


def test_a_pax_size_counts_more_than_the_header(read: Reader) -> None:
    record = b"13 size=1000\n"
    data = block(b"x", record, type=tarfile.XHDTYPE) + block(b"big.mp3") + b"b" * 1000 + bytes(24) + END
    assert outcomes(read(data)) == [b"b" * 1000]


# --- damage -----------------------------------------------------------------------------------------------------------


def refusal(read: Reader, data: bytes, **limits: float) -> str:
    """The message with which an archive is refused; whatever came out before, no seal did."""
    read.path.write_bytes(data)
    shard = Shard(7, "zurich", date(2025, 2, 1), read.path.name, (read.path,))
    seen = []
    with pytest.raises(ArchiveDamaged) as refused:
        seen.extend(item for item in unpack(shard, limits=ArchiveLimits(**limits)) if isinstance(item, Seal))
    assert seen == []
    assert read.path.name in str(refused.value)
    return str(refused.value)


SMALL = tar(clips(20))
XZ = lzma.compress(SMALL)


def test_any_bit_flipped_in_a_tar_xz_refuses_it(read: Reader) -> None:
    dice = random.Random(3)
    for _ in range(300):
        damaged = bytearray(XZ)
        damaged[dice.randrange(len(XZ))] ^= 1 << dice.randrange(8)
        assert "Nothing of it becomes visible" in refusal(read, bytes(damaged))


@pytest.mark.parametrize("how", COMPRESSIONS)
def test_any_cut_refuses_an_archive(how: str, read: Reader) -> None:
    dice = random.Random(4)
    whole = COMPRESSIONS[how](SMALL)
    end = len(whole) if how != "plain" else len(SMALL.rstrip(b"\0")) + 512  # behind it only padding can be lost
    for _ in range(300 if how == "xz" else 100):
        assert "byte" in refusal(read, whole[: dice.randrange(end)])


@pytest.mark.parametrize("how", ["gzip", "bzip2"])
def test_a_bit_flipped_in_the_other_compressions_refuses_the_archive_or_changes_nothing(how: str, read: Reader) -> None:
    dice = random.Random(5)
    whole = COMPRESSIONS[how](SMALL)
    good = outcomes(read(whole))
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[dice.randrange(len(whole))] ^= 1 << dice.randrange(8)
        try:
            assert outcomes(read(bytes(damaged))) == good  # a name or a time in a header that carries no content
        except ArchiveDamaged:
            continue


def test_a_plain_tar_shows_a_flipped_bit_in_its_headers_and_leaves_its_data_to_the_hash(
    read: Reader,
) -> None:
    dice = random.Random(6)
    for _ in range(100):
        damaged = bytearray(SMALL)
        damaged[dice.randrange(20) * (512 + 5_120) + dice.randrange(148)] ^= 1 << dice.randrange(8)
        assert "near byte" in refusal(read, bytes(damaged))
    damaged = bytearray(SMALL)
    damaged[600] ^= 1
    assert read(bytes(damaged))[-1].sha256 != hashlib.sha256(SMALL).digest()


def test_a_plain_tar_cut_between_two_members_is_refused_and_the_message_says_where(read: Reader) -> None:
    message = refusal(read, SMALL[: 7 * (512 + 5_120)])
    assert (
        f"near byte {7 * 5_632} of {7 * 5_632}, after member 7 (0006.mp3): it is cut off before its end mark" in message
    )


def test_the_message_names_the_member_that_a_cut_goes_through(read: Reader) -> None:
    data = tar([(b"\x1b[31m\xff.mp3", b"x" * 5_000)])
    assert "in member 1 (\\x1b[31m\\xff.mp3): it is cut off inside a member" in refusal(read, data[:3_000])


DAMAGED = {
    "empty": (b"", "the file is empty"),
    "half an end mark": (block(b"a.mp3", b"x") + bytes(512), "end mark"),
    "one zero block, then more": (block(b"a", b"x") + bytes(512) + block(b"b", b"x") + END, "end mark"),
    "two archives in one file": (SMALL + SMALL, "two archives"),
    "two archives in one xz": (XZ + XZ, "two archives"),
    "something after an xz": (XZ + b"some text", "follows the end"),
    "xz padding of a wrong length": (XZ + bytes(3), "padding"),
    "something after a gzip": (gzip.compress(SMALL) + b"\x01", "follows the end"),
    "something after a bzip2": (bz2.compress(SMALL) + b"\x01", "follows the end"),
    "ten bytes too few": (XZ[:-10], "ends in the middle"),
    "xz in xz": (lzma.compress(XZ), "header is not valid"),
    "an HTML page": (hostile.HTML, "an HTML page"),
    "a ZIP": (b"PK\x03\x04" + bytes(600), "a ZIP archive"),
    "noise": (random.Random(1).randbytes(20_000), "header is not valid"),
    "a size below zero": (signed(bytearray(block(b"a.mp3"))[:124] + b"\xff" * 12 + block(b"a.mp3")[136:]), "claims"),
    "a size beyond everything": (block(b"a.mp3", size=1 << 40) + END, "limit total_bytes"),
    "a name without end": (block(b"L", b"n" * 9_000, type=tarfile.GNUTYPE_LONGNAME) + block(b"x") + END, "limit"),
    "a pax name without end": (block(b"x", b"912 path=" + b"n" * 902 + b"\n", type=b"x") + block(b"x"), "name_bytes"),
    "a pax header without end": (block(b"x", size=1 << 30, type=b"x") + END, "extended header"),
    "a malformed pax header": (block(b"x", b"99 path=a\n", type=b"x") + block(b"x") + END, "malformed"),
    "a pax length of zero": (block(b"x", b"0 path=a\n", type=b"x") + block(b"x") + END, "malformed"),
    "a pax length that is no number": (block(b"x", b"-1 path=a\n", type=b"x") + block(b"x") + END, "malformed"),
    "a pax header and then the end": (block(b"x", b"10 path=a\n", type=b"x") + END, "end mark"),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGED)
def test_an_archive_is_refused_when_it_is(what: str, read: Reader) -> None:
    data, words = DAMAGED[what]
    assert words in refusal(read, data, name_bytes=500)


# --- bombs ------------------------------------------------------------------------------------------------------------


def test_bombs_are_stopped_within_a_second_by_the_limit_they_meet(read: Reader) -> None:
    two_gigabytes = bomb(2 << 30, 100 << 20)
    cases = [
        (two_gigabytes, {"member_bytes": 4 << 30}, "limit ratio"),
        (two_gigabytes, {}, "limit ratio"),
        (two_gigabytes, {"total_bytes": 1 << 30}, "limit total_bytes"),
        (lzma.compress(block(b"a.mp3", b"x") + END + bytes(100 << 20), preset=0), {}, "limit ratio"),
        (block(b"a.mp3") * 30_000 + END, {}, "limit members"),
        (lzma.compress(block(b"x", b"10 path=a\n", type=b"x") * 30_000 + END), {}, "limit members"),
        (lzma.compress(SMALL, preset=9), {"dictionary_bytes": 1 << 20}, "limit dictionary_bytes"),
    ]
    for data, limits, words in cases:
        began = time.process_time()
        assert words in refusal(read, data, **limits)
        assert time.process_time() - began < 1.5  # a second on an idle machine


def test_memory_is_bounded_by_one_member_however_large_the_archive(read: Reader) -> None:
    piece = random.Random(1).randbytes(1 << 20)
    with read.path.open("wb") as out:
        for number in range(400):
            out.write(block(b"%d.mp3" % number, piece))
        out.write(END)
    shard = Shard(7, "zurich", date(2025, 2, 1), read.path.name, (read.path,))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB
    assert sum(1 for _ in unpack(shard, limits=ArchiveLimits())) == 401
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000


# --- the file itself --------------------------------------------------------------------------------------------------


def test_a_missing_archive_is_named(read: Reader) -> None:
    with pytest.raises(SourceMissing, match=read.path.name):
        read.again()


def test_an_archive_that_is_a_folder_or_a_fifo_is_refused_without_waiting(read: Reader) -> None:
    read.path.mkdir()
    with pytest.raises(ArchiveDamaged, match="a directory"):
        read.again()
    read.path.rmdir()
    os.mkfifo(read.path)
    with pytest.raises(ArchiveDamaged, match="a fifo"):
        read.again()


def loose(*files: Path) -> Shard:
    return Shard(7, "zurich", date(2025, 2, 1), "08_10", files, loose=True)


def test_loose_files_are_a_shard_too(tmp_path: Path) -> None:
    for name, data in (("a.mp3", b"one"), ("b.wav", b"two"), ("b.txt", b"no")):
        (tmp_path / name).write_bytes(data)
    (tmp_path / "link.mp3").symlink_to("a.mp3")
    (tmp_path / "folder.mp3").mkdir()
    os.mkfifo(tmp_path / "fifo.mp3")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.mp3"))
    names = ["a.mp3", "link.mp3", "b.txt", "folder.mp3", "fifo.mp3", "socket.mp3", "b.wav"]
    items = list(unpack(loose(*(tmp_path / name for name in names)), limits=ArchiveLimits(member_bytes=3)))
    assert outcomes(items) == [b"one", *[FailureClass.NOT_A_FILE] * 4, b"two"]
    assert [item.recording.name for item in items[:-1]] == [name.encode() for name in names if name != "b.txt"]
    nothing = hashlib.sha256(b"").digest()
    hashes = [hashlib.sha256(b"one").digest(), *[nothing] * 4, hashlib.sha256(b"two").digest()]
    assert items[-1] == Seal(7, hashlib.sha256(b"".join(hashes)).digest(), 6, 6)


def test_a_loose_file_over_the_limit_is_refused_with_its_hash(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").write_bytes(b"four")
    first, _ = unpack(loose(tmp_path / "a.mp3"), limits=ArchiveLimits(member_bytes=3))
    assert first.outcome.kind == FailureClass.MEMBER_TOO_LARGE
    assert (first.recording.size, first.recording.sha256) == (4, hashlib.sha256(b"four").digest())


def test_a_missing_loose_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceMissing, match="gone\\.mp3"):
        list(unpack(loose(tmp_path / "gone.mp3"), limits=ArchiveLimits()))


def test_a_file_that_grows_while_it_is_read_is_tried_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.mp3"
    file.write_bytes(b"growing")
    real = os.fstat

    def before_the_last_byte(descriptor: int) -> os.stat_result:
        status = list(real(descriptor))
        status[stat.ST_SIZE] -= 1
        return os.stat_result(status)

    monkeypatch.setattr(os, "fstat", before_the_last_byte)
    with pytest.raises(TryAgain, match="changed while it was read"):
        list(unpack(loose(file), limits=ArchiveLimits()))
