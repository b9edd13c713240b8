"""Where there is speech: WhisperX's voice detectors, with the windows of many recordings in one batch."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from whisperx.audio import SAMPLE_RATE
from whisperx.vads import Pyannote

from hpc.engine_options import EngineOptions
from hpc.engines.whisperx.offline import free_memory, is_out_of_memory
from hpc.errors import MachineUnfit

WINDOW, STEP = 80_000, 8_000  # samples: 5 s, every 0.5 s
Sound = NDArray[np.float32]  # shape (samples,), 16 kHz mono, -1 … 1


@dataclass(frozen=True, slots=True)
class Span:
    """A chunk as WhisperX cuts it."""

    start: float  # seconds
    end: float  # can be a little past the end of the recording
    speech: float  # seconds of it in which somebody speaks


class SpeechFinder:
    """Gives the very chunks that FasterWhisperPipeline.transcribe makes of each recording."""

    def __init__(self, vad_model: Any, options: EngineOptions, *, windows: int) -> None:
        self._vad, self._options = vad_model, options
        self._sliding = _Sliding(vad_model.vad_pipeline._segmentation, windows) if _is_pyannote(vad_model) else None

    def windows(self, samples: int) -> int:
        """How many windows a recording of this length is for pyannote's model."""
        return 1 + max(0, -(-(samples - WINDOW) // STEP))

    def find(self, sounds: Sequence[Sound]) -> list[list[Span]]:
        """The chunks of each."""
        if self._sliding is not None:
            found = self._sliding.scores([torch.from_numpy(sound)[None] for sound in sounds])
        else:
            found = [self._vad({"waveform": sound, "sample_rate": SAMPLE_RATE}) for sound in sounds]
        return [self._chunks(one) for one in found]

    def _chunks(self, found: Any) -> list[Span]:
        options = self._options
        merged = self._vad.merge_chunks(found, options.chunk_size, onset=options.vad_onset, offset=options.vad_offset)
        return [
            Span(chunk["start"], chunk["end"], float(sum(end - start for start, end in chunk["segments"])))
            for chunk in merged
        ]


class _Sliding:
    """pyannote's Inference (5 s windows, every 0.5 s, averaged) over the windows of many recordings at once.

    It cuts and averages itself, each time with another model put under it: one that only notes what it is asked, and
    one that has the answers already.
    """

    def __init__(self, inference: Any, batch: int) -> None:
        self._inference, self._batch = inference, batch

    def scores(self, waves: Sequence[Any]) -> list[Any]:
        """For each recording what `inference.slide` gives of it."""
        asked = [self._asked(wave) for wave in waves]
        said = self._infer([window for windows in asked for window in windows])
        ends = np.cumsum([len(windows) for windows in asked])[:-1]
        return [self._averaged(wave, mine) for wave, mine in zip(waves, np.split(said, ends), strict=True)]

    def _asked(self, wave: Any) -> list[Any]:
        windows: list[Any] = []

        def note(batch: Any) -> NDArray[np.float32]:
            windows.extend(batch)
            return np.zeros((len(batch), 1, 1), np.float32)

        view = copy.copy(self._inference)
        view.infer, view.skip_aggregation = note, True
        view.slide(wave, SAMPLE_RATE, None)
        return windows

    def _averaged(self, wave: Any, said: NDArray[np.float32]) -> Any:
        at = 0

        def recall(batch: Any) -> NDArray[np.float32]:
            nonlocal at
            at += len(batch)
            return said[at - len(batch) : at]

        view = copy.copy(self._inference)
        view.infer = recall
        return view.slide(wave, SAMPLE_RATE, None)

    def _infer(self, windows: Sequence[Any]) -> NDArray[np.float32]:
        """The model's answers, shape (windows, frames, classes)."""
        said: list[NDArray[np.float32]] = []
        while (done := sum(map(len, said))) < len(windows):
            batch = windows[done : done + self._batch]
            try:
                said.append(self._inference.infer(torch.stack(batch)))
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if len(batch) == 1:
                    raise MachineUnfit("Memory does not suffice for one window of the voice detector.") from error
                free_memory()
                self._batch = min(self._batch, (len(batch) + 1) // 2)
        return np.concatenate(said)


def _is_pyannote(vad_model: Any) -> bool:
    return isinstance(vad_model, Pyannote)
