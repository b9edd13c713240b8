"""Two contestants hear the same clips, one after the other, each in a process of its own; what that says of them."""

from __future__ import annotations

import contextlib
import multiprocessing
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from hpc.bench import child, machine
from hpc.bench.clips import Clips
from hpc.bench.compare import compare
from hpc.engine_options import EngineOptions
from hpc.errors import EngineLost

OURS = "dayscribe"
PEERS = {
    "whisperx": "hpc.engines.whisperx.peers:WhisperX",
    "faster-whisper": "hpc.engines.whisperx.peers:FasterWhisper",
}
Steps = Callable[[str, int], contextlib.AbstractContextManager[Callable[[], None]]]
SHOWN = (
    "model", "language", "task", "beam_size", "device", "compute_type", "vad_method", "chunk_size", "align", "threads",
)  # fmt: skip


@contextmanager
def no_steps(_: str, __: int) -> Iterator[Callable[[], None]]:
    """For who wants to see no progress."""
    yield lambda: None


@dataclass(frozen=True, slots=True)
class Contest:
    """Who is measured against whom, and how often."""

    target: str  # import path of our engine
    options: EngineOptions  # resolved; the same for both
    against: str  # one of PEERS
    room: tuple[int, float]  # recordings and seconds of audio that our engine may hold, as a worker's may
    rounds: int = 1

    def run(self, clips: Clips, *, command: str, steps: Steps = no_steps) -> dict[str, Any]:
        """Everything that came of it, in plain values."""
        options = replace(self.options, align=self.options.align and self.against == "whisperx")
        runs: dict[str, list[dict[str, Any]]] = {OURS: [], self.against: []}
        world = machine.describe()
        with _written(clips) as samples:
            jobs = self._jobs(options, clips, samples)
            for at in range(self.rounds):
                for name in sorted(jobs, key=[OURS, self.against].index, reverse=at % 2 == 1):
                    with steps(name, len(clips.audios)) as step:
                        runs[name].append(_run(name, jobs[name], step))
        identity = _identity(clips, runs[OURS], runs[self.against], exact=self.against == "whisperx")
        contestants = {name: _summed(clips, done) for name, done in runs.items()}
        return {
            "command": command,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": world,
            "clips": _described(clips),
            "options": {name: getattr(options, name) for name in SHOWN},
            "against": self.against,
            "rounds": self.rounds,
            "contestants": contestants,
            "ratios": _ratios(contestants[OURS], contestants[self.against]),
            "identity": identity,
        }

    def _jobs(self, options: EngineOptions, clips: Clips, samples: Path) -> dict[str, child.Job]:
        lengths = tuple(len(audio.pcm) for audio in clips.audios)
        warm_up = sorted(range(len(lengths)), key=lengths.__getitem__)[len(lengths) // 2]
        ours = child.Job(self.target, True, options, samples, lengths, warm_up, self.room)
        return {OURS: ours, self.against: replace(ours, target=PEERS[self.against], engine=False)}


@contextmanager
def _written(clips: Clips) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="dayscribe-bench-") as folder:
        path = Path(folder) / "samples"
        with path.open("wb") as file:
            for audio in clips.audios:
                file.write(np.ascontiguousarray(audio.pcm).data)
        yield path


def _run(name: str, job: child.Job, step: Callable[[], None]) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=child.main, args=(theirs, job), name=f"dayscribe-bench-{name}", daemon=True)
    process.start()
    theirs.close()
    try:
        while True:
            word, value = ours.recv()
            if word == "step":
                step()
            elif word == "done":
                measured: dict[str, Any] = value
                return measured
            elif word == "refused":
                raise value
            else:
                raise EngineLost(f"{name} failed: {value}")
    except EOFError:
        process.join(5.0)
        raise EngineLost(f"{name} ended before it had heard all clips (exit code {process.exitcode}).") from None
    finally:
        ours.close()
        process.kill()
        process.join()


def _summed(clips: Clips, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The run of median time, with all times beside it."""
    walls = [run["wall_seconds"] for run in runs]
    run = min(runs, key=lambda one: (abs(one["wall_seconds"] - statistics.median(walls)), one["wall_seconds"]))
    wall, counts = run["wall_seconds"], run["counts"]
    calls, chunks = counts.get("generate_calls", 0), counts.get("chunks", 0)
    fill = chunks / calls if calls else None
    return {
        "wall_seconds": round(wall, 3),
        "wall_seconds_of_each_round": [round(one, 3) for one in walls],
        "rtfx": round(clips.seconds / wall, 2),
        "cpu_seconds": round(run["cpu_seconds"], 2),
        "others_cpu_seconds": round(run["others_cpu_seconds"], 2),
        "stolen_cpu_seconds": round(run["stolen_cpu_seconds"], 2),
        "windows_per_second": round(chunks / wall, 3) if calls else None,
        "batch_size": run["batch_size"],
        "mean_fill": None if fill is None else round(fill, 2),
        "fill_share": None if fill is None else round(fill / run["batch_size"], 4),
        "counts": dict(counts),
        "stage_cpu_seconds": {name: round(spent, 2) for name, spent in run["stages"].items()},
        "gpu_busy": run["gpu_busy"],
        "peak_megabytes": round(run["peak_megabytes"], 1),
        "load_seconds": round(run["load_seconds"], 1),
        "warm_up_seconds": round(run["warm_up_seconds"], 2),
        "failed": sum("reason" in answer for answer in run["answers"]),
    }


def _ratios(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, float | None]:
    def times_fewer(name: str) -> float | None:
        few, many = ours["counts"].get(name), theirs["counts"].get(name)
        return round(many / few, 2) if few and many else None

    return {
        "speed_up": round(theirs["wall_seconds"] / ours["wall_seconds"], 2),
        "less_cpu": round(theirs["cpu_seconds"] / ours["cpu_seconds"], 2),
        "fewer_generate_calls": times_fewer("generate_calls"),
        "fewer_steps": times_fewer("steps"),
        "fewer_language_calls": times_fewer("language_calls"),
    }


def _identity(
    clips: Clips, ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]], *, exact: bool
) -> dict[str, Any]:
    """Of the round with the most differences."""
    verdicts = [
        compare(mine["answers"], other["answers"], clips.named, exact=exact)
        for mine, other in zip(ours, theirs, strict=True)
    ]
    return max(
        verdicts, key=lambda verdict: (verdict["recordings"] - verdict["same"], verdict["max_logprob_delta"] or 0)
    )


def _described(clips: Clips) -> dict[str, Any]:
    lengths = sorted(audio.duration for audio in clips.audios)
    return {
        "origin": clips.origin,
        "count": len(lengths),
        "seconds": round(clips.seconds, 1),
        "median_seconds": round(statistics.median(lengths), 2),
        "longest_seconds": round(lengths[-1], 2),
        "prepare_seconds": round(clips.prepare_seconds, 1),
        "left_out": list(clips.left_out),
    }
