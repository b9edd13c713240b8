"""Sounds without speech, made from nothing: coloured noise, mains hum, tunes with chords, bass and drums."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hpc.model import SAMPLE_RATE

Samples = NDArray[np.float32]  # 16 kHz, mono, root mean square 1

COLOURS = {"white": 0.0, "pink": 1.0, "brown": 2.0}  # power falls with frequency to this exponent
# Harmonics' strengths, decay in 1/s (of the first harmonic), depth of vibrato.
_TIMBRES: dict[str, tuple[tuple[float, ...], float, float]] = {
    "flute": ((1.0, 0.3, 0.1), 0.5, 0.006),
    "reed": ((1.0, 0.0, 0.7, 0.0, 0.4, 0.0, 0.2), 0.3, 0.003),
    "string": (tuple(1 / k for k in range(1, 11)), 1.5, 0.004),
    "pluck": (tuple(1 / k for k in range(1, 9)), 5.0, 0.0),
    "organ": ((1.0, 0.8, 0.0, 0.6, 0.0, 0.0, 0.0, 0.4), 0.0, 0.001),
    "piano": (tuple(0.6**k for k in range(8)), 3.0, 0.0),
    "bell": ((1.0, 0.6, 0.4, 0.3), 2.5, 0.0),  # its partials are not harmonic
}
TIMBRES = tuple(_TIMBRES)
_PENTATONIC = (0, 2, 4, 7, 9, 12, 14, 16, 19, 21)  # semitones above the key


def noise(rng: np.random.Generator, samples: int, *, colour: str = "white") -> Samples:
    """Steady noise of a colour."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    bins = np.maximum(np.arange(len(spectrum)), 1)
    return _unit(np.fft.irfft(spectrum / bins ** (COLOURS[colour] / 2), samples))


def hum(rng: np.random.Generator, samples: int) -> Samples:
    """A mains hum with its harmonics over a little noise."""
    base, time = rng.choice([50.0, 60.0]), np.arange(samples) / SAMPLE_RATE
    waves = [np.sin(2 * np.pi * base * k * time + rng.uniform(0, 6)) / k for k in (1, 2, 3, 6)]
    return _unit(np.sum(waves, axis=0) + 0.3 * noise(rng, samples, colour="pink"))


def music(rng: np.random.Generator, samples: int, *, timbre: str | None = None) -> Samples:
    """A tune of random notes, often with chords, bass and drums; `timbre` is the melody's instrument."""
    beat = int(60 / rng.uniform(60, 180) * SAMPLE_RATE)
    key = 110 * 2 ** (rng.integers(0, 24) / 12)
    lead = timbre or str(rng.choice(TIMBRES))
    track = np.zeros(samples)
    _melody(rng, track, key=key, beat=beat, timbre=lead)
    if rng.random() < 0.6:
        _chords(rng, track, key=key, beat=beat, timbre=timbre or str(rng.choice(TIMBRES)))
    if rng.random() < 0.4:
        _drums(rng, track, beat=beat)
    return _unit(track)


def _melody(rng: np.random.Generator, track: NDArray[np.float64], *, key: float, beat: int, timbre: str) -> None:
    step, position = int(rng.integers(0, len(_PENTATONIC))), 0
    while position < len(track):
        length = int(beat * rng.choice([0.25, 0.5, 0.5, 1, 1, 2]))
        step = int(np.clip(step + rng.integers(-3, 4), 0, len(_PENTATONIC) - 1))
        if rng.random() < 0.9:  # else a rest
            _add(track, position, tone(rng, key * 2 ** (_PENTATONIC[step] / 12), length, timbre=timbre))
        position += length


def _chords(rng: np.random.Generator, track: NDArray[np.float64], *, key: float, beat: int, timbre: str) -> None:
    for position in range(0, len(track), 4 * beat):
        root, third = rng.choice([0, 5, 7, 9]), rng.choice([3, 4])
        for semitones in (root - 12, root, root + third, root + 7):
            note = tone(rng, key * 2 ** (semitones / 12), 4 * beat, timbre=timbre)
            _add(track, position, 0.4 * note)


def _drums(rng: np.random.Generator, track: NDArray[np.float64], *, beat: int) -> None:
    time = np.arange(SAMPLE_RATE // 5) / SAMPLE_RATE
    kick = 2 * np.sin(2 * np.pi * 60 * time * (1 - time)) * np.exp(-20 * time)
    hiss = 0.5 * rng.standard_normal(len(time)) * np.exp(-40 * time)
    for count, position in enumerate(range(0, len(track), beat // 2)):
        _add(track, position, kick if count % 4 == 0 else hiss)


def tone(rng: np.random.Generator, frequency: float, samples: int, *, timbre: str) -> NDArray[np.float64]:
    """One note of an instrument."""
    strengths, decay, vibrato = _TIMBRES[timbre]
    time = np.arange(samples) / SAMPLE_RATE
    wave = np.zeros(samples)
    phase = 2 * np.pi * frequency * (time + vibrato / 35 * np.sin(2 * np.pi * 5.5 * time + rng.uniform(0, 6)))
    for k, strength in enumerate(strengths, 1):
        ratio = k**1.4 if timbre == "bell" else k
        if strength and ratio * frequency < SAMPLE_RATE / 2.2:
            wave += strength * np.sin(ratio * phase) * np.exp(-decay * k**0.5 * time)
    edge = np.minimum(1, np.minimum(time, time[-1] - time + 1e-4) / 0.01)  # no clicks at either end
    note: NDArray[np.float64] = wave * edge
    return note


def _add(track: NDArray[np.float64], position: int, sound: NDArray[np.float64]) -> None:
    end = min(len(track), position + len(sound))
    track[position:end] += sound[: end - position]


def _unit(sound: NDArray[np.float64]) -> Samples:
    scaled: Samples = (sound / (np.sqrt(np.mean(sound**2)) + 1e-12)).astype(np.float32)
    return scaled
