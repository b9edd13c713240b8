"""A finding: what was looked at, what is there, what is wanted, and how to mend it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from db.errors import DayscribeError


class Verdict(StrEnum):
    """How bad a finding is; only `wanting` keeps dayscribe from working."""

    OK = "ok"
    ADVICE = "advice"
    WANTING = "wanting"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    verdict: Verdict
    found: str
    wanted: str = ""
    mend: str = ""


def attempt(what: str, look: Callable[[], str], *, wanted: str = "") -> Finding:
    """What `look` says, or the sentence with which it failed."""
    try:
        return Finding(what, Verdict.OK, look(), wanted)
    except DayscribeError as error:
        return Finding(what, Verdict.WANTING, type(error).__name__, wanted, str(error))


def good_or_wanting(good: bool) -> Verdict:
    return Verdict.OK if good else Verdict.WANTING


def good_or_advice(good: bool) -> Verdict:
    return Verdict.OK if good else Verdict.ADVICE


def nearest(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
