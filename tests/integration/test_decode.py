"""Recordings through decoding children: what is decoded, what is refused and why, and that nothing else happens."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import resource
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from db.states import FailureClass
from hpc.model import Audio, Failure, Member, Recording, Result, Seal, Shard
from hpc.stages import decode as stage
from hpc.stages.decode import DecodeLimits, DecoderPool
from hpc.stages.unpack import ArchiveLimits, unpack


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / f"{name}.py")
    assert spec and spec.loader
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hostile = _load("hostile")
SEAL = Seal(shard_id=1, sha256=bytes(32), size=0, recordings=0)


def member(data: bytes, name: bytes = b"clip.mp3", ordinal: int = 0) -> Member:
    return Member(Recording(1, ordinal, name, len(data), bytes(32)), data)


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    with DecoderPool(children=2, limits=DecodeLimits()) as running:
        yield running


@pytest.fixture(scope="module")
def good(pool: DecoderPool) -> np.ndarray:
    (audio,) = pool.decode(iter([member(hostile.mp3())]))
    assert isinstance(audio, Audio)
    return audio.pcm


@pytest.mark.parametrize("case", hostile.AUDIO, ids=str)
def test_each_input_ends_as_it_should_and_its_neighbours_never_notice(case, pool, good) -> None:
    clips = [
        member(hostile.mp3(), ordinal=0),
        member(case.make(), case.name.encode(), 1),
        member(hostile.mp3(), ordinal=2),
    ]
    before, it, after, seal = pool.decode(iter([*clips, SEAL]))
    assert seal is SEAL
    assert [item.recording for item in (before, it, after)] == [clip.recording for clip in clips]
    assert np.array_equal(before.pcm, good)
    assert np.array_equal(after.pcm, good)
    if isinstance(case.wanted, FailureClass):
        assert isinstance(it, Result)
        assert isinstance(it.outcome, Failure)
        assert it.outcome.kind == case.wanted
        assert case.reason in it.outcome.reason
        assert it.outcome.reason
    else:
        assert isinstance(it, Audio), it
        assert it.pcm.dtype == np.int16
        assert it.duration == pytest.approx(case.wanted, rel=0.02, abs=0.002)
        assert frozenset(it.flags) == case.flags


def _by_ffmpeg(folder: Path, data: bytes) -> np.ndarray:
    """WhisperX's load_audio."""
    file = folder / "clip"
    file.write_bytes(data)
    command = ["ffmpeg", "-v", "error", "-nostdin", "-threads", "0", "-i", str(file), "-f", "s16le", "-ac", "1"]
    done = subprocess.run([*command, "-acodec", "pcm_s16le", "-ar", "16000", "-"], capture_output=True, check=True)
    return np.frombuffer(done.stdout, np.int16)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_mp3_samples_are_those_of_the_ffmpeg_program_bit_for_bit(rate, channels, pool, tmp_path) -> None:
    sound = hostile.tone(7.3, rate=rate, channels=channels)
    data = hostile.encode(sound, container="mp3", codec="libmp3lame", rate=rate)
    (audio,) = pool.decode(iter([member(data)]))
    assert np.array_equal(audio.pcm, _by_ffmpeg(tmp_path, data))


@pytest.mark.parametrize("make", ["wav", "flac", "opus", "m4a", "vorbis", "aiff"])
def test_other_formats_differ_from_the_ffmpeg_program_by_two_steps_at_most(make, pool, tmp_path) -> None:
    data = getattr(hostile, make)()
    (audio,) = pool.decode(iter([member(data)]))
    theirs = _by_ffmpeg(tmp_path, data)
    assert len(audio.pcm) == len(theirs)
    assert np.abs(audio.pcm.astype(int) - theirs).max() <= 2


