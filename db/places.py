"""Where an embedded server's files may lie, and whose they are: never on a network file system, never root's."""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from db.errors import NeedsConfiguration
from db.servers import Programs

MOUNTS = Path("/proc/self/mountinfo")
ELSEWHERE = Path("/var/lib/dayscribe")
"""Root's own folders are closed to the server's user: what it must reach lies here instead."""

SHORT = Path("/tmp")  # noqa: S108 - only for fresh 0700 folders, where a socket's path must be short
POINTER = "elsewhere"
NETWORK = frozenset(
    {
        "nfs", "nfs4", "lustre", "gpfs", "beegfs", "cifs", "smb3", "smbfs", "smb2", "afs", "ceph", "glusterfs", "pvfs2",
        "orangefs", "panfs", "wekafs", "gfs2", "ocfs2", "acfs", "coda", "ncpfs", "fuse.sshfs", "fuse.glusterfs",
        "fuse.ceph", "fuse.ceph-fuse", "fuse.s3fs", "fuse.rclone", "fuse.juicefs", "fuse.gcsfuse", "fuse.beegfs",
        "fuse.moosefs", "fuse.lizardfs", "fuse.cvmfs2", "fuse.davfs2",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Account:
    """The operating system's user that a server runs as when we are root."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Place:
    """One server's folder, and the user it runs as (None: ourselves)."""

    home: Path
    account: Account | None

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def made(self) -> bool:
        return (self.data / "PG_VERSION").exists()


def refuse_network(path: Path) -> None:
    """Two machines can open a shared folder at once, and its locks and syncs are not to be trusted: data is lost."""
    while not path.exists():
        path = path.parent
    if found := network_mount(path.resolve()):
        kind, where = found
        raise NeedsConfiguration(
            f"{path} is on a network file system ({kind}, mounted at {where}), where PostgreSQL's files are not safe:"
            " choose a folder on a local disk, or name a database server instead."
        )


def network_mount(path: Path) -> tuple[str, Path] | None:
    """The kind and mount point of the network file system that holds `path`, or None."""
    best: tuple[str, Path] | None = None
    for line in MOUNTS.read_text(errors="surrogateescape").splitlines() if MOUNTS.exists() else ():
        before, _, after = line.partition(" - ")
        where = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), before.split(" ")[4]))
        # The deepest mount holds the path; of two at one place the later covers the earlier.
        if path.is_relative_to(where) and (best is None or len(where.parts) >= len(best[1].parts)):
            best = (after.split(" ")[0], where)
    return best if best and best[0] in NETWORK else None


def settled(root: Path) -> Place:
    """The place that `root` stands for, as far as it was ever decided; changes nothing."""
    if os.geteuid() != 0:
        return Place(root, None)
    pointer = root / POINTER
    # Only root's own word is taken, and only for a folder of ours: the next step gives that folder away.
    if pointer.exists() and pointer.lstat().st_uid == 0:
        home = Path(pointer.read_text(encoding="utf-8").strip())
        root = home if home.parent == ELSEWHERE else root
    return Place(root, _owner(root / "data") or _owner(root) or _spare_account())


def settle(root: Path) -> Place:
    """Decide where the server of `root` lives and make that folder, 0700. The caller holds the lock in `root`."""
    place = settled(root)
    if not place.made and place.home == root:
        _refuse_foreign(root)
        if os.geteuid() == 0:
            place = _for_root(root)
    place.home.mkdir(mode=0o700, exist_ok=True)
    if place.account:
        os.chown(place.home, place.account.uid, place.account.gid)
    place.home.chmod(0o700)
    return place


def may_enter(account: Account | None, folder: Path) -> bool:
    """Asked of the kernel, by a child that is that user: bits, groups and ACLs all count."""
    if account is None:
        return True
    try:
        asked = run_as(account, ["test", "-x", folder])
    except OSError as error:
        raise NeedsConfiguration(
            f"As root the database server must run as another user (id {account.uid}), and this system does not allow"
            f" that ({error.strerror}): run as an ordinary user, or name a database server."
        ) from error
    return asked == 0


