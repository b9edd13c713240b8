"""From when on something is amiss: what `dayscribe serve` hands over of the settings alert.*, else their defaults."""

from __future__ import annotations

import math
import os
from datetime import timedelta

from flask import Flask, current_app

from db.amiss import Limits
from db.errors import NeedsConfiguration

# The settings of these names, as the command line knows them.
TICK, SILENT, LAPSED = (f"DAYSCRIBE_ALERT__{name}" for name in ("TICK_MINUTES", "SILENT_HOURS", "LAPSED_MINUTES"))


def install(app: Flask) -> None:
    """Read them once, when the application is made."""
    usual = Limits()
    app.extensions["limits"] = Limits(
        tick=_length(TICK, "minutes", usual.tick),
        silent=_length(SILENT, "hours", usual.silent),
        lapsed=_length(LAPSED, "minutes", usual.lapsed),
    )


def limits() -> Limits:
    """This application's."""
    found: Limits = current_app.extensions["limits"]
    return found


def _length(name: str, unit: str, usual: timedelta) -> timedelta:
    said = os.environ.get(name)
    if said is None:
        return usual
    try:
        number = float(said)
        if not 0 < number < math.inf:
            raise ValueError
        return timedelta(**{unit: number})
    except (ValueError, OverflowError):
        raise NeedsConfiguration(f"{name} is a number of {unit} above 0.") from None
