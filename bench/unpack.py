"""Measures the CPU time from a tar.xz to 16 kHz samples, next to listing, extracting and one ffmpeg per clip.

    python bench/unpack.py [--json] [--clips 300] [--children 2]

Both ways read the same archive in the same run and must give the same samples. The clips are MP3, 44.1 kHz stereo,
128 kbit/s, 15 to 40 s, of tones in noise; thirty different ones take turns. Needs the ffmpeg program.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import random
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from numpy.typing import NDArray

from hpc.model import Audio, Shard
from hpc.stages.decode import DecodeLimits, DecoderPool
from hpc.stages.unpack import ArchiveLimits, unpack

TARGET = 2.0  # times less CPU than the reference way
DISTINCT = 30
RATE = 44_100
Heard = dict[str, bytes]  # a clip's name and the hash of its samples


@dataclass(frozen=True, slots=True)
class Cost:
    """What one way took."""

    way: str
    clips: int
    cpu_per_1000: float  # seconds, children included
    wall: float  # seconds


def main() -> None:
    """Make the archive, go both ways, print the ratio; exit 1 when it misses the target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--children", type=int, default=2)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        archive = make_archive(Path(folder) / "day.tar.xz", wanted.clips)
        reference, theirs = measured("list, extract, ffmpeg each", lambda: extract_and_convert(archive))
        stream, ours = measured("stream, decode in children", lambda: unpack_and_decode(archive, wanted.children))
    if ours != theirs:
        sys.exit("the two ways do not give the same samples")
    ratio = reference.cpu_per_1000 / stream.cpu_per_1000
    if wanted.json:
        said = {"ways": [asdict(reference), asdict(stream)], "ratio": round(ratio, 2), "target": TARGET}
        print(json.dumps(said, indent=2))
    else:
        print(f"{'way':30} {'clips':>6} {'CPU s per 1,000 clips':>22} {'wall s':>8}")
        for cost in (reference, stream):
            print(f"{cost.way:30} {cost.clips:6} {cost.cpu_per_1000:22.1f} {cost.wall:8.1f}")
        print(f"the same samples with {ratio:.2f} times less CPU (target {TARGET:g})")
    sys.exit(ratio < TARGET)


def measured(way: str, work: Callable[[], Heard]) -> tuple[Cost, Heard]:
    cpu, began = _cpu(), time.perf_counter()
    heard = work()
    spent = _cpu() - cpu
    return Cost(way, len(heard), round(spent / len(heard) * 1000, 1), round(time.perf_counter() - began, 1)), heard


def extract_and_convert(archive: Path) -> Heard:
    """The reference's way: getmembers reads the archive once, extract a second time, ffmpeg starts for every clip."""
    heard: Heard = {}
    with tempfile.TemporaryDirectory() as folder, tarfile.open(archive, "r:*") as tar:
        for member in [each for each in tar.getmembers() if each.name.endswith(".mp3")]:
            tar.extract(member, folder, filter="data")
            command = ["ffmpeg", "-nostdin", "-threads", "0", "-i", str(Path(folder) / member.name)]
            command += ["-f", "s16le", "-ac", "1", "-acodec", "pcm_s16le", "-ar", "16000", "-"]
            pcm = subprocess.run(command, capture_output=True, check=True).stdout
            heard[member.name] = _floats(np.frombuffer(pcm, np.int16))
    return heard


def unpack_and_decode(archive: Path, children: int) -> Heard:
    shard = Shard(1, "bench", date(2025, 1, 1), archive.name, (archive,))
    with DecoderPool(children=children, limits=DecodeLimits()) as pool:
        decoded = pool.decode(unpack(shard, limits=ArchiveLimits()))
        return {item.recording.name.decode(): _floats(item.pcm) for item in decoded if isinstance(item, Audio)}


def make_archive(path: Path, count: int) -> Path:
    distinct = [_clip(number) for number in range(min(count, DISTINCT))]
    with tarfile.open(path, "w:xz", preset=1) as tar:
        for number in range(count):
            data = distinct[number % len(distinct)]
            info = tarfile.TarInfo(f"{number:05d}.mp3")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def _clip(number: int) -> bytes:
    seconds = random.Random(number).uniform(15, 40)
    at = np.arange(int(seconds * RATE)) / RATE
    hiss = np.random.default_rng(number).normal(0, 1500, (2, len(at)))
    tone = 8000 * np.sin(2 * np.pi * (200 + 40 * number) * at) * np.abs(np.sin(2 * np.pi * 3 * at))
    frame = AudioFrame.from_ndarray((tone + hiss).astype(np.int16), "s16p", "stereo")
    frame.sample_rate = RATE
    out = io.BytesIO()
    with av.open(out, "w", format="mp3") as muxer:
        stream = muxer.add_stream("libmp3lame", rate=RATE, layout="stereo")
        stream.bit_rate = 128_000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            muxer.mux(packet)
    return out.getvalue()


def _floats(pcm: NDArray[np.int16]) -> bytes:
    """What the model is given, and a hash of it to compare by."""
    return hashlib.blake2b((pcm.astype(np.float32) / 32_768).tobytes()).digest()


def _cpu() -> float:
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


if __name__ == "__main__":
    main()
