"""From when on something is amiss, and what a GPU costs: as `dayscribe serve` hands it over from the settings."""

from __future__ import annotations

import math
import os
from datetime import timedelta
from typing import NamedTuple

from flask import Flask, current_app

from db.amiss import Limits
from db.errors import NeedsConfiguration

# The settings of these names, as the command line knows them.
TICK, SILENT, LAPSED = (f"DAYSCRIBE_ALERT__{name}" for name in ("TICK_MINUTES", "SILENT_HOURS", "LAPSED_MINUTES"))
PRICE, CURRENCY = "DAYSCRIBE_SERVE__GPU_HOUR_PRICE", "DAYSCRIBE_SERVE__CURRENCY"


class Price(NamedTuple):
    """Of an hour of a GPU; 0: nobody said."""

    hour: float
    currency: str


def install(app: Flask) -> None:
    """Read them once, when the application is made."""
    usual = Limits()
    app.extensions["limits"] = Limits(
        tick=_length(TICK, "minutes", usual.tick),
        silent=_length(SILENT, "hours", usual.silent),
        lapsed=_length(LAPSED, "minutes", usual.lapsed),
    )
    app.extensions["price"] = Price(_price(), os.environ.get(CURRENCY, ""))


def limits() -> Limits:
    """This application's."""
    found: Limits = current_app.extensions["limits"]
    return found


def price() -> Price:
    """What the cost to date is told by."""
    found: Price = current_app.extensions["price"]
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


def _price() -> float:
    try:
        number = float(os.environ.get(PRICE, "0"))
        if not 0 <= number < math.inf:
            raise ValueError
    except ValueError:
        raise NeedsConfiguration(f"{PRICE} is a number, 0 or more.") from None
    return number
