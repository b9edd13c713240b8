"""Training windows: sentences with gaps, or none, in a noisy channel; and their log-mel features."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

import numpy as np
import torch
from whisperx.audio import mel_filters

from hpc.model import SAMPLE_RATE
from models.demo.clips import Clips, Samples, Sounds, Times, band_limit, reverberate, through_codec


@dataclass(slots=True)
class Window:
    """Some seconds of sound and the sentences in it."""

    audio: Samples
    sentences: list[Times] = field(default_factory=list)
    caption: list[int] = field(default_factory=list)  # tokens that stand where nobody speaks; the demo model has none


class Composer:
    """Makes windows; the same seed makes the same ones in the same order."""

    def __init__(self, seed: int, *, empty: float) -> None:
        self._clips, self._sounds = Clips(seed), Sounds(seed)
        self._rng, self._empty = random.Random(seed), empty

    def window(self, seconds: float) -> Window:
        """One window of this length; with a certain probability nobody speaks in it."""
        rng = self._rng
        window = Window(np.zeros(int(seconds * SAMPLE_RATE), np.float32))
        silent = rng.random() < self._empty
        last = int(rng.uniform(0.1, 1) * len(window.audio)) if silent else self._speak(window)
        sound = window.audio[:last]
        if window.sentences and rng.random() < 0.2:
            sound = reverberate(rng, sound)
        sound = self._background(sound, spoken=bool(window.sentences))
        if rng.random() < 0.15:
            sound = band_limit(rng, sound)
        sound = sound * 10 ** (rng.uniform(-25, 3) / 20)
        if len(sound) > SAMPLE_RATE // 10 and rng.random() < 0.4:
            sound = through_codec(rng, sound)
        # whisperx pads what it decodes with exact zeros
        window.audio = np.pad(np.clip(sound, -1, 1), (0, len(window.audio) - last)).astype(np.float32)
        return window

    def _speak(self, window: Window) -> int:
        """Fill with sentences and gaps; return where the sound ends."""
        rng, size = self._rng, len(window.audio)
        full = size if rng.random() < 0.6 else int(rng.uniform(0.3, 1) * size)
        position = 0 if rng.random() < 0.2 else int(rng.uniform(0, 0.8) * SAMPLE_RATE)
        last, misses = position, 0
        while misses < 3 and position <= full - SAMPLE_RATE // 2:
            clip = self._clips.draw()
            end = position + len(clip.audio)
            if end > (full if window.sentences else size):
                misses += 1
                continue
            window.audio[position:end] += rng.uniform(0.4, 1.2) * clip.audio
            offset = position / SAMPLE_RATE
            window.sentences.append([(word, start + offset, stop + offset) for word, start, stop in clip.words])
            last, position = end, end + int(self._gap(size / SAMPLE_RATE) * SAMPLE_RATE)
        return min(size, last + int(rng.choice((0.0, rng.uniform(0, 0.5))) * SAMPLE_RATE)) or size

    def _gap(self, seconds: float) -> float:
        rng = self._rng
        return rng.choice(
            (rng.uniform(0.05, 0.4), rng.uniform(0.4, 2), rng.uniform(2, 7) if seconds > 10 else rng.uniform(0.4, 3))
        )

    def _background(self, sound: Samples, *, spoken: bool) -> Samples:
        """Add noise or music; where nobody speaks it is all there is."""
        rng = self._rng
        if spoken and rng.random() < 0.3:
            return sound
        background = self._sounds.cut(rng, len(sound), tune=rng.random() < (0.15 if spoken else 0.6))
        if not spoken:
            return background * (0.1 if rng.random() < 0.9 else 0.0)
        power = math.sqrt(float(np.mean(sound**2)) + 1e-12)
        return sound + background * power * 10 ** (-rng.uniform(3, 40) / 20)


def log_mel(audio: torch.Tensor) -> torch.Tensor:
    """Features of a batch with whisperx's arithmetic, the maximum taken for each window by itself."""
    spectrum = torch.stft(audio, 400, 160, window=torch.hann_window(400), return_complex=True)
    power = spectrum[..., :-1].abs() ** 2
    mel = torch.clamp(mel_filters("cpu", 80) @ power, min=1e-10).log10()
    mel = torch.maximum(mel, mel.amax((1, 2), keepdim=True) - 8.0)
    return (mel + 4) / 4
