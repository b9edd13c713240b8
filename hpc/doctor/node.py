"""A node as a GPU job finds it: the GPU as torch sees it, what is bound and how, and what must not have come in."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hpc.doctor.finding import Finding, Verdict, good_or_advice, good_or_wanting, nearest

# Of the worker alone: the image of GPU jobs has neither the API nor what tests need.
PACKAGES = ("av", "click", "numpy", "psycopg", "pyarrow", "pydantic_settings", "rich")
TORCH_SECONDS = 180.0  # from a network file system, with nothing cached, torch takes a minute to load
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
# In a child, since only the engine's process may hold torch: it takes seconds to load and keeps hold of the GPU.
_ASK_TORCH = """
import json, torch, ctranslate2
gpus = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
print(json.dumps({"torch": torch.__version__, "cuda": torch.version.cuda or "", "gpus": gpus,
                  "ctranslate2": ctranslate2.__version__, "seen": ctranslate2.get_cuda_device_count()}))
"""


@dataclass(frozen=True, slots=True)
class Torch:
    """What torch and CTranslate2 say."""

    version: str = ""
    cuda: str = ""  # that torch was built with
    gpus: tuple[str, ...] = ()
    ctranslate2: str = ""
    seen: int = 0  # GPUs, by CTranslate2
    trouble: str = ""  # why they say nothing


def ask_torch() -> Torch:
    """Load both in a child and ask them."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _ASK_TORCH], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", timeout=TORCH_SECONDS, check=False,
        )  # fmt: skip
        said = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None
    except subprocess.TimeoutExpired:
        return Torch(trouble=f"not loaded in {TORCH_SECONDS:.0f} s")
    except (OSError, ValueError, IndexError) as error:
        return Torch(trouble=f"{type(error).__name__}: {error}")
    if said is None:
        lines = done.stderr.strip().splitlines()
        return Torch(trouble=lines[-1][:300] if lines else f"exit code {done.returncode}")
    return Torch(said["torch"], said["cuda"], tuple(said["gpus"]), said["ctranslate2"], said["seen"])


def torch(device: str, found: Torch) -> Finding:
    """`device` is what the job works on: cuda where its order asks for a GPU."""
    wanted = "a GPU, seen by both" if device == "cuda" else "loads"
    if found.trouble:
        mend = "Run `make` in the clone, or build the audio image again: torch or CTranslate2 does not load."
        return Finding("torch", Verdict.WANTING, found.trouble, wanted, mend)
    said = f"torch {found.version}, CTranslate2 {found.ctranslate2}"
    said += f", CUDA {found.cuda}" if found.cuda else ", without CUDA"
    said += f"; {len(found.gpus)} × {found.gpus[0]}" if found.gpus else "; no GPU"
    if device != "cuda" or (found.gpus and found.seen):
        return Finding("torch", Verdict.OK, said, wanted)
    if not found.cuda:
        mend = "This torch has no CUDA in it: install the one that requirements/ locks, or build the image again."
    elif found.gpus:
        said, mend = f"{said}; CTranslate2 sees none", "Its CUDA 12 libraries are not found: build the image again."
    else:
        mend = "See `GPU`: without a driver in sight ask SLURM for one (slurm.gres); an old driver must be renewed."
    return Finding("torch", Verdict.WANTING, said, wanted, mend)


def place(node: str, job: str, image: str | None, digest: str | None) -> Finding:
    """Where this was looked at."""
    inside = f"in the {image} image {f'{digest[:12]}…' if digest else '(a folder)'}" if image else "in the clone"
    return Finding("node", Verdict.OK, f"{node}, job {job or '-'}, {inside}")


def gpu_unused(device: str, *, asked: bool) -> Finding | None:
    """A GPU that is asked for and not used is paid for."""
    if not asked or device != "cpu":
        return None
    mend = "Set slurm.gres to none, or engine.device to auto."
    return Finding("GPU asked for", Verdict.ADVICE, "engine.device is cpu", "used", mend)


def driver(version: str) -> Finding | None:
    return Finding("NVIDIA driver", Verdict.OK, version) if version else None


