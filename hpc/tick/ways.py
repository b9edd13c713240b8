"""What a porter is handed of each site, and some of its words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from db.errors import NeedsConfiguration
from db.names import display
from db.sites import Site
from db.states import TransferState
from hpc.errors import NeedsConsent, NeedsLogin
from hpc.origin import Origin
from hpc.ports import Mover, Source


@dataclass(frozen=True, slots=True)
class Ways:
    """By hpc/wiring."""

    site: Callable[[str], Site]
    origin: Callable[[Site], Origin]
    source: Callable[[Site], Source]
    mover: Callable[[Site, date], Mover]
    staged: Callable[[Site, date], Path]
    room: Callable[
        [Site, int, int], str | None
    ]  # of its staging: bytes, files → why there is no room for them; None: there is


def state_of(error: NeedsConfiguration) -> TransferState | None:
    """The state of a transfer whose mover says this."""
    if isinstance(error, NeedsLogin):
        return TransferState.NEEDS_LOGIN
    return TransferState.NEEDS_CONSENT if isinstance(error, NeedsConsent) else None


def named(rows: Sequence[Mapping[str, Any]]) -> str:
    """The first few, each with its slot and what is wrong with it."""
    said = []
    for row in rows[:3]:
        slot = f"slot {row['slot']}, " if row["slot"] else ""
        said.append(f"{display(row['path'].rpartition(b'/')[2])} ({slot}{row['reason']})")
    return "; ".join(said) + (f"; and {len(rows) - 3} more" if len(rows) > 3 else "")


def counted(files: int) -> str:
    """So many files, in words."""
    return "1 file" if files == 1 else f"{files} files"
