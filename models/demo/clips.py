"""Endless sentences by many synthetic voices, and what recording, codecs and telephones do to them."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, fftconvolve, resample_poly, sosfilt

from hpc.demo.codecs import decode, encode
from hpc.demo.sounds import COLOURS, TIMBRES, hum, music, noise
from hpc.demo.speech import TRAINED_VOICES, Speaker, sentence
from hpc.model import SAMPLE_RATE

Samples = NDArray[np.float32]
Times = list[tuple[str, float, float]]  # word, start s, end s

# Odd variants that only widen what the model hears; never among the voices it is measured on.
_ODD_VARIANTS = (
    "AnxiousAndy", "Gene2", "iven2", "iven3", "iven4", "edward2", "RicishayMax2", "klatt", "klatt2", "klatt3", "klatt4",
    "fast", "announcer", "Storm", "Tweaky",
)  # fmt: skip
_ODD_VOICES = [f"gmw/{accent}+{name}" for accent in ("en-US", "en", "en-029") for name in _ODD_VARIANTS]
_RESERVOIR = 600  # clips kept for use more than once
_NEW_EVERY = 3  # draws per new clip: synthesis would otherwise take most of the loader's time
_MUSIC_NOT_TRAINED = "bell"  # kept for the test


@dataclass(frozen=True, slots=True)
class Clip:
    """A sentence as spoken, peak 0.5."""

    audio: Samples
    words: Times


class Clips:
    """Draws clips of random sentences; a clip may come again, later and in other company."""

    def __init__(self, seed: int) -> None:
        self._speaker, self._rng = Speaker(), random.Random(seed)
        self._kept: list[Clip] = []

    def draw(self) -> Clip:
        """A clip, new or heard before, perhaps at another speed and pitch."""
        rng = self._rng
        if len(self._kept) < 50 or rng.random() < 1 / _NEW_EVERY:
            clip = self._speak()
            if len(self._kept) < _RESERVOIR:
                self._kept.append(clip)
            else:
                self._kept[rng.randrange(_RESERVOIR)] = clip
        else:
            clip = rng.choice(self._kept)
        return _respeed(clip, rng.choice((18, 19, 21, 22, 23))) if rng.random() < 0.3 else clip

    def _speak(self) -> Clip:
        rng = self._rng
        words = sentence(rng)
        commas = len(words) > 2 and rng.random() < 0.3
        text = " ".join(word + ("," if commas and rng.random() < 0.25 else "") for word in words[:-1])
        heads = ("gmw/en-US", "gmw/en")  # half of the speech has the two commonest accents
        voices = _ODD_VOICES if rng.random() < 0.08 else TRAINED_VOICES
        voice = rng.choice(voices)
        if voices is TRAINED_VOICES and rng.random() < 0.4:
            voice = rng.choice(heads) + voice[len(voice.split("+", maxsplit=1)[0]) :]
        spoken = self._speaker.say(
            f"{text} {words[-1]}.".strip(),
            voice=voice,
            rate=rng.randint(110, 215),
            pitch=rng.randint(25, 75),
            pitch_range=rng.randint(25, 80),
            word_gap=rng.choice((0, 0, 0, 1, 3, 8)),
        )
        end = int((spoken.words[-1][2] + 0.05) * SAMPLE_RATE)  # without the pause after the sentence
        audio = spoken.pcm[:end].astype(np.float32)
        return Clip(audio * (0.5 / max(1.0, float(np.abs(audio).max()))), list(spoken.words))


def _respeed(clip: Clip, twentieths: int) -> Clip:
    """Play slower or faster, which moves pitch and formants as another speaker would."""
    scale = twentieths / 20
    audio = resample_poly(clip.audio, twentieths, 20).astype(np.float32)
    return Clip(audio, [(word, start * scale, end * scale) for word, start, end in clip.words])


class Sounds:
    """A stock of what is not speech, made once a process, from which any stretch can be cut."""

    def __init__(self, seed: int, *, seconds: int = 60, tunes: int = 24) -> None:
        rng = np.random.default_rng(seed)
        samples = seconds * SAMPLE_RATE
        self._steady = [*(noise(rng, samples, colour=colour) for colour in COLOURS), hum(rng, samples)]
        timbres = [timbre for timbre in TIMBRES if timbre != _MUSIC_NOT_TRAINED]
        self._tunes = [music(rng, samples, timbre=str(rng.choice(timbres))) for _ in range(tunes)]

    def cut(self, rng: random.Random, samples: int, *, tune: bool) -> Samples:
        """A random stretch of noise or of music; unit power."""
        sound = rng.choice(self._tunes if tune else self._steady)
        offset = rng.randrange(len(sound) - samples)
        return sound[offset : offset + samples]


def reverberate(rng: random.Random, audio: Samples) -> Samples:
    """A room."""
    length = int(rng.uniform(0.05, 0.35) * SAMPLE_RATE)
    tail = np.random.default_rng(rng.getrandbits(32)).standard_normal(length) * np.exp(-np.arange(length) / length * 5)
    response = (tail * rng.uniform(0.02, 0.12)).astype(np.float32)
    response[0] = 1
    wet: Samples = fftconvolve(audio, response)[: len(audio)].astype(np.float32)
    return wet


def band_limit(rng: random.Random, audio: Samples) -> Samples:
    """A poor microphone."""
    edges = [rng.uniform(60, 350), rng.uniform(3000, 6500)]
    sections = butter(4, edges, "band", fs=SAMPLE_RATE, output="sos")
    narrow: Samples = sosfilt(sections, audio).astype(np.float32)
    return narrow


def through_codec(rng: random.Random, audio: Samples) -> Samples:
    """Through a real encoder and decoder, at the low bit rates and sample rates of real collections."""
    pcm = (np.clip(audio, -1, 1) * 32767).astype(np.int16)
    kind = rng.random()
    if kind < 0.35:
        rate = rng.choice((8_000, 16_000, 16_000, 16_000))
        data = encode(pcm, codec="mp3", bitrate=rng.choice((16_000, 24_000, 32_000, 48_000)), rate=rate)
    elif kind < 0.6:
        data = encode(pcm, codec="opus", bitrate=rng.choice((8_000, 12_000, 16_000, 24_000, 32_000)))
    elif kind < 0.9:
        data = encode(pcm, codec="g711")
    else:
        data = encode(pcm, codec="m4a", bitrate=rng.choice((16_000, 24_000, 32_000)))
    heard = decode(data)[: len(audio)]
    return np.pad(heard, (0, len(audio) - len(heard)))