def run_as(
    account: Account | None,
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    keep: int | None = None,
    out: IO[bytes] | None = None,
) -> int:
    """Run a program as the server's user, away from our terminal and settings; its exit status."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return subprocess.run(
        command,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.STDOUT,
        cwd=cwd,
        env=kept | {"LC_ALL": "C", "TZ": "UTC"},
        pass_fds=() if keep is None else (keep,),
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    ).returncode


def within_reach(programs: Programs, account: Account | None) -> Programs:
    """The programs, or a copy of them if the server's user cannot reach these (they lie in root's home)."""
    if may_enter(account, programs.folder / "postgres"):
        return programs
    base = programs.root.parent
    copy = ELSEWHERE / f"postgresql-{programs.version}-{_digest(programs.folder)}"
    if not copy.exists():
        making = Path(tempfile.mkdtemp(prefix="making-", dir=_elsewhere()))
        try:
            shutil.copytree(programs.root, making / base.name / programs.root.name)
            libraries = base.with_name(f"{base.name}.libs")  # where a wheel keeps the libraries it brought
            if libraries.is_dir():
                shutil.copytree(libraries, making / libraries.name)
            for path in (making, *making.rglob("*")):  # readable, whatever the umask was
                path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
            with suppress(OSError):  # another process was quicker
                making.rename(copy)
        finally:
            shutil.rmtree(making, ignore_errors=True)
    return Programs(copy / base.name / programs.root.name / "bin", programs.version)


def socket_folder(place: Place) -> Path:
    """A new 0700 folder for one start's socket: in the home, or elsewhere if that path is too long or too odd.

    New each time: a server whose folder was removed under it notices a minute later, and removes its socket by name.
    """
    folder = place.home / f"socket-{secrets.token_hex(4)}"
    if re.fullmatch(r"/[A-Za-z0-9/._+@ -]{1,85}", str(folder)):
        folder.mkdir(mode=0o700)
    else:
        folder = Path(tempfile.mkdtemp(prefix=_socket_prefix(place), dir=SHORT))
    if place.account:
        os.chown(folder, place.account.uid, place.account.gid)
    return folder


def write(path: Path, text: str) -> None:
    """Replace a small file whole. As root we write into folders of other users: nothing that lies there is followed."""
    making = path.with_name(f"{path.name}.new-{secrets.token_hex(4)}")
    with os.fdopen(os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o644)  # the server's user reads it; the folder is closed to others
        file.write(text)
    making.replace(path)


def remove_sockets(place: Place) -> None:
    """Of a dead server; the folder's own, so that a copy of it never removes those of the original."""
    for left in (*place.home.glob("socket-*"), *SHORT.glob(f"{_socket_prefix(place)}*")):
        shutil.rmtree(left, ignore_errors=True)


def _socket_prefix(place: Place) -> str:
    return f"dayscribe-{_digest(place.home)}-"


def _for_root(root: Path) -> Place:
    account = _owner(root) or _spare_account()
    if may_enter(account, root.parent):
        return Place(root, account)
    home = _elsewhere() / f"{_digest(root)}-{secrets.token_hex(4)}"
    refuse_network(home)
    write(root / POINTER, f"{home}\n")
    return Place(home, account)


def _refuse_foreign(root: Path) -> None:
    """Never take over a folder with other things in it: it will be given to the server's user and closed to others."""
    ours = re.compile(rf"lock|{POINTER}(\.new-.*)?|data\.new-.*|socket-.*|server\.log(\.old)?|alive")
    if strangers := sorted(path.name for path in root.iterdir() if not ours.fullmatch(path.name)):
        raise NeedsConfiguration(
            f"{root} is to hold a database, and has other things in it ({strangers[0]}): name a new or empty folder."
        )


def _owner(path: Path) -> Account | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return Account(found.st_uid, found.st_gid) if found.st_uid else None


def _spare_account() -> Account:
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise NeedsConfiguration("As root the database server must run as another user: make one named postgres.")


def _elsewhere() -> Path:
    if not ELSEWHERE.exists():
        ELSEWHERE.mkdir(parents=True, exist_ok=True)
        ELSEWHERE.chmod(0o755)
    return ELSEWHERE


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
