"""Files to a folder here, or to another host over ssh whose key is known: by rsync, compared byte by byte afterwards.

No shell is ever given a name from outside: rsync gets a list of words and, on its standard input, paths that are made
of our own names; the target was checked when it was parsed. The host's key has to be known beforehand, always.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpc.errors import BadSetting, Interrupted, NotVerified
from hpc.parcel import Packed, Slip, Target
from hpc.senders.rsync.words import trouble

_KEPT = ("PATH", "HOME", "USER", "LOGNAME", "SSH_AUTH_SOCK", "TMPDIR")  # of our environment; no secret is in it
_FORBIDDEN = re.compile(r"""["'\\%$\x00-\x1f\x7f]""")
QUIET_SECONDS = 300  # without a byte from the other side
# The other side's last words may be lost on the way (of a full disk, one time in ten): what failed without a word is
# tried again, to hear why.
WORDLESS = 5
_DONE = re.compile(r"^\s*(\d+)\s+\d+%")
_CHANGED = re.compile(r"^[<>ch][fdLDS]\S* (.*)$")
_SUM = re.compile(r"^(.+): (OK|FAILED.*)$")


@dataclass(frozen=True, slots=True)
class Login:
    """How ssh is told who we are and whom we trust; without them it goes by the user's own files."""

    key: Path | None = None
    known_hosts: Path | None = None
    seconds: float = 30.0  # to connect


class RsyncSender:
    """`Sender` by rsync."""

    def __init__(self, target: Target, login: Login, *, stop: Callable[[], bool] = lambda: False) -> None:
        self._target, self._login, self._stop = target, login, stop

    def withdraw(self, root: Path, manifest: Packed) -> bool:
        """--delete takes away only what it is shown and does not find at home: that one file."""
        folder, _, name = manifest.path.rpartition("/")
        if not self._look(root, [manifest], "--existing"):  # it is not there, or says the same
            return True
        with tempfile.TemporaryDirectory(prefix="dayscribe-") as nothing:
            (Path(nothing) / folder).mkdir(parents=True)
            above = folder.split("/")
            shown = ["/" + "/".join(above[: n + 1]) + "/" for n in range(len(above))] + [f"/{folder}/{name}"]
            filters = [word for path in shown for word in ("--include", path)] + ["--exclude", "*"]
            self._run(["--recursive", "--omit-dir-times", "--delete", *filters], Path(nothing))
        return True

    def send(self, root: Path, files: Sequence[Packed], slip: Slip, advance: Callable[[int], None]) -> None:  # noqa: ARG002
        """What is there and the same is not sent; a file takes its name when it is whole."""
        told = 0

        def line(text: str) -> None:
            nonlocal told
            if found := _DONE.match(text):
                advance(int(found[1]) - told)
                told = int(found[1])

        words = ["--partial-dir=.rsync-partial", "--info=progress2", "--no-human-readable", "--outbuf=L"]
        self._run([*_COPY, *words, *_LISTED], root, files=files, line=line)

    def differing(self, root: Path, files: Sequence[Packed]) -> list[str]:
        """Both sides read all bytes again; nothing is written."""
        return self._look(root, files)

    def _look(self, root: Path, files: Sequence[Packed], *words: str) -> list[str]:
        found: list[str] = []

        def line(text: str) -> None:
            if changed := _CHANGED.match(text):
                found.append(changed[1])

        self._run([*_COPY, *words, "--dry-run", "--out-format=%i %n", *_LISTED], root, files=files, line=line)
        wanted = {file.path for file in files}
        if strangers := [path for path in found if path not in wanted and not path.endswith("/")]:
            raise NotVerified(f"rsync speaks of files that nobody asked for: {strangers[0]!r}")
        return [path for path in dict.fromkeys(found) if path in wanted]

    def confirm(self, manifest: Packed) -> list[str] | None:
        """sha256sum of the target itself, where its account may run it."""
        there = self._target.path
        if self._target.kind == "folder":
            words, folder = ["sha256sum", "-c", "--", manifest.path], there
        else:
            command = f"cd -- {shlex.quote(there)} && LC_ALL=C sha256sum -c -- {shlex.quote(manifest.path)}"
            words, folder = [*self._ssh(), self._where(), command], "/"
        try:
            said = subprocess.run(
                words, cwd=folder, env=_environment(), stdin=subprocess.DEVNULL, capture_output=True, check=False,
                text=True, errors="replace",
            )  # fmt: skip
        except OSError:
            return None
        lines = [match for text in said.stdout.splitlines() if (match := _SUM.match(text))]
        amiss = [match[1] for match in lines if match[2] != "OK"]
        return amiss if amiss or (lines and said.returncode == 0) else None

    def _where(self) -> str:
        return f"{self._target.user}@{self._target.bare_host}"

    def _ssh(self) -> list[str]:
        """Only a host whose key is known; nobody is asked anything."""
        words = ["ssh", "-x", "-T"]
        options = [
            "BatchMode=yes", "StrictHostKeyChecking=yes", "VerifyHostKeyDNS=no", "UpdateHostKeys=no", "ForwardAgent=no",
            "ClearAllForwardings=yes", "PermitLocalCommand=no", f"ConnectTimeout={max(1, round(self._login.seconds))}",
            "ServerAliveInterval=30",
        ]  # fmt: skip
        if self._login.known_hosts is not None:
            path = _plain(self._login.known_hosts, "deliver.known_hosts")
            options += [f'UserKnownHostsFile="{path}"', "GlobalKnownHostsFile=none"]
        if self._login.key is not None:
            words += ["-i", _plain(self._login.key, "deliver.ssh_key")]
            options.append("IdentitiesOnly=yes")
        words += [word for option in options for word in ("-o", option)]
        return words if self._target.port is None else [*words, "-p", str(self._target.port)]

    def _run(
        self,
        words: Sequence[str],
        root: Path,
        *,
        files: Sequence[Packed] = (),
        line: Callable[[str], None] = lambda _text: None,
    ) -> None:
        program = shutil.which("rsync")
        if program is None:
            raise BadSetting("rsync is not installed here, and it is what brings files to this target.")
        target = self._target
        if target.kind == "ssh":
            shell = ["--rsh", " ".join(map(_quoted, self._ssh()))]
            there = f"{target.user}@{target.host}:{target.path}/"
        else:
            shell, there = [], f"{target.path}/"
            if not Path(target.path).is_dir():
                raise BadSetting(f"There is no folder {target.path}; make it first, if this is the right place.")
        command = [program, "--protect-args", f"--timeout={QUIET_SECONDS}", *shell, *words, "--", f"{root}/", there]
        names = b"".join(file.path.encode() + b"\0" for file in files)
        for _ in range(WORDLESS):
            code, complaints = _rsync(command, names, line, self._stop)
            if code == 0 or re.search(r"\w", complaints):
                break
        if code != 0:
            raise trouble(code, complaints, target, self._login.known_hosts)


