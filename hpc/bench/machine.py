"""The machine in words, what a process costs it, and how busy its GPU was."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import statistics
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

PACKAGES = ("dayscribe", "whisperx", "faster-whisper", "ctranslate2", "torch", "pyannote-audio")


def describe() -> dict[str, Any]:
    """What whoever reads a result must know of where it came from."""
    gpus = _nvidia_smi("--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "gpu": [line.strip() for line in gpus.splitlines()],
        "python": platform.python_version(),
        **{name: installed for name in PACKAGES if (installed := _version(name))},
    }


def cpu_seconds() -> float:
    """Of this process, its threads and the children that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def whole_machine() -> tuple[float, float]:
    """CPU seconds that all processes have had so far, and those that other guests of the host took from this one."""
    ticks = os.sysconf("SC_CLK_TCK")
    user, nice, system, _idle, _waiting, irq, soft, stolen = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + soft) / ticks, stolen / ticks


def peak_megabytes() -> float:
    """The most memory this process has held; getrusage's figure would be that of whoever started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


class GpuBusy:
    """Asks nvidia-smi once a second how busy the GPU is; a context manager. `share` is None where there is none."""

    share: float | None = None

    def __init__(self, *, wanted: bool) -> None:
        self._wanted = wanted and shutil.which("nvidia-smi") is not None
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        if self._wanted:
            command = ["nvidia-smi", *_chosen_gpu(), "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
            self._process = subprocess.Popen(
                [*command, "-l", "1"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._process:
            self._process.terminate()
            said = self._process.communicate()[0]
            shares = [int(line) / 100 for line in said.split() if line.isdigit()]
            self.share = round(statistics.fmean(shares), 3) if shares else None


def _chosen_gpu() -> list[str]:
    """nvidia-smi knows nothing of CUDA_VISIBLE_DEVICES; it takes the same names."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0]
    return ["-i", first or "0"]


def _nvidia_smi(*arguments: str) -> str:
    try:
        return subprocess.run(["nvidia-smi", *arguments], capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