@pytest.mark.parametrize("make", ["mp3", "wav", "flac", "opus", "vorbis", "m4a", "mka", "aiff"])
def test_a_cut_anywhere_is_never_taken_for_a_shorter_recording(make: str, pool: DecoderPool) -> None:
    dice, whole = random.Random(8), getattr(hostile, make)()
    cuts = [whole[: dice.randrange(1, int(len(whole) * 0.97))] for _ in range(20)]
    kinds = {item.outcome.kind for item in pool.decode(member(cut, ordinal=n) for n, cut in enumerate(cuts))}
    assert FailureClass.TRUNCATED in kinds
    assert kinds <= {FailureClass.TRUNCATED, FailureClass.UNDECODABLE, FailureClass.EMPTY, FailureClass.NO_AUDIO_STREAM}


def test_every_fault_point_of_the_way_is_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.wav").write_bytes(hostile.wav())
    log = tmp_path / "points"
    monkeypatch.setenv("DAYSCRIBE_FAULTS_ARMED", "yes")
    monkeypatch.setenv("DAYSCRIBE_FAULT_LOG", str(log))
    shard = Shard(1, "zurich", date(2025, 2, 1), "08_10", (tmp_path / "a.wav",), loose=True)
    with DecoderPool(children=1, limits=DecodeLimits()) as pool:
        audio, seal = pool.decode(unpack(shard, limits=ArchiveLimits()))
    assert (type(audio), type(seal)) == (Audio, Seal)
    passed = log.read_text().split()
    assert sorted(passed) == ["decode.received", "decode.sent", "unpack.ended", "unpack.member", "unpack.opened"]


def test_a_sound_that_is_not_a_number_becomes_silence_and_never_noise(pool: DecoderPool) -> None:
    (audio,) = pool.decode(iter([member(hostile.floats(*[float("nan")] * 90_000), b"x.wav")]))
    assert np.abs(audio.pcm[1_100:90_900].astype(int)).max() == 0


def test_everything_comes_out_in_the_order_it_went_in(pool: DecoderPool) -> None:
    long, short = hostile.wav(hostile.tone(120, rate=16_000, channels=1)), hostile.wav()
    refused = Result(Recording(1, 99, b"link", 0, bytes(32)), Failure(FailureClass.NOT_A_FILE, "a link"))
    items = [member(long, b"a.wav", 0), SEAL, refused]
    for ordinal in range(1, 40):
        items += [member(long if ordinal % 7 == 0 else short, b"a.wav", ordinal)] + [SEAL] * (ordinal % 3)
    out = list(pool.decode(iter(items)))
    assert [getattr(item, "recording", item) for item in out] == [getattr(item, "recording", item) for item in items]


def test_only_a_bounded_number_of_members_is_taken_ahead() -> None:
    taken = 0

    def members() -> Iterator[Member]:
        nonlocal taken
        for ordinal in range(60):
            taken += 1
            yield member(hostile.mp3(), ordinal=ordinal)

    with DecoderPool(children=2, limits=DecodeLimits()) as pool:
        for done, _ in enumerate(pool.decode(members()), start=1):
            assert taken - done <= 2 + stage.AHEAD


def test_an_error_of_the_reader_passes_through_and_the_pool_works_on(pool: DecoderPool, good: np.ndarray) -> None:
    def broken() -> Iterator[Member]:
        yield member(hostile.mp3())
        raise LookupError("the archive is damaged")

    with pytest.raises(LookupError, match="damaged"):
        list(pool.decode(broken()))
    (audio,) = pool.decode(iter([member(hostile.mp3())]))
    assert np.array_equal(audio.pcm, good)


def _with(pool_limits: DecodeLimits, *data: bytes) -> list[Audio | Result]:
    with DecoderPool(children=1, limits=pool_limits) as pool:
        return list(pool.decode(member(each, b"x.wav", ordinal) for ordinal, each in enumerate(data)))


