"""What a bundle of models holds: bundle.json beside them, by which a copy is known to be whole and the same."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path, PurePosixPath
from typing import Any

from db.errors import DayscribeError
from hpc.errors import BadSetting, ModelChanged, ModelMissing
from hpc.model_lock import Kind, Model, Trouble, describe, look, write_whole
from hpc.models import inside, kind_of

FILE = "bundle.json"
FORMAT = 1
PARTIAL = ".fetching"  # the folder in which models arrive
_LIBRARIES = (
    "dayscribe", "whisperx", "faster-whisper", "ctranslate2", "transformers", "torchaudio", "nltk", "huggingface-hub",
)  # fmt: skip
# The models that find speech are inside installed packages: nothing to fetch, but they decide about results, too.
_INSIDE_PACKAGES = (
    ("pyannote", "whisperx", "assets/pytorch_model.bin"),
    ("silero", "faster-whisper", "assets/silero_vad_v6.onnx"),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A model that was asked for. Without a digest it is not here yet."""

    name: str
    path: str  # relative to the bundle
    kind: str = ""  # "" while nobody has looked into its repository
    asked: str = ""  # as it was asked for: large-v3, OWNER/NAME@REVISION …
    languages: tuple[str, ...] = ()
    repository: str = ""
    revision: str = ""  # the commit that the hub answered with
    digest: str = ""
    size: int = 0  # bytes


@dataclass(frozen=True, slots=True)
class Packaged:
    """A model inside an installed package."""

    name: str
    package: str
    version: str
    file: str
    sha256: str
    size: int


_DETECTOR = tuple(field.name for field in fields(Packaged))


@dataclass(frozen=True, slots=True)
class Bundle:
    """What bundle.json says."""

    entries: tuple[Entry, ...] = ()
    detectors: tuple[Packaged, ...] = ()
    made_with: tuple[tuple[str, str], ...] = ()

    def having(self, entry: Entry) -> Bundle:
        """This bundle with one entry more, or in place of the one at the same path."""
        others = [one for one in self.entries if one.path != entry.path]
        return replace(self, entries=tuple(sorted([*others, entry], key=lambda one: one.path)))

    def at(self, path: str) -> Entry | None:
        return next((entry for entry in self.entries if entry.path == path), None)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found of one thing in a bundle."""

    name: str
    verdict: str
    said: str
    harmless: bool = False


def read(folder: Path) -> Bundle | None:
    """The bundle in this folder; None if it is just a folder."""
    source = folder / FILE
    try:
        said = json.loads(source.read_text(encoding="utf-8"))
        if said["format"] > FORMAT:
            raise BadSetting(
                f"{source} was written by a newer dayscribe (format {said['format']}); this one is too old."
            )
        return Bundle(
            entries=tuple(_entry(one) for one in said["models"]),
            detectors=tuple(
                Packaged(**{field.name: one[field.name] for field in fields(Packaged)}) for one in said["vad"]
            ),
            made_with=tuple(sorted((str(name), str(version)) for name, version in said["made_with"].items())),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelChanged(
            f"{source} is not the list of a bundle ({type(error).__name__}): copy it again, or delete it and fetch."
        ) from error


def write(folder: Path, bundle: Bundle) -> None:
    """Write bundle.json, whole or not at all, with the versions and detectors of this machine."""
    said = {
        "format": FORMAT,
        "models": [asdict(entry) for entry in bundle.entries],
        "vad": [asdict(one) for one in detectors()],
        "made_with": versions(),
    }
    write_whole(folder / FILE, json.dumps(said, indent=2, sort_keys=True) + "\n")


def states(folders: Iterable[Path]) -> dict[Path, str]:
    """The bundles in these folders, and in a sentence how each stands."""
    return {folder: _state(folder) for folder in folders if (folder / FILE).is_file()}


def is_complete(folder: Path) -> bool:
    try:
        bundle = read(folder)
    except DayscribeError:
        return False
    return bundle is not None and not lacking(folder, bundle)


def _state(folder: Path) -> str:
    try:
        bundle = read(folder) or Bundle()
    except DayscribeError as error:
        return str(error)
    if absent := lacking(folder, bundle):
        return f"The bundle in {folder} is incomplete: it lacks {', '.join(absent)}. Run the same fetch again."
    size = sum(entry.size for entry in bundle.entries)
    return f"The bundle in {folder} is complete: {len(bundle.entries)} models, {size / 1e9:.1f} GB."


def lacking(folder: Path, bundle: Bundle) -> list[str]:
    """The models that were asked for and are not whole here, by a look at names and sizes; no file is read."""
    return [entry.name for entry in bundle.entries if not _seems_whole(folder, entry)]


def check(folder: Path) -> Iterator[Verdict]:
    """Hold a bundle to its list, byte by byte: every model there and right, and none besides."""
    bundle = read(folder)
    if bundle is None:
        raise ModelMissing(f"{folder} is no bundle: it has no {FILE}. `dayscribe models fetch --to FOLDER` makes one.")
    for entry in bundle.entries:
        yield from _held(folder, entry)
    known = {entry.path for entry in bundle.entries}
    for name, path in inside(folder):
        if kind_of(path) and path.relative_to(folder).as_posix() not in known:
            yield Verdict(name, Trouble.EXTRA, f"{path} is not in {FILE}, and would be found by its name.")
    if (folder / PARTIAL).exists():
        yield Verdict(PARTIAL, "unfinished", "A fetch was interrupted here; the same fetch goes on with it.", True)
    yield from _detectors_held(bundle)


def detectors() -> list[Packaged]:
    """The models that find speech, as they are in the packages of this environment."""
    found = (_packaged(*one) for one in _INSIDE_PACKAGES)
    return [one for one in found if one is not None]


def versions() -> dict[str, str]:
    """What is installed of the libraries that load models."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def entry_of(model: Model, entry: Entry) -> Entry:
    """The entry of a model that is here."""
    return replace(
        entry, kind=model.kind.value, digest=model.digest, size=model.size,
        repository=model.repository, revision=model.revision,
    )  # fmt: skip


