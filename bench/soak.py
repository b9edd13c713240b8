"""Thousands of clips through one engine's process, as a worker gives them: memory stays flat, every answer is right.

    python bench/soak.py [--json] [--clips 20000] [--minutes 12] [--distinct 50] [--tiny]

Fifty short clips of made speech come again and again, in an order drawn anew each time, with the demo model and
Silero's voice detector; --tiny takes a speech model of almost no size and of random weights, so that many more clips
pass through everything else in the same time. Each answer is held against the one that its first copy got. Exit 1 if
one differs, is missing or came twice, or if either process needs a tenth more memory at the end than after the first
thousandth clip.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hpc.bench import clips, machine
from hpc.engine_options import EngineOptions
from hpc.model import Audio, Recording, Result, Transcript
from hpc.models import resolve
from hpc.registry import target
from hpc.stages.engine_process import EngineProcess
from hpc.stages.transcribe import Room, transcribe

ROOT = Path(__file__).resolve().parent.parent
TINY = (
    "--width", "32", "--heads", "2", "--encoder-layers", "1", "--decoder-layers", "1", "--mean-tokens", "10",
    "--mels", "80",
)  # fmt: skip
MARKS = (200, 500, 1_000, 2_000, 5_000, 10_000, 15_000, 20_000)
SETTLED = 1_000  # clips after which memory should be what it will be
EVERY = 20  # answers between looks at memory
GROWTH = 1.1
CLOSE = 1e-3  # of a log-probability: sums of floats differ in their last digits with the size of a batch


def main() -> None:
    """Run, print, and exit 1 if something was lost, wrong or growing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--clips", type=int, default=20_000)
    parser.add_argument("--minutes", type=float, default=12.0, help="feed no more after so long")
    parser.add_argument("--distinct", type=int, default=50)
    parser.add_argument("--tiny", action="store_true")
    wanted = parser.parse_args()
    soak = Soak(list(clips.synthetic(wanted.distinct, chunk_size=4).audios), wanted.clips, wanted.minutes * 60)
    with tempfile.TemporaryDirectory() as folder:
        options = _options(Path(folder) / "tiny" if wanted.tiny else None)
        with EngineProcess(target("engines", "whisperx"), options, hang_seconds=600) as engine:
            told = soak.run(engine, Room(16 * options.batch_size, 4.0 * options.batch_size * options.chunk_size))
    print(json.dumps(told, indent=2) if wanted.json else _lines(told))
    sys.exit(not told["good"])


def _options(tiny: Path | None) -> EngineOptions:
    if tiny:
        command = [sys.executable, "-m", "models.random.whisper", str(tiny), *TINY]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    model = str(tiny or "demo/asr.en")
    chosen = EngineOptions(model=model, aligner="demo/aligner", language="en", chunk_size=8, vad_method="silero")
    return resolve(chosen)[0]


