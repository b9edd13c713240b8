"""The labelled day of bench/triage.py: sounds made from a seed, with what is known of each."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpc.demo.sounds import hum, music, noise
from hpc.demo.speech import TRAINED_VOICES, Speaker, sentence
from hpc.model import SAMPLE_RATE

Sound = NDArray[np.int16]
UNSPOKEN = ("noise, hum or silence", "music", "a machine's thumps")


@dataclass(frozen=True, slots=True)
class Clip:
    """A sound, and what is known of it."""

    kind: str
    sound: Sound
    text: str  # what is said; "" where nobody speaks
    words: tuple[tuple[str, float, float], ...] = ()  # those of the model's language, with their times
    repeats: bool = False  # it says the same over and over
    language: str = "en"  # spoken


def clips(count: int, seed: int) -> Iterator[Clip]:
    """`count` of each kind; no two alike."""
    rng, generator, speaker = random.Random(f"triage {seed}"), np.random.default_rng(seed), Speaker()
    for number in range(count):
        voice = rng.choice(TRAINED_VOICES)
        yield _said(speaker, rng, voice, "plain", sentences=2)
        long = _said(speaker, rng, voice, "long", sentences=8)
        yield long
        yield replace(long, kind="0 dB noise", sound=_noisy(generator, long.sound, 0.0))
        yield replace(long, kind="-12 dB noise", sound=_noisy(generator, long.sound, -12.0))
        backwards = long.sound[::-1].copy()
        yield replace(long, kind="backwards", sound=backwards, text="(nothing that anybody understands)", words=())
        yield _drowned(speaker, rng, generator, voice, (-6.0, -15.0)[number % 2])
        yield _repeated(speaker, rng, voice)
        german = speaker.say(rng.choice(GERMAN), voice="gmw/de", pitch=rng.randint(30, 70))
        yield Clip("german", german.pcm, "(german)", language="de")
        length = 15 * SAMPLE_RATE
        unspoken = (noise(generator, length), hum(generator, length), music(generator, length), np.zeros(length))
        yield Clip("nobody speaks", _loud(unspoken[number % 4]), "")


def unspoken(count: int, seed: int) -> Iterator[Clip]:
    """Sounds in which nobody speaks, `count` of each of three kinds, one after the other."""
    generator, length = np.random.default_rng(seed + 1), 15 * SAMPLE_RATE
    for number in range(count):
        steady = (noise(generator, length), hum(generator, length), np.zeros(length))[number % 3]
        beats = np.sin(np.pi * generator.uniform(3, 12) * np.arange(length) / SAMPLE_RATE) ** 2
        thumps = beats * noise(generator, length, colour="pink")
        for kind, sound in zip(UNSPOKEN, (steady, music(generator, length), thumps), strict=True):
            yield Clip(kind, _loud(sound), "")


GERMAN = (
    "guten morgen meine damen und herren, heute ist ein schöner tag und wir gehen im wald spazieren",
    "die katze schläft unter dem tisch und der hund wartet vor der tür auf seinen besitzer",
    "bitte beachten sie dass der zug nach zürich heute von gleis sieben abfährt",
    "ich habe gestern abend ein buch gelesen das mir meine schwester geschenkt hat",
)


def _said(speaker: Speaker, rng: random.Random, voice: str, kind: str, *, sentences: int) -> Clip:
    text = " ".join(" ".join(sentence(rng)) for _ in range(sentences))
    spoken = speaker.say(text + ".", voice=voice, rate=rng.randint(130, 190))
    return Clip(kind, spoken.pcm, text, spoken.words)


def _repeated(speaker: Speaker, rng: random.Random, voice: str) -> Clip:
    """The same two to four words ten times, with the sound of one saying."""
    words = " ".join(sentence(rng)[:4][: rng.randint(2, 4)])
    words = words if " " in words else f"{words} {words} over"
    once = speaker.say(words, voice=voice).pcm
    return Clip("said ten times", np.concatenate([once] * 10), " ".join([words] * 10), repeats=True)


def _drowned(speaker: Speaker, rng: random.Random, generator: np.random.Generator, voice: str, decibels: float) -> Clip:
    """A sentence, then ten seconds of speech under noise."""
    first, rest = (_said(speaker, rng, voice, "", sentences=n) for n in (2, 8))
    under, later = _noisy(generator, rest.sound[: 10 * SAMPLE_RATE], decibels), len(first.sound) / SAMPLE_RATE
    words = [(word, start + later, end + later) for word, start, end in rest.words if end <= 10]
    text = " ".join([first.text, *(word for word, _, _ in words)])
    kind = f"10 s under {decibels:g} dB noise"
    return Clip(kind, np.concatenate([first.sound, under]), text, (*first.words, *words))


def _noisy(generator: np.random.Generator, sound: Sound, decibels: float) -> Sound:
    speech = sound.astype(np.float64)
    level = np.sqrt(np.mean(speech**2)) * 10 ** (-decibels / 20)
    mixed = speech + noise(generator, len(sound), colour="pink") * level
    return np.asarray(np.clip(mixed * min(1.0, 20_000 / np.abs(mixed).max()), -32768, 32767)).astype(np.int16)


def _loud(sound: NDArray[Any]) -> Sound:
    return np.asarray(np.clip(3000 * sound, -32768, 32767)).astype(np.int16)
