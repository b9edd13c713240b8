"""Finds speech models on this machine, by name or directory, and holds them to their digests. Never fetches one."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache as remembered
from pathlib import Path
from typing import Any

from hpc.accelerator import resolve_device
from hpc.engine_options import EngineOptions, compute_type_on
from hpc.errors import ModelMissing
from hpc.model_lock import Finding, Kind, Model, Trouble, describe, ensure, lock, measure, verify

__all__ = [
    "Finding", "Kind", "Model", "Trouble",
    "find_model", "hash_memory", "inside", "kind_of", "languages_of", "list_models", "lock", "measure", "repository",
    "resolve", "search_folders", "spoken_languages", "torchaudio_file", "usual_aligners", "verify", "whisper_names",
]  # fmt: skip

SENTENCES = "nltk_data"
_IN_AN_IMAGE = Path("/opt/models")  # where containers/audio_processing.def puts them
# torchaudio fetches these by name; the names are in its code, which cannot be read without importing torch.
_TORCHAUDIO = {
    "WAV2VEC2_ASR_BASE_960H": "wav2vec2_fairseq_base_ls960_asr_ls960.pth",
    "VOXPOPULI_ASR_BASE_10K_DE": "wav2vec2_voxpopuli_base_10k_asr_de.pt",
    "VOXPOPULI_ASR_BASE_10K_ES": "wav2vec2_voxpopuli_base_10k_asr_es.pt",
    "VOXPOPULI_ASR_BASE_10K_FR": "wav2vec2_voxpopuli_base_10k_asr_fr.pt",
    "VOXPOPULI_ASR_BASE_10K_IT": "wav2vec2_voxpopuli_base_10k_asr_it.pt",
}


def search_folders(paths: Sequence[Path] = ()) -> tuple[Path, ...]:
    """Where models are looked for, first to last: the settings' folders, $DAYSCRIBE_MODELS, what we ship, an image's
    own, the caches that Hugging Face's and torch's own tools fill."""
    ours = [Path(part) for part in os.environ.get("DAYSCRIBE_MODELS", "").split(os.pathsep) if part]
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    hub = os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME") or home / "huggingface") / "hub"
    torch = Path(os.environ.get("TORCH_HOME") or home / "torch") / "hub" / "checkpoints"
    shipped = Path(__file__).resolve().parent.parent / "models"
    folders = [folder.expanduser().absolute() for folder in (*paths, *ours, shipped, _IN_AN_IMAGE, Path(hub), torch)]
    return tuple(dict.fromkeys(folders))


def list_models(paths: Sequence[Path] = ()) -> list[Model]:
    """Every model in the search folders; one that an earlier folder has under the same name is hidden."""
    found: dict[tuple[str, Kind], Model] = {}
    for folder in search_folders(paths):
        for name, path in inside(folder):
            if kind := kind_of(path):
                found.setdefault((name, kind), describe(name, path, kind))
    return sorted(found.values(), key=lambda model: (model.kind, model.name))


def find_model(name: str, kind: Kind, paths: Sequence[Path] = ()) -> Model:
    """The model of this name, or in this directory."""
    path = _find(name, kind, paths)
    if path is None:
        raise ModelMissing(_advice(name, kind, search_folders(paths)))
    return describe(name, path, kind)


def whisper_names() -> tuple[str, ...]:
    """The names under which faster-whisper knows speech models."""
    return tuple(_table("faster_whisper", "utils.py", "_MODELS"))


def spoken_languages() -> Mapping[str, str]:
    """Code → name of every language that Whisper may hear."""
    return _table("whisperx", "utils.py", "LANGUAGES")


def torchaudio_file(name: str) -> str | None:
    """The file that torchaudio fetches for an aligner of its own; None if the name is none of its names."""
    return _TORCHAUDIO.get(name)


def languages_of(model: Model) -> tuple[str, ...]:
    """The languages for which WhisperX takes this aligner by itself."""
    if model.kind is not Kind.ALIGNER:
        return ()
    names = {model.name, model.path.name, model.repository or model.name}
    usual = usual_aligners().items()
    return tuple(sorted(code for code, name in usual if names & {name, name.rpartition("/")[2]}))


def hash_memory() -> Path:
    """The file that remembers hashes, so that not every start reads gigabytes."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "dayscribe" / "digests.json"


def resolve(options: EngineOptions, paths: Sequence[Path] = ()) -> tuple[EngineOptions, list[Model]]:
    """Find and check every model these options need. Return options that an engine can start with, and the models.

    A file whose size, time and inode are as when it was last read is not read again; `verify` reads everything.
    """
    cache = hash_memory()
    device = resolve_device(options.device)
    speech = ensure(find_model(options.model, Kind.ASR, paths), cache=cache)
    aligners = {
        language: ensure(model, cache=cache) for language, model in _aligners(options, speech.path, paths).items()
    }
    sentences = [ensure(model, cache=cache) for model in _sentences(paths)] if aligners else []
    ready = replace(
        options,
        device=device,
        compute_type=compute_type_on(device, options.compute_type),
        model_path=str(speech.path),
        aligner_paths=tuple(sorted((language, str(model.path)) for language, model in aligners.items())),
        sentences_path=str(sentences[0].path) if sentences else "",
    )
    return ready, [speech, *dict.fromkeys(aligners.values()), *sentences]


