"""Word times by whisperx.align: one aligner a language, loaded when needed; a failure here never costs the text."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import nltk
import numpy as np
import whisperx
import whisperx.alignment
from nltk.tokenize.punkt import PunktSentenceTokenizer
from numpy.typing import NDArray

from hpc.blame import blame
from hpc.engines.whisperx.offline import is_gpu_lost, is_out_of_memory, silence
from hpc.errors import ModelMissing

_log = logging.getLogger(__name__)


class Aligners:
    """The aligners of this machine, by language."""

    def __init__(self, paths: Mapping[str, str], device: str, sentences_path: str) -> None:
        self._paths, self.device = paths, device
        self._loaded: dict[str, Any] = {}
        # Transformers patches torch while it loads: two at once leave every later model here without weights.
        self._loading = threading.Lock()
        # Only the data that the receipt names may have a say, and nothing is ever fetched.
        nltk.data.path[:] = [sentences_path] if sentences_path else []
        whisperx.alignment.nltk_load = splitter

    def load(self, language: str) -> Any:
        """The language's aligner and its description, or None if this machine has none."""
        with self._loading:
            if language not in self._loaded:
                path = self._paths.get(language)
                self._loaded[language] = None if path is None else _load(Path(path), language, self.device)
            return self._loaded[language]

    def align(self, segments: list[Any], language: str, sound: NDArray[np.float32]) -> list[Any] | None:
        """WhisperX's aligned segments, or None if there is no aligner or it did not do well."""
        aligner = self.load(language)
        if aligner is None:
            return None
        try:
            aligned: list[Any] = whisperx.align(segments, *aligner, sound, self.device)["segments"]
        except Exception as error:  # text without word times is worth more than no text
            if is_gpu_lost(error) or is_out_of_memory(error):
                raise
            give_up(error)
            return None
        return aligned if is_good(aligned, segments) else None


def give_up(error: Exception) -> None:
    """Say that a recording keeps its text and goes without word times."""
    _log.warning("A recording was not aligned: %s", blame(error))


def is_good(aligned: list[Any], segments: list[Any]) -> bool:
    """Whether everything that was said is there, in time. WhisperX drops sentences that it cannot place."""
    timed = all(segment["start"] <= segment["end"] for segment in aligned)  # False for NaN, too
    return timed and _letters(aligned) == _letters(segments)


def _letters(segments: list[Any]) -> str:
    return "".join("".join(segment["text"].split()) for segment in segments)


def _load(path: Path, language: str, device: str) -> Any:
    """A Hugging Face model is a directory; torchaudio's are files, which WhisperX knows by their language."""
    where = {"model_name": str(path)} if path.is_dir() else {"model_dir": str(path.parent)}
    try:
        with silence():
            return whisperx.load_align_model(language, device, model_cache_only=True, **where)
    except Exception as error:
        if is_gpu_lost(error) or is_out_of_memory(error):
            raise
        raise ModelMissing(
            f"The aligner for {language!r} in {path} cannot be read ({blame(error)}). "
            "See what is wrong with it: dayscribe models verify"
        ) from error


@cache
def splitter(resource: str) -> Any:
    """NLTK's sentence data for a language; without any, Punkt untrained, which splits at every full stop."""
    try:
        return nltk.data.load(resource)
    except LookupError:
        return PunktSentenceTokenizer()
