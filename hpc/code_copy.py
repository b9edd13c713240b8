"""A copy of our own code under its digest: what an ordered job runs, whatever is installed when its turn comes."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

from hpc.receipt import code_digest

PACKAGES = ("db", "hpc", "monitor")


def keep(home: Path) -> tuple[str, Path]:
    """The digest of this program and the folder with its copy, which is made if it is not there yet."""
    digest, root = code_digest(), Path(__file__).resolve().parent.parent
    folder = home / "code" / digest[:16]
    if not folder.is_dir():
        making = folder.with_name(f".new-{secrets.token_hex(4)}")
        for package in PACKAGES:
            ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
            shutil.copytree(root / package, making / package, ignore=ignore)
        try:
            making.rename(folder)
        except OSError:  # another tick was quicker
            shutil.rmtree(making, ignore_errors=True)
            if not folder.is_dir():
                raise
    return digest, folder
