"""A Hugging Face hub on loopback, as far as huggingface_hub asks for it; it can be told to misbehave."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

DEMO = Path(__file__).parents[2] / "models" / "demo"
VOICE, EAR = "lab/faster-whisper-demo.en", "lab/wav2vec2-demo"
NOISE = {"README.md": b"# A card", "flax_model.msgpack": b"f" * 9, "eval.py": b"exit()", "onnx/model.onnx": b"o"}
LARGE = 100_000  # bytes; from here on a file is kept as a large one: by sha256, behind a redirect
COMMIT = "c0ffee" + "0" * 34


def shipped(name: str) -> dict[str, bytes]:
    """The files of a model that we ship."""
    return {file.name: file.read_bytes() for file in (DEMO / name).iterdir() if file.name != "digests.json"}


@dataclass
class Repository:
    """Files at one commit; other revisions are names for it."""

    files: dict[str, bytes]
    commit: str = COMMIT
    revisions: set[str] = field(default_factory=lambda: {"main"})
    gated: bool = False


@dataclass
class Hub:
    """What the hub has, what it does wrong, and what it was asked."""

    url: str
    repositories: dict[str, Repository] = field(default_factory=dict)
    pages: dict[str, bytes] = field(default_factory=dict)  # what else is served, by its path
    cut: dict[str, list[int]] = field(default_factory=dict)  # file → after how many bytes its next answers break off
    wrong: dict[str, int] = field(default_factory=dict)  # file → how many answers have a changed byte
    statuses: list[int] = field(default_factory=list)  # the next answers of the API
    page: bytes | None = None  # instead of every answer of the API: a network's login page
    hold: dict[str, int] = field(default_factory=dict)  # file → after how many bytes it says no more
    held: threading.Event = field(default_factory=threading.Event)  # it is silent now
    release: threading.Event = field(default_factory=threading.Event)
    asked: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, Range
    tokens: set[str] = field(default_factory=set)

    def sent(self, file: str) -> list[str]:
        """The Range of every request for the bytes of this file."""
        return [span for method, path, span in self.asked if method == "GET" and path.endswith(f"/{file}")]


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_GET(self) -> None:  # the name is the library's
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, *_arguments: object) -> None:
        pass

    def _answer(self, *, body: bool) -> None:
        url = urlsplit(self.path)
        self.hub.asked.append((self.command, url.path, self.headers.get("Range", "")))
        if token := self.headers.get("Authorization"):
            self.hub.tokens.add(token)
        parts = url.path.strip("/").split("/")
        if url.path in self.hub.pages:
            self._send(self.hub.pages[url.path], parts[-1], {}, body=body)
        elif parts[:2] == ["api", "models"]:
            self._describe("/".join(parts[2:4]), parts[5] if len(parts) > 5 else "main", parse_qs(url.query))
        elif len(parts) >= 5 and parts[2] == "resolve":
            self._resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]), body=body)
        elif parts[0] == "cdn":
            name = "/".join(parts[1:3])
            self._send(self.hub.repositories[name].files["/".join(parts[3:])], "/".join(parts[3:]), {}, body=body)
        else:
            self._refuse(404)

    def _describe(self, name: str, revision: str, query: dict[str, list[str]]) -> None:
        if self.hub.page is not None:
            self._plain(200, self.hub.page)
        elif self.hub.statuses:
            self._refuse(self.hub.statuses.pop(0))
        elif (found := self._found(name, revision)) is not None:
            described = [_described(file, content) for file, content in found.files.items()]
            self._plain(200, json.dumps({"id": name, "sha": found.commit, "siblings": described}).encode())
            assert query == {"blobs": ["True"]}

    def _found(self, name: str, revision: str) -> Repository | None:
        found = self.hub.repositories.get(name)
        if found is None:
            self._refuse(401, "RepoNotFound")
        elif found.gated and self.headers.get("Authorization") != "Bearer opens-the-gate":
            self._refuse(403 if self.headers.get("Authorization") else 401, "GatedRepo")
        elif revision not in {found.commit, *found.revisions}:
            self._refuse(404, "RevisionNotFound")
        else:
            return found
        return None

    def _resolve(self, name: str, revision: str, file: str, *, body: bool) -> None:
        found = self._found(name, revision)
        if found is None:
            return
        if file not in found.files:
            self._refuse(404, "EntryNotFound")
            return
        content = found.files[file]
        headers = {"X-Repo-Commit": found.commit, "ETag": f'"{_git(content)}"'}
        if len(content) < LARGE:
            self._send(content, file, headers, body=body)
            return
        sha256 = hashlib.sha256(content).hexdigest()
        self.send_response(302)
        for key, value in (headers | {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(content))}).items():
            self.send_header(key, value)
        self.send_header("Location", f"{self.hub.url}/cdn/{name}/{file}?Signature=secret-of-the-address")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, content: bytes, file: str, headers: dict[str, str], *, body: bool) -> None:
        first = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        if body and self.hub.wrong.get(file, 0) > 0:
            self.hub.wrong[file] -= 1
            content = content[:-1] + bytes([content[-1] ^ 1])
        self.send_response(206 if first else 200)
        for key, value in headers.items():
            self.send_header(key, value)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        if body:
            self._write(content[first:], file)

    def _write(self, content: bytes, file: str) -> None:
        if cuts := self.hub.cut.get(file):
            self.wfile.write(content[: cuts.pop(0)])
            self.close_connection = True
            return
        if (after := self.hub.hold.pop(file, None)) is not None:
            self.wfile.write(content[:after])
            self.wfile.flush()
            self.hub.held.set()
            self.hub.release.wait(120)
            self.close_connection = True
            return
        self.wfile.write(content)

    def _plain(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _refuse(self, status: int, code: str = "") -> None:
        self._plain(status, b"{}", **({"X-Error-Code": code} if code else {}))


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_arguments: object) -> None:
        """A client that was killed is no error of ours."""


@contextmanager
def serving() -> Iterator[Hub]:
    server = _Server(("127.0.0.1", 0), _Answers)
    hub = Hub(f"http://127.0.0.1:{server.server_port}")
    server.RequestHandlerClass = type("Answers", (_Answers,), {"hub": hub})
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.release.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _described(file: str, content: bytes) -> dict[str, object]:
    said: dict[str, object] = {"rfilename": file, "size": len(content), "blobId": _git(content)}
    if len(content) >= LARGE:
        sha256 = hashlib.sha256(content).hexdigest()
        said |= {"blobId": "of-its-pointer", "lfs": {"sha256": sha256, "size": len(content), "pointerSize": 134}}
    return said


def _git(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
