"""What rsync and ssh complain of, in our errors: what may pass, and what a person has to change."""

from __future__ import annotations

import re
from pathlib import Path

from db.errors import DayscribeError, TryAgain
from db.printable import printable
from hpc.errors import BadSetting, HostKeyRefused, Interrupted, MoverTrouble, NeedsLogin, NotVerified, TargetFull
from hpc.parcel import Target

MISUSED, STRANGER, NO_SUCH, FAILED_IO = 1, 2, 3, 11
INTERRUPTED = (19, 20, 21)
PARTIAL, VANISHED = 23, 24
NOT_EXECUTABLE, NO_COMMAND, REMOTE_SHELL = 126, 127, 255
_FULL = re.compile(r"No space left on device|Disk quota exceeded|File too large")
_CLOSED = re.compile(r"Read-only file system|Permission denied|Operation not permitted|Not a directory")
_AFTERWARDS = re.compile(r"rsync( error)?: (connection unexpectedly closed|unexplained error|error in |some files)")
_MISSING = re.compile(r"(mkdir|change_dir|chdir)\b.*failed")
_NO_RSYNC = re.compile(r"rsync: (command )?not found|rsync: No such file|\brsync[^\n]*: not found")


def trouble(code: int, complaints: str, target: Target, known_hosts: Path | None) -> DayscribeError:
    """Why rsync ended with this code."""
    said = _shown(complaints)
    if target.kind == "ssh" and (found := _of_ssh(complaints, target, known_hosts)) is not None:
        return found
    if _FULL.search(complaints):
        return TargetFull(f"{target} has no room left ({said}); make room, then run the same command again.")
    if code in INTERRUPTED:
        return Interrupted()
    if _NO_RSYNC.search(complaints) or code in (NOT_EXECUTABLE, NO_COMMAND):
        return MoverTrouble(f"rsync cannot be started at {target}: {said}")
    if _CLOSED.search(complaints):
        return MoverTrouble(f"{target} does not let us write: {said}")
    return _by_code(code, said, target)


def _by_code(code: int, said: str, target: Target) -> DayscribeError:
    if code in (MISUSED, STRANGER):
        return MoverTrouble(f"rsync here and at {target} do not understand each other (exit code {code}): {said}")
    if code == NO_SUCH or _MISSING.search(said):
        return MoverTrouble(f"{target} cannot be written; is the folder there? {said}")
    if code in (PARTIAL, VANISHED):
        return NotVerified(f"Not everything came to {target} (exit code {code}): {said}")
    if code == FAILED_IO:
        return TryAgain(f"{target} could not be written: {said}")
    return TryAgain(f"The connection to {target} broke off (exit code {code}): {said}")


def _of_ssh(complaints: str, target: Target, known_hosts: Path | None) -> DayscribeError | None:  # noqa: PLR0911 - one for each thing that ssh says
    """What ssh itself says; None when it is not ssh that fails."""
    said, host = _shown(complaints), target.bare_host
    if "REMOTE HOST IDENTIFICATION HAS CHANGED" in complaints:
        return HostKeyRefused(
            f"The key of {host} is not the one that {_file(known_hosts)} has. Either its machine was set up anew, or"
            " somebody stands in between: ask its administrators. Only if they confirm it:"
            f" {_forget(target, known_hosts)}, and then {_scan(target, known_hosts)}"
        )
    if "host key is known for" in complaints or "Host key verification failed" in complaints:
        return HostKeyRefused(
            f"The key of {host} is not known here ({_file(known_hosts)}): {_scan(target, known_hosts)}"
        )
    if re.search(r"bad permissions|UNPROTECTED PRIVATE KEY", complaints):
        return BadSetting(f"Others can read the key in deliver.ssh_key, so ssh does not use it: chmod 600. {said}")
    if "Identity file" in complaints and "not accessible" in complaints:
        return BadSetting(f"The key in deliver.ssh_key cannot be read: {said}")
    if re.search(r"Permission denied \([a-z,-]+\)", complaints):
        return NeedsLogin(
            f"{host} does not let {target.user} in. Add the public key to that account's authorized_keys, and name its"
            f" private one in deliver.ssh_key; a passphrase wants an ssh-agent. ({said})"
        )
    if re.search(r"^(ssh|kex_exchange_identification|Connection|client_loop)\b", complaints, re.MULTILINE):
        return TryAgain(f"{host} cannot be reached: {said}")
    return None


def _scan(target: Target, known_hosts: Path | None) -> str:
    port = "" if target.port is None else f"-p {target.port} "
    return (
        f"`ssh-keyscan {port}{target.bare_host} >host.key`, compare the fingerprint that `ssh-keygen -lf host.key`"
        f" shows with the one that its administrators publish, and only then `cat host.key >>{_file(known_hosts)}`"
    )


def _forget(target: Target, known_hosts: Path | None) -> str:
    name = target.bare_host if target.port is None else f"[{target.bare_host}]:{target.port}"
    return f"`ssh-keygen -R '{name}' -f {_file(known_hosts)}`"


def _file(known_hosts: Path | None) -> str:
    return "~/.ssh/known_hosts" if known_hosts is None else str(known_hosts)


def _shown(complaints: str) -> str:
    """The first lines that say something, on one line."""
    lines = [line.strip() for line in complaints.splitlines() if re.search(r"\w", line) and not line.startswith("@@")]
    telling = [line for line in lines if not _AFTERWARDS.match(line)]
    return printable("; ".join((telling or lines)[:3]))[:500] or "no word of why"
