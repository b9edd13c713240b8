"""Images and what they are shown: the files, their digests, and the folders that jobs bind."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from db.places import network_mount
from hpc import images
from hpc.doctor.finding import Finding, Verdict, good_or_advice, good_or_wanting, nearest
from hpc.errors import BadSetting

READ_AT_MOST = 1 << 30  # bytes: a larger image is only read on request; the job reads it once on each node
SCRATCH = 10 * 1024**3  # bytes: a GPU job's parts, and an image that is unpacked
# Our own labels: under the usual names stands what the base image says of itself.
VERSION, PACKAGES = "dayscribe.version", "dayscribe.packages"
INSIDE = "/opt/packages"  # where an image without Python packages has to find them
INSPECT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Image:
    """What is known of one image."""

    path: Path
    folder: bool = False
    size: int = 0
    mode: int = 0o644
    recorded: str | None = None  # the digest in images.sha256
    trouble: str = ""  # why there is none
    digest: str | None = None  # of the file as it is now; None: it was not read
    version: str | None = None  # of the dayscribe inside, by its labels
    packages: str | None = None  # baked, or bound: they have to be brought


def look(path: Path, *, runtime: str, hashed: Callable[[Path, int], str | None]) -> Image:
    """The image as it lies here. `hashed` reads the file, or says None when that would take too long."""
    try:
        recorded, trouble = images.digest_of(path), ""
    except BadSetting as error:
        recorded, trouble = None, str(error)
    if not path.exists():
        return Image(path, trouble=trouble)
    status, folder = path.stat(), path.is_dir()
    digest = None if folder or recorded is None else hashed(path, status.st_size)
    labels = inspect(runtime, path) if runtime else {}
    facts = (path, folder, status.st_size, status.st_mode, recorded, trouble, digest)
    return Image(*facts, labels.get(VERSION), labels.get(PACKAGES))


def hash_file(path: Path, tell: Callable[[int], None]) -> str:
    """Its sha256; `tell` hears how many bytes were read."""
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
            done += len(block)
            tell(done)
    return digest.hexdigest()


def inspect(runtime: str, path: Path) -> Mapping[str, str]:
    """The labels that its builder gave it; none where they cannot be read."""
    try:
        done = subprocess.run(
            [runtime, "inspect", "--json", str(path)], stdin=subprocess.DEVNULL, capture_output=True, check=False,
            timeout=INSPECT_SECONDS,
        )  # fmt: skip
        labels = json.loads(done.stdout)["data"]["attributes"]["labels"]
        return {str(name): str(value) for name, value in labels.items()}
    except (OSError, subprocess.TimeoutExpired, ValueError, LookupError, TypeError, AttributeError):
        return {}


def image(kind: str, found: Image, *, shared: bool, ours: str) -> Iterator[Finding]:
    """`kind` is audio or utils, `ours` the version of the program that asks."""
    what, wanted = f"{kind} image", "there, and as its digest was recorded"
    if found.trouble:
        state = str(found.path) if found.size or found.folder else f"no {found.path}"
        yield Finding(what, Verdict.WANTING, state, wanted, found.trouble)
        return
    said = f"{found.path}, {'a folder, which has no digest' if found.folder else _size(found.size)}"
    if found.recorded is not None and found.digest is not None and found.digest != found.recorded:
        said += f", sha256 {found.digest[:12]}…, recorded {found.recorded[:12]}…"
        mend = "The file has changed since it was built: build it again, or fetch it and its images.sha256 anew."
        yield Finding(what, Verdict.WANTING, said, wanted, mend)
        return
    if found.recorded is not None:
        how = "as recorded" if found.digest else "not read now: --read-images"
        said += f", sha256 {found.recorded[:12]}… {how}"
    open_to_others = found.mode & (0o050 if found.folder else 0o040)
    if shared and not open_to_others:
        yield Finding(what, Verdict.WANTING, f"{said}, closed to the group", wanted, f"chmod g+rX {found.path}")
    else:
        yield Finding(what, Verdict.OK, said, wanted)
    if found.version is not None:
        same = found.version.removeprefix("v") == ours
        mend = "" if same else "Jobs run our code in it, with the image's packages: build it again soon."
        yield Finding(f"dayscribe in the {kind} image", good_or_advice(same), found.version, ours, mend)


def packages(kind: str, sources: Iterable[str]) -> Finding:
    """Of an image whose Python packages are not inside, as its label says."""
    bound = any(source.split(":")[1:2] == [INSIDE] for source in sources)
    found = f"bound to {INSIDE}" if bound else f"not inside, and nothing is bound to {INSIDE}"
    mend = "" if bound else f"containers.binds=/SITE-PACKAGES:{INSIDE}:ro, or build the image with its packages."
    return Finding(f"packages of the {kind} image", good_or_wanting(bound), found, "inside, or bound", mend)


def binds(sources: Iterable[str], *, models: Iterable[Path]) -> Finding:
    """What images are to see has to be here; the runtime would start nothing at all."""
    named = [source.partition(":")[0] for source in sources]
    missing = [name for name in (*named, *map(str, models)) if not Path(name).exists()]
    found = f"no {', no '.join(missing)}" if missing else f"{len(named)} of containers.binds"
    mend = "Make them, or change containers.binds and models: with a missing one no image starts." if missing else ""
    return Finding("binds", good_or_wanting(not missing), found, "every folder is there", mend)


def names(folders: Mapping[str, Path]) -> Finding:
    """The runtime takes a colon and a comma for its own."""
    bad = {name: path for name, path in folders.items() if set(str(path)) & set(":,")}
    found = ", ".join(f"{name} is {path}" for name, path in bad.items()) or f"{len(folders)} folders can be bound"
    mend = f"Choose another folder for {', '.join(bad)}." if bad else ""
    return Finding("names of folders", good_or_wanting(not bad), found, "no colon and no comma", mend)


def models_seen(found: Iterable[Path], bound: Iterable[Path]) -> Finding:
    """A model in a cache under the person's home is found here, and not inside, where there is no such home."""
    places = tuple(bound)
    lost = [str(path) for path in found if not any(path.is_relative_to(place) for place in places)]
    said = ", ".join(lost) or "all inside"
    mend = "Name the folder above in `models`: images see no cache under your home." if lost else ""
    return Finding("models in the image", good_or_wanting(not lost), said, "below `models`, or shipped", mend)


