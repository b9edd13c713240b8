"""A Globus of one's own on loopback: the SDK's and the CLI's calls, answered, and answered badly on demand.

python tests/globus_service/globus_loopback.py FOLDER [--port N]     two collections in FOLDER; what to export, as JSON
    --harm NAME=flip       this file is harmed on its way, the first time; or truncate, longer
"""

from __future__ import annotations

import argparse
import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from globus_auth import ApiError, Auth, Token
from globus_transfer import Task, Transfer

AUTH, TRANSFER = "GLOBUS_SDK_SERVICE_URL_AUTH", "GLOBUS_SDK_SERVICE_URL_TRANSFER"
Answer = tuple[int, Any]


@dataclass
class Fault:
    """What happens to the next `times` calls that match."""

    method: str
    path: re.Pattern[str]
    what: ApiError | str  # lost (dropped after the deed), dropped (before it), slow (answered when `go` is set)
    times: int
    go: threading.Event = field(default_factory=threading.Event)


@dataclass
class Globus:
    """Both services under one address."""

    auth: Auth = field(default_factory=Auth)
    faults: list[Fault] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)  # (method, path), but for those of Auth's own
    url: str = ""

    def __post_init__(self) -> None:
        self.transfer = Transfer(self.auth)

    @property
    def environment(self) -> dict[str, str]:
        return {AUTH: self.url, TRANSFER: self.url}

    def fault(self, method: str, path: str, what: ApiError | str, *, times: int = 1) -> Fault:
        made = Fault(method, re.compile(path), what, times)
        self.faults.append(made)
        return made

    def asked(self, method: str, path: str) -> int:
        """How often this was called."""
        return sum(one == method and re.search(path, where) is not None for one, where in self.calls)

    def handle(self, method: str, address: str, body: bytes, headers: Any) -> Answer | None:
        """The answer to one call; None: the line goes dead."""
        parts = urlsplit(address)
        query = dict(parse_qsl(parts.query))
        self.calls.append((method, parts.path))
        fault = next((f for f in self.faults if f.times and f.method == method and f.path.search(parts.path)), None)
        try:
            if fault is None:
                return self._route(method, address, query, body, headers)
            fault.times -= 1
            if isinstance(fault.what, ApiError):
                raise fault.what
            if fault.what == "slow":
                fault.go.wait(60)
            if fault.what in ("lost", "slow"):
                self._route(method, address, query, body, headers)
        except ApiError as error:
            return error.status, error
        return None

    def _route(  # noqa: PLR0911 - one line for each address
        self, method: str, address: str, query: dict[str, str], body: bytes, headers: Any
    ) -> Answer:
        path = urlsplit(address).path
        if path.startswith("/v0.10/"):
            return self._transfer(method, path.removeprefix("/v0.10"), query, body, headers)
        form = dict(parse_qsl(body.decode()))
        if (method, path) == ("POST", "/v2/oauth2/token"):
            return 200, self.auth.grant(headers.get("Authorization"), form)
        if (method, path) == ("POST", "/v2/oauth2/token/revoke"):
            self.auth.tokens.pop(form.get("token", ""), None)
            self.auth.refresh.pop(form.get("token", ""), None)
            return 200, {"active": False}
        if (method, path) == ("GET", "/v2/oauth2/authorize"):
            return 200, self.auth.page(address)
        if path == "/.well-known/openid-configuration":
            return 200, self.auth.configuration()
        if path == "/jwk.json":
            return 200, self.auth.keys()
        token = self.auth.check(headers.get("Authorization"))
        if path == "/v2/oauth2/userinfo":
            return 200, self.auth.userinfo(token)
        if match := re.fullmatch(r"/v2/api/identities/([^/]+)/consents", path):
            return 200, self.auth.consents_of(match[1])
        raise ApiError(404, "NotFound", f"{method} {path}")

    def _transfer(self, method: str, path: str, query: dict[str, str], body: bytes, headers: Any) -> Answer:
        token = self.auth.check(headers.get("Authorization"))
        data = json.loads(body) if body else {}
        if (method, path) == ("GET", "/submission_id"):
            made = str(uuid.uuid4())
            self.transfer.submissions[made] = None
            return 200, {"DATA_TYPE": "submission_id", "value": made}
        if (method, path) == ("POST", "/transfer"):
            return 202, self.transfer.submit(data, token)
        if match := re.fullmatch(r"/task/([^/]+)(?:/(\w+))?", path):
            return 200, self._task(match[1], match[2] or "", query)
        if match := re.fullmatch(r"/operation/endpoint/([^/]+)/(\w+)", path):
            return self._operation(match[1], match[2], query, data, token)
        if match := re.fullmatch(r"/endpoint/([^/]+)", path):
            return 200, self._endpoint(match[1])
        if (method, path) == ("GET", "/task_list"):
            rows = [task.document for task in self.transfer.tasks.values()]
            return 200, {"DATA_TYPE": "task_list", "DATA": rows, "offset": 0, "limit": 1000, "total": len(rows)}
        raise ApiError(404, "ClientError.NotFound", f"{method} {path}")

    def _task(self, name: str, part: str, query: dict[str, str]) -> Any:
        task = self.transfer.tasks.get(name)
        if task is None:
            raise ApiError(404, "TaskNotFound", f"No task with id '{name}' was found")
        rows: dict[str, Callable[[Task], list[dict[str, Any]]]] = {
            "successful_transfers": lambda task: task.done, "skipped_errors": lambda task: task.skipped,
        }  # fmt: skip
        if part == "cancel":
            return self.transfer.cancel(task)
        if part == "event_list":
            return {"DATA_TYPE": "event_list", "DATA": task.events, "offset": 0, "limit": 10, "total": len(task.events)}
        if part in rows:
            begin, found = int(query.get("marker") or 0), rows[part](task)
            following = str(begin + 100) if begin + 100 < len(found) else None
            page = found[begin : begin + 100]
            return {"DATA_TYPE": part, "DATA": page, "marker": begin, "next_marker": following}
        return task.document

    def _operation(self, name: str, what: str, query: dict[str, str], data: dict[str, Any], token: Token) -> Answer:
        found = self.transfer.of(name, token)
        if found.paused:
            raise ApiError(409, "ClientError.Conflict.Paused", found.paused)
        if what == "ls":
            return 200, self.transfer.ls(found, query)
        if what == "mkdir":
            path = found.at(data["path"])
            if found.readonly:
                raise ApiError(403, "PermissionDenied", "the collection may not be written")
            if path.exists():
                raise ApiError(502, "ExternalError.MkdirFailed.Exists", f"Path '{data['path']}' already exists")
            path.mkdir()
            return 202, {"DATA_TYPE": "mkdir_result", "code": "DirectoryCreated", "message": "made"}
        raise ApiError(404, "ClientError.NotFound", what)

    def _endpoint(self, name: str) -> dict[str, Any]:
        found = self.transfer.collections.get(name)
        if found is None:
            raise ApiError(404, "EndpointNotFound", f"No such endpoint '{name}'")
        kind = "GCSv5_mapped_collection" if found.mapped else "GCSv5_guest_collection"
        return {"DATA_TYPE": "endpoint", "id": found.id, "display_name": found.name, "entity_type": kind,
                "high_assurance": False}  # fmt: skip


