"""How a day went, on its page and in the API: transfers, jobs by three witnesses, a timeline, and how fast."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from flask.testing import FlaskClient

from db import jobs, listings, transfers
from db.jobs import TaskStart
from db.states import JobState, TaskEnd, TransferState
from monitor.documents.course import STARTS

DAY = "/days/zurich/2025-01-31"
API = f"/api/v1{DAY}/course"
NOON = datetime(2025, 2, 1, 12, tzinfo=UTC)
SAID = {
    "scheduler": {"COMPLETED": 1, "NODE_FAIL": 1},
    "exit_records": {"done": 1, "no exit record": 1},
    "ledger": {"open_shards": 2, "fruitful": True},
}


def ordered(a_day: Any) -> jobs.Job:
    """An order of the day's, as a tick writes it, asked for at noon."""
    made = jobs.intend(
        a_day.connection, token=jobs.new_token(), kind="process", owner="ada", tasks=2, settings={}, code="c",
        day_id=a_day.open.id,
    )  # fmt: skip
    assert made is not None
    a_day.connection.execute("UPDATE jobs SET created = %s WHERE id = %s", [NOON, made])
    return next(job for job in jobs.live(a_day.connection) if job.id == made)


def start(task: int, end: TaskEnd | None, reason: str = "", *, restart: int = 0, node: str = "n1") -> TaskStart:
    """A start of an hour, half an hour after noon."""
    began = NOON + timedelta(minutes=30)
    return TaskStart(
        task, restart, node, "COMPLETED" if end else "RUNNING", None if end is None else 75, end,
        {"reason": reason} if end else None, began, began + timedelta(hours=1) if end else None,
    )  # fmt: skip


def moved(a_day: Any, message: str) -> int:
    """A transfer of the day's archives that is over, from eight to ten."""
    file = listings.Listed(path=b"0.tar.xz", kind="archive", slot=None, size=1000)
    listings.take(a_day.connection, a_day.open.id, [file], staged="/audio", at_hand=False, actor="ada")
    made = transfers.intend(
        a_day.connection, a_day.open.id, "archives", owner="ada", submission=uuid4(), limit=10, attempts=5
    )
    assert made is not None
    [one] = transfers.live(a_day.connection, made)
    transfers.close(a_day.connection, one, TransferState.FAILED, message, moved=(512, 1), skipped=3)
    times = [NOON - timedelta(hours=4), NOON - timedelta(hours=2), made]
    a_day.connection.execute("UPDATE transfers SET created = %s, finished = %s WHERE id = %s", times)
    return made


def closed(a_day: Any, job: jobs.Job) -> None:
    """The job is over, judged by all three, two hours after noon."""
    jobs.close(a_day.connection, job, JobState.FAILED, "the node failed", witnesses=SAID)
    values = [NOON + timedelta(hours=2), job.id]
    a_day.connection.execute("UPDATE jobs SET finished = %s WHERE id = %s", values)


def told(client: FlaskClient) -> dict[str, Any]:
    answer = client.get(API)
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    found: dict[str, Any] = answer.get_json()
    return found


