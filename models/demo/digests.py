"""Writes digests.json beside a model's files, so that a changed or missing file is noticed before it is used."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

NAME = "digests.json"


def write(directory: Path) -> None:
    """Lock every file of a model directory by its sha256 and size."""
    files = sorted(path for path in directory.rglob("*") if path.is_file() and path.name != NAME)
    locked = {
        path.relative_to(directory).as_posix(): {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "size": path.stat().st_size,
        }
        for path in files
    }
    (directory / NAME).write_text(json.dumps({"files": locked}, indent=1) + "\n")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        write(Path(argument))
