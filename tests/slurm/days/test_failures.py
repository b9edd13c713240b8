"""What goes wrong on a real cluster, made to go wrong: no work is lost or done twice, and every end has its name."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from db.states import TaskEnd

DAY = "2025-01-01"
FROZEN = {"DAYSCRIBE_FAULTS_ARMED": "yes", "DAYSCRIBE_JOB_FAULT": "record.committed:stop"}
SHARDS, CLIPS = 6, 2


def ends(site: Any, job: int) -> list[str | None]:
    return [record.ended_as for record in site.records(job)]


def whole(site: Any) -> bool:
    """Every clip of the day was heard once, in its first version."""
    rows = site.rows()
    return len(rows) == SHARDS * CLIPS and {(row[5], row[7]) for row in rows} == {("transcribed", 1)}


@pytest.fixture
def at_work(site: Any) -> Iterator[dict[str, Any]]:
    """A job of one task, frozen after its first part was recorded."""
    site.write(SLURM__FIRST_TASKS="1", WORKER__PART_RECORDINGS=str(CLIPS))
    site.variables |= FROZEN
    site.add(DAY, archives=SHARDS, clips=CLIPS)
    site.tick()
    site.variables.clear()
    [job] = site.jobs()
    site.cluster.until(site.rows, "a first part is recorded")
    yield job
    site.signal(signal.SIGCONT)


def state_of(site: Any, job: dict[str, Any]) -> str:
    return " ".join(site.cluster.states(job["scheduler_id"]).values())


def test_a_silent_controller_is_no_news(site: Any, at_work: dict[str, Any]) -> None:
    """Stopped, it answers nobody: the job is unknown, nothing is closed, ordered or given up."""
    site.write(SLURM__COMMAND_SECONDS="2")
    site.cluster.signal("slurmctld", signal.SIGSTOP)
    try:
        said = site.tick()
        assert "does not answer" in said
        assert [(job["state"], job["finished"]) for job in site.jobs()] == [("unknown", None)]
    finally:
        site.cluster.signal("slurmctld", signal.SIGCONT)
    site.signal(signal.SIGCONT)
    site.until_days("completed")
    site.cluster.until(lambda: site.tick() and site.jobs()[0]["state"] == "succeeded", "the job is closed")
    assert len(site.jobs()) == 1
    assert whole(site)


def test_a_lost_answer_is_found_again_by_its_token(site: Any, tmp_path: Path) -> None:
    """The controller freezes while it is asked: sbatch gives up, and the job is there all the same."""
    site.write(SLURM__FIRST_TASKS="1", SLURM__COMMAND_SECONDS="3")
    real = site.cluster.run("bash", "-c", "command -v sbatch").stdout.strip()
    pid = site.cluster.pid("slurmctld")
    wrapper = f'#!/bin/bash\nkill -STOP {pid}\n(exec -a thaw bash -c "sleep 6; kill -CONT {pid}") >/dev/null 2>&1 &\n'
    (tmp_path / "sbatch").write_text(f'{wrapper}exec {real} "$@"\n')
    (tmp_path / "sbatch").chmod(0o755)
    site.add(DAY, archives=SHARDS, clips=CLIPS)
    site.variables["PATH"] = f"{tmp_path}:{site.cluster.environment['PATH']}"
    assert "no answer" in site.tick()
    [job] = site.jobs()
    assert (job["state"], job["scheduler_id"]) == ("intent", None)
    site.variables.clear()
    site.until_days("completed")
    queue = site.cluster.run("squeue", "-h", "-t", "all", "-o", "%j").stdout.split()
    [only] = site.jobs()
    assert only["token"] == job["token"]
    assert len({name for name in queue if job["token"] in name}) == 1
    assert whole(site)


def test_the_warning_signal_ends_a_task_in_good_order_and_the_day_goes_on(site: Any, at_work: dict[str, Any]) -> None:
    """What SLURM sends before the time is up reaches the program; it settles what is whole and leaves with 75."""
    site.cluster.run("scancel", "--batch", "--signal=USR1", at_work["scheduler_id"])
    site.signal(signal.SIGCONT)
    site.cluster.until(lambda: ends(site, at_work["id"]) == ["stopped"], "the task says that it was stopped")
    assert [record.exit_code for record in site.records(at_work["id"])] == [75]
    site.until_days("completed")
    site.cluster.until(lambda: site.tick() and site.jobs()[0]["finished"], "the first job is closed")
    assert site.jobs()[0]["state"] == "failed"
    assert "stop was asked for" in site.jobs()[0]["message"]
    assert whole(site)


def test_what_somebody_cancels_is_not_done_against_his_will(site: Any, at_work: dict[str, Any]) -> None:
    site.cluster.run("scancel", at_work["scheduler_id"])
    site.signal(signal.SIGCONT)
    site.cluster.until(lambda: site.tick() and site.days()[DAY] == "held", "the day is held")
    site.tick()
    assert [job["state"] for job in site.jobs()] == ["cancelled"]
    site.cluster.until(lambda: not site.processes(), "no process of the job is left")
    site.dayscribe("days", "release", DAY)
    site.until_days("completed")
    assert whole(site)


def test_a_requeued_job_goes_on_where_it_was(site: Any, at_work: dict[str, Any]) -> None:
    site.cluster.run("scontrol", "requeue", f"{at_work['scheduler_id']}_0")
    site.signal(signal.SIGCONT)
    site.cluster.until(lambda: len(site.records(at_work["id"])) == 2, "the task begins again", seconds=60)
    assert [record.restart for record in site.records(at_work["id"])] == [0, 1]
    site.signal(signal.SIGCONT)
    site.cluster.until(
        lambda: site.signal(signal.SIGCONT) or site.records(at_work["id"])[-1].ended, "the second start ends"
    )
    site.until_days("completed")
    assert whole(site)


def test_a_node_that_fails_with_its_job_alive_costs_nothing_and_doubles_nothing(
    site: Any, at_work: dict[str, Any]
) -> None:
    """The node's daemon is killed, the job lives on; SLURM starts a second copy elsewhere, then both go on."""
    node = site.cluster.run("squeue", "-h", "-j", at_work["scheduler_id"], "-o", "%N").stdout.strip()
    site.cluster.signal(node, signal.SIGKILL)
    site.cluster.run("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    try:
        site.cluster.until(lambda: len(site.records(at_work["id"])) == 2, "a second copy begins", seconds=60)
        first, second = site.records(at_work["id"])
        assert (first.node, first.restart) == (node, 0)
        assert second.restart >= 1  # SLURM 24 counts the node's failure and the person's word for it
        assert second.node != node
        site.cluster.until(
            lambda: site.signal(signal.SIGCONT) or None not in ends(site, at_work["id"]), "both copies end"
        )
    finally:
        site.cluster.restart(node)
        site.cluster.run("scontrol", "update", f"nodename={node}", "state=resume", check=False)
    site.until_days("completed")
    assert whole(site)
    assert set(ends(site, at_work["id"])) <= {TaskEnd.DONE, TaskEnd.TRY_AGAIN}


def test_a_gpu_that_is_not_there_is_never_made_up_for_by_the_cpu(site: Any) -> None:
    site.write(ENGINE__DEVICE="auto", SLURM__FIRST_TASKS="1", SCHEDULE__ATTEMPTS="2", SLURM__REQUEUE="false")
    site.add(DAY, archives=1, clips=1)
    site.tick()
    site.until_days("processing_failed")
    assert site.rows() == []
    assert [job["state"] for job in site.jobs()] == ["failed", "failed"]
    assert "its order asks for one" in site.jobs()[0]["message"]
    assert {end for job in site.jobs() for end in ends(site, job["id"])} == {TaskEnd.INFRASTRUCTURE}
    site.dayscribe("days", "retry", DAY)
    assert "left out" not in site.tick()  # no other node is known that could do better


def test_what_cannot_be_submitted_is_blocked_with_its_reason(site: Any) -> None:
    site.write(SLURM__PARTITION="nowhere")
    site.add(DAY, archives=1)
    assert "invalid partition" in site.tick().lower()
    site.tick()
    [job] = site.jobs()
    assert job["state"] == "blocked"
    assert "invalid partition" in job["message"].lower()
    site.write(SLURM__PARTITION="gpu")
    site.until_days("completed")
    assert [job["id"] for job in site.jobs()] == [job["id"]]


def test_another_partition_replaces_what_waits(site: Any) -> None:
    site.write(SLURM__OPTIONS="--hold")
    site.add(DAY, archives=SHARDS, clips=CLIPS)
    site.tick()
    assert "took back" not in site.tick()
    site.write(SLURM__PARTITION="cpu", SLURM__GRES="none", SLURM__OPTIONS="")
    assert "took back" in site.tick()
    site.until_days("completed")
    site.cluster.until(lambda: site.tick() and site.jobs()[1]["state"] == "succeeded", "the second order is closed")
    assert [job["state"] for job in site.jobs()] == ["replaced", "succeeded"]
    assert whole(site)


def test_a_drained_scheduler_orders_nothing_and_takes_back_what_waits(site: Any) -> None:
    site.write(SLURM__OPTIONS="--hold")
    site.add(DAY, archives=1)
    site.tick()
    site.write(SLURM__OPTIONS="")
    said = site.dayscribe("schedule", "--drain", "upgrade")
    assert "took back" in said
    site.cluster.until(lambda: site.tick() and site.jobs()[0]["state"] == "replaced", "the order is over")
    assert site.days()[DAY] == "ready_to_process"
    site.dayscribe("schedule", "--resume")
    site.until_days("completed")


def test_a_job_that_the_scheduler_forgot_is_never_a_success_without_its_records(
    own_cluster: Callable[..., AbstractContextManager[Any]], site_on: Callable[..., AbstractContextManager[Any]]
) -> None:
    """Accounting off, the controller forgets after seconds: the task was killed and left no word."""
    prefix = f"p{os.getpid()}"
    with (
        own_cluster(CPU_NODES="1", GPU_NODES="1", GPUS_PER_NODE="1", NODE_PREFIX=prefix, MIN_JOB_AGE="2") as small,
        site_on(small, SLURM__FIRST_TASKS="1", SCHEDULE__VANISH_SECONDS="1") as site,
    ):
        site.variables |= FROZEN
        site.add(DAY, archives=SHARDS, clips=CLIPS)
        site.tick()
        site.variables.clear()
        [job] = site.jobs()
        site.cluster.until(site.rows, "a first part is recorded")
        site.tick()
        site.signal(signal.SIGKILL)
        site.cluster.until(lambda: not site.cluster.states(job["scheduler_id"]), "the controller has forgotten it")
        site.cluster.until(lambda: site.tick() and site.jobs()[0]["state"] == "failed", "the job is over")
        assert "does not know it any more" in site.jobs()[0]["message"]
        site.until_days("completed")
        assert whole(site)


def test_a_job_that_no_node_takes_waits_with_slurm_s_reason_and_is_not_ordered_twice(site: Any) -> None:
    nodes = site.cluster.run("sinfo", "-h", "-p", "gpu", "-o", "%N").stdout.strip()
    site.cluster.run("scontrol", "update", f"nodename={nodes}", "state=drain", "reason=test")
    try:
        site.add(DAY, archives=SHARDS, clips=CLIPS)
        site.tick()
        site.cluster.until(lambda: site.tick() and "(" in (site.jobs()[0]["scheduler_says"] or ""), "a reason is shown")
        [job] = site.jobs()
        assert (job["state"], job["scheduler_says"].startswith("2 PENDING (")) == ("submitted", True)
    finally:
        site.cluster.run("scontrol", "update", f"nodename={nodes}", "state=resume")
    site.until_days("completed")
    assert len(site.jobs()) == 1


def test_a_preempted_job_begins_again_and_goes_on_where_it_was(
    own_cluster: Callable[..., AbstractContextManager[Any]], site_on: Callable[..., AbstractContextManager[Any]]
) -> None:
    """A more important job takes the node; SLURM requeues ours, which finds what it had recorded."""
    prefix = f"q{os.getpid()}"
    extra = (
        "PreemptType=preempt/partition_prio\nPreemptMode=REQUEUE\n"
        f"PartitionName=urgent Nodes={prefix}gpu1 PriorityTier=10 MaxTime=INFINITE State=UP"
    )
    one = {"CPU_NODES": "1", "GPU_NODES": "1", "GPUS_PER_NODE": "1", "NODE_CPUS": "1", "NODE_PREFIX": prefix}
    with (
        own_cluster(EXTRA_CONF=extra, **one) as small,
        site_on(small, SLURM__FIRST_TASKS="1", WORKER__PART_RECORDINGS=str(CLIPS)) as site,
    ):
        site.variables |= FROZEN
        site.add(DAY, archives=SHARDS, clips=CLIPS)
        site.tick()
        site.variables.clear()
        [job] = site.jobs()
        small.until(site.rows, "a first part is recorded")
        urgent = small.sbatch("--partition=urgent", "--mem=100M", "--output=/dev/null", "--wrap=true")
        small.until(lambda: "COMPLETED" in small.states(urgent).values(), "the urgent job is through")  # ours is frozen
        small.until(lambda: site.signal(signal.SIGCONT) or len(ends(site, job["id"])) == 2, "ours begins again")
        small.until(lambda: site.signal(signal.SIGCONT) or site.records(job["id"])[-1].ended, "the second start ends")
        site.until_days("completed")
        assert len(site.jobs()) == 1
        assert whole(site)
