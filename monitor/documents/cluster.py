"""The cluster as our jobs see it: what runs and what waits, how busy the GPUs are, and what the work cost so far."""

from __future__ import annotations

from typing import Any

from db import health, jobs
from db.connect import Connection

ENDED = 20  # jobs shown of those that are over


def cluster(connection: Connection, hour_price: float = 0.0, currency: str = "") -> dict[str, Any]:
    """Live jobs and the last ended ones, and rates: of the last thirty finished days, and of all; the cost to date
    where somebody said what an hour of a GPU costs."""
    recent = jobs.latest(connection, limit=100)
    live = jobs.latest(connection, only_live=True, limit=200)
    names = {job["id"] for job in live}
    work, tasks, gpus = health.work(connection), health.tasks(connection), health.gpus(connection)
    return {
        "live": [_told(job) for job in live],
        "ended": [_told(job) for job in recent if job["id"] not in names][:ENDED],
        "real_time": work["recent_audio"] / work["recent_engine"] if work["recent_engine"] else None,
        "engine_hours": work["engine"] / 3600, "audio_hours": work["audio"] / 3600,
        "task_hours": tasks["work"] / 3600, "tasks": tasks["tasks"],
        "gpu_hours": gpus["hours"], "gpu_busy": gpus["busy"], "gpu_tasks": gpus["tasks"],
        "task_real_time": gpus["real_time"],
        "cost": {"amount": round(gpus["hours"] * hour_price, 2), "currency": currency} if hour_price else None,
    }  # fmt: skip


def _told(job: dict[str, Any]) -> dict[str, Any]:
    names = (
        "id", "token", "site", "date", "kind", "state", "scheduler_id", "tasks", "scheduler_says", "message", "created",
        "finished",
    )  # fmt: skip
    return {name: job[name] for name in names}
