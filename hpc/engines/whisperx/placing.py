"""Word times for many recordings at once: what `Aligners.align` gives for each of them, in less time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import FunctionType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from whisperx import alignment
from whisperx.audio import SAMPLE_RATE

from hpc.engines.whisperx import sentences, trellis
from hpc.engines.whisperx.aligning import Aligners, give_up, is_good
from hpc.engines.whisperx.emissions import Bound, emission, emissions
from hpc.engines.whisperx.offline import is_gpu_lost, is_out_of_memory

BATCH_SECONDS = 240.0  # eight whole chunks: a few GB of a GPU for the usual aligners, and enough work for it


@dataclass(frozen=True)
class Heard:
    """What WhisperX heard in a recording: its segments without word times, the language, and the sound itself."""

    segments: list[dict[str, Any]]
    language: str
    sound: NDArray[np.float32]


@dataclass
class _Item:
    """A recording on its way; once it has failed, nothing more is done for it."""

    heard: Heard
    waves: dict[int, Any] = field(default_factory=dict)  # the sound of each segment that has any
    emissions: dict[int, Any] = field(default_factory=dict)
    failed: bool = False

    def attempt(self, step: Callable[[_Item], Any]) -> Any:
        """An error costs this recording its word times, and no other."""
        if self.failed:
            return None
        try:
            return step(self)
        except Exception as error:
            if is_gpu_lost(error) or is_out_of_memory(error):
                raise  # the machine's trouble, not the recording's
            self.failed = True
            give_up(error)
            return None


class Placer:
    """Word times by this machine's aligners; `batched` is for a GPU: on a CPU, padding costs more than it saves."""

    def __init__(self, aligners: Aligners, *, batched: bool) -> None:
        self._aligners, self._batched = aligners, batched
        self._bound = Bound(BATCH_SECONDS)
        self._align = _whisperx_align()

    def place(self, items: Sequence[Heard]) -> list[list[dict[str, Any]] | None]:
        """For each recording its aligned segments, or None if there is no aligner or it did not do well."""
        placed: list[list[dict[str, Any]] | None] = [None] * len(items)
        for language in dict.fromkeys(item.language for item in items):
            aligner = self._aligners.load(language)
            if aligner is None:
                continue
            ours = {at: _Item(item) for at, item in enumerate(items) if item.language == language}
            self._hear(list(ours.values()), *aligner)
            finish = partial(self._sentences, aligner[1])
            for at, item in ours.items():
                aligned = item.attempt(finish)
                placed[at] = None if aligned is None or not is_good(aligned, item.heard.segments) else aligned
        return placed

    def _hear(self, items: Sequence[_Item], model: Any, description: dict[str, Any]) -> None:
        """Give each item its emissions. When a batch fails, each goes alone, and it shows whose fault it was."""
        kind, device = description["type"], self._aligners.device
        for item in items:
            item.attempt(_cut)
        if self._batched:
            places = [(item, at) for item in items if not item.failed for at in item.waves]
            waves = [item.waves[at] for item, at in places]
            try:
                heard = emissions(model, kind, waves, device, bound=self._bound)
            except Exception as error:
                if is_gpu_lost(error) or is_out_of_memory(error):
                    raise
            else:
                for (item, at), told in zip(places, heard, strict=True):
                    item.emissions[at] = told
                return

        def hear(item: _Item) -> None:
            item.emissions = {at: emission(model, kind, wave, device) for at, wave in item.waves.items()}

        for item in items:
            item.attempt(hear)

    def _sentences(self, description: dict[str, Any], item: _Item) -> list[dict[str, Any]]:
        """Segment by segment, since they know nothing of each other, in WhisperX too."""
        aligned: list[dict[str, Any]] = []
        for at, segment in enumerate(item.heard.segments):
            told = item.emissions.get(at)
            placed = None if told is None else sentences.place(segment, told, description)
            aligned += placed or self._upstream(segment, told, description, item.heard.sound)
        return aligned

    def _upstream(self, segment: Any, told: Any, description: dict[str, Any], sound: Any) -> list[dict[str, Any]]:
        def model(*_: Any) -> Any:
            return SimpleNamespace(logits=told[None])

        description = description | {"type": "huggingface"}  # the form of the model's answer
        aligned: list[dict[str, Any]] = self._align([segment], model, description, sound, "cpu")["segments"]
        return aligned


def _cut(item: _Item) -> None:
    sound = torch.from_numpy(item.heard.sound)
    for at, segment in enumerate(item.heard.segments):
        start, end = segment["start"], segment["end"]
        if start < len(sound) / SAMPLE_RATE:
            item.waves[at] = sound[int(start * SAMPLE_RATE) : int(end * SAMPLE_RATE)]


class _Torch:
    """torch as `whisperx.align` uses it; what its model gives is here what upstream makes of it in the next line."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    @staticmethod
    def log_softmax(told: Any, **_: Any) -> Any:
        return told


def _whisperx_align() -> Callable[..., Any]:
    """`whisperx.align` with our trellis. Its module stays as it is: the reference engine may live in this process."""
    names = vars(alignment) | {"get_trellis": trellis.get_trellis, "backtrack": trellis.backtrack, "torch": _Torch()}
    return FunctionType(alignment.align.__code__, names, "align", alignment.align.__defaults__)
