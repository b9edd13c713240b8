"""The clips of one synthetic archive: mostly speech with known words, some silence, noise and music, some broken."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from db.names import stem
from db.states import FailureClass
from hpc.demo import sounds
from hpc.demo.codecs import Codec, encode
from hpc.demo.speech import TRAINED_VOICES, Speaker, sentence
from hpc.demo.trouble import BAD_MEMBERS, HOSTILE_NAMES, Pcm, SlotPlan
from hpc.demo.truth import BAD, MUSIC, NOISE, SILENCE, SPEECH, ClipTruth
from hpc.model import SAMPLE_RATE

SLOT_SECONDS = 600
SHORTEST, LONGEST = 3.0, 25.0  # seconds
_NEGATIVES = (SILENCE, NOISE, MUSIC)
_CLIPS_A_NEGATIVE = 10
# Ten clips in a row have these; the archives of a day begin at different places.
_CODECS: tuple[Codec, ...] = ("mp3", "mp3", "opus", "mp3", "wav", "mp3", "mp3", "m4a", "mp3", "mp3")
_BITRATES = {"mp3": 48_000, "opus": 32_000, "m4a": 48_000}
Wave = NDArray[np.floating[Any]]
Words = tuple[tuple[str, float, float], ...]


@dataclass(frozen=True, slots=True)
class Clip:
    """A member of the archive without its bytes."""

    truth: ClipTruth
    id: int  # its high half is a Unix time inside the slot
    name: bytes

    @property
    def posted(self) -> int:
        """Unix time."""
        return self.id >> 32


@dataclass(frozen=True, slots=True)
class _Sound:
    pcm: Pcm
    words: Words = ()
    voice: str | None = None


def make_clips(plan: SlotPlan, *, on: date, shard: str, source: str) -> Iterator[tuple[Clip, bytes]]:
    """The archive's members in order; the same `source` gives the same bytes."""
    rng = random.Random(source)  # noqa: S311 - nothing secret
    speaker = Speaker()
    ids = _ids(plan, on, rng)
    special = dict(zip(rng.sample(range(plan.clips), len(plan.bad) + plan.hostile), _specials(plan), strict=True))
    twin: tuple[Clip, bytes] | None = None
    for place, number in enumerate(ids):
        what = special.get(place, "")
        kind = SPEECH if what else _kind(plan, place)
        sound = _speech(speaker, rng, patient=place % 4 == 3) if kind == SPEECH else _negative(kind, rng)
        codec = "mp3" if what else _CODECS[(place + plan.number) % len(_CODECS)]
        truth = ClipTruth(
            meta_id=str(number), slot=plan.slot, shard=shard, ordinal=place, member="", kind=kind,
            text=" ".join(word for word, _, _ in sound.words), words=sound.words, voice=sound.voice, codec=codec,
            seconds=round(len(sound.pcm) / SAMPLE_RATE, 3), damaged=plan.damaged,
        )  # fmt: skip
        if what in BAD_MEMBERS:
            clip, data = _broken(what, truth, number, rng, sound.pcm)
        else:
            pattern = HOSTILE_NAMES[int(what)] if what else b"%d." + codec.encode()
            clip, data = _named(truth, number, pattern % number), _encoded(sound.pcm, codec)
            twin = twin or (clip, data)
        yield clip, data
    if plan.duplicate and twin:
        yield _duplicate(twin[0], len(ids)), twin[1]


