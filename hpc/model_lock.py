"""What a model's files are and what they should be: the lock file beside them, and a memory of hashes made before."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from hpc.errors import ModelChanged, ModelMissing

LOCK = "digests.json"
# Files of other kinds (a card, a licence, weights for other libraries) are never loaded, so they may come and go.
_LOADED = frozenset({".bin", ".json", ".txt", ".safetensors", ".pt", ".pth", ".model", ".jinja", ".tab"})
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
BANDS = "preprocessor_config.json"  # says how many mel bands a speech model hears


class Kind(StrEnum):
    ASR = "asr"
    ALIGNER = "aligner"
    SENTENCES = "sentences"  # NLTK's data, by which WhisperX splits a text into sentences


# Each must be there; of alternatives, one. Without a tokenizer WhisperX would fetch one, and without
# preprocessor_config.json it would guess the number of mel bands, silently and for large-v3 wrongly.
_NEEDED: Mapping[Kind, tuple[tuple[str, ...], ...]] = {
    Kind.ASR: (
        ("model.bin",),
        ("config.json",),
        ("vocabulary.json", "vocabulary.txt"),
        ("tokenizer.json",),
        (BANDS,),
    ),
    # Many aligners come without tokenizer_config.json; what it says is then what transformers takes by itself.
    Kind.ALIGNER: (
        _WEIGHTS,
        ("config.json",),
        ("vocab.json",),
        ("preprocessor_config.json",),
    ),
    Kind.SENTENCES: (),
}

# The sizes of OpenAI's vocabularies before large-v3. Those models have 80 mel bands, which is what is guessed, and the
# hub has no preprocessor_config.json for them.
_WITH_80_BANDS = (51864, 51865)


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file that is loaded. Its path is relative to the model's."""

    path: str
    size: int  # bytes
    sha256: str  # hex; "" while nobody has read it


@dataclass(frozen=True, slots=True)
class Model:
    """A model on this machine. A directory, but for torchaudio's aligners, which are single files."""

    name: str
    path: Path
    kind: Kind
    digest: str = ""  # hex, over the names and hashes of its files; "" while nobody has read them
    files: tuple[ModelFile, ...] = ()
    locked: bool = False
    repository: str = ""  # where it was fetched from; "" for what came here otherwise
    revision: str = ""  # the commit there

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(file.size for file in self.files)


