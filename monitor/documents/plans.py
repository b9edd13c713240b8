"""Plans: what is being made again, how far that is, and what it takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from db import plans, redo
from db.connect import Connection
from db.plans import Plan

MOST = 100


def overview(connection: Connection) -> list[dict[str, Any]]:
    """The plans, newest first."""
    names = (
        "id",
        "stage",
        "state",
        "who",
        "why",
        "recordings",
        "seconds",
        "created",
        "finished",
        "shards",
        "open_shards",
        "failed_shards",
    )
    return [{name: row[name] for name in names} for row in plans.latest(connection, limit=MOST)]


def plan(connection: Connection, one: Plan) -> dict[str, Any]:
    """One plan: its selection, how many of its recordings came to what, by reason and day, and its commands."""
    names = (
        "id",
        "stage",
        "state",
        "who",
        "why",
        "forced",
        "keep_current",
        "recordings",
        "seconds",
        "created",
        "started",
        "finished",
    )
    adoption = redo.adoption(connection, one)
    return {name: getattr(one, name) for name in names} | {
        "selection": one.selection, "estimate": one.estimate, "foreseen": one.foreseen(), "summary": one.summary,
        "outcomes": plans.outcomes(connection, one.id), "awaited": plans.awaited(connection, one.id),
        "adoption": adoption, "reasons": plans.by_reason(connection, one.id)[:500],
        "commands": _commands(one, adoption),
    }  # fmt: skip


def _commands(one: Plan, adoption: Mapping[str, int] | None) -> list[str]:
    verbs = {
        plans.DRAWN: ["reprocess --plan"],
        plans.OPEN: ["plans pause", "plans cancel"],
        plans.PAUSED: ["plans resume", "plans cancel"],
    }.get(one.state, [])
    failed = one.summary and (one.summary.get("failed") or one.summary.get("failed_shards"))
    if one.state == plans.DONE and failed:
        verbs = ["plans resume"]
    if one.state in (plans.DONE, plans.CANCELLED) and adoption and adoption["left"]:
        verbs = [*verbs, "plans adopt"]
    return [f"dayscribe {verb} {one.id}" for verb in ("plans show", *verbs)]