_COPY = ("--checksum", "--times", "--no-implied-dirs", "--omit-dir-times")
_LISTED = ("--from0", "--files-from=-")


def _rsync(
    command: Sequence[str], names: bytes, line: Callable[[str], None], stop: Callable[[], bool]
) -> tuple[int, str]:
    """Its exit code and what it complained of; its lines are told as they come."""
    with tempfile.TemporaryFile() as listed, tempfile.TemporaryFile() as errors:
        listed.write(names)
        listed.seek(0)
        with subprocess.Popen(
            command, stdin=listed, stdout=subprocess.PIPE, stderr=errors, env=_environment(), cwd="/"
        ) as process:
            try:
                with _watched(process, stop):
                    assert process.stdout is not None
                    for text in _lines(process.stdout.fileno()):
                        line(text)
                    code = process.wait()
            except BaseException:
                process.kill()
                raise
        if code != 0 and stop():
            raise Interrupted
        errors.seek(0)
        return code, errors.read(1 << 16).decode("utf-8", "replace")


class _watched:
    """Ends the process when a stop is asked for."""

    def __init__(self, process: subprocess.Popen[bytes], stop: Callable[[], bool]) -> None:
        self._process, self._stop, self._over = process, stop, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            if self._stop():
                self._process.terminate()
                return


def _lines(descriptor: int) -> Iterator[str]:
    r"""Lines as they are written; progress ends its lines with \r."""
    rest = b""
    while piece := os.read(descriptor, 1 << 16):
        *whole, rest = re.split(rb"[\r\n]", rest + piece)
        yield from (text.decode("utf-8", "replace") for text in whole if text)
    if rest:
        yield rest.decode("utf-8", "replace")


def _environment() -> Mapping[str, str]:
    return {name: os.environ[name] for name in _KEPT if name in os.environ} | {"LC_ALL": "C"}


def _quoted(word: str) -> str:
    """For rsync's own splitting of --rsh: it knows quotes that are doubled inside of themselves, and no backslash."""
    return word if re.fullmatch(r"[A-Za-z0-9_./:=@,+-]+", word) else "'" + word.replace("'", "''") + "'"


def _plain(path: Path, setting: str) -> str:
    """ssh reads quotes, percent signs and $ in file names in ways of its own."""
    if _FORBIDDEN.search(str(path)):
        raise BadSetting(
            f"{setting} names a file with quotes, %, $ or control characters; ssh would read another name."
        )
    return str(path)