def test_a_recording_over_the_limit_is_told_by_its_header_or_by_counting() -> None:
    counted = hostile.wav(hostile.tone(30, rate=16_000, channels=1), stated=0xFFFFFFFF)
    stated = hostile.flac()
    first, second, third = _with(
        DecodeLimits(seconds=5.0), counted, stated, hostile.wav(hostile.tone(4.9)[:1], rate=44_100)
    )
    assert [first.outcome.kind, second.outcome.kind] == [FailureClass.OVER_DURATION] * 2
    assert "headers speak of" in second.outcome.reason
    assert isinstance(third, Audio)


def test_a_child_that_needs_too_much_memory_costs_that_recording_only() -> None:
    long = hostile.wav(np.zeros((1, 16_000 * 3600 * 3), np.int16))  # 3 h: 330 MiB in, as much out
    first, second = _with(DecodeLimits(memory=600 << 20), long, hostile.wav())
    assert first.outcome.kind == FailureClass.RESOURCE_LIMIT
    assert isinstance(second, Audio)


def _sabotaged(monkeypatch: pytest.MonkeyPatch, action: str) -> None:
    """Children that do something terrible when the recording holds the word BOOM."""
    monkeypatch.setattr(
        stage,
        "PROGRAM",
        "import os, sys, time; sys.path.insert(0, sys.argv.pop(1)); import hpc.stages.samples as samples\n"
        "real = samples.decode\n"
        "def decode(data, *rest):\n"
        f"    if b'BOOM' in data: {action}\n"
        "    return real(data, *rest)\n"
        "samples.decode = decode\n"
        "from hpc.stages.decoder_child import main; main(*sys.argv[1:])",
    )


@pytest.mark.parametrize(
    ("action", "kind"),
    [
        ("os.kill(os.getpid(), 11)", FailureClass.DECODER_CRASH),
        ("os.abort()", FailureClass.DECODER_CRASH),
        ("os._exit(0)", FailureClass.DECODER_CRASH),
        ("os.write(3, b'x' * 4096); time.sleep(60)", FailureClass.DECODER_CRASH),
        ("raise MemoryError", FailureClass.RESOURCE_LIMIT),
        ("raise ZeroDivisionError('odd\\x1b')", FailureClass.UNDECODABLE),
        ("time.sleep(600)", FailureClass.DECODE_TIMEOUT),
        ("exec('while True: pass')", FailureClass.DECODE_TIMEOUT),
    ],
)
def test_a_child_that_dies_lies_or_hangs_costs_one_recording(action, kind, good, monkeypatch) -> None:
    _sabotaged(monkeypatch, action)
    with DecoderPool(children=1, limits=DecodeLimits(timeout=2.0)) as pool:
        clips = [member(hostile.mp3(), ordinal=0), member(b"BOOM", ordinal=1), member(hostile.mp3(), ordinal=2)]
        before, it, after = pool.decode(iter(clips))
    assert np.array_equal(before.pcm, good)
    assert np.array_equal(after.pcm, good)
    assert it.outcome.kind == kind
    assert "\x1b" not in it.outcome.reason


def test_a_child_killed_from_outside_costs_nothing(good: np.ndarray) -> None:
    with DecoderPool(children=1, limits=DecodeLimits()) as pool:
        (first,) = pool.decode(iter([member(hostile.mp3())]))
        (victim,) = pool._live
        os.kill(victim._process.pid, signal.SIGKILL)
        (second,) = pool.decode(iter([member(hostile.mp3())]))
    assert np.array_equal(first.pcm, good)
    assert np.array_equal(second.pcm, good)


def test_a_stop_of_the_whole_job_is_not_mistaken_for_a_bad_recording(good: np.ndarray) -> None:
    with DecoderPool(children=1, limits=DecodeLimits()) as pool:
        list(pool.decode(iter([member(hostile.mp3())])))
        (child,) = pool._live
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
            os.kill(child._process.pid, number)
        (second,) = pool.decode(iter([member(hostile.mp3())]))
        assert pool._live == {child}
    assert np.array_equal(second.pcm, good)


