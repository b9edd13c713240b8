"""A plan through the job scripts on a real cluster, with and without a ledger on the nodes."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from db import plans
from db.connect import connect

DATES = ("2025-01-01", "2025-01-02")


@pytest.mark.parametrize("reaches", ["true", "false"], ids=["with a ledger on the nodes", "without"])
def test_a_plan_gets_jobs_makes_what_was_shown_and_moves_no_day(
    cluster: Any, site_on: Callable[..., AbstractContextManager[Any]], reaches: str
) -> None:
    with site_on(cluster, SCHEDULE__LEDGER_ON_NODES=reaches, SLURM__FIRST_TASKS="2") as site:
        site.add(*DATES, archives=4)
        site.until_days("completed")
        before = site.rows()
        site.write(ENGINE__LANGUAGE="de")
        chosen = ("--from", DATES[0], "--to", DATES[1], "--only", "duration>0")
        shown = json.loads(site.dayscribe("-q", "reprocess", *chosen, "--reason", "test", "--dry-run", "--json"))
        assert shown["recordings"] == 2 * 4 * 3
        site.tick()
        assert {job["kind"] for job in site.jobs()} == {"process"}, "what was only shown gets no job"
        site.dayscribe("reprocess", "--plan", str(shown["plan"]))

        def done() -> bool:
            site.tick()
            with connect(site.dsn) as connection:
                return plans.get(connection, shown["plan"]).state == "done"

        cluster.until(done, f"the plan is done: {site.jobs()}", 90)
        with connect(site.dsn) as connection:
            summary = plans.get(connection, shown["plan"]).summary
            languages = connection.execute(
                "SELECT t.language, t.version, count(*) AS n FROM recordings r JOIN transcripts t"
                " ON t.id = r.current_id GROUP BY 1, 2"
            ).fetchall()
        assert summary is not None
        assert (summary["remade"], summary["failed"], summary["left"]) == (24, 0, 0)
        assert [tuple(row.values()) for row in languages] == [("de", 2, 24)]
        assert [row[:-1] for row in site.rows()] == [row[:-1] for row in before], "but for the version all is as it was"
        assert set(site.days().values()) == {"completed"}
        redone = [job for job in site.jobs() if job["kind"] == "redo"]
        assert sorted(job["date"].isoformat() for job in redone) == list(DATES)
        cluster.until(
            lambda: site.tick() and {job["state"] for job in site.jobs()} == {"succeeded"}, "the jobs are closed"
        )


@pytest.mark.parametrize("reaches", ["true", "false"], ids=["with a ledger on the nodes", "without"])
def test_jobs_that_align_time_the_words_of_texts_that_stay(
    cluster: Any, site_on: Callable[..., AbstractContextManager[Any]], reaches: str
) -> None:
    seen = "SELECT r.id, t.text, t.version, t.words FROM recordings r JOIN transcripts t ON t.id = r.current_id"
    with site_on(cluster, SCHEDULE__LEDGER_ON_NODES=reaches, SLURM__FIRST_TASKS="2") as site:
        site.add(DATES[0], archives=2)
        site.until_days("completed")

        def readers_see() -> dict[int, tuple[str, int, bytes]]:
            with connect(site.dsn) as connection:
                return {row["id"]: (row["text"], row["version"], row["words"]) for row in connection.execute(seen)}

        before = readers_see()
        site.dayscribe("-q", "reprocess", "--date", DATES[0], "--stage", "align")

        def done() -> bool:
            site.tick()
            with connect(site.dsn) as connection:
                return plans.get(connection, 1).state == "done"

        cluster.until(done, f"the plan is done: {site.jobs()}", 90)
        with connect(site.dsn) as connection:
            plan = plans.get(connection, 1)
        assert plan.summary is not None
        assert (plan.stage, plan.summary["remade"], plan.summary["failed"]) == ("align", len(before), 0)
        after = readers_see()
        assert {one: (text, version) for one, (text, version, _) in after.items()} == {
            one: (text, 2) for one, (text, _, _) in before.items()
        }
        assert all(after[one][2] != before[one][2] for one in before), "the words have new times"
