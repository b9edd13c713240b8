"""What the routes share: their two blueprints, and what a path or a parameter names in the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flask import Blueprint, url_for
from werkzeug.exceptions import NotFound

from db import reports
from monitor.store import ledger

root = Blueprint("root", __name__)
v1 = Blueprint("v1", __name__)


def the_recording(recording_id: int) -> dict[str, Any]:
    """The recording that a path names."""
    row = reports.recording(ledger(), recording_id)
    if row is None:
        raise NotFound(f"The ledger has no recording {recording_id}.")
    return row


def following(route: str, found: Sequence[Mapping[str, Any]], limit: int, **place: Any) -> str | None:
    """Where the next page of recordings is; None after the last."""
    return url_for(route, **place, limit=limit, after=found[-1]["id"]) if len(found) == limit else None