@contextmanager
def serving(globus: Globus, port: int = 0) -> Iterator[Globus]:
    """Answers on loopback until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answered = globus.handle(self.command, self.path, body, self.headers)
            if answered is None:
                self.close_connection = True
                self.connection.close()
                return
            status, said = answered
            error = said if isinstance(said, ApiError) else None
            text = said if isinstance(said, str) else json.dumps(error.body if error else said)
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if isinstance(said, str) else "application/json")
            self.send_header("Content-Length", str(len(text.encode())))
            if error and error.retry_after is not None:
                self.send_header("Retry-After", str(error.retry_after))
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST = do_PUT = do_DELETE = answer

        def log_message(self, *_: Any) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    globus.url = globus.auth.url = f"http://127.0.0.1:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield globus
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _harm(text: str) -> tuple[str, str]:
    name, _, how = text.rpartition("=")
    if not name or how not in ("flip", "truncate", "longer"):
        raise argparse.ArgumentTypeError("NAME=flip, NAME=truncate or NAME=longer")
    return name, how


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("folder", type=Path)
    words.add_argument("--port", type=int, default=0)
    words.add_argument("--harm", type=_harm, action="append", default=[], metavar="NAME=HOW")
    given = words.parse_args()
    with serving(Globus(), given.port) as globus:
        harm = globus.transfer.harm = dict(given.harm)
        globus.transfer.before_move = lambda path: harm.pop(path.name, None) and None  # seen by now: this once only
        far, here = (globus.transfer.collection(given.folder / name, name) for name in ("far", "here"))
        said = {"environment": globus.environment, "client_id": globus.auth.client_id, "secret": globus.auth.secret}
        print(json.dumps(said | {"far": far.id, "here": here.id}), flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
