"""The clips of a contest: somebody's audio, decoded once as a worker would, or speech made from a seed."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import cycle
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from db.names import display
from hpc.demo.sounds import hum, music, noise
from hpc.demo.speech import TRAINED_VOICES, Speaker, sentence
from hpc.errors import SourceMissing
from hpc.model import SAMPLE_RATE, Audio, Failure, Member, Recording, Result, Seal, Shard, Unsealed
from hpc.stages.decode import DecodeLimits, DecoderPool
from hpc.stages.unpack import ArchiveLimits, unpack

ARCHIVE = re.compile(r"\.(tar|t(gz|xz|bz2?)|tar\.\w+)$")
SEED = 20_260_117
SENTENCES = 64  # said once each, each in its own voice; clips are made of them
PAUSES = (0.1, 0.3, 0.3, 0.6, 0.6, 1.2, 2.5)  # seconds
WITHOUT_SPEECH = 20  # one clip of so many
SPREAD = 0.9  # of the logarithm of the length: most clips are short, a few go on for minutes
SHORTEST = 2.0  # seconds
Sound = NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Clips:
    """What every contestant hears."""

    origin: str  # in words
    audios: Sequence[Audio]
    prepare_seconds: float  # spent on decoding or making them; in nobody's time
    left_out: Sequence[str] = field(default_factory=tuple)  # what could not be decoded, and why

    @property
    def seconds(self) -> float:
        return sum(audio.duration for audio in self.audios)

    def named(self, at: int) -> str:
        return display(self.audios[at].recording.name)


def decoded(paths: Sequence[Path], *, children: int) -> Clips:
    """The audio in these files, folders and archives."""
    began = time.monotonic()
    audios, left_out = list[Audio](), list[str]()
    with DecoderPool(children=children, limits=DecodeLimits()) as pool:
        for item in pool.decode(_members(paths)):
            if isinstance(item, Audio):
                audios.append(item)
            elif isinstance(item, Result) and isinstance(item.outcome, Failure):
                left_out.append(f"{display(item.recording.name)}: {item.outcome.reason}")
    if not audios:
        raise SourceMissing(f"There is no audio in {', '.join(map(str, paths))}.")
    return Clips("decoded from files", audios, time.monotonic() - began, left_out)


def _members(paths: Sequence[Path]) -> Iterator[Member | Result | Seal | Unsealed]:
    for number, path in enumerate(paths):
        loose = path.is_dir() or not ARCHIVE.search(path.name.lower())
        files = _inside(path) if path.is_dir() else (path,)
        shard = Shard(number, "bench", date(2025, 1, 1), path.name, files, loose=loose)
        yield from unpack(shard, limits=ArchiveLimits())


def _inside(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(one for one in folder.rglob("*") if one.is_file() and not one.name.startswith(".")))


def synthetic(count: int, *, chunk_size: int, seed: int = SEED) -> Clips:
    """Speech by many voices, and now and then none. Lengths are those of short clips: half of them fit into 0.8
    chunks. Where chunks are short (a model that is at its best on little), no clip is longer than 1.5 of them."""
    began = time.monotonic()
    rng, generator = random.Random(f"{count} {seed}"), np.random.default_rng(seed)  # noqa: S311 - nothing secret
    without: Iterator[Callable[[np.random.Generator, int], NDArray[np.float32]]] = cycle((_silence, noise, music, hum))
    longest = (1.5 if chunk_size < 15 else 6.0) * chunk_size
    said, audios = _said(rng, count), []
    for at in range(count):
        seconds = min(max(rng.lognormvariate(np.log(0.8 * chunk_size), SPREAD), SHORTEST), longest)
        samples = round(seconds * SAMPLE_RATE)
        if at % WITHOUT_SPEECH == WITHOUT_SPEECH - 1:
            made = next(without)(generator, samples)
            sound = np.asarray(np.clip(made * 1500, -32768, 32767)).astype(np.int16)
        else:
            sound = _talk(rng, said, samples)
        audios.append(Audio(Recording(0, at, b"synthetic-%05d" % at, sound.nbytes, b""), sound))
    return Clips(f"synthetic, seed {seed}", audios, time.monotonic() - began)


def _said(rng: random.Random, count: int) -> list[Sound]:
    speaker, some = Speaker(), min(SENTENCES, 2 * count)
    voices = rng.sample(TRAINED_VOICES, some)
    return [speaker.say(" ".join(sentence(rng)) + ".", voice=voice).pcm for voice in voices]


def _talk(rng: random.Random, said: Sequence[Sound], samples: int) -> Sound:
    parts, length = list[Sound](), 0
    while length < samples:
        rest = np.zeros(round(rng.choice(PAUSES) * SAMPLE_RATE), np.int16)
        parts += [rng.choice(said), rest]
        length += len(parts[-1]) + len(parts[-2])
    return np.concatenate(parts)[:samples]


def _silence(_: np.random.Generator, samples: int) -> NDArray[np.float32]:
    return np.zeros(samples, np.float32)
