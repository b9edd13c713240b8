"""The troubles that a synthetic day can be given, each with what the pipeline should say of it, and where each goes."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from db.states import FailureClass
from hpc.demo.codecs import encode
from hpc.errors import BadSetting

Pcm = NDArray[np.int16]
SLOTS_A_DAY = 144


@dataclass(frozen=True, slots=True)
class Trouble:
    """Which troubles to plant. On the command line the names have dashes: missing-slot."""

    missing_slot: bool = False  # one more slot, in the midst of the others, of which there is nothing
    zero_bytes: bool = False  # these six: one clip each is replaced by something that is not one
    html: bool = False
    truncated: bool = False
    one_hertz: bool = False
    playlist: bool = False
    garbage: bool = False
    duplicate: bool = False  # one member stands in its archive twice
    hostile_names: bool = False  # good clips under names that lead out of a folder, or are no text
    plain_tar: bool = False  # an archive is not compressed, whatever its name says
    late_parquet: bool = False  # the companions of one archive lie in late/, to be moved in later
    flipped_bit: bool = False  # an archive has one wrong bit
    cut_archive: bool = False  # an archive is sound xz, but its tar ends between two members, without an end mark

    @classmethod
    def none(cls) -> Trouble:
        return cls()

    @classmethod
    def default(cls) -> Trouble:
        """What a demo shows: each costs one clip, or nothing; no archive is lost."""
        bad = dict.fromkeys(BAD_MEMBERS, True)
        return cls(missing_slot=True, plain_tar=True, duplicate=True, **bad)

    @classmethod
    def all(cls) -> Trouble:
        return cls(**{field.name: True for field in fields(cls)})

    @classmethod
    def named(cls, text: str) -> Trouble:
        """From default, none, all, or names with commas between them."""
        if text in ("default", "none", "all"):
            made: Trouble = getattr(cls, text)()
            return made
        wanted = [name.strip().replace("-", "_") for name in text.split(",")]
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(wanted) - set(known)):
            choices = ", ".join(name.replace("_", "-") for name in ("default", "none", "all", *known))
            raise BadSetting(f"No trouble is called {', '.join(map(repr, unknown))}; choose from: {choices}.")
        return cls(**dict.fromkeys(wanted, True))

    @property
    def names(self) -> tuple[str, ...]:
        """The switches that are on."""
        return tuple(field.name for field in fields(self) if getattr(self, field.name))


@dataclass(frozen=True, slots=True)
class SlotPlan:
    """One archive: what is special about it."""

    slot: str
    number: int  # among the archives of the day, from 0
    clips: int
    bad: tuple[str, ...] = ()  # of BAD_MEMBERS
    hostile: int = 0  # how many clips have a name of HOSTILE_NAMES
    duplicate: bool = False
    plain: bool = False
    late: bool = False
    flipped: bool = False
    cut: bool = False

    @property
    def damaged(self) -> bool:
        return self.flipped or self.cut


def plan(trouble: Trouble, *, slots: int, clips: int) -> tuple[list[SlotPlan], tuple[str, ...]]:
    """The archives of a day, and the slots that are left without one. Damage takes whole archives, the last ones."""
    grid = [f"{minute // 60:02}_{minute % 60:02}" for minute in range(0, 24 * 60, 10)]
    positions = min(slots + trouble.missing_slot, SLOTS_A_DAY)
    hole = {positions // 2} if trouble.missing_slot else set()
    names = [grid[position] for position in range(positions) if position not in hole]
    damages = [name for name in ("flipped_bit", "cut_archive") if getattr(trouble, name)]
    sound = len(names) - len(damages)
    if sound < 1:
        raise BadSetting(f"{slots} slots are too few: each of {', '.join(damages)} takes one, and one must stay whole.")
    bad = [name for name in BAD_MEMBERS if getattr(trouble, name)]
    plans = [
        SlotPlan(
            slot=slot,
            number=number,
            clips=clips,
            bad=tuple(bad[number::sound]) if number < sound else (),
            hostile=len(HOSTILE_NAMES) if trouble.hostile_names and number == 0 else 0,
            duplicate=trouble.duplicate and number == 0,
            plain=trouble.plain_tar and number == 1 % sound,
            late=trouble.late_parquet and number == sound - 1,
            flipped=trouble.flipped_bit and number == sound,
            cut=trouble.cut_archive and number == len(names) - 1,
        )
        for number, slot in enumerate(names)
    ]
    _check_room(plans)
    return plans, tuple(grid[position] for position in sorted(hole))


def _check_room(plans: Sequence[SlotPlan]) -> None:
    for one in plans:
        needed = len(one.bad) + one.hostile + one.duplicate
        if needed > one.clips:
            raise BadSetting(f"{one.clips} clips a slot are too few for the troubles asked for: {needed} are needed.")


def _html(rng: random.Random, pcm: Pcm) -> bytes:  # noqa: ARG001 - one signature for all of them
    return b"<!DOCTYPE html><html><head><title>403</title></head><body><h1>403 Forbidden</h1></body></html>\n"


def _truncated(rng: random.Random, pcm: Pcm) -> bytes:
    whole = encode(pcm, codec="mp3", bitrate=48_000)
    return whole[: int(len(whole) * rng.uniform(0.4, 0.6))]


def _one_hertz(rng: random.Random, pcm: Pcm) -> bytes:  # noqa: ARG001
    """A WAV header that makes hours of a few seconds, and gigabytes of them when resampled."""
    whole = bytearray(encode(pcm, codec="wav"))
    whole[24:28] = struct.pack("<I", 1)
    return bytes(whole)


def _playlist(rng: random.Random, pcm: Pcm) -> bytes:  # noqa: ARG001
    return b"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:10.0,\nhttp://127.0.0.1:9/clip.ts\n#EXT-X-ENDLIST\n"


# What stands where a clip should: the class it should be quarantined under, its suffix, and how it is made.
BAD_MEMBERS: dict[str, tuple[FailureClass, str, Callable[[random.Random, Pcm], bytes]]] = {
    "zero_bytes": (FailureClass.EMPTY, "mp3", lambda rng, pcm: b""),  # noqa: ARG005
    "html": (FailureClass.NOT_AUDIO, "mp3", _html),
    "truncated": (FailureClass.TRUNCATED, "mp3", _truncated),
    "one_hertz": (FailureClass.RESOURCE_LIMIT, "wav", _one_hertz),
    "playlist": (FailureClass.NOT_AUDIO, "mp3", _playlist),
    "garbage": (FailureClass.UNDECODABLE, "mp3", lambda rng, pcm: rng.randbytes(max(4096, len(pcm) // 8))),
}
# Good clips all the same: a name is data, and no path of ours is made of it.
HOSTILE_NAMES = (b"../../evil/%d.mp3", b"/evil/%d.mp3", b"%d-\xff\xfe\x1b[31m.mp3")