def _ids(plan: SlotPlan, on: date, rng: random.Random) -> list[int]:
    """One for each clip, in order of time."""
    hour, minute = (int(part) for part in plan.slot.split("_"))
    start = int(datetime.combine(on, time(hour, minute), tzinfo=UTC).timestamp())
    ids: set[int] = set()
    while len(ids) < plan.clips:
        ids.add(start + len(ids) * SLOT_SECONDS // plan.clips << 32 | rng.getrandbits(32))
    return sorted(ids)


def _specials(plan: SlotPlan) -> list[str]:
    return [*plan.bad, *(str(number) for number in range(plan.hostile))]


def _kind(plan: SlotPlan, place: int) -> str:
    if place % _CLIPS_A_NEGATIVE != _CLIPS_A_NEGATIVE // 2:
        return SPEECH
    return _NEGATIVES[(place // _CLIPS_A_NEGATIVE + plan.number) % len(_NEGATIVES)]


def _named(truth: ClipTruth, number: int, name: bytes) -> Clip:
    shown = replace(truth, meta_id=stem(name), member=name.decode("utf-8", "surrogateescape"))
    return Clip(shown, number, name)


def _broken(what: str, truth: ClipTruth, number: int, rng: random.Random, pcm: Pcm) -> tuple[Clip, bytes]:
    failure, suffix, make = BAD_MEMBERS[what]
    truth = replace(truth, kind=BAD + failure, text="", words=(), voice=None, codec=suffix)
    return _named(truth, number, b"%d." % number + suffix.encode()), make(rng, pcm)


def _duplicate(clip: Clip, ordinal: int) -> Clip:
    kind = BAD + FailureClass.DUPLICATE_MEMBER
    return replace(clip, truth=replace(clip.truth, ordinal=ordinal, kind=kind, text="", words=()))


def _encoded(pcm: Pcm, codec: Codec) -> bytes:
    return encode(pcm, codec=codec, bitrate=_BITRATES.get(codec))


def _speech(speaker: Speaker, rng: random.Random, *, patient: bool) -> _Sound:
    """Sentences of one voice with pauses between them, which a patient speaker makes long."""
    voice, rate, pitch = rng.choice(TRAINED_VOICES), rng.choice((140, 150, 160)), rng.randint(40, 60)
    wanted = rng.uniform(SHORTEST, 9.0) if rng.random() < 0.85 else rng.uniform(9.0, LONGEST - 3)
    peak = rng.uniform(0.3, 0.6)
    pieces, words = [_rest(rng.uniform(0.3, 0.8))], list[tuple[str, float, float]]()
    length = len(pieces[0])
    while length < (wanted - 1) * SAMPLE_RATE:
        said = speaker.say(" ".join(sentence(rng)) + ".", voice=voice, rate=rate, pitch=pitch)
        rest = _rest(rng.uniform(2.0, 4.0) if patient else rng.uniform(0.4, 1.2))
        if words and length + len(said.pcm) > (LONGEST - 1) * SAMPLE_RATE:
            break
        start = length / SAMPLE_RATE
        words += [(word, round(start + begin, 4), round(start + end, 4)) for word, begin, end in said.words]
        loudest = max(1.0, float(np.abs(said.pcm.astype(np.float64)).max()))
        pieces += [said.pcm / loudest * peak, rest]
        length += len(said.pcm) + len(rest)
    whole = np.concatenate(pieces)[: int(LONGEST * SAMPLE_RATE)]
    short = int(SHORTEST * SAMPLE_RATE) - len(whole)
    return _Sound(_samples(np.pad(whole, (0, max(0, short)))), tuple(words), voice)


def _rest(seconds: float) -> Wave:
    return np.zeros(int(seconds * SAMPLE_RATE))


def _negative(kind: str, rng: random.Random) -> _Sound:
    """Sound without a word in it."""
    count = int(rng.uniform(SHORTEST, 9.0) * SAMPLE_RATE)
    dice = np.random.default_rng(rng.getrandbits(64))
    if kind == SILENCE:
        return _Sound(dice.integers(-1, 2, count).astype(np.int16))  # what a recorder's last bit does
    colour = rng.choice((*sounds.COLOURS, ""))
    if kind == MUSIC:
        wave = sounds.music(dice, count)
    else:
        wave = sounds.noise(dice, count, colour=colour) if colour else sounds.hum(dice, count)
    return _Sound(_samples(wave * rng.uniform(0.02, 0.1)))


def _samples(wave: Wave) -> Pcm:
    return np.asarray(np.clip(wave, -1, 1) * 32_767).astype(np.int16)
