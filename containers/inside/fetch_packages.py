"""Fetches the wheels that a lock names and a folder lacks. %post of images runs it with the environment's installer.

    python fetch_packages.py LOCK FOLDER

The folder outlives the build, so that a second try downloads nothing and a build without a network is possible. What an
interrupted one has fetched stays, in whole files; a file whose digest is not in the lock does not count.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from pip._vendor.packaging.markers import Marker

AT_ONCE = 6  # files a call of pip, which keeps nothing of a call that is killed
DIGEST = re.compile(r"--hash=sha256:([0-9a-f]{64})")
RULE = re.compile(r";([^\\\n]+)")


def pins(lock: str) -> Iterator[str]:
    """The lock's entries for this Python on this machine, each with its hashes."""
    for entry in re.findall(r"^[A-Za-z0-9].*(?:\n[ \t]+.*)*", lock, re.MULTILINE):
        rule = RULE.search(entry.partition("\n")[0])
        if rule is None or Marker(rule[1].strip()).evaluate():
            yield entry


def fetch(entries: list[str], folder: Path) -> None:
    """Download these, and let them into the folder when they are whole."""
    partial = folder / "partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    names = partial / "requirements.txt"
    names.write_text("\n".join(entries) + "\n", encoding="utf-8")
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--no-cache-dir", "--progress-bar", "off", "--no-deps",
         "--only-binary", ":all:", "--require-hashes", "-d", str(partial), "-r", str(names)],
        check=True,
    )  # fmt: skip
    for wheel in partial.glob("*.whl"):
        wheel.replace(folder / wheel.name)
    shutil.rmtree(partial)


def digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def main() -> int:
    lock, folder = Path(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    there = {digest(wheel) for wheel in folder.glob("*.whl")}
    missing = [entry for entry in pins(lock.read_text(encoding="utf-8")) if there.isdisjoint(DIGEST.findall(entry))]
    print(f"{len(missing)} packages of {lock.name} to download", flush=True)
    for first in range(0, len(missing), AT_ONCE):
        fetch(missing[first : first + AT_ONCE], folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
