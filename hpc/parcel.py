"""What is delivered and where to: a folder of packed files with their digests, and the targets that one may name."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from hpc.errors import BadSetting

_REMOTE = re.compile(
    r"(?P<scheme>ssh|globus)://(?:(?P<user>[^@/]*)@)?(?P<host>\[[^\]/]*\]|[^:/@\[\]]*)(?::(?P<port>[^/]*))?(?P<path>/.*)?",
    re.DOTALL,
)
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")
_ADDRESS = re.compile(r"\[[0-9A-Fa-f:.]{2,45}\]")
HOW = "write ssh://USER@HOST[:PORT]/FOLDER, globus://COLLECTION-ID/FOLDER or an absolute folder"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a delivery goes. Of fixed words and checked ones only: it becomes part of command lines."""

    kind: str  # ssh, globus, folder
    path: str  # absolute, at the target
    host: str = ""  # for ssh; with brackets if it is an IPv6 address
    user: str = ""
    port: int | None = None
    collection: str = ""  # for globus

    @classmethod
    def parse(cls, text: str, *, site: str) -> Target:
        """What --target or deliver.to says; `{site}` in the folder becomes the site's name."""
        if text.startswith("/"):
            return cls("folder", _folder(text, site))
        found = _REMOTE.fullmatch(text)
        if found is None or not found["path"]:
            raise BadSetting(f"A target is missing or misspelt: {HOW}.")
        if found["scheme"] == "globus":
            return cls("globus", _folder(found["path"], site), collection=_collection(found))
        if ":" in (found["user"] or ""):
            raise BadSetting("No password belongs into a target: use a key, and name it in deliver.ssh_key.")
        if not _USER.fullmatch(found["user"] or ""):
            raise BadSetting(f"The user of an ssh target is missing or misspelt: {HOW}.")
        if not (_HOST.fullmatch(found["host"]) or _ADDRESS.fullmatch(found["host"])):
            raise BadSetting(f"The host of an ssh target is missing or misspelt: {HOW}.")
        port = found["port"]
        if port is not None and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise BadSetting(f"The port of an ssh target is a number from 1 to 65535; {HOW}.")
        return cls(
            "ssh", _folder(found["path"], site), found["host"], found["user"], None if port is None else int(port)
        )

    def __str__(self) -> str:
        if self.kind == "globus":
            return f"globus://{self.collection}{self.path}"
        if self.kind == "ssh":
            port = "" if self.port is None else f":{self.port}"
            return f"ssh://{self.user}@{self.host}{port}{self.path}"
        return self.path

    @property
    def bare_host(self) -> str:
        """As ssh takes it: an address without brackets."""
        return self.host.strip("[]")


def _folder(text: str, site: str) -> str:
    path = text.replace("{site}", site)
    if "{" in path or "}" in path:
        raise BadSetting("A target's folder may hold {site}, and no other braces.")
    if re.search(r"[\x00-\x1f\x7f]|/\.\.?(/|$)", path):
        raise BadSetting(f"The folder of a target has no control characters and no . or .. in it; {HOW}.")
    return re.sub("/+", "/", path).rstrip("/") or "/"


def _collection(found: re.Match[str]) -> str:
    try:
        collection = str(UUID(found["host"]))
    except ValueError:
        collection = ""
    if found["user"] is not None or found["port"] is not None or collection != found["host"].lower():
        raise BadSetting("A Globus target begins with the id of its collection: 36 characters with four dashes.")
    return collection


@dataclass(frozen=True, slots=True)
class Packed:
    """One file of a parcel, under a path that is made of our own names only."""

    path: str  # below the parcel's root, and below the target
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Parcel:
    """A day, packed: the manifest tells of all other files, and goes last."""

    root: Path
    files: tuple[Packed, ...]
    manifest: Packed

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.files)


@dataclass(slots=True)
class Slip:
    """What a mover was asked of this step of a delivery; `note` remembers it before and after asking."""

    step: str  # files, manifest
    label: str
    submission: UUID | None
    task: UUID | None
    note: Callable[[str, UUID | None, UUID | None], None]
    polled: Callable[[], None]
