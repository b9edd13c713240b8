"""Globus Transfer as the SDK sees it: collections over real folders, tasks that move real files, badly if told to."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from globus_auth import DATA_ACCESS, TRANSFER, ApiError, Auth, Token

CHUNK = 1 << 16
PATIENCE = 60  # seconds that a test waits for anything
LIMIT = 100_000  # entries of one answer, as Globus has it
OVER = ("SUCCEEDED", "FAILED")


def iso(when: float | None = None) -> str:
    return datetime.fromtimestamp(time.time() if when is None else when, UTC).strftime("%Y-%m-%d %H:%M:%S+00:00")


@dataclass
class Collection:
    """A folder, and what may be wrong with it."""

    root: Path
    name: str = "collection"
    mapped: bool = False  # wants a data_access consent
    paused: str | None = None  # an administrator's reason
    quota: int | None = None  # bytes
    full: bool = False
    readonly: bool = False
    unreadable: set[str] = field(default_factory=set)  # names that its own system refuses
    entries: Callable[[str], Iterator[dict[str, Any]]] | None = None  # a listing that is on no disk
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def at(self, path: str) -> Path:
        found = (self.root / os.path.normpath("/" + path.removeprefix("/~/")).lstrip("/")).resolve()
        if not found.is_relative_to(self.root.resolve()):
            raise ApiError(403, "PermissionDenied", "outside of the collection")
        return found

    def used(self) -> int:
        return sum(path.stat().st_size for path in self.root.rglob("*") if path.is_file())

    def listing(self, path: str) -> Iterator[dict[str, Any]]:
        if self.entries is not None:
            yield from self.entries(path)
            return
        folder = self.at(path)
        if not folder.is_dir():
            raise ApiError(404, "ClientError.NotFound", f"Directory '{path}' not found on endpoint")
        for one in sorted(folder.iterdir()):
            found = one.stat()
            kind = "dir" if one.is_dir() else "file"
            yield {"DATA_TYPE": "file", "name": one.name, "type": kind, "size": found.st_size,
                   "last_modified": iso(found.st_mtime)}  # fmt: skip


@dataclass
class Task:
    """What was asked for, and how far it is."""

    data: dict[str, Any]
    source: Collection
    destination: Collection
    document: dict[str, Any]
    events: list[dict[str, Any]] = field(default_factory=list)
    done: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, Any]] = field(default_factory=list)
    cancelled: bool = False


@dataclass
class Transfer:
    """The service. A test sets what is wrong, and waits for what is over."""

    auth: Auth
    collections: dict[str, Collection] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)
    submissions: dict[str, str | None] = field(default_factory=dict)
    harm: dict[str, str] = field(default_factory=dict)  # file name → truncate, flip, longer, omit: on its way
    before_move: Callable[[Path], None] = lambda _: None
    held: bool = False  # tasks wait before each file
    changed: threading.Condition = field(default_factory=threading.Condition)

    # What a test does.

    def collection(self, root: Path, name: str = "collection", **wrong: Any) -> Collection:
        root.mkdir(parents=True, exist_ok=True)
        made = Collection(root, name, **wrong)
        self.collections[made.id] = made
        return made

    def hold(self) -> None:
        with self.changed:
            self.held = True

    def release(self) -> None:
        with self.changed:
            self.held = False
            self.changed.notify_all()

    def wait(self) -> None:
        """Until no task is active but those that cannot go on."""
        with self.changed:
            if not self.changed.wait_for(lambda: all(self._rests(task) for task in self.tasks.values()), PATIENCE):
                raise AssertionError(f"tasks go on: {[task.document['status'] for task in self.tasks.values()]}")

    def _rests(self, task: Task) -> bool:
        return task.document["status"] in OVER or bool(task.document["nice_status"])

    def touch(self) -> None:
        """Something was changed from outside: whoever waits looks again."""
        with self.changed:
            self.changed.notify_all()

    # What the service answers.

    def of(self, collection: str, token: Token) -> Collection:
        found = self.collections.get(collection)
        if found is None:
            raise ApiError(404, "EndpointNotFound", f"No such endpoint '{collection}'")
        if found.mapped and not self.auth.has_consent(token, found.id):
            needed = f"urn:globus:auth:scope:{TRANSFER}:all[*{DATA_ACCESS.format(found.id)}]"
            raise ApiError(403, "ConsentRequired", "Missing required data_access consent", required_scopes=[needed])
        return found

    def ls(self, found: Collection, asked: dict[str, str]) -> dict[str, Any]:
        offset, limit = int(asked.get("offset", 0)), min(int(asked.get("limit", LIMIT)), LIMIT)
        rows = (one for one in found.listing(asked.get("path", "/")) if _kept(one, asked.get("filter", "")))
        page = list(islice(rows, offset, offset + limit + 1))
        more, page = len(page) > limit, page[:limit]
        return {"DATA_TYPE": "file_list", "path": asked.get("path"), "endpoint": found.id, "DATA": page,
                "length": len(page), "offset": offset, "limit": limit, "has_next_page": more}  # fmt: skip

    def submit(self, data: dict[str, Any], token: Token) -> dict[str, Any]:
        with self.changed:
            submission = data.get("submission_id")
            if submission not in self.submissions:
                raise ApiError(400, "ClientError.BadRequest", f"unknown submission_id '{submission}'")
            code = "Duplicate"
            if self.submissions[submission] is None:
                code = "Accepted"
                self.submissions[submission] = self._start(data, token)
            return {"DATA_TYPE": "transfer_result", "code": code, "message": code, "submission_id": submission,
                    "task_id": self.submissions[submission]}  # fmt: skip

    def _start(self, data: dict[str, Any], token: Token) -> str:
        if not data.get("DATA"):
            raise ApiError(400, "ClientError.BadRequest.NoTransferItems", "A transfer requires at least one item")
        source, destination = (self.of(data[name], token) for name in ("source_endpoint", "destination_endpoint"))
        task = str(uuid.uuid4())
        document = {
            "DATA_TYPE": "task", "task_id": task, "type": "TRANSFER", "status": "ACTIVE", "label": data.get("label"),
            "request_time": iso(), "completion_time": None, "deadline": data.get("deadline"), "is_ok": True,
            "is_paused": False, "files": len(data["DATA"]), "files_transferred": 0, "files_skipped": 0,
            "bytes_transferred": 0, "faults": 0, "nice_status": None, "nice_status_short_description": None,
            "fatal_error": None, "source_endpoint_id": source.id, "destination_endpoint_id": destination.id,
        }  # fmt: skip
        made = self.tasks[task] = Task(data, source, destination, document)
        threading.Thread(target=self._work, args=(made,), daemon=True).start()
        return task

    def cancel(self, task: Task) -> dict[str, Any]:
        with self.changed:
            if task.document["status"] in OVER:
                return {"DATA_TYPE": "result", "code": "TaskComplete", "message": "The task completed before"}
            task.cancelled = True
            self.changed.notify_all()
            self.changed.wait_for(lambda: task.document["status"] in OVER, PATIENCE)
        return {"DATA_TYPE": "result", "code": "Canceled", "message": "The task has been cancelled"}

    # How files move.

    def _work(self, task: Task) -> None:
        for item in task.data["DATA"]:
            if not self._may_go_on(task) or not self._one(task, item):
                return
        if self._may_go_on(task):
            self._finish(task, "SUCCEEDED")

    def _may_go_on(self, task: Task) -> bool:
        """Waits while it is held or paused; False when it is over."""
        document = task.document
        with self.changed:
            while True:
                if task.cancelled:
                    return self._finish(task, "FAILED", "CANCELED", "canceled by the user")
                if _past(document["deadline"]):
                    return self._finish(task, "FAILED", "EXPIRED", "the deadline has passed")
                paused = task.source.paused or task.destination.paused
                document["is_paused"] = bool(paused)
                if not paused and not self.held:
                    document.update(nice_status=None, nice_status_short_description=None)
                    return True
                if paused:
                    document.update(nice_status="PAUSED_BY_ADMIN", nice_status_short_description=paused)
                self.changed.notify_all()
                self.changed.wait(_left(document["deadline"]))

    def _one(self, task: Task, item: dict[str, Any]) -> bool:
        source, destination = task.source.at(item["source_path"]), task.destination.at(item["destination_path"])
        harm = self.harm.get(source.name, "")
        if harm == "omit":
            return True
        self.before_move(source)
        if not source.is_file() or source.name in task.source.unreadable:
            code = "FILE_NOT_FOUND" if not source.is_file() else "PERMISSION_DENIED"
            return self._amiss(task, item, code, str(item["source_path"]))
        size = source.stat().st_size
        if task.destination.readonly:
            return self._finish(task, "FAILED", "PERMISSION_DENIED", "the destination may not be written")
        quota = task.destination.quota
        if task.destination.full or (quota is not None and task.destination.used() + size > quota):
            return self._no_room(task)
        if destination.is_file() and task.data.get("sync_level") == 3 and _md5(destination) == _md5(source):
            task.document["files_skipped"] += 1
        else:
            self._copy(task, source, destination)
            _harmed(destination, harm)
        task.document["files_transferred"] += 1
        told = {"checksum": _md5(source), "checksum_algorithm": "MD5"} if task.data.get("verify_checksum") else {}
        paths = {name: item[name] for name in ("source_path", "destination_path")}
        task.done.append({"DATA_TYPE": "successful_transfer", "size": size, **paths, **told})
        return True

    def _copy(self, task: Task, source: Path, destination: Path) -> None:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with source.open("rb") as reading, destination.open("wb") as writing:
            while chunk := reading.read(CHUNK):
                writing.write(chunk)
                task.document["bytes_transferred"] += len(chunk)
        if task.data.get("preserve_timestamp"):
            found = source.stat()
            os.utime(destination, ns=(found.st_atime_ns, found.st_mtime_ns))

    def _amiss(self, task: Task, item: dict[str, Any], code: str, what: str) -> bool:
        """The real service skips it if it may, and else tries on until the deadline."""
        if task.data.get("skip_source_errors"):
            task.document["files_skipped"] += 1
            task.skipped.append({"DATA_TYPE": "skipped_error", "error_code": code, "error_details": what,
                                 "source_path": item["source_path"], "destination_path": item["destination_path"],
                                 "error_time": iso()})  # fmt: skip
            return True
        return self._tries_on(task, code, what)

    def _no_room(self, task: Task) -> bool:
        code = "NO_SPACE" if task.destination.full else "QUOTA_EXCEEDED"
        if task.data.get("fail_on_quota_errors"):
            return self._finish(task, "FAILED", code, "no room at the destination")
        return self._tries_on(task, code, "no room at the destination")

    def _tries_on(self, task: Task, code: str, what: str) -> bool:
        with self.changed:
            while not task.cancelled and not _past(task.document["deadline"]):
                task.document["faults"] += 1
                task.document.update(is_ok=False, nice_status=code, nice_status_short_description=what)
                self.changed.notify_all()
                self.changed.wait(_left(task.document["deadline"]))
        return self._may_go_on(task)

    def _finish(self, task: Task, status: str, code: str | None = None, what: str | None = None) -> bool:
        with self.changed:
            fatal = None if code is None else {"code": code, "description": what}
            task.document.update(status=status, completion_time=iso(), fatal_error=fatal, nice_status=code,
                                 nice_status_short_description=what, is_paused=False)  # fmt: skip
            task.events.insert(0, {"DATA_TYPE": "event", "code": code or status, "description": what or status,
                                   "details": json.dumps({}), "is_error": code is not None, "time": iso()})  # fmt: skip
            self.changed.notify_all()
        return False


def _kept(entry: dict[str, Any], wanted: str) -> bool:
    for one in filter(None, wanted.split("/")):
        key, _, value = one.partition(":")
        if key == "type" and entry["type"] not in value.split(","):
            return False
        if key == "name" and not any(
            fnmatch.fnmatchcase(entry["name"], glob.lstrip("~=")) for glob in value.split(",")
        ):
            return False
    return True


def _left(deadline: str | None) -> float:
    """Seconds until then, as one wait."""
    return PATIENCE if deadline is None else max(0.01, min(PATIENCE, _seconds(deadline) - time.time()))


def _past(deadline: str | None) -> bool:
    return deadline is not None and _seconds(deadline) < time.time()


def _seconds(text: str) -> float:
    when = datetime.fromisoformat(re.sub(r"Z$", "+00:00", text))
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _harmed(path: Path, harm: str) -> None:
    """On its way, after its checksum was taken."""
    data = bytearray(path.read_bytes())
    if harm == "truncate":
        path.write_bytes(data[: len(data) // 2])
    elif harm == "longer":
        path.write_bytes(data + b"x")
    elif harm == "flip":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
