"""Python, packages, folders, passwords and the GPU: what every machine needs that runs dayscribe."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import site
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpc.accelerator import Cuda, ask_driver, cuda_needed, driver_of, installed
from hpc.doctor.finding import Finding, Verdict, attempt, good_or_wanting, nearest

PYTHONS = ((3, 11), (3, 13))
ROOM = 2 * 1024**3  # bytes: the ledger of a demo, and parts of some days
FILES = 10_000  # inodes
OURS = ("db", "hpc", "monitor")
SCRATCH = ("SCRATCH", "SCRATCHDIR", "SLURM_TMPDIR", "TMPDIR", "LOCAL_SCRATCH")
TEMPORARY = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - looked for, not used
PACKAGES = ("av", "click", "flask", "gunicorn", "numpy", "psycopg", "pyarrow", "pydantic_settings", "rich")
SPEECH_PACKAGES = ("whisperx", "torch", "faster_whisper", "ctranslate2", "transformers", "nltk")


@dataclass(frozen=True, slots=True)
class Machine:
    """What is going to be used, in plain values."""

    home: Path
    results: Path
    embedded: bool  # the ledger is our own server under home
    speech: bool  # the engine needs the speech packages
    device: str  # auto, cpu or cuda
    purged: tuple[Path, ...] = ()  # folders that the cluster empties by itself, as far as somebody told us
    staging: Path | None = None  # where days are put that come from elsewhere, if somebody named it


def examine(machine: Machine) -> Iterator[Finding]:
    """Look at everything that needs no ledger and no model; changes nothing."""
    yield python(sys.version_info[:2])
    yield packages((*PACKAGES, *SPEECH_PACKAGES) if machine.speech else PACKAGES)
    yield our_names(Path(__file__).parents[2])
    yield import_paths(os.environ, user_site=bool(site.ENABLE_USER_SITE))
    yield permissions_of_new_files()
    yield passwords(os.environ, Path.home())
    yield folder("home", machine.home)
    yield room("room in home", machine.home)
    if not machine.results.is_relative_to(machine.home):
        yield folder("results", machine.results)
        yield room("room in results", machine.results)
    if machine.staging is not None:
        yield folder("staging", machine.staging)
        yield room("room in staging", machine.staging)
    for name, path in (("home", machine.home), ("results", machine.results)):
        yield kept(name, path, purged=machine.purged, environment=os.environ)
    if machine.embedded:
        yield attempt("PostgreSQL programs", _server_programs, wanted="version 15 or newer, and home on a local disk")
    if machine.speech:
        yield graphics(machine.device, ask_driver(), installed("ctranslate2"))
    yield synthesiser()


def kept(what: str, path: Path, *, purged: Sequence[Path], environment: Mapping[str, str]) -> Finding:
    """Results, parts and exit records are all there is of a day's work: where files go after some weeks they may not
    be. Staged audio may: it can be fetched again."""
    where, wanted = path.resolve(), "not where a cluster empties folders by itself"
    mend = f"Keep {what} on a project's file system, and only staging (transfer.staging) on scratch."
    for folder in purged:
        if where.is_relative_to(folder.resolve()):
            return Finding(f"{what} is kept", Verdict.WANTING, f"{path} is in {folder}, which is purged", wanted, mend)
    named = [environment[name] for name in SCRATCH if environment.get(name, "").startswith("/")]
    for name in (*named, *TEMPORARY):
        if name != "/" and where.is_relative_to(Path(name).resolve()):
            return Finding(f"{what} is kept", Verdict.ADVICE, f"{path} is in {name}", wanted, mend)
    if any("scratch" in part.lower() for part in where.parts):
        found = f"{path} looks like a scratch folder"
        return Finding(f"{what} is kept", Verdict.ADVICE, found, wanted, f"{mend} If it is emptied, say so: purged.")
    return Finding(f"{what} is kept", Verdict.OK, str(path), wanted)


def python(version: tuple[int, int]) -> Finding:
    lowest, highest = PYTHONS
    wanted = f"{lowest[0]}.{lowest[1]} to {highest[0]}.{highest[1]}"
    good = lowest <= version <= highest
    mend = "" if good else "Run `make` with another python3, or install one of these."
    return Finding("Python", good_or_wanting(good), f"{version[0]}.{version[1]}", wanted, mend)


def packages(names: tuple[str, ...]) -> Finding:
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    found = f"{len(names) - len(missing)} of {len(names)}" + (f"; missing: {', '.join(missing)}" if missing else "")
    mend = "Run `make` in the clone; it installs what requirements/ locks." if missing else ""
    return Finding("packages", good_or_wanting(not missing), found, "all", mend)


def our_names(root: Path) -> Finding:
    """`db`, `hpc` and `monitor` are plain names: another package or folder of that name must not be found first."""
    strangers = {}
    for name in OURS:
        spec = importlib.util.find_spec(name)
        places = {str(Path(place).resolve()) for place in (spec.submodule_search_locations or [])} if spec else set()
        if places != {str((root / name).resolve())}:
            strangers[name] = " and ".join(sorted(places)) or "nowhere"
    found = ", ".join(f"{name} is {place}" for name, place in strangers.items()) or str(root)
    mend = "Unset PYTHONPATH and call the `dayscribe` of the virtual environment." if strangers else ""
    return Finding("db, hpc, monitor", good_or_wanting(not strangers), found, "ours", mend)


def import_paths(environment: Mapping[str, str], *, user_site: bool) -> Finding:
    leaks = [name for name in ("PYTHONPATH", "PYTHONHOME") if environment.get(name)]
    leaks += ["packages of the user's own"] if user_site else []
    mend = "unset PYTHONPATH PYTHONHOME; export PYTHONNOUSERSITE=1" if leaks else ""
    verdict = Verdict.ADVICE if leaks else Verdict.OK
    return Finding("import path", verdict, ", ".join(leaks) or "clean", "nothing from outside the environment", mend)


def permissions_of_new_files() -> Finding:
    mask = os.umask(0o077)
    os.umask(mask)
    good = bool(mask & 0o002)
    mend = "" if good else "umask 027, in the shell's start-up file: others could write into the results."
    return Finding("umask", Verdict.OK if good else Verdict.ADVICE, f"{mask:03o}", "closed to others' writing", mend)


def passwords(environment: Mapping[str, str], person: Path) -> Finding:
    """libpq ignores a passfile that others can read; an environment variable is seen in process dumps."""
    if environment.get("PGPASSWORD"):
        return Finding(
            "database password", Verdict.ADVICE, "PGPASSWORD", "a passfile", "Move it to ~/.pgpass, mode 0600."
        )
    file = Path(environment.get("PGPASSFILE") or person / ".pgpass")
    if file.is_file() and file.stat().st_mode & 0o077:
        return Finding("database password", Verdict.WANTING, f"{file} is open", "mode 0600", f"chmod 600 {file}")
    return Finding("database password", Verdict.OK, str(file) if file.is_file() else "none here", "mode 0600")


def folder(what: str, path: Path) -> Finding:
    there = nearest(path)
    good = os.access(there, os.W_OK | os.X_OK) and there.is_dir()
    found = f"{path}{'' if there == path else ' (to be made)'}"
    mend = "" if good else f"{there} cannot be written: choose another folder (`dayscribe config show`)."
    return Finding(what, good_or_wanting(good), found, "a folder we can write", mend)


def room(what: str, path: Path) -> Finding:
    disk = os.statvfs(nearest(path))
    free, files = disk.f_bavail * disk.f_frsize, disk.f_favail
    endless = disk.f_files == 0  # btrfs, some network file systems: no fixed number
    good = free >= ROOM and (endless or files >= FILES)
    found = f"{free / 1024**3:.1f} GiB, {'any number of' if endless else f'{files:,}'} files"
    mend = "" if good else "Make room, or choose another folder (`dayscribe config show`)."
    return Finding(what, good_or_wanting(good), found, f"{ROOM / 1024**3:.0f} GiB, {FILES:,} files", mend)


def graphics(device: str, cuda: Cuda | None, ctranslate2: str) -> Finding:
    """`ctranslate2` is the version that is installed here."""
    wanted = {"cpu": "nothing", "auto": "a GPU, or the CPU does it", "cuda": "a GPU"}[device]
    if device == "cpu":
        return Finding("GPU", Verdict.OK, "not used", wanted)
    if cuda is None or not cuda.devices:
        found = "no NVIDIA driver" if cuda is None else "a driver, and no GPU that we may use"
        mend = "Ask the scheduler for a GPU (in a container: --nv), or set engine.device to cpu."
        return (
            Finding("GPU", Verdict.OK, found, wanted)
            if device == "auto"
            else Finding("GPU", Verdict.WANTING, found, wanted, mend)
        )
    found = f"{len(cuda.devices)} × {cuda.names}, CUDA {cuda.version[0]}.{cuda.version[1]}"
    needed = cuda_needed(cuda, ctranslate2)
    if needed is None:
        return Finding("GPU", Verdict.OK, found, f"{wanted}; its driver is for the canary to judge")
    good = cuda.version >= needed
    mend = "" if good else "The driver is too old for the speech packages: ask the administrators for a newer one."
    return Finding("GPU", good_or_wanting(good), found, f"{wanted}; {driver_of(needed)}", mend)


def synthesiser() -> Finding:
    try:
        ctypes.CDLL("libespeak-ng.so.1")
    except OSError:
        mend = "Only `dayscribe demo` needs it (Debian: apt install libespeak-ng1 espeak-ng-data)."
        return Finding("espeak-ng", Verdict.ADVICE, "absent", "for the demo's speech", mend)
    return Finding("espeak-ng", Verdict.OK, "present", "for the demo's speech")


def _server_programs() -> str:
    from db import servers

    programs = servers.find()
    return f"{programs.version} in {programs.folder}"