def _entry(said: Mapping[str, Any]) -> Entry:
    """An entry as it was written elsewhere: of the right types, and of a path that stays in the bundle."""
    texts = {field.name: str(said[field.name]) for field in fields(Entry) if field.name not in ("languages", "size")}
    entry = Entry(**texts, languages=tuple(map(str, said["languages"])), size=int(said["size"]))
    path = PurePosixPath(entry.path)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError("a path that leads out of the bundle")
    if entry.kind:
        Kind(entry.kind)
    return entry


def _seems_whole(folder: Path, entry: Entry) -> bool:
    path = folder / entry.path
    if not entry.digest or not path.exists():
        return False
    model = describe(entry.name, path, Kind(entry.kind))
    try:
        sizes = all((path / file.path if file.path else path).stat().st_size == file.size for file in model.files)
    except OSError:
        return False
    return sizes and model.size == entry.size


def _held(folder: Path, entry: Entry) -> Iterator[Verdict]:
    path = folder / entry.path
    if not entry.digest:
        yield Verdict(entry.name, Trouble.MISSING, "It was asked for and never came: run the same fetch again.")
    elif not path.exists():
        yield Verdict(entry.name, Trouble.MISSING, f"{path} is missing; {FILE} has it with {entry.size} bytes.")
    else:
        measured, findings = look(describe(entry.name, path, Kind(entry.kind)))
        bad = [Verdict(entry.name, one.trouble, str(one), one.harmless) for one in findings]
        yield from bad
        if measured.digest != entry.digest and all(one.harmless for one in bad):
            said = (
                f"{path} is another model than {FILE} names: digest {measured.digest[:12]}…, not {entry.digest[:12]}…"
            )
            yield Verdict(entry.name, Trouble.CHANGED, f"{said} Copy the bundle here again, with its {FILE}.")
        elif not bad:
            yield Verdict(entry.name, "ok", str(path), True)


def _detectors_held(bundle: Bundle) -> Iterator[Verdict]:
    here = {one.name: one for one in detectors()}
    for wanted in bundle.detectors:
        name = f"{wanted.name} (in {wanted.package})"
        found = here.get(wanted.name)
        if found is None:
            yield Verdict(name, "absent", f"{wanted.package} is not installed here, so nothing was compared.", True)
        elif found.sha256 != wanted.sha256:
            said = f"{wanted.package} {found.version} has another one than {wanted.version}, of the bundle."
            yield Verdict(name, Trouble.CHANGED, f"{said} Install that version, or fetch the bundle with this one.")
        else:
            yield Verdict(name, "ok", f"{wanted.package} {found.version}", True)


def _packaged(name: str, package: str, file: str) -> Packaged | None:
    spec = importlib.util.find_spec(package.replace("-", "_"))  # found, not imported
    if spec is None or not spec.origin:
        return None
    path = Path(spec.origin).parent / file
    try:
        content = path.read_bytes()
        version = importlib.metadata.version(package)
    except (OSError, importlib.metadata.PackageNotFoundError):
        return None
    return Packaged(name, package, version, file, hashlib.sha256(content).hexdigest(), len(content))
