"""Whether there is room for what is to come: by the budget, by the project's quota, and by the file system."""

from __future__ import annotations

import os
import re
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from db import transfers
from db.session import Session
from hpc.sections import TransferSettings

QUOTA_SECONDS = 60
FRESH_SECONDS = 60  # a figure serves for all days of a tick
GB = 1e9
Free = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Room:
    """Of the folder that days are staged in."""

    rules: TransferSettings
    folder: Path
    session: Session
    told: list[tuple[float, Free | str]] = field(default_factory=list)  # when the quota was asked for, and what it was

    def lacks(self, size: int, files: int) -> str | None:
        """Why so many bytes in so many files do not fit; None: they do. What is on its way already counts as here."""
        size, files, taken = self._with_what_comes(size, files)
        return self._budget(size, files, taken) or self._quota(size, files) or self._disk(size, files)

    def over_budget(self, size: int, files: int) -> str | None:
        """The same by the budget alone, which every machine knows, also one that does not see the folder."""
        return self._budget(*self._with_what_comes(size, files))

    def _with_what_comes(self, size: int, files: int) -> tuple[int, int, dict[str, int]]:
        taken = self.session(transfers.space)
        size += taken["coming_bytes"] + int(self.rules.reserve_gb * GB)
        return size, files + taken["coming_files"], taken

    def _budget(self, size: int, files: int, taken: dict[str, int]) -> str | None:
        most, most_files = int(self.rules.budget_gb * GB), self.rules.budget_files
        if most and taken["bytes"] + size > most:
            return (
                f"the budget of {most / GB:,.0f} GB is used up: {taken['bytes'] / GB:,.1f} GB are staged, {_need(size)}"
            )
        if most_files and taken["files"] + files > most_files:
            return (
                f"the budget of {most_files:,} files is used up: {taken['files']:,} are staged, {files:,} more to come"
            )
        return None

    def _quota(self, size: int, files: int) -> str | None:
        """By the project's own figure: what df shows is the room of all projects."""
        if not self.rules.quota_command:
            return None
        if not self.told or time.monotonic() - self.told[-1][0] > FRESH_SECONDS:
            self.told.append((time.monotonic(), _asked(self.rules.quota_command)))
        free = self.told[-1][1]
        if isinstance(free, str):
            return f"the quota is not known, so nothing is moved: {free}"
        if size > free[0]:
            return f"the project's quota has no room: {free[0] / GB:,.1f} GB are free, {_need(size)}"
        return None if files <= free[1] else f"the project's quota has no room: {free[1]:,} files, not {files:,}"

    def _disk(self, size: int, files: int) -> str | None:
        where = self.folder
        try:
            where = _there(where)
            found = os.statvfs(where)
        except OSError as error:
            return f"what {where} has left cannot be seen, so nothing is moved: {error.strerror}"
        left = found.f_bavail * found.f_frsize
        if size > left:
            return f"{where} has no room: {left / GB:,.1f} GB are free, {_need(size)}"
        if found.f_files and files > found.f_favail:  # some file systems count none
            return f"{where} has no room: {found.f_favail:,} files may still be made, not {files:,}"
        return None


def free(folder: Path) -> dict[str, int | None]:
    """Bytes and files that the folder's disk has, and has left; None: it cannot be seen, or counts no files."""
    try:
        found = os.statvfs(_there(folder))
    except OSError:
        return dict.fromkeys(("bytes", "free_bytes", "files", "free_files"))
    return {
        "bytes": found.f_blocks * found.f_frsize,
        "free_bytes": found.f_bavail * found.f_frsize,
        "files": found.f_files or None,
        "free_files": found.f_favail if found.f_files else None,
    }


def _there(folder: Path) -> Path:
    """The folder, or what is there already of the way to it."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _asked(command: list[str]) -> Free | str:
    """Bytes and files that may still be written, or why that is not known."""
    try:
        ran = subprocess.run(command, capture_output=True, timeout=QUOTA_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{command[0]}: {type(error).__name__}"
    if ran.returncode or not (said := re.fullmatch(rb"\s*([0-9]{1,20})\s+([0-9]{1,20})\s*", ran.stdout)):
        wants = "should print two numbers, bytes and files that may still be written"
        return f"{command[0]} {wants} (it ended with {ran.returncode})"
    return int(said[1]), int(said[2])


def _need(size: int) -> str:
    return f"{size / GB:,.1f} GB are needed, with what is on its way and the reserve"
