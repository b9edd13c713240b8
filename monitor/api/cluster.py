"""The calendar, a shard, the cluster, the plans and the health, as the pages show them."""

from __future__ import annotations

from flask import Response
from werkzeug.exceptions import NotFound

from db import plans as ledger_plans
from monitor import asked
from monitor.answers import answer
from monitor.api.base import v1
from monitor.documents import calendar as calendar_documents
from monitor.documents import cluster as cluster_documents
from monitor.documents import day as day_documents
from monitor.documents import health as health_documents
from monitor.documents import plans as plan_documents
from monitor.limits import limits, price
from monitor.named import site_asked
from monitor.store import ledger


@v1.get("/calendar")
def calendar() -> Response:
    """A year's days of each site."""
    asked.known("site", "year")
    site, year = site_asked(), asked.number("year", 0, low=0, high=9999) or None
    return answer(calendar_documents.year(ledger(), site, year))


@v1.get(f"/shards/<{asked.ID}:shard_id>")
def one_shard(shard_id: int) -> Response:
    """A shard with its parts."""
    asked.known()
    told = day_documents.shard(ledger(), shard_id)
    if told is None:
        raise NotFound(f"The ledger has no shard {shard_id}.")
    return answer(told)


@v1.get("/cluster")
def cluster() -> Response:
    """Our jobs, and what the work took."""
    asked.known()
    return answer(cluster_documents.cluster(ledger(), *price()))


@v1.get("/plans")
def list_plans() -> Response:
    """The plans, newest first."""
    asked.known()
    return answer({"plans": plan_documents.overview(ledger())})


@v1.get(f"/plans/<{asked.ID}:plan_id>")
def one_plan(plan_id: int) -> Response:
    """One plan, and how far it is."""
    asked.known()
    return answer(plan_documents.plan(ledger(), ledger_plans.get(ledger(), plan_id)))


@v1.get("/health")
def health() -> Response:
    """Whether all is well, finding by finding."""
    asked.known()
    return answer(health_documents.report(ledger(), limits()))
