"""Whole days through the job scripts on a real cluster: dispatched by the master, with and without a ledger there."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from db import days, transcripts
from db.connect import connect
from hpc.demo.day import make_day
from hpc.demo.score import score
from hpc.demo.trouble import Trouble

ROOT = Path(__file__).parents[3]
DATES = ("2025-01-01", "2025-01-02", "2025-01-03")


@pytest.mark.speech
def test_a_backlog_drains_by_itself_once_the_master_is_submitted(
    cluster: Any, site_on: Callable[..., AbstractContextManager[Any]]
) -> None:
    """Three days of eight archives, the real engine with the demonstration model, and nothing else typed."""
    models = ROOT / "models" / "demo"
    real = {
        "ENGINE__NAME": "whisperx",
        "ENGINE__MODEL": str(models / "asr.en"),
        "ENGINE__ALIGNER": str(models / "aligner"),
        "ENGINE__LANGUAGE": "en",
        "ENGINE__CHUNK_SIZE": "8",
        "SLURM__FIRST_TASKS": "1",
        "SLURM__MEMORY_GB": "6",
        "WORKER__LEASES": "4",
        "WORKER__LEASE_SECONDS": "30",
    }
    with site_on(cluster, **real) as site:
        truths = []
        for on in DATES:
            truth = make_day(
                site.folder / "audio", site="zurich", date=date.fromisoformat(on), slots=8, clips=2, seed=7,
                trouble=Trouble.none(), progress=lambda _=1: None,
            )  # fmt: skip
            truths.append(truth)
            site.dayscribe("days", "add", on, "--site", "zurich", "--location", truth.location)
        site.master(every=4)
        cluster.until(lambda: set(site.days().values()) == {"completed"}, "the days are done", seconds=240)
        cluster.until(lambda: {job["state"] for job in site.jobs()} == {"succeeded"}, "the jobs are closed")
        assert [job["tasks"] for job in site.jobs()] == [1, 1, 1]
        for on, truth in zip(DATES, truths, strict=True):
            with connect(site.dsn) as connection:
                day = days.get(connection, "zurich", date.fromisoformat(on))
                found = score(truth, list(transcripts.of_day(connection, day.id)))
            assert found.unexpected == 0
            assert found.word_error_rate < 0.05


@pytest.mark.parametrize("exchange", ["no", "yes"], ids=["a tick beside the commands", "a tick that asks in files"])
def test_the_same_days_give_the_same_rows_with_and_without_a_ledger_on_the_nodes(
    cluster: Any, site_on: Callable[..., AbstractContextManager[Any]], exchange: str
) -> None:
    found = []
    for reaches in ("true", "false"):
        with site_on(cluster, SCHEDULE__LEDGER_ON_NODES=reaches) as site:
            site.add(*DATES)
            with site.file.open("a") as file:
                file.write(f"DAYSCRIBE_EXCHANGE={exchange}\n")
            site.master(every=2)
            cluster.until(lambda: set(site.days().values()) == {"completed"}, "the days are done")
            cluster.until(lambda: {job["state"] for job in site.jobs()} == {"succeeded"}, "the jobs are closed")
            found.append(site.rows())
            given = "".join(path.read_text() for path in site.home.glob("jobs/*/job.env"))
            assert (site.dsn in given.replace("'\"'\"'", "'")) == (reaches == "true")
    assert len(found[0]) == 3 * 8 * 3
    assert found[0] == found[1]


def test_a_tick_asks_the_queue_once_whatever_the_number_of_jobs(site: Any, tmp_path: Path) -> None:
    log = tmp_path / "asked"
    for name in ("squeue", "sacct", "sbatch"):
        real = site.cluster.run("bash", "-c", f"command -v {name}").stdout.strip()
        (tmp_path / name).write_text(f'#!/bin/bash\necho {name} >>{log}\nexec {real} "$@"\n')
        (tmp_path / name).chmod(0o755)
    site.variables["PATH"] = f"{tmp_path}:{site.cluster.environment['PATH']}"
    site.add(*DATES, archives=2)
    counts = []
    for _ in range(2):
        log.write_text("")
        site.tick()
        asked = log.read_text().split()
        counts.append((asked.count("squeue"), asked.count("sacct") <= 1, asked.count("sbatch")))
    assert counts == [(1, True, 3), (1, True, 0)]


def test_a_job_shows_others_nothing_but_its_day_and_an_opaque_name(site: Any) -> None:
    """Asked by another user of the system: the queue, the job, the processes."""
    canary = "cAnArY-7f3a"
    site.variables |= {"PGPASSWORD": canary, "SECRET_OF_MINE": canary}
    site.variables |= {"DAYSCRIBE_FAULTS_ARMED": "yes", "DAYSCRIBE_JOB_FAULT": "record.committed:stop"}
    site.add(DATES[0])
    site.tick()
    [job] = site.jobs()
    site.until_started(job["id"])
    ask = "squeue -o '%all'; scontrol -o show job; ps -eo args; ps e -eo args 2>/dev/null"
    seen = site.cluster.run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "bash", "-c", ask).stdout
    assert job["token"] in seen
    assert canary not in seen
    kept = dict(site.kept())
    assert "job.env" in {path.name for path in kept}
    assert [path for path, text in kept.items() if canary.encode() in text] == []
    assert f"JobName=ds-{DATES[0]}-{job['token']} " in seen
    site.signal(signal.SIGCONT)
    report = json.loads(site.dayscribe("schedule", "--once", "--json"))
    assert canary not in json.dumps(report)
