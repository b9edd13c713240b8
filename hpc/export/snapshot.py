"""A snapshot as a folder: its data, receipts, codebook, manifest and how to cite it; the same bytes every time."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any

import pyarrow as pa

from db import snapshots
from db.connect import Connection
from db.errors import BadData
from db.snapshots import Snapshot
from hpc.export import codebook, tables, whole
from hpc.export.columns import LASTING, VERSION
from hpc.export.freeze import FORMAT
from hpc.stages.publish import sync_folder

SUMS = "SHA256SUMS"


class AnotherFormat(BadData):
    """The snapshot was made by another version of dayscribe, which writes other bytes."""


class FolderInUse(BadData):
    """The folder holds something that is not of the snapshot."""


@dataclass(frozen=True, slots=True)
class Written:
    """What was written of a snapshot."""

    path: Path
    kind: str
    recordings: int
    bytes: int
    manifest: str  # sha256 of manifest.json
    same: bool | None  # as what lay there before; None: nothing did


def write_snapshot(
    connection: Connection,
    snapshot: Snapshot,
    out: Path,
    *,
    kind: str | None = None,
    advance: Callable[[int], None] = lambda _count: None,
) -> Written:
    """Write out/NAME, in the form in which it was first written if none is said. Nothing is asked of the ledger but
    what was frozen, so it is no matter when."""
    facts = snapshot.facts
    made = tuple(facts[name] for name in ("format", "columns", "unicode"))
    if made != (FORMAT, VERSION, unicodedata.unidata_version):
        raise AnotherFormat(
            f"The snapshot {snapshot.name} was made by {facts['tool']} (files {made[0]}, columns {made[1]}, Python's"
            f" Unicode {made[2]}), and this one writes {FORMAT}, {VERSION} and {unicodedata.unidata_version}; use that"
            " version to have the same bytes"
        )
    target, kind = out / snapshot.name, kind or facts["kind"]
    before = _sums_of(target)
    out.mkdir(parents=True, exist_ok=True)
    with whole.replacing(target, folder=True) as folder:
        files = {}
        for about in facts["days"]:
            place = f"data/{about['site']}/{about['date']}.{kind}"
            pages = tables.told(snapshots.pages(connection, snapshot.id, about["day_id"]), advance)
            files[place] = _data(snapshot.name, about, folder / place, pages)
        manifest = _papers(snapshot, folder, kind, files)
        sums = _seal(folder, {place: one["sha256"] for place, one in files.items()})
        size = sum(path.stat().st_size for path in _files(folder))
    count = sum(one["rows"] for one in files.values())
    return Written(target, kind, count, size, manifest, None if before is None else before == sums)


def _data(name: str, about: Mapping[str, Any], path: Path, pages: tables.Pages) -> dict[str, Any]:
    """One day; what the manifest says of its file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = tables.write_table(path, path.suffix[1:], LASTING, {"snapshot": name} | _public(about), pages)
    if rows != about["kept"]["recordings"]:
        raise BadData(
            f"{about['site']} {about['date']} has {rows} recordings of the snapshot {name} now, and had"
            f" {about['kept']['recordings']}: the ledger was changed by other means than dayscribe"
        )
    return {"rows": rows} | _measured(path)


def _papers(snapshot: Snapshot, folder: Path, kind: str, files: dict[str, dict[str, Any]]) -> str:
    """What explains the data; returns the manifest's digest, which the citation names."""
    facts = snapshot.facts
    whole.write(folder / "receipts.json", _json(facts["receipts"]))
    whole.write(folder / "codebook.md", codebook.codebook(snapshot.name))
    frozen = snapshot.created.astimezone(UTC)
    manifest = {
        "snapshot": snapshot.name,
        "frozen": frozen.isoformat(),
        "tool": facts["tool"],
        "format": facts["format"],
        "columns": facts["columns"],
        "kind": kind,
        "written_with": f"pyarrow {pa.__version__}" if kind == "parquet" else None,
        "selection": snapshot.selection,
        "totals": facts["totals"],
        "days": [_public(about) for about in facts["days"]],
        "days_not_in_the_ledger": facts["absent"],
        "files": files | {name: _measured(folder / name) for name in ("receipts.json", "codebook.md")},
    }
    whole.write(folder / "manifest.json", _json(manifest))
    digest = whole.digest(folder / "manifest.json")
    whole.write(folder / "CITATION.txt", codebook.citation(snapshot.name, frozen.date(), facts, digest))
    return digest


def _public(about: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in about.items() if key != "day_id"}


def _measured(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": whole.digest(path)}


def _seal(folder: Path, known: Mapping[str, str]) -> str:
    """The digests of all files, as `sha256sum -c` reads them, and every folder synced."""
    places = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
    sums = "".join(f"{known.get(place) or whole.digest(path)}  {place}\n" for place, path in places.items())
    whole.write(folder / SUMS, sums)
    for each in [path for path in folder.rglob("*") if path.is_dir()] + [folder]:
        sync_folder(each)
    return sums


def _sums_of(target: Path) -> str | None:
    """The digests of what an earlier call wrote there; None if there is nothing. What is not ours is never replaced."""
    if not target.exists() and not target.is_symlink():
        return None
    if target.is_symlink() or not _is_ours(target):
        raise FolderInUse(f"{target} is there, and is not this snapshot as dayscribe writes it; choose another --out")
    told = (target / SUMS).read_text(encoding="utf-8", errors="replace")
    ours = {line.partition("  ")[2] for line in told.splitlines()} | {SUMS}
    places = [path.relative_to(target).as_posix() for path in _files(target)]
    if others := [place for place in places if place not in ours]:
        raise FolderInUse(
            f"{target} holds {others[0]}, which is not of the snapshot and would be lost; move it, or choose another"
            " --out"
        )
    return told


def _is_ours(target: Path) -> bool:
    try:
        said = json.loads((target / "manifest.json").read_bytes())
        return (target / SUMS).is_file() and said["snapshot"] == target.name
    except (OSError, ValueError, TypeError, KeyError):
        return False


def _files(folder: Path) -> list[Path]:
    """All that lies in a folder but folders, by name."""
    return sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False) + "\n"
