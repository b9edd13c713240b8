"""Says what an exception is and where it arose, without repeating what it says: that could be somebody's words."""

from __future__ import annotations

import traceback
from pathlib import Path

# Raised by machines and libraries about themselves; none of them quotes a transcript.
_SAFE = (MemoryError, OSError, RuntimeError)
_LONGEST = 200  # characters


def blame(error: BaseException) -> str:
    """One line, safe to store and to show."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    said = " ".join(str(error).split())[:_LONGEST] if isinstance(error, _SAFE) else ""
    return f"{type(error).__name__}{place}" + (f": {said}" if said else "")
