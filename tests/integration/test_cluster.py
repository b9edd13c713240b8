"""The cluster's page and route: what tasks held of the GPUs, how busy these were, and what that cost."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

from db import jobs
from db.errors import NeedsConfiguration
from db.jobs import TaskStart
from db.states import TaskEnd
from monitor import create_app

NOON = datetime(2025, 2, 1, 12, tzinfo=UTC)


def held(a_day: Any, hours: list[float | None], *, kind: str = "process", gres: str = "gpu:1", **record: float) -> None:
    """A job whose tasks held their node for so long (None: one that began an hour ago and goes on)."""
    settings = {"gres": gres}
    job = jobs.intend(
        a_day.connection, token=jobs.new_token(), kind=kind, owner="ada", tasks=len(hours), settings=settings, code="c"
    )
    assert job is not None
    a_day.connection.execute("UPDATE jobs SET state = 'failed', finished = %s WHERE id = %s", [NOON, job])
    if None in hours:
        a_day.connection.execute("UPDATE jobs SET state = 'running', finished = NULL WHERE id = %s", [job])
    starts = [
        TaskStart(
            place, 0, "n1", ended_as=TaskEnd.DONE, record=record or None, began=NOON, ended=NOON + timedelta(hours=took)
        )
        if took is not None
        else TaskStart(place, 0, "n1", began=datetime.now(UTC) - timedelta(hours=1))
        for place, took in enumerate(hours)
    ]
    jobs.put_starts(a_day.connection, job, starts)


def told(client: FlaskClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/api/v1/cluster").get_json()
    return found


def words(client: FlaskClient) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", client.get("/cluster").text).split())


def test_gpus_are_counted_from_begin_to_end_of_each_task_by_what_was_asked_for(client: FlaskClient, a_day: Any) -> None:
    assert (told(client)["gpu_hours"], told(client)["gpu_busy"], told(client)["task_real_time"]) == (0, None, None)
    for gres, hours in (("gpu:1", [1.0, 2.0]), ("gpu:a100:4", [0.5]), ("gpu", [0.25]), ("none", [8.0])):
        held(a_day, [*hours], gres=gres)
    held(a_day, [16.0], kind="doctor")
    assert told(client)["gpu_hours"] == pytest.approx(1 + 2 + 4 * 0.5 + 0.25)
    held(a_day, [None])
    assert told(client)["gpu_hours"] == pytest.approx(6.25, abs=0.01), "what goes on counts until now"


def test_gpus_are_busy_while_the_engine_works_and_idle_while_it_loads_or_fails(client: FlaskClient, a_day: Any) -> None:
    held(a_day, [1.0], engine_seconds=1800.0, work_seconds=3000.0, audio_seconds=30_000.0)
    held(a_day, [1.0], engine_seconds=3600.0, work_seconds=3600.0, audio_seconds=72_000.0)
    held(a_day, [1.0], engine_seconds=900.0, work_seconds=1000.0, audio_seconds=50_000.0)
    held(a_day, [2.0])  # it never came to work

    found = told(client)
    assert (found["gpu_busy"], found["gpu_tasks"]) == (pytest.approx(6300 / (5 * 3600)), 4)
    assert found["task_real_time"] == pytest.approx(20)
    shown = words(client)
    assert "GPU busy 35 % of the time that the last 4 tasks with a GPU had" in shown
    assert "speed of a task 20.0×" in shown


def test_what_was_made_without_a_gpu_is_told_as_no_gpus_work(client: FlaskClient, a_day: Any) -> None:
    held(a_day, [1.0], gres="none", engine_seconds=1800.0, work_seconds=3000.0, audio_seconds=30_000.0)

    found = told(client)
    assert found["engine_hours"] > 0, "a finished day, on whatever device"
    assert (found["gpu_hours"], found["gpu_busy"], found["gpu_tasks"]) == (0, None, 0)
    assert found["task_real_time"] == pytest.approx(10)
    shown = words(client)
    assert f"audio per engine hour {found['audio_hours'] / found['engine_hours']:.1f} h" in shown
    assert "GPU busy –" in shown
    assert re.findall(r"GPU hours (.*?) 0\.0", shown) == ["held"]


def test_a_cost_is_told_where_somebody_said_what_an_hour_costs(
    client: FlaskClient, a_day: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    held(a_day, [2.0, 1.5])
    assert told(client)["cost"] is None
    assert "cost to date" not in words(client)
    monkeypatch.setenv("DAYSCRIBE_SERVE__GPU_HOUR_PRICE", "2.5")
    monkeypatch.setenv("DAYSCRIBE_SERVE__CURRENCY", "CHF")
    priced = create_app(a_day.dsn).test_client()
    assert told(priced)["cost"] == {"amount": 8.75, "currency": "CHF"}
    assert "cost to date 8.75 CHF" in words(priced)


@pytest.mark.parametrize("said", ["", "much", "-1", "nan", "inf"])
def test_a_price_that_is_none_is_refused_when_the_application_is_made(
    said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAYSCRIBE_SERVE__GPU_HOUR_PRICE", said)
    with pytest.raises(NeedsConfiguration, match="DAYSCRIBE_SERVE__GPU_HOUR_PRICE is a number"):
        create_app("")
