"""The receipt of a run: everything that went into its transcripts, a key over what changes them; how two differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hpc.engine_options import EngineOptions
from hpc.model import Run
from hpc.model_lock import Model

FORMAT = 1  # of the key; raised when its meaning changes
_KEY_BYTES = 16
# Whose version can change a word or its time. Decoding counts: it makes the samples.
_LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "whisperx": (
        "whisperx", "ctranslate2", "faster-whisper", "torch", "torchaudio", "transformers", "pyannote-audio", "nltk",
        "av",
    ),
    "echo": (),
}  # fmt: skip
# How and where the work is done, and what the models' digests say better than a path.
_NO_CHANGE = frozenset(
    {
        "batch_size", "device", "threads", "generations", "model", "aligner", "model_path", "aligner_paths",
        "sentences_path", "trouble",
    }
)  # fmt: skip


def make_run(
    options: EngineOptions,
    models: Iterable[Model],
    *,
    engine: str,
    who: str,
    why: str,
    image_digest: str | None,
) -> Run:
    """The receipt and key of a run with resolved options and measured models. Nothing heavy is imported."""
    used = list(models)
    chosen = {
        name: value
        for name, value in asdict(options).items()
        if name not in {"model_path", "aligner_paths", "sentences_path", "trouble"}
    }
    receipt = {
        "format": FORMAT,
        "engine": engine,
        "libraries": {name: _version(name) for name in _libraries(engine)},
        "models": [_told(model) for model in used],
        "aligners": _aligner_digests(options, used),
        "options": chosen,
        "code": {"version": _version("dayscribe"), "digest": code_digest()},
        "image": image_digest,
        "who": who,
        "why": why,
    }
    return Run(key=_key(options, used, engine), receipt=receipt)


def aligning_run(
    options: EngineOptions,
    models: Iterable[Model],
    text: Mapping[str, Any],
    *,
    engine: str,
    who: str,
    why: str,
    image_digest: str | None,
) -> Run:
    """The receipt and key of timing words anew, of the texts of one run: `text` is that run's key, the plan that forced
    it if one did, and the models that heard it."""
    ours = [model for model in models if model.kind in ("aligner", "sentences")]
    said = {
        "format": FORMAT,
        "stage": "align",
        "text": {"key": text["key"], "forced_by": text["forced_by"]},
        "engine": engine,
        "libraries": {name: _version(name) for name in _libraries(engine)},
        "sentences": sorted(model.digest for model in ours if model.kind == "sentences"),
        "aligners": _aligner_digests(options, ours),
    }
    more = {
        "text": {name: text[name] for name in ("key", "forced_by", "models")},
        "models": [*text["models"], *map(_told, ours)],
        "options": {"device": options.device, "threads": options.threads, "aligner": options.aligner},
        "code": {"version": _version("dayscribe"), "digest": code_digest()},
        "image": image_digest,
        "who": who,
        "why": why,
    }
    return Run(_digest(said), said | more)


def judging_run(rules: Mapping[str, Any], *, who: str, why: str, image_digest: str | None) -> Run:
    """The receipt and key of judging anew: what is stored, by these rules."""
    said = {"format": FORMAT, "stage": "enrich", **rules}
    code = {"version": _version("dayscribe"), "digest": code_digest()}
    return Run(_digest(said), said | {"code": code, "image": image_digest, "who": who, "why": why})


def _key(options: EngineOptions, models: list[Model], engine: str) -> bytes:
    """Two runs with the same key give the same words; canonical JSON, so that the same is spelt the same."""
    changes = {field.name for field in fields(options)} - _NO_CHANGE
    said = {
        "format": FORMAT,
        "engine": engine,
        "libraries": {name: _version(name) for name in _libraries(engine)},
        "speech": sorted(model.digest for model in models if model.kind == "asr"),
        "sentences": sorted(model.digest for model in models if model.kind == "sentences"),
        "aligners": _aligner_digests(options, models),
        "options": {name: getattr(options, name) for name in changes},
    }
    return _digest(said)


def _digest(said: Mapping[str, Any]) -> bytes:
    canonical = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).digest()[:_KEY_BYTES]


def _told(model: Model) -> dict[str, Any]:
    return {"name": model.name, "kind": model.kind.value, "digest": model.digest, "locked": model.locked}


def _aligner_digests(options: EngineOptions, models: list[Model]) -> dict[str, str]:
    """Language → digest of the aligner that gives its words their times."""
    digests = {str(model.path): model.digest for model in models if model.kind == "aligner"}
    return {language: digests[path] for language, path in options.aligner_paths}


@cache
def code_digest() -> str:
    """sha256 over our own source: names and contents of what is installed as hpc and db."""
    root, digest = Path(__file__).resolve().parent.parent, hashlib.sha256()
    for folder in ("db", "hpc"):
        for path in sorted(path for path in (root / folder).rglob("*") if path.suffix in {".py", ".sql"}):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(root).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()


def _libraries(engine: str) -> tuple[str, ...]:
    return _LIBRARIES.get(engine, _LIBRARIES["whisperx"])


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def flat(receipt: Mapping[str, Any], _under: str = "") -> dict[str, Any]:
    """A receipt as one level of names, in order: `options.beam_size`, `models.asr.large-v3`."""
    found: dict[str, Any] = {}
    for key, value in receipt.items():
        name = f"{_under}{key}"
        if isinstance(value, Mapping):
            found |= flat(value, f"{name}.")
        elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
            for item in value:  # the models
                at = ".".join(str(item[part]) for part in ("kind", "name") if part in item)
                found |= flat({k: v for k, v in item.items() if k not in ("kind", "name")}, f"{name}.{at}.")
        else:
            found[name] = value
    return found


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What two receipts say differently, by name; None where one does not say it."""
    first, second = flat(one), flat(other)
    names = [*first, *(name for name in second if name not in first)]
    return [
        {"name": name, "one": first.get(name), "other": second.get(name)}
        for name in names
        if first.get(name) != second.get(name)
    ]
