"""A day packed for delivery, in a folder of its own under home: what is there and whole is not made again, and whatever
moment it ends at, the same call brings it to the same end."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from db import deliveries, faults
from db.days import Day
from db.deliveries import Stamp
from db.errors import BadData, TryAgain
from db.names import display
from db.session import Session
from hpc import export
from hpc.errors import AudioGone, InFlight
from hpc.model import Shard
from hpc.parcel import Packed, Parcel
from hpc.stages import slot_audio
from hpc.stages.publish import SUFFIX, folder_of, make_folder, sync_folder
from hpc.stages.slot_audio import HashingSink, LeftOut, Studio, Take

NO_SLOT = "no_slot"  # the folder of what has no place on the site's clock
MEMORY = "made.json"
PIECE = 1 << 20
_PART = re.compile(r"[0-9]+-[0-9]+-[0-9a-f]{1,64}")
_SPARE = 1.2  # room for audio: so many times what its bit rate comes to


class Bar(Protocol):
    def advance(self, count: float = 1) -> None: ...


Bars = Callable[[str, float | None, str], AbstractContextManager[Bar]]  # label, total, unit


@dataclass(frozen=True, slots=True)
class Packing:
    """What a day is packed of, and where."""

    session: Session
    day: Day
    stamp: Stamp
    folder: Path  # home/deliveries/SITE/DATE
    results: Path
    studio: Callable[[], AbstractContextManager[Studio]]
    bars: Bars
    stop: Callable[[], bool]
    kbit: int
    left_out: list[LeftOut] = field(default_factory=list)

    @property
    def tree(self) -> Path:
        """What lies below it lies below the target in the same way."""
        return self.folder / "tree"

    def pack(self, *, parts: bool, audio: bool, partial: bool) -> Parcel:
        """Make what is missing; the caller holds the folder (`alone`)."""
        for left in self.folder.rglob(".tmp-*"):  # a crashed one's
            left.unlink(missing_ok=True)
        memory = Memory(self.tree, self.folder / MEMORY)
        with _room(self.day):
            files = self._tables(memory, partial=partial)
            if parts:
                files += self._parts(memory)
            if audio:
                files += self._audio(memory)
            manifest = self._manifest(memory, files)
        faults.point("deliver.packed")
        return Parcel(self.tree, tuple(files), manifest)

    def _tables(self, memory: Memory, *, partial: bool) -> list[Packed]:
        """The Parquet, and the metadata's beside it; made anew when the ledger knows more of the day."""
        day, key = self.day, f"{self.stamp.digest} {export.VERSION}"
        path = f"transcripts/{day.site}/{day.date}.parquet"
        beside = f"transcripts/{day.site}/{day.date}_metadata.parquet"
        if not self.stamp.finished or memory.whole(path, key) is None:
            with self.bars(f"{day.site} {day.date} Parquet", None, "recordings") as bar:
                out = self.tree / "transcripts"
                out.mkdir(parents=True, exist_ok=True)
                self.session(export.export_day, day, out, partial=partial, advance=bar.advance)
            memory.remember(path, key)
            memory.forget(beside)  # it may have been made anew as well
            memory.save()
        found = [memory.known(path, key)]
        if (self.tree / beside).is_file():
            found.append(memory.known(beside, "metadata"))
        return found

    def _parts(self, memory: Memory) -> list[Packed]:
        """Links where the file system has them; each has the bytes that the ledger recorded."""
        day = self.day
        below = f"parts/{day.site}/{day.date}"
        (self.tree / below).mkdir(parents=True, exist_ok=True)
        rows = self.session(deliveries.parts_of, day.id)
        found = []
        with self.bars(f"{day.site} {day.date} parts", len(rows), "parts") as bar:
            for row in rows:
                source = folder_of(self.results, day.site, day.date, row["plan_id"])
                found.append(self._part(memory, row, source, below))
                bar.advance(1)
        for path in (self.tree / below).iterdir():
            if f"{below}/{path.name}" not in {file.path for file in found}:
                path.unlink()  # discarded since
        memory.save()
        return found

    def _part(self, memory: Memory, row: Mapping[str, Any], source: Path, below: str) -> Packed:
        if not _PART.fullmatch(row["name"]):  # it was read off a file's name
            raise BadData(
                f"{self.day.site} {self.day.date}: {display(row['name'].encode())} is no name of a part of ours."
            )
        name, digest = f"{row['name']}{SUFFIX}", row["sha256"].hex()
        path = f"{below}/{name}"
        if (whole := memory.whole(path, "part")) is not None and whole.sha256 == digest:
            return whole
        (self.tree / path).unlink(missing_ok=True)
        try:
            _link(source / name, self.tree / path)
        except FileNotFoundError:
            raise BadData(f"{self.day.site} {self.day.date}: the part {name} is not in {source} any more.") from None
        faults.point("deliver.linked")
        made = memory.remember(path, "part")
        if made.sha256 != digest:
            memory.forget(path)
            raise BadData(f"{source / name} is not the part that the ledger recorded; it was changed since.")
        return made

    def _audio(self, memory: Memory) -> list[Packed]:
        """A tar a slot. All are looked at before the first is made: what has no audio any more says so at once."""
        day = self.day
        slots = self._slots()
        missing = [slot for slot in slots if memory.whole(slot.path, slot.key) is None]
        lost = [path for slot in missing for take in slot.takes for path in take.shard.files if not path.exists()]
        if missing and (day.staged is None or lost):
            raise AudioGone(
                f"{day.site} {day.date}: its audio is no longer staged ({len(lost)} of its files are gone), so it"
                " cannot be delivered. Deliver it without --audio, or transfer the day again first."
            )
        _refuse_without_room(self.folder, sum(slot.seconds for slot in missing) * self.kbit * 125 * _SPARE)
        if missing:
            count = sum(slot.count for slot in missing)
            with self.studio() as studio, self.bars(f"{day.site} {day.date} audio", count, "recordings") as bar:
                for slot in missing:
                    self._tar(memory, slot, studio, bar)
        self.left_out.extend(left for slot in slots for left in slot.left_out)
        return [memory.known(slot.path, slot.key) for slot in slots]

    def _tar(self, memory: Memory, slot: Slot, studio: Studio, bar: Bar) -> None:
        with _whole(self.tree / slot.path) as out:
            sink = HashingSink(out)
            left = slot_audio.write_tar(sink, slot.takes, studio, advance=bar.advance, stop=self.stop)
        faults.point("deliver.tar_renamed")
        # One that lacks what could be decoded once is made again by the next call.
        memory.remember(slot.path, slot.key if not left else f"short {secrets.token_hex(8)}", sink.sha256)
        memory.save()
        self.left_out.extend(left)
        if left:
            slot.key = memory.key(slot.path)

    def _slots(self) -> list[Slot]:
        by_slot: dict[str | None, list[Mapping[str, Any]]] = {}
        for row in self.session(deliveries.shards_of, self.day.id):
            by_slot.setdefault(row["slot"], []).append(row)
        found = [self._slot(name, rows) for name, rows in by_slot.items()]
        return [slot for slot in found if slot.count]

    def _slot(self, name: str | None, shards: Sequence[Mapping[str, Any]]) -> Slot:
        """What its tar holds; the key says all that its bytes depend on."""
        day = self.day
        takes: dict[int, dict[int, tuple[str, bytes]]] = {row["id"]: {} for row in shards}
        slot = Slot(f"audio/{day.date:%Y/%m/%d}/{name or NO_SLOT}/audio.tar", "", [])
        says = hashlib.sha256(f"{slot_audio.VERSION} {self.kbit}\n".encode())
        for row in self.session(deliveries.recordings_of, list(takes)):
            if row["state"] == "quarantined":
                why = f"{row['failure_class']}: {row['failure_reason']}"
                slot.left_out.append(LeftOut(row["shard_id"], row["ordinal"], row["meta_id"], why, expected=True))
                continue
            takes[row["shard_id"]][row["ordinal"]] = (row["meta_id"], row["sha256"])
            slot.seconds += row["seconds"]
            slot.count += 1
            says.update(f"{row['shard_id']} {row['ordinal']} {row['sha256'].hex()} {row['meta_id']}\n".encode())
        slot.key = says.hexdigest()
        slot.takes.extend(Take(self._shard(row), takes[row["id"]]) for row in shards if takes[row["id"]])
        return slot

    def _shard(self, row: Mapping[str, Any]) -> Shard:
        day = self.day
        files = tuple(Path(day.staged or "/") / os.fsdecode(path) for path in row["paths"])
        return Shard(row["id"], day.site, day.date, row["name"], files, row["slot"], row["loose"])

    def _manifest(self, memory: Memory, files: Sequence[Packed]) -> Packed:
        """As sha256sum writes and reads it, from the target's root."""
        path = f"manifests/{self.day.site}/{self.day.date}.sha256"
        text = "".join(f"{file.sha256}  {file.path}\n" for file in sorted(files, key=lambda file: file.path)).encode()
        there = self.tree / path
        if not there.is_file() or there.read_bytes() != text:
            with _whole(there) as out:
                out.write(text)
        return memory.remember(path, "manifest", hashlib.sha256(text).hexdigest())


