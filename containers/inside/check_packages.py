"""Are the packages of this Python the ones that a lock names? Exit code 1 tells the differences. %test of images asks.

python check_packages.py LOCK
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import distributions
from pathlib import Path

from packaging.markers import Marker

OURS = "dayscribe"  # installed beside the lock's, and in no lock
BOUND = "/opt/packages"
PIN = re.compile(r"([A-Za-z0-9][\w.-]*)==([^\s;\\]+)\s*(?:;\s*([^\\]+))?")


def wanted(lock: str) -> dict[str, str]:
    """Name and version of what the lock has for this Python on this machine."""
    pins = filter(None, map(PIN.match, lock.splitlines()))
    return {plain(name): version for name, version, rule in (pin.groups() for pin in pins) if applies(rule)}


def applies(rule: str | None) -> bool:
    return rule is None or Marker(rule.strip()).evaluate()


def installed(path: list[str]) -> dict[str, str]:
    """What would be imported: the first on the path of those that have the same name."""
    found: dict[str, str] = {}
    for one in distributions(path=path):
        found.setdefault(plain(one.metadata["Name"]), one.version)
    return found


def differences(lock: Mapping[str, str], here: Mapping[str, str], *, more_may_be: bool) -> Iterator[str]:
    for name in sorted(lock.keys() | here.keys()):
        if name == OURS or (more_may_be and name not in lock):
            continue
        if lock.get(name) != here.get(name):
            yield f"{name}: the lock has {lock.get(name, 'none')}, and here is {here.get(name, 'none')}"


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> int:
    lock = wanted(Path(sys.argv[1]).read_text(encoding="utf-8"))
    # A clone's environment, bound here, has its tools beside the lock's packages.
    found = list(differences(lock, installed(sys.path), more_may_be=BOUND in sys.path))
    print("\n".join(found) if found else f"{len(lock)} packages, as {Path(sys.argv[1]).name} has them")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
