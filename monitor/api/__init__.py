"""The routes: the reference pipeline's status, and everything of the ledger under /api/v1; a module a subject."""

from __future__ import annotations

from monitor.api import cluster, days, metrics, recordings, search, service  # noqa: F401 - each puts its routes on the blueprints
from monitor.api.base import root, v1

__all__ = ["root", "v1"]