@dataclass(frozen=True, slots=True)
class Scratch:
    """A folder for a job's temporary files."""

    path: Path
    writable: bool
    free: int  # bytes
    network: str = ""  # the kind of a network file system


def scratch_of(chosen: Path | None, environment: Mapping[str, str]) -> Path:
    """As slurm/container.sh chooses it."""
    return chosen or Path(environment.get("SLURM_TMPDIR") or environment.get("TMPDIR") or tempfile.gettempdir())


def look_at_scratch(path: Path) -> Scratch:
    there = nearest(path)
    mount = network_mount(there.resolve())
    writable = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    return Scratch(path, writable, shutil.disk_usage(there).free, mount[0] if mount else "")


def scratch(found: Scratch, *, here_it_counts: bool) -> Finding:
    """On the host that submits it only hints at what nodes have: there it never counts as wanting."""
    what, wanted = "scratch", f"local, writable, {SCRATCH // 1024**3} GiB free"
    bad = Verdict.WANTING if here_it_counts else Verdict.ADVICE
    nodes = "" if here_it_counts else " Nodes may differ: `dayscribe doctor --gpu-node`."
    said = f"{found.path}, {found.free / 1024**3:.1f} GiB free"
    if not found.writable:
        return Finding(what, bad, f"{found.path} cannot be written", wanted, f"Change containers.scratch.{nodes}")
    if found.network:
        mend = "Name a folder on a local disk of the nodes in containers.scratch: jobs would slow each other down."
        return Finding(what, Verdict.ADVICE, f"{said}, on {found.network}", wanted, mend)
    if found.free < SCRATCH:
        mend = f"Make room, or name a roomier folder in containers.scratch.{nodes}"
        return Finding(what, bad, said, wanted, mend)
    return Finding(what, Verdict.OK, said, wanted)


def _size(count: int) -> str:
    return f"{count / 1024**3:.1f} GiB" if count >= 1 << 30 else f"{count / 1024**2:.0f} MiB"
