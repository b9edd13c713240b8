"""Follows a demonstration on a cluster until its day is over: what squeue shows and the API says, when it changes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

FORMAT = "%.8i %.10P %.36j %.10T %.20R"
OVER = ("completed", "completed_with_errors", "processing_failed", "transfer_failed", "held")
MASTER = "ds-master"
COUNTS = ("shards", "recordings", "transcribed", "no_speech", "quarantined")
PATIENCE = 900.0  # seconds


def main(log: Path) -> int:
    began, shown, state = time.monotonic(), "", ""
    while time.monotonic() - began < PATIENCE:
        day = _day(log)
        state = str(day.get("state", "no answer yet"))
        queue, said = _queue(), f"    API: {_told(day) if day else state}"
        news = "\n".join([*(line for line in queue if MASTER not in line), said])  # the master comes and goes
        if news != shown:
            print("\n".join(["", f"{time.monotonic() - began:5.0f} s", *queue, said]), flush=True)
            shown = news
        if state in OVER:
            return 0
        time.sleep(1)
    print(f"the day is not over after {PATIENCE:.0f} s: {state}", file=sys.stderr)
    return 1


def _queue() -> list[str]:
    """Jobs that wait or run; %R is the node, or why it waits."""
    said = subprocess.run(["squeue", "-h", "-o", FORMAT], capture_output=True, text=True, check=False, timeout=30)
    return said.stdout.splitlines() or ["         (the queue is empty)"]


def _day(log: Path) -> dict[str, Any]:
    """The API's word for the one day there is; {} as long as it gives none."""
    address = re.search(r"http://127\.0\.0\.1:\d+", log.read_text(errors="replace")) if log.exists() else None
    if address is None:
        return {}
    try:
        where = f"{address[0]}/api/v1/days/demo/2025-01-31"
        with urllib.request.urlopen(where, timeout=10) as answer:  # noqa: S310 - loopback
            found: dict[str, Any] = json.load(answer)
    except (urllib.error.URLError, TimeoutError):
        return {}
    return found


def _told(day: dict[str, Any]) -> str:
    tally = day["tally"]
    counts = [f"{tally[name]} {name.replace('_', ' ')}" for name in COUNTS if tally.get(name)]
    return ", ".join([f"the day is {day['state']}", *counts])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
