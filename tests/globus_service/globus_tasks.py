"""The rest of Globus Transfer: whole folders, deletions, what is here already, tasks that stop where a test likes."""

from __future__ import annotations

import fnmatch
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from globus_auth import ApiError, Token
from globus_transfer import CHUNK, OVER, PATIENCE, Collection, Task, Transfer, _left, _md5, _past, iso

Document = dict[str, Any]


class _Stopped(Exception):
    """The task was cancelled, or its deadline passed, in the middle of a file."""


class _Again(Exception):
    """Something outside was changed: what could not be done may be possible now."""


@dataclass
class FullTransfer(Transfer):
    """Transfer, and what a lifelike test needs besides: nothing here sleeps, all of it waits on `changed`."""

    holding: set[str] = field(default_factory=set)  # tasks, by id or by label
    halfway: set[str] = field(default_factory=set)  # file names: half of it is there, and then nothing until release()
    touched: int = 0

    # What a test does.

    def hold(self, which: str | None = None) -> None:
        """Tasks wait before each file: this one, by its id or label, or all."""
        if which is None:
            super().hold()
            return
        with self.changed:
            self.holding.add(which)

    def release(self, which: str | None = None) -> None:
        """This task goes on; or all, with files that stood halfway too."""
        with self.changed:
            if which is None:
                self.held = False
                self.holding.clear()
                self.halfway.clear()
            self.holding.discard(which or "")
        self.touch()

    def touch(self) -> None:
        """Something was changed from outside: tasks that could not go on try again."""
        with self.changed:
            self.touched += 1
            self.changed.notify_all()

    def wait_for(
        self, task: str, until: Callable[[Document], Any] | None = None, seconds: float = PATIENCE
    ) -> Document:
        """The task's document once it is over; or once `until` says so of it."""
        enough = until or (lambda document: document["status"] in OVER)
        document = self.tasks[task].document
        with self.changed:
            if not self.changed.wait_for(lambda: enough(document), seconds):
                raise AssertionError(f"the task did not come so far: {document}")
            return dict(document)

    def update(self, task: Task, said: Document) -> Document:
        """PUT /task/ID: only these two may be changed, and only while it runs."""
        with self.changed:
            if task.document["status"] in OVER:
                raise ApiError(409, "ClientError.Conflict.TaskComplete", "The task is over")
            task.document.update({name: said[name] for name in ("label", "deadline") if name in said})
            self.changed.notify_all()
        return {"DATA_TYPE": "result", "code": "Updated", "message": "Updated task settings"}

    # What the service answers.

    def submit(self, data: Document, token: Token) -> Document:
        if data["DATA_TYPE"] == "delete":
            data = data | {"source_endpoint": data["endpoint"], "destination_endpoint": data["endpoint"]}
        return super().submit(data, token) | {"DATA_TYPE": f"{data['DATA_TYPE']}_result"}

    def _start(self, data: Document, token: Token) -> str:
        task = super()._start(data, token)  # its thread waits for the lock that submit() holds
        flags = ("verify_checksum", "skip_source_errors", "fail_on_quota_errors", "encrypt_data", "preserve_timestamp")
        self.tasks[task].document.update({name: bool(data.get(name)) for name in flags})
        self.tasks[task].document.update(
            type=data["DATA_TYPE"].upper(), sync_level=data.get("sync_level"), filter_rules=data.get("filter_rules"),
            directories=0, bytes_checksummed=0, effective_bytes_per_second=0, username="u_loopback",
        )  # fmt: skip
        return task

    # How files move.

    def _work(self, task: Task) -> None:
        self._event(task, "STARTED", "started")
        one = self._remove if task.document["type"] == "DELETE" else self._one
        try:
            for item in self._items(task):
                if not self._may_go_on(task) or not one(task, item):
                    return
        except _Stopped:
            pass
        if self._may_go_on(task):
            self._finish(task, "SUCCEEDED")

    def _event(self, task: Task, code: str, what: str, *, error: bool = False) -> None:
        with self.changed:
            task.events.insert(0, {"DATA_TYPE": "event", "code": code, "description": what, "is_error": error,
                                   "details": json.dumps({}), "time": iso()})  # fmt: skip
            self.changed.notify_all()

    def _may_go_on(self, task: Task) -> bool:
        document = task.document
        with self.changed:
            while self.holding & {document["task_id"], document["label"]} and not self._ends(task):
                self.changed.wait(_left(document["deadline"]))
        return super()._may_go_on(task)

    def _ends(self, task: Task) -> bool:
        return task.cancelled or _past(task.document["deadline"])

    def _items(self, task: Task) -> Iterator[Document]:
        """Single files; a folder is walked, and what its filters keep comes one by one."""
        for item in task.data["DATA"]:
            top = task.source.at(item.get("source_path") or item["path"])
            if task.document["type"] == "DELETE" or not item.get("recursive") or not top.is_dir():
                yield item
                continue
            for path in self._walk(task, top):
                inside = path.relative_to(top)
                to = os.path.join(item["destination_path"], inside)  # noqa: PTH118 - a name over there, no path here
                if path.is_dir():
                    task.destination.at(to).mkdir(parents=True, exist_ok=True)
                    task.document["directories"] += 1
                else:
                    yield {"source_path": os.path.join(item["source_path"], inside), "destination_path": to}  # noqa: PTH118

    def _walk(self, task: Task, folder: Path) -> Iterator[Path]:
        yield folder
        for path in sorted(folder.iterdir()):
            if not _passes(path, task.data.get("filter_rules") or []):
                continue
            if path.is_dir():
                yield from self._walk(task, path)
            else:
                task.document["files"] += 1
                yield path

    def _one(self, task: Task, item: Document) -> bool:
        while True:
            source, destination = task.source.at(item["source_path"]), task.destination.at(item["destination_path"])
            if _same(source, destination, task.data.get("sync_level")):
                task.document["files_skipped"] += 1
                return True
            try:
                return super()._one(task, item)
            except _Again:
                if not self._may_go_on(task):
                    return False

    def _copy(self, task: Task, source: Path, destination: Path) -> None:
        """In place, like a real mover: a reader can see half a file."""
        destination.parent.mkdir(parents=True, exist_ok=True)
        half = source.stat().st_size // 2
        with source.open("rb") as reading, destination.open("wb", buffering=0) as writing:
            if source.name in self.halfway:
                self._sent(task, writing.write(reading.read(half)))
                self._stand(task, source.name)
            while chunk := reading.read(CHUNK):
                self._sent(task, writing.write(chunk))
                if self._ends(task):
                    raise _Stopped
        if task.data.get("verify_checksum"):
            task.document["bytes_checksummed"] += source.stat().st_size
        if task.data.get("preserve_timestamp"):
            found = source.stat()
            os.utime(destination, ns=(found.st_atime_ns, found.st_mtime_ns))

    def _sent(self, task: Task, count: int) -> None:
        with self.changed:
            task.document["bytes_transferred"] += count
            self.changed.notify_all()

    def _stand(self, task: Task, name: str) -> None:
        with self.changed:
            while name in self.halfway and not self._ends(task):
                self.changed.wait(_left(task.document["deadline"]))
        if self._ends(task):
            raise _Stopped

    def _remove(self, task: Task, item: Document) -> bool:
        path = task.source.at(item["path"])
        if not path.exists():
            if task.data.get("ignore_missing"):
                return True
            return self._finish(task, "FAILED", "FILE_NOT_FOUND", item["path"])
        if path.is_dir() and not task.data.get("recursive"):
            return self._finish(task, "FAILED", "IS_A_DIRECTORY", item["path"])
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        return True

    def _tries_on(self, task: Task, code: str, what: str) -> bool:
        """Until the deadline, or until somebody touched something; then it is tried again."""
        self._event(task, code, what, error=True)
        with self.changed:
            seen = self.touched
            task.document["faults"] += 1
            task.document.update(is_ok=False, nice_status=code, nice_status_short_description=what)
            self.changed.notify_all()
            while self.touched == seen and not self._ends(task):
                self.changed.wait(_left(task.document["deadline"]))
            if self._ends(task):
                return self._may_go_on(task)
            task.document.update(is_ok=True, nice_status=None, nice_status_short_description=None)
        raise _Again