def region(client: FlaskClient, name: str) -> str:
    """One live part of the day's page, without its tags and with its white space as one."""
    page = client.get(DAY).text
    [part] = re.findall(rf'<section id="{name}" data-live.*?</section>', page, re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", part).split())


def test_a_day_tells_its_transfers_with_state_and_message(client: FlaskClient, a_day: Any) -> None:
    number = moved(a_day, "1 file is not here")

    [transfer] = told(client)["transfers"]
    assert (transfer["id"], transfer["state"], transfer["message"]) == (number, "failed", "1 file is not here")
    shown = region(client, "transfers")
    assert f"{number} archives failed 1 of 1 512 B of 1.0 kB 1 file is not here (3 skipped)" in shown


def test_the_timeline_goes_from_transfer_through_queue_to_work_and_a_table_says_the_same(
    client: FlaskClient, a_day: Any
) -> None:
    moved(a_day, "all there")
    job = ordered(a_day)
    jobs.put_starts(a_day.connection, job.id, [start(0, TaskEnd.DONE), start(1, None)])
    closed(a_day, job)

    course = told(client)
    spans = [(span["phase"], span["what"], span["began"][11:16], span["ended"][11:16]) for span in course["timeline"]]
    assert spans == [
        ("transfer", "archives", "08:00", "10:00"),
        ("queue", f"job {job.id}", "12:00", "12:30"),
        ("work", f"job {job.id}", "12:30", "13:30"),
    ]
    assert course["now"] is None
    shown = region(client, "timeline")
    assert f"work job {job.id} 2025-02-01 12:30:00 UTC 2025-02-01 13:30:00 UTC 1 h" in shown
    page = client.get(DAY).text
    widths = dict(re.findall(r'<rect class="phase-(\w+)" x="[\d.]+" y="\d+" width="([\d.]+)"', page))
    assert {phase: round(float(width)) for phase, width in widths.items()} == {
        "transfer": round(534 * 2 / 5.5), "queue": round(534 * 0.5 / 5.5), "work": round(534 / 5.5),
    }  # fmt: skip
    assert " style=" not in page


def test_what_goes_on_is_drawn_to_this_minute_and_said_to_go_on(client: FlaskClient, a_day: Any) -> None:
    job = ordered(a_day)
    waits = told(client)
    jobs.put_starts(a_day.connection, job.id, [start(0, TaskEnd.DONE), start(1, None)])
    works = told(client)

    assert [(span["phase"], span["ended"]) for span in waits["timeline"]] == [("queue", None)]
    assert [(span["phase"], span["ended"] is None) for span in works["timeline"]] == [("queue", False), ("work", True)]
    assert works["now"].endswith(":00+00:00"), "a page that waits for a job is not another one each second"
    assert "goes on" in region(client, "timeline")


def test_a_job_that_ended_before_it_began_only_waited(client: FlaskClient, a_day: Any) -> None:
    closed(a_day, ordered(a_day))
    assert [(span["phase"], span["ended"][11:16]) for span in told(client)["timeline"]] == [("queue", "14:00")]


def test_a_plans_jobs_are_told_and_take_no_part_in_the_days_timeline(client: FlaskClient, a_day: Any) -> None:
    job, connection = ordered(a_day), a_day.connection
    plan = connection.execute(
        "INSERT INTO plans (selection, who, run_key, receipt, recordings, seconds)"
        " VALUES ('{}', 'ada', decode(repeat('00', 16), 'hex'), '{}', 0, 0) RETURNING id"
    ).fetchone()["id"]
    connection.execute("UPDATE jobs SET plan_id = %s WHERE id = %s", [plan, job.id])

    course = told(client)
    assert [one["plan_id"] for one in course["jobs"]] == [plan]
    assert [span["what"] for span in course["timeline"]] == ["without jobs"]
    assert f'<a href="/plans/{plan}">' in client.get(DAY).text


def test_a_day_worked_without_jobs_has_its_work_in_the_timeline(client: FlaskClient, a_day: Any) -> None:
    [span] = told(client)["timeline"]
    assert (span["phase"], span["what"]) == ("work", "without jobs")
    assert span["began"] <= span["ended"]
    assert "work without jobs" in region(client, "timeline")


def test_a_job_that_is_over_is_told_by_its_three_witnesses_and_its_tasks_own_words(
    client: FlaskClient, a_day: Any
) -> None:
    job = ordered(a_day)
    ends = [start(0, TaskEnd.INFRASTRUCTURE, "no usable GPU", node="n7"), start(0, TaskEnd.DONE, restart=1)]
    jobs.put_starts(a_day.connection, job.id, ends)
    closed(a_day, job)

    [one] = told(client)["jobs"]
    assert one["witnesses"] == SAID
    assert [(row["restart"], row["node"], row["ended_as"], row["reason"]) for row in one["starts"]] == [
        (0, "n7", "infrastructure", "no usable GPU"), (1, "n1", "done", ""),
    ]  # fmt: skip
    shown = region(client, "jobs")
    assert "1 COMPLETED, 1 NODE_FAIL 1 done, 1 no exit record 2 shards open the node failed" in shown
    assert "0 n7 COMPLETED infrastructure: no usable GPU 75" in shown
    assert "0, restart 1 n1 COMPLETED done 75" in shown


def test_of_a_live_job_each_witness_says_what_is_known_now(client: FlaskClient, a_day: Any) -> None:
    job, connection = ordered(a_day), a_day.connection
    jobs.submitted(connection, job.id, "77")
    jobs.seen(connection, job.id, state=JobState.RUNNING, says="1 PENDING (Priority)", message=None, missing=False)
    begun = [start(0, TaskEnd.CRASH), start(0, None, restart=1), start(1, TaskEnd.DONE)]
    jobs.put_starts(connection, job.id, begun)

    [one] = told(client)["jobs"]
    assert one["witnesses"] == {
        "scheduler": "1 PENDING (Priority)",
        "exit_records": {"no exit record": 1, "done": 1},  # of each task its last start
        "ledger": {"open_shards": 2},
    }
    assert "1 PENDING (Priority) 1 done, 1 no exit record 2 shards open" in region(client, "jobs")


def test_of_many_starts_those_that_ended_badly_are_shown_first(client: FlaskClient, a_day: Any) -> None:
    job = ordered(a_day)
    many = [start(task, TaskEnd.DONE) for task in range(STARTS + 10)]
    jobs.put_starts(a_day.connection, job.id, [*many, start(STARTS + 10, TaskEnd.CRASH, "it broke")])

    [one] = told(client)["jobs"]
    assert len(one["starts"]) == STARTS
    assert one["starts"][-1]["reason"] == "it broke"


def test_speed_is_told_in_recordings_and_in_audio_where_that_is_known(client: FlaskClient, a_day: Any) -> None:
    connection = a_day.connection
    rows = connection.execute(
        "SELECT p.shard_id AS shard, p.audio_seconds AS noted, sum(coalesce(r.seconds, 0)) AS seconds"
        " FROM parts p JOIN recordings r ON r.part_id = p.id GROUP BY p.id ORDER BY p.id"
    ).fetchall()
    assert [row["noted"] for row in rows] == pytest.approx([row["seconds"] for row in rows]), "a part knows its audio"
    connection.execute(
        "INSERT INTO parts (name, shard_id, epoch, run_id, sha256, size, recordings, state, recorded, audio_seconds)"
        " SELECT p.name || n, p.shard_id, p.epoch, p.run_id, p.sha256, p.size, 5, 'sealed',"
        " %s + n * interval '1 minute', CASE n WHEN 3 THEN NULL ELSE 120 * n END"
        " FROM parts p, generate_series(1, 3) n WHERE p.shard_id = %s",
        [NOON, rows[1]["shard"]],
    )

    speed = [row for row in told(client)["speed"] if row["minute"].startswith("2025-02-01T12")]
    assert [row["audio_seconds"] for row in speed] == [120, 240, None]
    shown = client.get(DAY).text
    assert "Recordings a minute: from" in shown
    assert "Seconds of audio a second: from 12:01" in shown


def test_a_failed_shard_leads_to_its_page(client: FlaskClient, a_day: Any) -> None:
    [failed] = client.get(f"/api/v1{DAY}").get_json()["failed_shards"]
    assert failed["slot"] == "00_10"
    assert f'<a href="/shards/{failed["id"]}"><bdi>{failed["name"]}</bdi></a>' in client.get(DAY).text


def test_what_movers_schedulers_and_nodes_say_adds_nothing_to_the_page(client: FlaskClient, a_day: Any) -> None:
    def grown(text: str) -> tuple[int, str]:
        a_day.connection.execute("UPDATE transfers SET message = %s", [text])
        a_day.connection.execute("UPDATE jobs SET message = %s, scheduler_says = %s", [text, text])
        told = "UPDATE job_tasks SET node = %s, scheduler_says = %s, record = jsonb_build_object('reason', %s::text)"
        a_day.connection.execute(told, [text] * 3)
        page = client.get(DAY)
        assert page.status_code == 200
        assert client.get(API).status_code == 200
        return page.text.count("<"), page.text

    moved(a_day, "x")
    jobs.put_starts(a_day.connection, ordered(a_day).id, [start(0, TaskEnd.CRASH, "x")])
    elements, _ = grown("calm")
    for text in ("</bdi></table><h1>", "<script>alert(1)</script>", "\u202egpj.exe", "{{7*7}}"):
        again, page = grown(text)
        assert again == elements, text
        assert "\u202e" not in page