@dataclass
class Soak:
    """What goes in, what has come out, and what memory was needed."""

    distinct: list[Audio]
    count: int
    seconds: float  # after which no more is fed
    _fed: int = 0
    _first: dict[bytes, Transcript] = field(default_factory=dict)
    _answered: set[int] = field(default_factory=set)
    _wrong: list[str] = field(default_factory=list)
    _memory: dict[str, list[tuple[int, float]]] = field(default_factory=lambda: {"worker": [], "engine": []})

    def run(self, engine: EngineProcess, room: Room) -> dict[str, Any]:
        began = time.monotonic()
        load = os.getloadavg()[0]
        for at, result in enumerate(transcribe(self._audios(began), engine, room), 1):
            assert isinstance(result, Result)
            self._judge(result)
            if at % EVERY == 0 and engine.pid:
                self._look(at, {"worker": os.getpid(), "engine": engine.pid})
        took = time.monotonic() - began
        growth = {who: _growth(seen) for who, seen in self._memory.items()}
        return {
            "command": " ".join(("python", *sys.argv)),
            "machine": machine.describe() | {"load": load},
            "clips": self._fed,
            "asked_for": self.count,
            "distinct": len(self.distinct),
            "minutes": round(took / 60, 2),
            "clips_per_second": round(self._fed / took, 1),
            "unanswered": self._fed - len(self._answered),
            "wrong": self._wrong[:20],
            "memory_megabytes": {who: _at_marks(seen) for who, seen in self._memory.items()},
            "growth": growth,
            "good": not self._wrong
            and self._fed == len(self._answered)
            and all(one is None or one < GROWTH for one in growth.values()),
        }

    def _audios(self, began: float) -> Iterator[Audio]:
        rng = random.Random(1)
        order: list[Audio] = []
        while self._fed < self.count and time.monotonic() - began < self.seconds:
            order = order or rng.sample(self.distinct, len(self.distinct))
            audio = order.pop()
            known = audio.recording
            yield replace(audio, recording=Recording(1 + self._fed // 500, self._fed, known.name, known.size, b""))
            self._fed += 1

    def _judge(self, result: Result) -> None:
        """The first answer to a clip is right by the identity tests; all others must be the same."""
        number, name, heard = result.recording.ordinal, result.recording.name, result.outcome
        if number in self._answered:
            self._wrong.append(f"{number} was answered twice")
        self._answered.add(number)
        if not isinstance(heard, Transcript):
            self._wrong.append(f"{number}: {heard.reason}")
        elif not _same(self._first.setdefault(name, heard), heard):
            self._wrong.append(f"{number}: {heard.text!r} and not {self._first[name].text!r}")

    def _look(self, at: int, processes: dict[str, int]) -> None:
        for who, pid in processes.items():
            status = Path(f"/proc/{pid}/status").read_text()
            self._memory[who].append((at, int(status.partition("VmRSS:")[2].split()[0]) / 1024))


def _same(first: Transcript, other: Transcript) -> bool:
    plain = [
        replace(one, chunks=(), segments=tuple(replace(s, avg_logprob=None) for s in one.segments))
        for one in (first, other)
    ]
    pairs = list(zip(first.chunks, other.chunks, strict=False))
    close = all(abs((one.avg_logprob or 0) - (two.avg_logprob or 0)) < CLOSE for one, two in pairs)
    return plain[0] == plain[1] and len(first.chunks) == len(other.chunks) and close


def _at_marks(seen: list[tuple[int, float]]) -> dict[str, float]:
    """The most that was seen since the last mark."""
    ends = [mark for mark in MARKS if seen and mark <= seen[-1][0]]
    ends += [seen[-1][0]] if seen and seen[-1][0] not in ends else []
    starts = [0, *ends]
    return {
        str(end): round(max(size for at, size in seen if start < at <= end), 1)
        for start, end in zip(starts, ends, strict=False)
    }


def _growth(seen: list[tuple[int, float]]) -> float | None:
    """The last tenth against the tenth after memory has settled."""
    settled = [size for at, size in seen if at >= SETTLED]
    tenth = len(settled) // 10
    return round(statistics.median(settled[-tenth:]) / statistics.median(settled[:tenth]), 3) if tenth else None


def _lines(told: dict[str, Any]) -> str:
    lines = [
        f"{told['clips']} of {told['asked_for']} clips ({told['distinct']} different ones)"
        f" in {told['minutes']} minutes, {told['clips_per_second']} a second;"
        f" {told['unanswered']} unanswered, {len(told['wrong'])} wrong",
    ]
    for who, marks in told["memory_megabytes"].items():
        lines.append(f"{who}, MB at most up to clip: " + ", ".join(f"{at}: {size:.0f}" for at, size in marks.items()))
        lines.append(f"{who}: end to beginning {told['growth'][who]}")
    return "\n".join([*lines, *told["wrong"], "good" if told["good"] else "NOT GOOD"])


if __name__ == "__main__":
    main()