class Trouble(StrEnum):
    MISSING = "missing"
    CHANGED = "changed"
    EXTRA = "extra"
    UNLOCKED = "unlocked"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be with a model."""

    model: str
    trouble: Trouble
    file: Path
    found: str = ""
    wanted: str = ""

    @property
    def harmless(self) -> bool:
        """An unlocked model is used; its digest goes into every receipt all the same."""
        return self.trouble is Trouble.UNLOCKED

    def __str__(self) -> str:
        match self.trouble:
            case Trouble.MISSING:
                what = f"{self.file} is missing; {self.wanted}"
            case Trouble.CHANGED:
                what = f"{self.file} was changed: found {self.found}, locked {self.wanted}"
            case Trouble.EXTRA:
                what = f"{self.file} would be loaded too, but is not in {LOCK}"
            case Trouble.UNLOCKED:
                return f"The model {self.model!r} is not locked: {self.file} does not exist."
        return (
            f"The model {self.model!r} is not as it was locked: {what}. Copy it here again; "
            f"or, if this is meant, lock it as it is: dayscribe models lock {self.model}"
        )


def lock_file(path: Path) -> Path:
    """Where the digests of the model at `path` are kept."""
    return path.with_name(f"{path.name}.{LOCK}") if path.is_file() else path / LOCK


def describe(name: str, path: Path, kind: Kind) -> Model:
    """A model as its lock describes it, or as its directory lists it; no file is read but the lock."""
    wanted = _wanted(path)
    if wanted is None:
        files = tuple(ModelFile(file, (path / file if file else path).stat().st_size, "") for file in _loaded(path))
        return Model(name, path, kind, "", files)
    return Model(name, path, kind, _digest(wanted), wanted, True, *_origin(path))


def measure(model: Model, *, cache: Path | None = None) -> Model:
    """The model as it truly is: every file hashed, or remembered in `cache` if its size and time are as they were."""
    memory = _Memory(cache)
    named = {file.path for file in _wanted(model.path) or () if (model.path / file.path).is_file()}
    files = tuple(memory.file(model.path, name) for name in sorted({*_loaded(model.path), *named}))
    memory.save()
    return replace(model, files=files, digest=_digest(files))


def verify(model: Model, *, cache: Path | None = None) -> list[Finding]:
    """Everything that is wrong with the model. Without `cache` every byte is read."""
    return look(model, cache=cache)[1]


def look(model: Model, *, cache: Path | None = None) -> tuple[Model, list[Finding]]:
    """The model as measured, and everything that is wrong with it."""
    measured = measure(model, cache=cache)
    return measured, _compare(model, measured)


def ensure(model: Model, *, cache: Path | None = None) -> Model:
    """The model as measured, or ModelMissing or ModelChanged."""
    measured, findings = look(model, cache=cache)
    for finding in findings:
        if finding.trouble is Trouble.MISSING:
            raise ModelMissing(str(finding))
        if not finding.harmless:
            raise ModelChanged(str(finding))
    return measured


def lock(model: Model, *, repository: str = "", revision: str = "") -> Path:
    """Declare the files as they are now to be the right ones, and say where they came from if that is known."""
    target = lock_file(model.path)
    files = {file.path: {"sha256": file.sha256, "size": file.size} for file in measure(model).files}
    origin = {"origin": {"repository": repository, "revision": revision}} if repository else {}
    write_whole(target, json.dumps({"files": files} | origin, indent=2, sort_keys=True) + "\n")
    return target


def lacking(kind: Kind, names: Iterable[str]) -> list[str]:
    """What a model of this kind must have and these files are not; alternatives are one entry, "this or that"."""
    there = set(names)
    return [" or ".join(group) for group in _NEEDED[kind] if not there.intersection(group)]


def _compare(model: Model, measured: Model) -> list[Finding]:
    found, wanted = {file.path: file for file in measured.files}, _wanted(model.path)
    return [*_lacking(model, found), *_differing(model, found, wanted)]


def _lacking(model: Model, found: Mapping[str, ModelFile]) -> Iterator[Finding]:
    if model.path.is_file():
        return
    for names in _NEEDED[model.kind]:
        if names == (BANDS,) and BANDS not in found and _has_80_bands(model.path):
            continue
        if not any(name in found for name in names):
            wanted = f"a model of kind {model.kind} has {' or '.join(names)}"
            yield Finding(model.name, Trouble.MISSING, model.path / names[0], wanted=wanted)


def _has_80_bands(path: Path) -> bool:
    try:
        if (path / "vocabulary.json").is_file():
            return len(json.loads((path / "vocabulary.json").read_text())) in _WITH_80_BANDS
        return (path / "vocabulary.txt").read_bytes().count(b"\n") in _WITH_80_BANDS
    except (OSError, ValueError, TypeError):
        return False


def _differing(model: Model, found: Mapping[str, ModelFile], wanted: tuple[ModelFile, ...] | None) -> Iterator[Finding]:
    if wanted is None:
        yield Finding(model.name, Trouble.UNLOCKED, lock_file(model.path))
        return
    for file in wanted:
        here, path = found.get(file.path), model.path / file.path if file.path else model.path
        if here is None:
            yield Finding(model.name, Trouble.MISSING, path, wanted=f"{LOCK} has it with {file.size} bytes")
        elif (here.size, here.sha256) != (file.size, file.sha256):
            yield Finding(model.name, Trouble.CHANGED, path, found=_spell(here), wanted=_spell(file))
    for name in sorted(found.keys() - {file.path for file in wanted}):
        yield Finding(model.name, Trouble.EXTRA, model.path / name)


def _spell(file: ModelFile) -> str:
    return f"{file.size} bytes, sha256 {file.sha256[:12]}…"


def _digest(files: tuple[ModelFile, ...]) -> str:
    lines = sorted(f"{file.path}\0{file.sha256}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _loaded(path: Path) -> list[str]:
    """The files that a library might load, relative to the model; "" is a model that is one file."""
    if path.is_file():
        return [""]
    return sorted(
        file.relative_to(path).as_posix()
        for file in path.rglob("*")
        if file.suffix in _LOADED and file.name != LOCK and not _hidden(file.relative_to(path)) and file.is_file()
    )


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _wanted(path: Path) -> tuple[ModelFile, ...] | None:
    source = lock_file(path)
    try:
        files: Mapping[str, Any] = json.loads(source.read_text())["files"]
        return tuple(ModelFile(name, int(f["size"]), str(f["sha256"])) for name, f in sorted(files.items()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelChanged(f"{source} is not a list of digests ({type(error).__name__}): restore it.") from error


def _origin(path: Path) -> tuple[str, str]:
    try:
        origin = json.loads(lock_file(path).read_text())["origin"]
        return str(origin["repository"]), str(origin["revision"])
    except (OSError, ValueError, KeyError, TypeError):
        return "", ""


class _Memory:
    """Hashes made before, by path, size, time and inode, so that a start need not read gigabytes."""

    def __init__(self, source: Path | None) -> None:
        self._source = source
        self._known: dict[str, Any] = {}
        self._learnt = False
        if source:
            try:
                self._known = dict(json.loads(source.read_text()))
            except (OSError, ValueError, TypeError):
                self._known = {}  # it is only a memory: what is not remembered is read again

    def file(self, root: Path, name: str) -> ModelFile:
        path = root / name if name else root
        status = path.stat()
        mark = [status.st_size, status.st_mtime_ns, status.st_ino]
        known = self._known.get(str(path))
        if isinstance(known, list) and known[:3] == mark and len(known) == len(mark) + 1:
            return ModelFile(name, status.st_size, str(known[3]))
        with path.open("rb") as content:
            sha256 = hashlib.file_digest(content, "sha256").hexdigest()
        self._known[str(path)] = [*mark, sha256]
        self._learnt = True
        return ModelFile(name, status.st_size, sha256)

    def save(self) -> None:
        if self._source and self._learnt:
            try:
                self._source.parent.mkdir(parents=True, exist_ok=True)
                write_whole(self._source, json.dumps(self._known))
            except OSError:
                return  # a read-only home costs time, nothing else


def write_whole(target: Path, text: str) -> None:
    """Write whole or not at all."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w") as out:
            out.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
