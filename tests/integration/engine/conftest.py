"""What the engine's tests hear and with what: many synthetic clips of several shards, and a large-vocabulary model."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from hpc.demo.sounds import COLOURS, hum, noise
from hpc.demo.speech import TRAINED_VOICES, Speaker, sentence
from hpc.model import SAMPLE_RATE, Audio, Recording

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
SHARDS = 4
SENTENCES = 32  # said once each, each in its own voice; clips are made of them
# Seconds. Most clips are short, as in the days that this is for; a few have several windows.
SPEECH = (
    0.4, 0.6, 0.8, 1.1, 1.5, 1.9, 2.4, 2.8, 3.1, 3.6, 4.2, 4.7, 5.3, 5.9, 6.4, 7.2, 8.1, 8.8, 9.5, 10.3, 11.7, 12.6,
    14.2, 15.8, 17.5, 19.9, 24.1, 30.0, 36.3, 47.2, 61.4, 75.0,
)  # fmt: skip
LEADING = 1.7  # seconds of silence before every fourth of them
NO_SPEECH = (0.5, 6.0, 31.0, 3.0, 4.0, 5.0, 2.5, 12.0)  # silence three times, noise of each colour, hum twice

Sound = NDArray[np.int16]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever is tested in this folder loads torch."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.speech)


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Whisper with random weights and large-v3's vocabulary (models/random); nobody may change its files."""
    return _build(tmp_path_factory.mktemp("models") / "random")


@pytest.fixture(scope="session")
def build() -> Callable[..., Path]:
    """`build(folder, *options)` of models/random/whisper.py, for tests that need another one."""
    return _build


def _build(folder: Path, *options: str) -> Path:
    """In a process of its own: the speech libraries look at their environment when they are imported, once."""
    done = subprocess.run(
        [sys.executable, "-m", "models.random.whisper", folder, *options],
        cwd=ROOT, env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def speech_clips() -> list[Audio]:
    """Forty recordings of four shards, short and long mixed: speech, some after a silence; silence, noise and hum."""
    sounds = [*_spoken(), *_unspoken()]
    random.Random(3).shuffle(sounds)
    return [_audio(sound, 1 + at % SHARDS, at // SHARDS) for at, sound in enumerate(sounds)]


def _spoken() -> Iterator[Sound]:
    """Sentences in an order of their own for each clip, with pauses between them, cut to its length."""
    rng, speaker = random.Random(1), Speaker()
    voices = TRAINED_VOICES[:: len(TRAINED_VOICES) // SENTENCES]
    said = [speaker.say(" ".join(sentence(rng)) + ".", voice=voices[at]).pcm for at in range(SENTENCES)]
    for at, seconds in enumerate(SPEECH):
        length = round(seconds * SAMPLE_RATE)
        parts = [_silence(LEADING if at % 4 == 3 and seconds > 2 * LEADING else 0)]
        while sum(map(len, parts)) < length:
            parts += [rng.choice(said), _silence(rng.choice((0.1, 0.3, 0.3, 0.6, 0.6, 1.2, 2.5)))]
        yield np.concatenate(parts)[:length]


def _unspoken() -> Iterator[Sound]:
    generator = np.random.default_rng(2)
    for at, seconds in enumerate(NO_SPEECH):
        length = round(seconds * SAMPLE_RATE)
        match at:
            case 0 | 1 | 2:
                yield _silence(seconds)
            case 3 | 4 | 5:
                yield _loud(noise(generator, length, colour=tuple(COLOURS)[at - 3]))
            case _:
                yield _loud(hum(generator, length))


def _silence(seconds: float) -> Sound:
    return np.zeros(round(seconds * SAMPLE_RATE), np.int16)


def _loud(sound: NDArray[np.float32]) -> Sound:
    return np.clip(1500 * sound, -32768, 32767).astype(np.int16)


def _audio(sound: Sound, shard: int, ordinal: int) -> Audio:
    digest = hashlib.sha256(sound.tobytes()).digest()
    return Audio(Recording(shard, ordinal, f"{shard}_{ordinal}.mp3".encode(), sound.nbytes, digest), sound)
