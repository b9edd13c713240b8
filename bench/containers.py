"""What an image costs at its start: nothing at all, and our command, inside and outside.

    python bench/containers.py [--times 20] [--bind SOURCE:DESTINATION] IMAGE ...

An image is a file or a folder. Seconds are medians; the first start is told by itself, as the others find the file in
memory.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

CLOSED = ("--containall", "--cleanenv", "--no-home", "--pwd", "/")  # as jobs run them


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--bind", action="append", default=[])
    parser.add_argument("images", nargs="+", type=Path)
    asked = parser.parse_args()
    runtime = os.environ.get("DAYSCRIBE_CONTAINERS__RUNTIME") or shutil.which("apptainer")
    runtime = runtime or shutil.which("singularity")
    if runtime is None:
        parser.error("there is no apptainer and no singularity in PATH")
    ours = [str(Path(sys.executable).with_name("dayscribe")), "--version"]
    told: dict[str, Any] = {"cores": os.cpu_count(), "times": asked.times}
    told["outside"] = {"version": timed(ours, asked.times)}
    bound = [word for bind in asked.bind for word in ("--bind", bind)]
    for image in asked.images:
        inside = [runtime, "--quiet", "exec", *CLOSED, *bound, str(image)]
        told[image.name] = {
            "first": round(once([*inside, "true"]), 3),
            "nothing": timed([*inside, "true"], asked.times),
            "version": timed([*inside, "dayscribe", "--version"], asked.times),
        }
    print(json.dumps(told, indent=2))
    return 0


def timed(words: list[str], times: int) -> float:
    return round(statistics.median(once(words) for _ in range(times)), 3)


def once(words: list[str]) -> float:
    began = time.monotonic()
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


if __name__ == "__main__":
    raise SystemExit(main())
