"""The ledger's numbers for Prometheus."""

from __future__ import annotations

from flask import Response
from prometheus_client import CONTENT_TYPE_LATEST

from monitor import asked
from monitor.api.base import root
from monitor.documents import metrics as documents
from monitor.store import ledger


@root.get("/metrics")
def metrics() -> Response:
    """Gauges in Prometheus' text format; 503 while the ledger does not answer, which Prometheus tells as `up`."""
    asked.known()
    return Response(documents.exposition(ledger()), content_type=CONTENT_TYPE_LATEST)