def test_a_pool_that_closes_leaves_no_child() -> None:
    with DecoderPool(children=2, limits=DecodeLimits()) as pool:
        list(pool.decode(member(b"x", ordinal=number) for number in range(4)))
        processes = [child._process for child in pool._live]
    assert len(processes) == 2
    assert [process.returncode for process in processes] == [-signal.SIGKILL] * 2


def test_a_child_at_work_does_not_outlive_a_parent_that_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    _sabotaged(monkeypatch, "os.kill(os.getppid(), 10)\n    while b'BOOM' in data: pass")  # 10: SIGUSR1
    program = (
        "import signal; from hpc.stages import decode; from hpc.model import *\n"
        f"decode.PROGRAM = {stage.PROGRAM!r}\n"
        "with decode.DecoderPool(children=1, limits=decode.DecodeLimits()) as pool:\n"
        "    tell = lambda *_: print(*[child._process.pid for child in pool._live], flush=True)\n"
        "    signal.signal(signal.SIGUSR1, tell)\n"
        "    list(pool.decode(iter([Member(Recording(1, 0, b'x', 4, b''), b'BOOM')])))\n"
    )
    root = str(Path(stage.__file__).parents[2])
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": root}
    )
    with parent:
        descriptor = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
    ended, _, _ = select.select([descriptor], [], [], 30)
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    os.close(descriptor)
    assert ended == [descriptor]


def test_a_child_opens_no_file_and_no_connection(tmp_path: Path, pool: DecoderPool, monkeypatch) -> None:
    sibling = tmp_path / "sibling.wav"
    sibling.write_bytes(hostile.wav())
    before = sibling.stat().st_atime_ns
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        port = listener.getsockname()[1]
        web = f"http://127.0.0.1:{port}/a.mp4"
        lures = [
            hostile.hls(web), hostile.hls(f"file://{sibling}"), hostile.hls("sibling.wav"), hostile.dash(web),
            hostile.ffconcat("sibling.wav"), hostile.ffconcat(str(sibling)), hostile.ffconcat(web), hostile.sdp(port),
            hostile.m4a().replace(b"url \x00\x00\x00\x01", b"url \x00\x00\x00\x00"),
        ]  # fmt: skip
        lures += [hostile.mp3()[:2000] + lure for lure in lures]
        list(pool.decode(member(lure, ordinal=number) for number, lure in enumerate(lures)))
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert sibling.stat().st_atime_ns == before
    for child in pool._live:
        limits = Path(f"/proc/{child._process.pid}/limits").read_text()
        assert "Max open files            4                    4" in limits
        assert len(list(Path(f"/proc/{child._process.pid}/fd").iterdir())) == 4


def test_a_child_knows_no_secrets_and_loads_no_engine(pool: DecoderPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "canary")
    with DecoderPool(children=1, limits=DecodeLimits()) as fresh:
        list(fresh.decode(iter([member(hostile.mp3())])))
        (child,) = fresh._live
        assert b"canary" not in Path(f"/proc/{child._process.pid}/environ").read_bytes()
        assert "torch" not in Path(f"/proc/{child._process.pid}/maps").read_text()


def test_memory_does_not_grow_with_the_number_of_members() -> None:
    def peak() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB

    clip = hostile.wav(hostile.tone(60, rate=16_000, channels=1))
    with DecoderPool(children=2, limits=DecodeLimits()) as pool:
        decoded = pool.decode(member(bytes(memoryview(clip)), b"x.wav", number) for number in range(130))
        for number, _ in enumerate(decoded):
            if number == 30:
                start = peak()
        children = [_peak_of(child._process.pid) for child in pool._live]
    assert peak() - start < 40_000  # 100 more clips are 190 MB in and 190 MB out
    assert max(children) < 250_000


def _peak_of(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])
