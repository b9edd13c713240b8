"""A cluster with accounting and limits: what sacct adds, what a limit refuses, and what too much memory costs."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

DAYS = ("2025-01-01", "2025-01-02", "2025-01-03")


@pytest.fixture
def site(accounting_cluster: Any, site_on: Callable[..., AbstractContextManager[Any]]) -> Iterator[Any]:
    with site_on(accounting_cluster, SLURM__ACCOUNT="lab") as made:
        yield made


def manage(site: Any, *words: str) -> None:
    site.cluster.run("sacctmgr", "-i", *words, timeout=60)


def test_days_are_done_where_accounting_is_on(site: Any) -> None:
    site.add(DAYS[0])
    site.until_days("completed")
    site.cluster.until(lambda: site.tick() and site.jobs()[0]["state"] == "succeeded", "the job is closed")
    [job] = site.jobs()
    said = site.cluster.run("sacct", "-n", "-P", "-X", "-j", job["scheduler_id"], "-o", "JobName,State").stdout.split()
    assert set(said) == {f"ds-{DAYS[0]}-{job['token']}|COMPLETED"}


def test_a_limit_makes_the_order_smaller_and_then_blocks_with_its_reason(site: Any) -> None:
    """Six tasks are wanted and three may be submitted: three are; the next day is told why it has to wait."""
    manage(site, "modify", "qos", "normal", "set", "MaxSubmitJobsPerUser=3")
    try:
        site.write(SLURM__FIRST_TASKS="6", SLURM__OPTIONS="--hold")
        for on in DAYS:
            site.add(on, archives=6)
        said = site.tick()
        assert [(job["state"], job["tasks"]) for job in site.jobs()] == [("submitted", 3), ("blocked", 1)]
        assert "limit" in site.jobs()[1]["message"].lower()
        assert "takes no more jobs now" in said
        assert set(site.days().values()) == {"ready_to_process"}
    finally:
        manage(site, "modify", "qos", "normal", "set", "MaxSubmitJobsPerUser=-1")


def test_a_task_that_takes_too_much_memory_ends_by_name_and_is_not_tried_for_ever(site: Any) -> None:
    constrained = "TaskPlugin=task/cgroup" in (site.cluster.base / "slurm.conf").read_text()
    site.write(SLURM__FIRST_TASKS="1", SLURM__OPTIONS="--mem=20M", SCHEDULE__ATTEMPTS="2")
    site.add(DAYS[0], archives=2)
    if not constrained:  # without cgroups nothing holds a job to its memory
        site.until_days("completed")
        return
    site.until_days("processing_failed")
    assert [job["state"] for job in site.jobs()] == ["failed", "failed"]
    assert "OUT_OF_MEMORY" in site.jobs()[0]["message"]
    assert site.rows() == []


def test_a_renamed_job_is_still_known(site: Any) -> None:
    site.variables |= {"DAYSCRIBE_FAULTS_ARMED": "yes", "DAYSCRIBE_JOB_FAULT": "record.committed:stop"}
    site.write(SLURM__FIRST_TASKS="1")
    site.add(DAYS[0])
    site.tick()
    site.variables.clear()
    [job] = site.jobs()
    site.cluster.until(site.rows, "a first part is recorded")
    site.cluster.run("scontrol", "update", f"jobid={job['scheduler_id']}", "name=mine")
    site.tick()
    assert [job["state"] for job in site.jobs()] == ["running"]
    site.signal(signal.SIGCONT)
    site.until_days("completed")
    assert len(site.jobs()) == 1
