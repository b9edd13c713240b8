"""Silero's voice detector from the file that faster-whisper carries; WhisperX would fetch it from the network."""

from __future__ import annotations

from typing import Any

from faster_whisper.vad import VadOptions, get_speech_timestamps
from whisperx.audio import SAMPLE_RATE
from whisperx.diarize import Segment
from whisperx.vads import Silero, Vad


class BundledSilero(Silero):  # type: ignore[misc]  # WhisperX has no types
    """WhisperX's own Silero but for where the model comes from; offsets and pauses are Silero's defaults, as there."""

    def __init__(self, *, vad_onset: float, chunk_size: int) -> None:
        Vad.__init__(self, vad_onset)
        self._options = VadOptions(
            threshold=vad_onset,
            max_speech_duration_s=chunk_size,
            min_speech_duration_ms=250,
            min_silence_duration_ms=100,
            speech_pad_ms=30,
        )

    def __call__(self, audio: Any, **_: Any) -> list[Any]:
        stretches = get_speech_timestamps(audio["waveform"], self._options)
        return [Segment(s["start"] / SAMPLE_RATE, s["end"] / SAMPLE_RATE, "UNKNOWN") for s in stretches]
