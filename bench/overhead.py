"""Measures what dayscribe adds to each clip (unpack, decode, ledger, publish), next to the engine's own time.

    python bench/overhead.py [--json] [--clips 200,2000,20000] [--engine echo|whisperx]

Every figure is of one run on this machine; the ratios are what counts. The clips are short (3 s) mono MP3, so that the
cost per clip, not per second of audio, is what is seen. Peak memory is the worker's own, its children apart.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from hpc.demo.codecs import encode

ARCHIVE_CLIPS = 500
ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Make the days, run them, print what each clip cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--clips", default="200,2000,20000")
    parser.add_argument("--engine", choices=("echo", "whisperx"), default="echo")
    wanted = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        sounds = [_clip(seed) for seed in range(40)]
        for count in map(int, wanted.clips.split(",")):
            rows.append(_measure(Path(folder), count, wanted.engine, sounds))
            if not wanted.json:
                print(_line(rows[-1]), flush=True)
        _dayscribe(Path(folder), "db", "stop")
    if wanted.json:
        print(json.dumps(rows, indent=2))


def _clip(seed: int) -> bytes:
    """Three seconds of a wandering tone with noise: cheap to make, no silence."""
    rng, time_axis = np.random.default_rng(seed), np.arange(48_000) / 16_000
    tone = 0.3 * np.sin(2 * np.pi * (200 + 10 * seed) * time_axis) + 0.02 * rng.standard_normal(len(time_axis))
    return encode((tone * 32767).astype(np.int16), codec="mp3", bitrate=48_000)


def _measure(folder: Path, count: int, engine: str, sounds: list[bytes]) -> dict[str, Any]:
    audio = folder / f"day{count}"
    audio.mkdir()
    for start in range(0, count, ARCHIVE_CLIPS):
        slot = start // ARCHIVE_CLIPS
        name = f"0_2025-01-31_{slot // 6:02}_{slot % 6 * 10:02}.tar.xz"
        _archive(audio / name, start, min(count, start + ARCHIVE_CLIPS), sounds)
    before, began = _cpu(), time.monotonic()
    answer = _dayscribe(
        folder, "run", "2025-01-31", "--site", f"s{count}", "--folder", str(audio), "--json", engine=engine
    )
    wall, cpu = time.monotonic() - began, _cpu() - before
    said = json.loads(answer.stdout)
    assert said["recordings"] == count, said
    results = folder / "home" / "results"
    files = sum(1 for path in (results / f"s{count}").rglob("*") if path.is_file())
    return {
        "clips": count,
        "engine": engine,
        "wall_seconds": round(wall, 2),
        "cpu_seconds": round(cpu, 2),
        "engine_seconds": said["engine_seconds"],
        "added_ms_per_clip": round((cpu - said["engine_seconds"]) / count * 1000, 2),
        "files_per_1000_clips": round(files / count * 1000, 1),
        "peak_memory_mb": _peak(answer.stderr),
    }


def _archive(path: Path, start: int, stop: int, sounds: list[bytes]) -> None:
    with tarfile.open(path, "w:xz", preset=0) as archive:
        for number in range(start, stop):
            data = sounds[number % len(sounds)]
            info = tarfile.TarInfo(f"{7_000_000_000_000_000_000 + number}.mp3")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def _dayscribe(folder: Path, *command: str, engine: str = "echo") -> subprocess.CompletedProcess[str]:
    """The console script under GNU time's measure of peak memory, where there is one."""
    script = str(Path(sys.executable).parent / "dayscribe")
    settings = ["--set", f"home={folder / 'home'}", "--set", f"engine.name={engine}"]
    if engine == "whisperx":
        demo = ROOT / "models" / "demo"
        chosen = (f"model={demo / 'asr.en'}", f"aligner={demo / 'aligner'}", "language=en", "chunk_size=8")
        settings += [part for one in chosen for part in ("--set", f"engine.{one}")]
    wrapped = [sys.executable, "-c", _WITH_PEAK, script, *settings, *command]
    done = subprocess.run(wrapped, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 65):
        raise SystemExit(done.stderr)
    return done


_WITH_PEAK = """
import os, resource, subprocess, sys, threading, time
child = subprocess.Popen(sys.argv[1:])
peak = 0
while child.poll() is None:
    try:
        status = open(f"/proc/{child.pid}/status").read()
        peak = max(peak, int(status.partition("VmHWM:")[2].split()[0]))
    except (OSError, IndexError):
        pass
    time.sleep(0.2)
print(f"peak-kb={peak}", file=sys.stderr)
sys.exit(child.returncode)
"""


def _peak(text: str) -> float | None:
    found = re.search(r"peak-kb=([0-9]+)", text)
    return round(int(found[1]) / 1024, 1) if found else None


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _line(row: dict[str, Any]) -> str:
    return (
        f"{row['clips']:>6} clips, {row['engine']}: {row['wall_seconds']:.1f} s wall, {row['cpu_seconds']:.1f} s CPU, "
        f"engine {row['engine_seconds']:.1f} s, added {row['added_ms_per_clip']:.1f} ms/clip, "
        f"{row['files_per_1000_clips']} files/1,000 clips, peak {row['peak_memory_mb']} MB"
    )


if __name__ == "__main__":
    main()
