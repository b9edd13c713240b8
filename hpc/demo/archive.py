"""Writes a synthetic archive: a tar in xz whose bytes follow from its members alone, whole or damaged on purpose."""

from __future__ import annotations

import io
import lzma
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, cast

from db import faults
from hpc.demo.clips import Clip
from hpc.demo.trouble import SlotPlan

_PRESET = 0  # of xz: audio hardly shrinks, and the default takes minutes for a day


def write_archive(path: Path, members: Iterable[tuple[Clip, bytes]], *, plan: SlotPlan) -> list[Clip]:
    """Write the members; returns them in order, those too that a planted cut leaves out."""
    with path.open("xb") as raw:
        if plan.plain:
            clips = _write_tar(raw, members, plan)
        else:
            with lzma.LZMAFile(raw, "w", preset=_PRESET) as packed:
                clips = _write_tar(cast(BinaryIO, packed), members, plan)
    if plan.flipped:
        _flip_a_bit(path)
    return clips


def _write_tar(out: BinaryIO, members: Iterable[tuple[Clip, bytes]], plan: SlotPlan) -> list[Clip]:
    clips: list[Clip] = []
    tar = tarfile.TarFile(
        fileobj=out,
        mode="w",
        format=tarfile.GNU_FORMAT,  # takes names that are no text as the bytes they are
        encoding="utf-8",
        errors="surrogateescape",
    )
    for clip, data in members:
        if not plan.cut or len(clips) < max(1, plan.clips // 2):
            info = tarfile.TarInfo(clip.truth.member)
            info.size, info.mtime = len(data), clip.posted
            tar.addfile(info, io.BytesIO(data))
        clips.append(clip)
        if len(clips) == (plan.clips + 1) // 2:
            faults.point("demo.archive_half")
    if not plan.cut:
        tar.close()  # writes the end mark
    return clips


def _flip_a_bit(path: Path) -> None:
    with path.open("r+b") as file:
        middle = path.stat().st_size // 2
        file.seek(middle)
        byte = file.read(1)[0]
        file.seek(middle)
        file.write(bytes([byte ^ 0x10]))
