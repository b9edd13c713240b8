"""What a contest came to as one file: a page or a picture to look at, or JSON to compute with."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from db.printable import escaped_json
from hpc.bench import chart
from hpc.errors import BadSetting


def check(out: Path) -> None:
    """Before anything is measured: whether the result could be written there."""
    if out.suffix not in (".html", ".png", ".json"):
        raise BadSetting(f"--out {out}: say by its ending what to write, .html, .png or .json.")
    if out.suffix == ".png" and importlib.util.find_spec("matplotlib") is None:
        raise BadSetting("A .png needs matplotlib, which is not installed here; the .html needs nothing.")
    if not out.absolute().parent.is_dir() or not os.access(out.absolute().parent, os.W_OK):
        raise BadSetting(f"--out {out}: there is no folder {out.absolute().parent} that could be written to.")


def write(told: Mapping[str, Any], out: Path) -> None:
    """Into one file, as its ending says."""
    if out.suffix == ".png":
        from hpc.bench import picture

        picture.draw(told, out)
    elif out.suffix == ".html":
        out.write_text(chart.page(told), encoding="utf-8")
    else:
        out.write_text(escaped_json(json.dumps(told, ensure_ascii=False, indent=2, allow_nan=False)) + "\n")