@dataclass(slots=True)
class Slot:
    """One tar: where it goes, what it depends on, what is in it."""

    path: str
    key: str
    takes: list[Take]
    left_out: list[LeftOut] = field(default_factory=list)
    count: int = 0
    seconds: float = 0.0


class Memory:
    """What was made whole, by its path: of what (`key`), and its digest while size and time stay the same."""

    def __init__(self, tree: Path, file: Path) -> None:
        self._tree, self._file = tree, file
        try:
            said = json.loads(file.read_text(encoding="utf-8"))
            self._made: dict[str, dict[str, Any]] = {path: dict(one) for path, one in said.items()}
        except (FileNotFoundError, ValueError, AttributeError, TypeError):
            self._made = {}

    def whole(self, path: str, key: str) -> Packed | None:
        """The file as it was made of this, if it is as it was then."""
        one = self._made.get(path, {})
        try:
            now = (self._tree / path).stat()
        except FileNotFoundError:
            return None
        if (one.get("key"), one.get("size"), one.get("time")) != (key, now.st_size, now.st_mtime_ns):
            return None
        return Packed(path, now.st_size, str(one["sha256"]))

    def known(self, path: str, key: str) -> Packed:
        """The same; read now where nothing is remembered."""
        return self.whole(path, key) or self.remember(path, key)

    def remember(self, path: str, key: str, sha256: str | None = None) -> Packed:
        now = (self._tree / path).stat()
        digest = sha256 or _digest(self._tree / path)
        self._made[path] = {"key": key, "size": now.st_size, "time": now.st_mtime_ns, "sha256": digest}
        return Packed(path, now.st_size, digest)

    def key(self, path: str) -> str:
        return str(self._made[path]["key"])

    def forget(self, path: str) -> None:
        self._made.pop(path, None)

    def save(self) -> None:
        with _whole(self._file) as out:
            out.write(json.dumps(self._made, indent=0, sort_keys=True).encode())
        faults.point("deliver.remembered")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a day's folder until the end, or until its holder dies. The ledger's attempt says who may end a delivery;
    this only keeps two from making the same files at once."""
    if not folder.is_dir():
        make_folder(folder)
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InFlight(f"Another delivery of {folder.parent.name} {folder.name} is at work here.") from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _whole(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes its name when it is written and synced, or never."""
    new = [each for each in (path.parent, *path.parent.parents) if not each.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    for each in new:
        sync_folder(each.parent)
    temporary = path.with_name(f".tmp-{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _link(source: Path, target: Path) -> None:
    """The same file under a second name; where that is not to be had, a copy."""
    with suppress(FileExistsError):
        try:
            os.link(source, target, follow_symlinks=False)
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno not in (
                errno.EXDEV,
                errno.EPERM,
                errno.EMLINK,
                errno.EOPNOTSUPP,
                errno.ENOSYS,
                errno.EACCES,
            ):
                raise
            with source.open("rb") as data, _whole(target) as out:
                shutil.copyfileobj(data, out, PIECE)


def _digest(path: Path) -> str:
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def _refuse_without_room(folder: Path, wanted: float) -> None:
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise TryAgain(
            f"The audio takes about {wanted / 1e9:.1f} GB, and {folder} has {free / 1e9:.1f} GB left: make room first."
        )


@contextmanager
def _room(day: Day) -> Iterator[None]:
    """A full disk is said with its day, and may pass."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise TryAgain(
                f"{day.site} {day.date} cannot be packed: {error.strerror} under home/deliveries."
            ) from error
        raise
