"""A folder of this machine or of a shared file system: a day's archives, or loose files."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from pathlib import Path

from db.errors import BadData
from hpc.errors import SourceMissing
from hpc.model import RemoteFile

MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
PLACEHOLDER = re.compile(r"\{(date|year|month|monthname|day)\}")


def folder_for(location: str, day: date) -> Path:
    """The day's folder: `location` with {date} {year} {month} {monthname} {day} filled in."""
    values = {
        "date": day.isoformat(),
        "year": f"{day.year:04}",
        "month": f"{day.month:02}",
        "monthname": MONTHS[day.month - 1],
        "day": f"{day.day:02}",
    }
    return Path(PLACEHOLDER.sub(lambda match: values[match[1]], location))


class LocalSource:
    """Files where they lie; nothing is copied. `location` may hold {date} and its parts."""

    def __init__(self, location: str) -> None:
        self.location = location

    def days(self) -> Iterable[date]:
        """The dates for which the location has a folder or an archive, in order."""
        return sorted(set(self._days()))

    def listing(self, day: date) -> Sequence[RemoteFile]:
        """All regular files of the day's folder, by name, folders below it included; links are not followed."""
        folder = folder_for(self.location, day)
        try:
            if not stat.S_ISDIR(folder.stat().st_mode):
                raise SourceMissing(f"{folder} is not a folder; a site's location is the folder that holds its files")
            return sorted(_files(folder, folder), key=lambda file: os.fsencode(file.path))
        except FileNotFoundError as error:
            raise SourceMissing(f"there is no folder {folder}; check the site's location and the date") from error
        except OSError as error:
            raise BadData(f"{folder} cannot be listed: {error.strerror}") from error

    def _days(self) -> Iterator[date]:
        found = re.compile(r"(?:^|_|/)([0-9]{4}-[0-9]{2}-[0-9]{2})(?:_|/|$)")
        root = Path(PLACEHOLDER.split(self.location)[0])
        root = root if root.is_dir() else root.parent
        for file in _files(root, root):
            match = found.search(file.path)
            if match:
                try:
                    day = date.fromisoformat(match[1])
                except ValueError:
                    continue
                if (root / file.path).is_relative_to(folder_for(self.location, day)):
                    yield day


def _files(folder: Path, root: Path) -> Iterator[RemoteFile]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if not entry.name.startswith("."):
                    yield from _files(Path(entry.path), root)
            elif entry.is_file(follow_symlinks=False):
                yield RemoteFile(os.path.relpath(entry.path, root), entry.stat(follow_symlinks=False).st_size)
