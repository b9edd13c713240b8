"""The law of every source: exactly the day's files with their sizes, and no trouble that looks like an empty day."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from globus_auth import ApiError

from db.errors import DayscribeError
from hpc.errors import SourceMissing
from hpc.layout import Layout
from hpc.model import RemoteFile
from hpc.origin import Origin
from hpc.ports import Source
from hpc.route import Route
from hpc.slots import Clock
from hpc.sources.globus import GlobusSource
from hpc.sources.globus.access import Access
from hpc.sources.local import LocalSource

ON = datetime.now(UTC).date() - timedelta(days=3)  # some sources look no further back than some weeks
ODD = {
    "spaces": " two  words .tar.xz ",
    "unicode": "zürich \U0001f98a 北京 e\u0301.tar.xz",
    "newline": "a\nb.tar.xz",
    "globs": "[*]?{x},~!y.tar.xz",
    "quotes": "'; DROP TABLE files; --\"\\.tar.xz",
    "very long": "x" * 242,
}


@dataclass
class Shelf:
    """A site whose days lie in one folder each, and the adapter that lists it."""

    root: Path  # where the days' folders are
    source: Source
    loose: Source  # the same place, as a site without slots sees it
    breaks: Callable[[pytest.MonkeyPatch], None]  # from now on a listing fails after its first files

    def folder(self, on: date = ON) -> Path:
        return self.root / on.isoformat()

    def put(self, *names: str, on: date = ON, size: int = 10) -> None:
        self.folder(on).mkdir(parents=True, exist_ok=True)
        for name in names:
            (self.folder(on) / name).write_bytes(b"x" * size)

    def listed(self, on: date = ON) -> Sequence[RemoteFile]:
        return list(self.source.listing(on))

    def names(self, on: date = ON) -> list[str]:
        return sorted(file.path for file in self.listed(on))


def archive(slot: str, on: date = ON) -> str:
    return f"0_{on}_{slot}.tar.xz"


def odd(which: str) -> str:
    """A name that some listing would get wrong, and that begins as those of the day do."""
    return f"0_{ON}_{ODD[which]}"


class Failing:
    """A folder whose file system fails after its first entry."""

    def __init__(self, folder: object) -> None:
        self._entries: Any = _scandir(folder)

    def __enter__(self) -> Iterator[Any]:
        return self._some()

    def __exit__(self, *_: object) -> None:
        self._entries.close()

    def _some(self) -> Iterator[Any]:
        yield next(self._entries)
        raise OSError(errno.EIO, os.strerror(errno.EIO))


_scandir: Any = os.scandir


def _origin(location: str, route: Route, minutes: int | None = 10) -> Origin:
    return Origin("zurich", location, Layout(folder="{date}"), Clock("UTC", minutes), route)


def _local(tmp_path: Path) -> Shelf:
    root = tmp_path / "far"
    root.mkdir()
    with_slots, without = (LocalSource(_origin(str(root), Route(), minutes)) for minutes in (10, None))
    return Shelf(root, with_slots, without, lambda patch: patch.setattr("hpc.sources.local.os.scandir", Failing))


def _globus(tmp_path: Path, globus: Any) -> Shelf:
    far = globus.collection(tmp_path / "collection", "the lab's store")
    (far.root / "audio").mkdir()
    whole = globus._command

    def failing(found: Any, what: str, query: dict[str, str], said: Any) -> Any:
        if query.get("offset", "0") != "0":
            raise ApiError(502, "ExternalError.DirListingFailed.GCDisconnected", "gone")
        return whole(found, what, query, said)

    def breaks(patch: pytest.MonkeyPatch) -> None:
        patch.setattr("hpc.sources.globus.PAGE", 1)
        patch.setattr(globus, "_command", failing)

    route = Route(how="globus", collection=far.id, destination=far.id)
    access = Access(globus.auth.client_id, globus.auth.secret, tmp_path / "tokens", "me", 5.0)
    with_slots, without = (GlobusSource(_origin("/audio", route, minutes), access) for minutes in (10, None))
    return Shelf(far.root / "audio", with_slots, without, breaks)


@pytest.fixture(params=["local", "globus"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    if request.param == "local":
        return _local(tmp_path)
    return _globus(tmp_path, request.getfixturevalue("globus"))


@pytest.fixture
def folder_here(tmp_path: Path) -> Shelf:
    """For what only a folder can hold: a collection is asked only for names as the layout has them, says of a link what
    it points at, and speaks JSON."""
    return _local(tmp_path)


def test_a_day_is_listed_with_exactly_its_files_and_their_sizes(shelf: Shelf) -> None:
    for number in range(5):
        shelf.put(archive(f"00_{number}0"), size=number * 1000)
    shelf.put(archive("00_00", ON - timedelta(days=1)), on=ON - timedelta(days=1))
    assert {file.path: file.size for file in shelf.listed()} == {
        archive(f"00_{number}0"): number * 1000 for number in range(5)
    }


def test_no_file_is_listed_twice_however_often_it_is_asked(shelf: Shelf) -> None:
    shelf.put(*(archive(f"{hour:02}_00") for hour in range(24)))
    first = shelf.names()
    assert len(first) == len(set(first)) == 24
    assert shelf.names() == first


def test_a_listing_of_several_pages_is_whole(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpc.sources.globus.PAGE", 7)
    shelf.put(*(archive(f"{hour:02}_00") for hour in range(21)))
    assert len(set(shelf.names())) == 21
    shelf.put(archive("23_50"))
    assert len(set(shelf.names())) == 22


def test_what_a_checksum_or_a_time_says_is_true_or_not_said(shelf: Shelf) -> None:
    shelf.put(archive("00_00"))
    written = (shelf.folder() / archive("00_00")).stat().st_mtime
    [file] = shelf.listed()
    assert file.checksum is None
    if file.modified is not None:
        assert file.modified.tzinfo is not None
        assert abs(file.modified.timestamp() - written) < 1


def test_a_folder_in_the_days_folder_is_no_file(shelf: Shelf) -> None:
    shelf.put(archive("00_00"))
    (shelf.folder() / archive("00_10")).mkdir()
    assert shelf.names() == [archive("00_00")]


def test_a_pipe_is_no_file(folder_here: Shelf) -> None:
    folder_here.put(archive("00_00"))
    os.mkfifo(folder_here.folder() / archive("00_10"))
    assert folder_here.names() == [archive("00_00")]


def test_links_are_not_followed(folder_here: Shelf, tmp_path: Path) -> None:
    folder, outside = folder_here.folder(), tmp_path / "outside"
    folder_here.put(archive("00_00"))
    outside.mkdir()
    (outside / archive("00_20")).write_bytes(b"secret")
    (folder / archive("00_10")).symlink_to(outside / archive("00_20"))
    (folder / archive("00_30")).symlink_to("nowhere")
    (folder / "below").symlink_to(outside)
    (folder / "round").symlink_to(folder)
    assert folder_here.names() == [archive("00_00")]


def test_a_folder_that_is_not_there_is_missing_and_not_empty(shelf: Shelf) -> None:
    with pytest.raises(SourceMissing):
        shelf.listed()


def test_a_file_in_the_place_of_the_folder_is_missing_too(shelf: Shelf) -> None:
    shelf.folder().write_bytes(b"no folder")
    with pytest.raises(SourceMissing):
        shelf.listed()


def test_a_folder_with_nothing_in_it_is_empty_and_not_missing(shelf: Shelf) -> None:
    shelf.folder().mkdir()
    assert shelf.listed() == []


def test_an_empty_file_is_a_file(shelf: Shelf) -> None:
    shelf.put(archive("00_00"), size=0)
    assert [(file.path, file.size) for file in shelf.listed()] == [(archive("00_00"), 0)]


@pytest.mark.parametrize("which", ODD)
def test_a_name_is_data(shelf: Shelf, which: str) -> None:
    shelf.put(odd(which), archive("00_10"))
    assert shelf.names() == sorted([odd(which), archive("00_10")])


def test_a_name_that_is_no_text_is_carried_byte_for_byte(folder_here: Shelf) -> None:
    name = os.fsdecode(f"0_{ON}_".encode() + b"\xff\xfe.tar.xz")
    folder_here.put(name)
    assert folder_here.names() == [name]


def test_a_name_that_begins_with_a_dash_or_a_dot_is_a_name(folder_here: Shelf) -> None:
    folder_here.put("-rf", "--help", ".hidden")
    assert folder_here.names() == ["--help", "-rf", ".hidden"]


def test_a_listing_that_fails_raises_has_no_end_and_is_whole_when_it_works_again(shelf: Shelf) -> None:
    """Whoever takes what came before the failure for the day has half of it."""
    shelf.put(*(archive(f"{hour:02}_00") for hour in range(5)))
    with pytest.MonkeyPatch.context() as patch:
        shelf.breaks(patch)
        with pytest.raises(DayscribeError):
            shelf.names()
    assert len(shelf.names()) == 5


def test_the_dates_are_those_of_which_something_lies_there(shelf: Shelf) -> None:
    assert list(shelf.source.days()) == []
    for back in (0, 1, 9):
        on = ON - timedelta(days=back)
        shelf.put(archive("00_00", on), archive("00_10", on), on=on)
    shelf.folder(ON - timedelta(days=2)).mkdir()
    shelf.put("notes.txt", on=ON - timedelta(days=4))
    assert list(shelf.source.days()) == [ON - timedelta(days=back) for back in (9, 1, 0)]


def test_a_file_in_another_days_folder_makes_no_day(shelf: Shelf) -> None:
    shelf.put(archive("00_00", ON - timedelta(days=1)), on=ON)
    assert list(shelf.source.days()) == []


def test_a_site_without_slots_shows_its_loose_files(shelf: Shelf) -> None:
    """Else a day of loose audio is an empty day, and an empty day is believed the second time."""
    shelf.put("interview.mp3", "second voice.wav")
    assert sorted(file.path for file in shelf.loose.listing(ON)) == ["interview.mp3", "second voice.wav"]
