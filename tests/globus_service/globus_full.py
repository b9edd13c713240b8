"""The whole of the loopback Globus: what globus_loopback.py answers, and all else that the SDK and the CLI may ask.

python tests/globus_service/globus_full.py --folder DIR [--port N]   until it is ended; prints one line of JSON
    --collection NAME      a folder of DIR as a collection; once for each (else far and here)
    --harm NAME=flip       this file is harmed on its way, each time; or truncate, longer, omit
"""

from __future__ import annotations

import argparse
import json
import re
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from globus_auth import LIFE, ApiError, Auth, _collections
from globus_loopback import Answer, Globus, serving
from globus_tasks import Document, FullTransfer, entry, matching, ordered, page
from globus_transfer import PATIENCE, Collection

COMMANDS = ("stat", "rename", "ls")


@dataclass
class FullAuth(Auth):
    """Auth whose tokens live as long, and end as badly, as a test says."""

    life: int = LIFE  # seconds of the next access tokens
    account_consents: set[str] = field(default_factory=set)  # collections that the service account asked for
    rotates: bool = False  # a refresh token is good for one use, and answered with the next

    def revoke_refresh(self) -> None:
        """Every refresh token is over (invalid_grant); access tokens are as good as before."""
        self.refresh.clear()

    def grant(self, header: str | None, form: dict[str, str]) -> dict[str, Any]:
        try:
            said = super().grant(header, form)
        except ApiError as error:
            if error.status == 400:  # as OAuth has it: one word, which the SDK makes neither a code nor a message of
                error.body = {"error": error.body["error"]}
            raise
        if form.get("grant_type") == "client_credentials":
            self.account_consents |= _collections(form["scope"])
        if self.rotates and form.get("grant_type") == "refresh_token":
            owner = self.refresh.pop(form["refresh_token"])
            said["refresh_token"] = uuid.uuid4().hex
            self.refresh[said["refresh_token"]] = owner
        return said

    def consents_of(self, identity: str) -> dict[str, Any]:
        """A service account gave its own by asking for tokens; they are not the person's."""
        if identity != self.client_id:
            return super().consents_of(identity)
        account = Auth(client_id=self.client_id, consents=self.account_consents)
        return account.consents_of(identity)

    def _one(self, identity: str, scope: str, refreshable: bool) -> dict[str, Any]:
        said = super()._one(identity, scope, refreshable)
        self.tokens[said["access_token"]].expires = time.time() + self.life
        return said | {"expires_in": self.life}


@dataclass
class Hang:
    """Calls that are answered late: after so many seconds, or when `go` is set."""

    method: str
    path: re.Pattern[str]
    seconds: float
    times: int
    go: threading.Event = field(default_factory=threading.Event)