def kernels(environment: Mapping[str, str]) -> Finding:
    """Where the driver keeps what it compiles for a GPU that CTranslate2 has no machine code for. Without such a folder
    every process compiles anew, which takes time and harms nothing."""
    what, wanted = "compiled kernels", "kept from job to job, in a folder of one's own"
    if environment.get("CUDA_CACHE_DISABLE") == "1":
        return Finding(what, Verdict.ADVICE, "CUDA_CACHE_DISABLE is 1", wanted, "unset CUDA_CACHE_DISABLE")
    home = Path(environment.get("HOME") or "/")
    folder = Path(environment.get("CUDA_CACHE_PATH") or home / ".nv" / "ComputeCache")
    room = environment.get("CUDA_CACHE_MAXSIZE", "")
    said = f"{folder}, at most {int(room) / 1024**3:.1f} GiB" if room.isdigit() else str(folder)
    trouble = _refusal(nearest(folder))
    if trouble:
        mend = "Each process compiles anew: name a folder in CUDA_CACHE_PATH that you can write."
        return Finding(what, Verdict.ADVICE, f"{said}: {trouble}", wanted, mend)
    passing = [environment[name] for name in ("SLURM_TMPDIR", "TMPDIR") if environment.get(name, "").startswith("/")]
    if any(folder.is_relative_to(place) for place in (*passing, "/tmp", "/cache")):  # noqa: S108 - looked at, not used
        mend = "It may go with the job, or is this node's alone: can home be written? Jobs keep kernels below it."
        return Finding(what, Verdict.ADVICE, said, wanted, mend)
    return Finding(what, Verdict.OK, said, wanted)


def leaks(found: Iterable[str]) -> Finding:
    """What hpc.images.leaks named; a task in this image would refuse to start."""
    names = ", ".join(found)
    mend = "Look at containers.binds and at the runtime's own settings on this node." if names else ""
    return Finding("closed image", good_or_wanting(not names), names or "nothing came in", "nothing of the host", mend)


def offline(environment: Mapping[str, str]) -> Finding:
    """The engine sets these for itself; in an image they hold for whoever looks around in it, too."""
    missing = [name for name in OFFLINE if environment.get(name) != "1"]
    mend = (
        "The engine sets them itself; build the image again, so that they hold for everything in it." if missing else ""
    )
    found = f"not set: {', '.join(missing)}" if missing else "set"
    return Finding("offline", good_or_advice(not missing), found, "no hub is asked", mend)


def writable(what: str, folder: Path) -> Finding:
    trouble = _refusal(folder)
    mend = f"{folder} has to be there and yours to write on every node: choose another, or have it mounted."
    return Finding(
        what, good_or_wanting(not trouble), f"{folder}{f': {trouble}' if trouble else ''}", "writable",
        mend if trouble else "",
    )  # fmt: skip


def read_only(what: str, files: Iterable[str]) -> Finding:
    """What is transcribed can be read, and its folder not be written."""
    for name in files:
        try:
            with Path(name).open("rb") as file:
                file.read(1)
        except OSError as error:
            mend = "The folder has to be mounted on every node; in an image it is bound as the order names it."
            return Finding(what, Verdict.WANTING, f"{name}: {error.strerror}", "readable", mend)
        folder = Path(name).parent
        if not _refusal(folder):
            mend = "Has containers.binds a folder above it with :rw? Then decoders could write there."
            return Finding(what, Verdict.ADVICE, f"{folder} can be written", "read-only", mend)
    return Finding(what, Verdict.OK, "readable, and not writable", "read-only")


def closed_root(root: Path = Path("/")) -> Finding:
    """An image is the same for every task."""
    good = bool(_refusal(root))
    mend = (
        "" if good else "Harmless if it is in memory (--writable-tmpfs); a folder image must not be started --writable."
    )
    return Finding("image", good_or_advice(good), "read-only" if good else f"{root} can be written", "read-only", mend)


def _refusal(folder: Path) -> str:
    """Why nothing can be written there: asked by writing, since bits say nothing of a bind or of a quota."""
    try:
        with tempfile.NamedTemporaryFile(prefix=".dayscribe-doctor-", dir=folder) as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        return error.strerror or errno.errorcode.get(error.errno or 0, "not writable")
    return ""


def node_name(environment: Mapping[str, str]) -> str:
    return environment.get("SLURMD_NODENAME") or os.uname().nodename