def entry(collection: Collection, path: str) -> Document:
    """GET …/stat: one file or folder."""
    found = collection.at(path)
    if not found.exists():
        raise ApiError(404, "NotFound", f"'{path}' not found on endpoint")
    kind = "dir" if found.is_dir() else "file"
    return {"DATA_TYPE": "file", "name": found.name, "type": kind, "size": found.stat().st_size,
            "last_modified": iso(found.stat().st_mtime)}  # fmt: skip


def ordered(rows: list[Document], asked: str) -> list[Document]:
    """By `name ASC,size DESC`, the last key first, as sorting is stable."""
    for one in reversed(list(filter(None, asked.split(",")))):
        key, _, way = one.strip().partition(" ")
        rows = sorted(rows, key=lambda row: row[key], reverse=way.strip().upper() == "DESC")
    return rows


def matching(rows: list[Document], asked: str) -> list[Document]:
    """`status:ACTIVE,FAILED/label:~january*`: one key of many values, and every key must hold."""
    for one in filter(None, asked.split("/")):
        key, _, values = one.partition(":")
        wanted = values.split(",")
        rows = [row for row in rows if any(_like(str(row.get(key) or ""), value) for value in wanted)]
    return rows


def page(kind: str, rows: list[Document], query: dict[str, str], usual: int) -> Document:
    offset, limit = int(query.get("offset", 0)), min(int(query.get("limit", usual)), 1000)
    kept = rows[offset : offset + limit]
    return {"DATA_TYPE": kind, "DATA": kept, "length": len(kept), "offset": offset, "limit": limit, "total": len(rows)}


def _like(found: str, wanted: str) -> bool:
    if wanted.startswith("~"):
        return fnmatch.fnmatchcase(found.lower(), wanted[1:].lower())
    return found == wanted.removeprefix("=")


def _passes(path: Path, rules: list[Document]) -> bool:
    """The first rule that fits decides; what none fits is kept."""
    kind = "dir" if path.is_dir() else "file"
    fits = (rule for rule in rules if rule.get("type") in (None, kind) and fnmatch.fnmatchcase(path.name, rule["name"]))
    return next((rule["method"] == "include" for rule in fits), True)


def _same(source: Path, destination: Path, level: int | None) -> bool:
    """What need not be moved: there at all, of its size, not older, or of its checksum."""
    if level is None or not destination.is_file() or not source.is_file():
        return False
    one, other = source.stat(), destination.stat()
    if level == 3:
        return _md5(source) == _md5(destination)
    return [True, one.st_size == other.st_size, one.st_mtime <= other.st_mtime][level]