@dataclass
class Service(Globus):
    """A Globus that a test can ask, stop and break; see FullTransfer and FullAuth for their own knobs."""

    auth: FullAuth = field(default_factory=FullAuth)
    hangs: list[Hang] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.transfer: FullTransfer = FullTransfer(self.auth)
        self._lock = threading.Lock()

    # What a test does.

    def collection(self, root: Path, name: str = "collection", **wrong: Any) -> Collection:
        return self.transfer.collection(root, name, **wrong)

    def code_for(self, address: str) -> str:
        return self.auth.code_for(address)

    def wait_for(
        self, task: str, until: Callable[[Document], Any] | None = None, seconds: float = PATIENCE
    ) -> Document:
        return self.transfer.wait_for(task, until, seconds)

    def hang(self, method: str, path: str, *, seconds: float = PATIENCE, times: int = 1) -> Hang:
        """The next calls that match are answered, but late."""
        made = Hang(method, re.compile(path), seconds, times)
        self.hangs.append(made)
        return made

    # What the service answers.

    def handle(self, method: str, address: str, body: bytes, headers: Any) -> Answer | None:
        hang = self._hang(method, address.partition("?")[0])
        if hang is not None:
            hang.go.wait(hang.seconds)
        try:
            return super().handle(method, address, body, headers)
        except (KeyError, ValueError) as error:
            return 400, ApiError(400, "ClientError.BadRequest", f"what was asked lacks something: {error!r}")

    def _hang(self, method: str, path: str) -> Hang | None:
        with self._lock:
            fits = (one for one in self.hangs if one.times and one.method == method and one.path.search(path))
            found = next(fits, None)
            if found is not None:
                found.times -= 1
            return found

    def _transfer(self, method: str, path: str, query: dict[str, str], body: bytes, headers: Any) -> Answer:
        token = self.auth.check(headers.get("Authorization"))
        said = json.loads(body) if body else {}
        if (method, path) == ("POST", "/delete"):
            return 202, self.transfer.submit(said, token)
        if (method, path) == ("GET", "/task_list"):
            rows = matching([task.document for task in self.transfer.tasks.values()], query.get("filter", ""))
            return 200, page("task_list", ordered(rows, query.get("orderby", "request_time DESC")), query, usual=10)
        if match := re.fullmatch(r"/task/([^/]+)", path):
            self._known(match[1])
            if method == "PUT":
                return 200, self.transfer.update(self.transfer.tasks[match[1]], said)
        if match := re.fullmatch(r"/operation/endpoint/([^/]+)/(\w+)", path):
            found = self.transfer.of(match[1], token)
            if match[2] in COMMANDS and not found.paused:
                return 200, self._command(found, match[2], query, said)
        return super()._transfer(method, path, query, body, headers)

    def _task(self, name: str, part: str, query: dict[str, str]) -> Any:
        self._known(name)
        task = self.transfer.tasks[name]
        if part == "event_list":
            return page("event_list", task.events, query, usual=10)
        if part == "pause_info":
            return {"DATA_TYPE": "pause_info_limited", "source_pause_message": task.source.paused, "pause_rules": [],
                    "destination_pause_message": task.destination.paused}  # fmt: skip
        return super()._task(name, part, query)

    def _known(self, task: str) -> None:
        if task not in self.transfer.tasks:
            raise ApiError(404, "TaskNotFound", f"No task with id '{task}' was found")

    def _command(self, found: Collection, what: str, query: dict[str, str], said: dict[str, Any]) -> dict[str, Any]:
        if what == "stat":
            return entry(found, query["path"])
        if what == "rename":
            return self._rename(found, said)
        if "orderby" not in query:
            return self.transfer.ls(found, query)
        every = self.transfer.ls(found, query | {"offset": "0", "limit": "100000"})
        shown = page("file_list", ordered(every["DATA"], query["orderby"]), query, usual=1000)
        more = shown["offset"] + len(shown["DATA"]) < len(every["DATA"])
        return every | shown | {"length": len(shown["DATA"]), "has_next_page": more}

    def _rename(self, found: Collection, said: dict[str, Any]) -> dict[str, Any]:
        old, new = found.at(said["old_path"]), found.at(said["new_path"])
        if not old.exists():
            raise ApiError(404, "ClientError.NotFound", f"'{said['old_path']}' not found")
        if new.exists():
            raise ApiError(502, "ExternalError.RenameFailed.Exists", f"'{said['new_path']}' already exists")
        old.rename(new)
        return {"DATA_TYPE": "result", "code": "FileRenamed", "message": "File or directory renamed successfully"}


def _harm(text: str) -> tuple[str, str]:
    name, _, how = text.rpartition("=")
    if not name or how not in ("flip", "truncate", "longer", "omit"):
        raise argparse.ArgumentTypeError("NAME=flip, NAME=truncate, NAME=longer or NAME=omit")
    return name, how


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--folder", type=Path, required=True)
    words.add_argument("--port", type=int, default=0)
    words.add_argument("--collection", action="append", default=[], metavar="NAME")
    words.add_argument("--harm", type=_harm, action="append", default=[], metavar="NAME=HOW")
    given = words.parse_args()
    with serving(Service(), given.port) as service:
        service.transfer.harm = dict(given.harm)
        names = given.collection or ["far", "here"]
        made = {name: service.transfer.collection(given.folder / name, name).id for name in names}
        said = {"url": service.url, "client_id": service.auth.client_id, "client_secret": service.auth.secret}
        print(json.dumps(said | {"collections": made, "environment": service.environment}), flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
