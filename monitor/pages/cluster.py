"""The cluster, the plans, and whether all is well."""

from __future__ import annotations

import json

from flask import Response

from db import plans as ledger_plans
from monitor import asked
from monitor.answers import plain
from monitor.documents import cluster as documents
from monitor.documents import health as health_documents
from monitor.documents import plans as plan_documents
from monitor.limits import limits, price
from monitor.pages.base import pages, show
from monitor.store import ledger


@pages.get("/cluster")
def cluster() -> Response:
    """Our jobs."""
    asked.known()
    return show("cluster.html", live=True, cluster=documents.cluster(ledger(), *price()))


@pages.get("/plans")
def plans() -> Response:
    """What is being made again."""
    asked.known()
    return show("plans.html", live=True, plans=plan_documents.overview(ledger()))


@pages.get(f"/plans/<{asked.ID}:plan_id>")
def plan(plan_id: int) -> Response:
    """One plan."""
    asked.known()
    told = plan_documents.plan(ledger(), ledger_plans.get(ledger(), plan_id))
    selection = json.dumps(plain(told["selection"]), indent=2, sort_keys=True)
    return show("plan.html", live=told["state"] == "open", plan=told, selection=selection)


@pages.get("/health")
def health() -> Response:
    """Whether all is well."""
    asked.known()
    return show("health.html", live=True, health=health_documents.report(ledger(), limits()))
