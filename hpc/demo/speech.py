"""Synthetic speech with known words and times: a small vocabulary, a sentence grammar, espeak-ng through ctypes."""

from __future__ import annotations

import ctypes
import itertools
import random
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from hpc.errors import BadSetting
from hpc.model import SAMPLE_RATE


def _list(text: str) -> tuple[str, ...]:
    return tuple(text.split())


DIGITS = _list("zero one two three four five six seven eight nine")
TENS = _list("ten twenty thirty hundred")
DAYS = _list("monday tuesday wednesday thursday friday saturday sunday")
MONTHS = _list("january february march april may june july august september october november december")
COMMANDS = _list(
    "morning evening today tomorrow unit station channel copy over report north south east west "
    "street road red green blue black white left right go stop start open close yes no please and"
)
WORDS = DIGITS + TENS + DAYS + MONTHS + COMMANDS  # all that the demo model can hear

_ACCENTS = _list("en-US en en-GB-scotland en-GB-x-rp en-GB-x-gbclan en-US-nyc en-029")
_VARIANTS = _list(
    "m1 m2 m3 m4 m5 m6 m8 f1 f2 f3 f5 Alex Alicia Andrea Andy Gene Hugo Jacky Lee Marco Mario Michael Mike "
    "adam anika antonio belinda benjamin boris caleb david edward iven john linda marcelo miguel norbert pablo "
    "pedro quincy rob robert sandro travis"
)
_HELD_OUT_ACCENTS = _list("en-US en en-GB-x-gbcwmd")
_HELD_OUT_VARIANTS = _list("m7 f4 Annie max Denis steph paul victor shelby")
# Accent and voice variant as espeak-ng names its voice files. The demo model learnt from the first list and never
# heard the second, whose variants, and one accent, are not in the first.
TRAINED_VOICES = tuple(
    f"gmw/{accent}{variant}" for accent in _ACCENTS for variant in ("", *(f"+{name}" for name in _VARIANTS))
)
HELD_OUT_VOICES = tuple(f"gmw/{accent}+{variant}" for accent in _HELD_OUT_ACCENTS for variant in _HELD_OUT_VARIANTS)