def _aligners(options: EngineOptions, speech: Path, paths: Sequence[Path]) -> dict[str, Model]:
    """The aligner of each language that may come up. A language that must come up has to have its own."""
    if not options.align or options.task == "translate":
        return {}
    found: dict[str, Model] = {}
    language = "en" if options.language == "auto" and _is_english_only(speech) else options.language
    if options.aligner:  # WhisperX, too, takes it for English unless it is told the language
        found["en" if language == "auto" else language] = find_model(options.aligner, Kind.ALIGNER, paths)
    if language != "auto":
        if not found and (name := usual_aligners().get(language)):
            found[language] = find_model(name, Kind.ALIGNER, paths)
        return found
    for other, name in usual_aligners().items():
        if other not in found and (path := _find(name, Kind.ALIGNER, paths)):
            found[other] = describe(name, path, Kind.ALIGNER)
    if not found:
        raise ModelMissing(_advice(usual_aligners().get("en", "an aligner"), Kind.ALIGNER, search_folders(paths)))
    return found


def _is_english_only(speech: Path) -> bool:
    """As CTranslate2 sees it: multilingual vocabularies have an empty token."""
    if speech.name.endswith(".en"):
        return True
    try:
        return "" not in json.loads((speech / "vocabulary.json").read_text())
    except (OSError, ValueError):
        return False


def _sentences(paths: Sequence[Path]) -> Iterator[Model]:
    for folder in search_folders(paths):
        if kind_of(folder / SENTENCES) is Kind.SENTENCES:
            yield describe(SENTENCES, folder / SENTENCES, Kind.SENTENCES)
            return


def _find(name: str, kind: Kind, paths: Sequence[Path]) -> Path | None:
    named = Path(name).expanduser().absolute()
    candidates = [named] if named.is_dir() else []
    for folder in search_folders(paths):
        candidates += [folder / alias for alias in _aliases(name, kind)]
        if (snapshot := _snapshot(folder, repository(name))) is not None:
            candidates.append(snapshot)
    return next((path for path in candidates if path.is_dir() or path.is_file()), None)


def _aliases(name: str, kind: Kind) -> list[str]:
    """What its folder or file may be called."""
    aliases = [name, repository(name), repository(name).rpartition("/")[2]]
    return [*aliases, _TORCHAUDIO[name]] if kind is Kind.ALIGNER and name in _TORCHAUDIO else aliases


def repository(name: str) -> str:
    """The repository that a name such as "large-v3" stands for."""
    return str(_table("faster_whisper", "utils.py", "_MODELS").get(name, name))


def _snapshot(folder: Path, called: str) -> Path | None:
    """The files of a repository in a Hugging Face cache, or in a folder laid out like one."""
    cached = folder / f"models--{called.replace('/', '--')}"
    try:
        return cached / "snapshots" / (cached / "refs" / "main").read_text().strip()
    except OSError:
        return max((cached / "snapshots").glob("*"), key=lambda path: path.stat().st_mtime, default=None)


def inside(folder: Path) -> Iterator[tuple[str, Path]]:
    """Names and places of what may be models in a folder, two levels deep."""
    for path in sorted(folder.glob("*")) + sorted(folder.glob("*/*")):
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue  # what is on its way here
        if path.name.startswith("models--"):
            cached = path.name.removeprefix("models--").replace("--", "/")
            if (snapshot := _snapshot(folder, cached)) is not None:
                yield cached, snapshot
        elif not path.parent.name.startswith("models--"):
            bundles = [bundle for bundle, file in _TORCHAUDIO.items() if file == path.name]
            yield (bundles[0] if bundles else path.relative_to(folder).as_posix()), path


def kind_of(path: Path) -> Kind | None:
    """What kind of model lies here, judged by its files; nothing, if we may not look."""
    if not os.access(path, os.R_OK | os.X_OK if path.is_dir() else os.R_OK):
        return None
    if path.is_file():
        return Kind.ALIGNER if path.name in _TORCHAUDIO.values() else None
    if (path / "model.bin").is_file() and (path / "config.json").is_file():
        return Kind.ASR
    if (path / "tokenizers" / "punkt_tab").is_dir():
        return Kind.SENTENCES
    weights = (path / "model.safetensors").is_file() or (path / "pytorch_model.bin").is_file()
    return Kind.ALIGNER if weights and (path / "vocab.json").is_file() else None


def usual_aligners() -> Mapping[str, str]:
    """WhisperX's aligner for each language it has one for."""
    tables = ("DEFAULT_ALIGN_MODELS_TORCH", "DEFAULT_ALIGN_MODELS_HF")
    return {key: str(value) for table in tables for key, value in _table("whisperx", "alignment.py", table).items()}


@remembered
def _table(package: str, file: str, name: str) -> Mapping[str, Any]:
    """A table written out in a library's source: importing that library would take half a minute and load torch."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.origin:
        return {}
    for statement in ast.parse((Path(spec.origin).parent / file).read_text()).body:
        if isinstance(statement, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == name for t in statement.targets
        ):
            table: Mapping[str, Any] = ast.literal_eval(statement.value)
            return table
    return {}


def _advice(name: str, kind: Kind, folders: Sequence[Path]) -> str:
    what = {Kind.ASR: "speech model", Kind.ALIGNER: "aligner", Kind.SENTENCES: "sentence data"}[kind]
    looked = ", ".join(map(str, folders))
    how = f"Where there is a network: dayscribe models fetch {name}"
    settings = "engine.aligner, or set engine.align to false" if kind is Kind.ALIGNER else "engine.model"
    return f"The {what} {name!r} is not on this machine. Looked in {looked}. {how}; or name another with {settings}."
