"""Whether we answer, the reference pipeline's status, and the API's own description."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from flask import Response

from db import days, migrate
from monitor import asked
from monitor.answers import answer
from monitor.api.base import root, v1
from monitor.store import ledger

FRAGMENTS = Path(__file__).parents[1] / "openapi"  # one file for each module of routes; base.json is what they share


@root.get("/healthz")
def healthz() -> Response:
    """This process answers."""
    asked.known()
    return answer({"status": "ok"})


@root.get("/readyz")
def readyz() -> Response:
    """The ledger answers too, and we speak its schema."""
    asked.known()
    return answer({"status": "ok", "schema": migrate.check(ledger())})


@root.get("/pipeline/status")
def pipeline_status() -> Response:
    """Days by state and the last completions, in the reference pipeline's own shape."""
    asked.known()
    connection = ledger()
    summary = {
        row["status"]: {"count": row["count"], "oldest": row["oldest"], "newest": row["newest"]}
        for row in days.status(connection)
    }
    recent = [{key: row[key] for key in ("date", "duration", "files")} for row in days.recent(connection)]
    return answer({"status_summary": summary, "recent_completions": recent, "timestamp": datetime.now(UTC)})


@v1.get("/openapi.json")
def openapi() -> Response:
    """What this API offers, for programs."""
    asked.known()
    return Response(_document(), mimetype="application/json")


def document() -> dict[str, Any]:
    """The OpenAPI document, put together of its fragments."""
    whole: dict[str, Any] = json.loads((FRAGMENTS / "base.json").read_text(encoding="utf-8"))
    for file in sorted(FRAGMENTS.glob("*.json")):
        if file.name != "base.json":
            more = json.loads(file.read_text(encoding="utf-8"))
            whole["paths"] |= more["paths"]
            whole["components"]["schemas"] |= more.get("schemas", {})
    for path, operation in whole["paths"].items():
        anyway = ("304",) if path == "/healthz" else ("304", "429")
        operation["get"]["responses"] |= {status: {"$ref": f"#/components/responses/{status}"} for status in anyway}
    return whole


@cache
def _document() -> str:
    return json.dumps(document(), ensure_ascii=False)