class SynthesiserMissing(BadSetting):
    """espeak-ng is not on this machine: install the Debian packages `libespeak-ng1 espeak-ng-data`."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """Speech and what is said in it."""

    pcm: NDArray[np.int16]  # 16 kHz, mono
    words: tuple[tuple[str, float, float], ...]  # word, start, end; seconds


def sentence(rng: random.Random) -> list[str]:
    """Draw a sentence: mostly words in no order, so that only hearing helps; else digits, or a radio phrase."""
    kind = rng.random()
    if kind < 0.55:
        return [rng.choice(WORDS) for _ in range(rng.randint(1, 12))]
    if kind < 0.70:
        return [rng.choice(DIGITS) for _ in range(rng.randint(1, 10))]
    return _phrase(rng)


def _phrase(rng: random.Random) -> list[str]:
    """Fill one of seven templates: a word stands for itself, a tuple for a choice."""
    sides, streets = ("left", "right"), ("street", "road")
    templates: tuple[tuple[str | tuple[str, ...], ...], ...] = (
        ("unit", DIGITS, DIGITS, ("report", "copy", "go", "stop"), ("north", "south", "east", "west"), streets),
        ("today", DAYS, MONTHS, ("ten", "twenty", "thirty"), DIGITS),
        ("station", DIGITS, "channel", DIGITS, "please", ("report", "start", "stop", "copy"), "over"),
        (DAYS, ("morning", "evening"), DIGITS, "hundred"),
        (("go", "start", "stop", "open", "close"), sides, "and", (*sides, "north", "south")),
        (("yes", "no"), "unit", DIGITS, ("red", "green", "blue", "black", "white"), streets),
        (DIGITS, "hundred", ("twenty", "thirty"), DIGITS, "copy"),
    )
    return [part if isinstance(part, str) else rng.choice(part) for part in rng.choice(templates)]


class _EventId(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int), ("unique_identifier", ctypes.c_uint), ("text_position", ctypes.c_int),
        ("length", ctypes.c_int), ("audio_position", ctypes.c_int), ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p), ("id", _EventId),
    )  # fmt: skip


_SynthCallback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
# From espeak-ng's speak_lib.h:
_AUDIO_OUTPUT_SYNCHRONOUS, _PHONEME_EVENTS, _CHARS_UTF8 = 2, 1, 1
_RATE, _PITCH, _PITCH_RANGE, _WORD_GAP = 1, 3, 4, 7
_LIST_TERMINATED, _PHONEME = 0, 7


@cache
def _library_path() -> str:
    """Where the loader finds espeak-ng."""
    try:
        ctypes.CDLL("libespeak-ng.so.1")
    except OSError as error:
        raise SynthesiserMissing from error
    mapped = Path("/proc/self/maps").read_text().splitlines()
    return next(line.split(maxsplit=5)[5] for line in mapped if "libespeak-ng.so" in line)


def _private_library() -> ctypes.CDLL:
    """Load a copy of espeak-ng of our own: its state (flutter, gain) lasts from one utterance to the next."""
    with tempfile.TemporaryDirectory() as folder:  # a library loaded again from one path would be the same library
        return ctypes.CDLL(shutil.copy(_library_path(), folder))


class Speaker:
    """Says words with espeak-ng; a new speaker given the same calls in the same order gives the same samples."""

    def __init__(self) -> None:
        self._library = _private_library()
        self._rate = self._library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, None, _PHONEME_EVENTS)
        if self._rate <= 0:
            raise SynthesiserMissing("espeak-ng has no voices: install the Debian package `espeak-ng-data`.")
        data = ctypes.c_char_p()
        self._library.espeak_Info(ctypes.byref(data))
        self._variants = Path((data.value or b"").decode()) / "voices" / "!v"
        self._c = ctypes.CDLL(None)

    def say(
        self, text: str, *, voice: str, rate: int = 150, pitch: int = 50, pitch_range: int = 50, word_gap: int = 0
    ) -> Utterance:
        """Say plain words, with commas and full stops for pauses; rate in words a minute, word_gap in 10 ms."""
        settings = ((_RATE, rate), (_PITCH, pitch), (_PITCH_RANGE, pitch_range), (_WORD_GAP, word_gap))
        blocks: list[NDArray[np.int16]] = []
        starts: list[tuple[int, int, bytes]] = []  # of phonemes: position in the text, ms, name

        def collect(samples: Any, count: int, events: Any) -> int:
            for event in itertools.takewhile(lambda e: e.type != _LIST_TERMINATED, _forever(events)):
                if event.type == _PHONEME:
                    starts.append((event.text_position, event.audio_position, bytes(event.id.string)))
            if samples and count > 0:
                blocks.append(np.ctypeslib.as_array(samples, (count,)).copy())
            return 0

        callback = _SynthCallback(collect)
        self._library.espeak_SetSynthCallback(callback)
        _, plus, variant = voice.partition("+")
        known = not plus or (self._variants / variant).is_file()  # espeak-ng passes over an unknown variant in silence
        if not known or self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise BadSetting(f"espeak-ng has no voice {voice!r}; `espeak-ng --voices` lists them.")
        for parameter, value in settings:
            self._library.espeak_SetParameter(parameter, value, 0)
        self._c.srand(1)  # breath noise comes from rand()
        encoded = text.replace("no one", "no |one").encode() + b"\0"  # else its dictionary says them as one word
        self._library.espeak_Synth(encoded, len(encoded), 0, 1, 0, _CHARS_UTF8, None, None)
        self._library.espeak_Synchronize()
        pcm = np.concatenate([*blocks, np.zeros(0, np.int16)])
        words = _words(text, starts, len(pcm) / self._rate)
        return Utterance(resample(pcm, self._rate, SAMPLE_RATE), words)


def _forever(events: Any) -> Iterable[_Event]:
    return (events[index] for index in itertools.count())


def _words(text: str, phonemes: list[tuple[int, int, bytes]], seconds: float) -> tuple[tuple[str, float, float], ...]:
    """Times of the words: the phonemes of one share its place in the text (espeak-ng's word events are incomplete)."""
    tokens = text.replace(",", " ").replace(".", " ").split()
    ends = [milliseconds / 1000 for _, milliseconds, _ in phonemes[1:]] + [seconds]
    spans: dict[int, tuple[float, float]] = {}
    for (position, milliseconds, name), end in zip(phonemes, ends, strict=True):
        if name and not name.startswith(b"_"):  # "_" begins the names of pauses
            spans[position] = (spans.get(position, (milliseconds / 1000, 0.0))[0], end)
    if len(spans) != len(tokens):
        raise BadSetting(f"espeak-ng joined words of {text!r}, so their times are unknown; say plain words.")
    return tuple((token, *spans[position]) for token, position in zip(tokens, sorted(spans), strict=True))


def resample(pcm: NDArray[np.int16], source_rate: int, target_rate: int) -> NDArray[np.int16]:
    """The same mono signal at another rate."""
    frame = av.AudioFrame.from_ndarray(pcm.reshape(1, -1), format="s16", layout="mono")
    frame.sample_rate = source_rate
    resampler = av.AudioResampler(format="s16", layout="mono", rate=target_rate)
    frames = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([np.zeros(0, np.int16), *(part.to_ndarray()[0] for part in frames)])
