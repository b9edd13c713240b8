"""Days through a real SLURM of its own: `sbatch` of the master to the first and the last transcript, and who waited.

    python bench/slurm.py [--days 3] [--slots 8] [--clips 4] [--engine whisperx|echo]

A throw-away cluster on loopback, the demonstration model on the CPU, the ledger on PostgreSQL with fsync. The share is
that of a task's seconds in which the engine had a batch: the rest is start-up, reading, decoding, recording.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from db import days, jobs
from db.connect import Connection, connect
from db.embedded import EmbeddedPostgres
from db.migrate import initialise
from db.roles import Roles
from hpc.demo.day import make_day
from hpc.demo.trouble import Trouble

ROOT = Path(__file__).resolve().parent.parent
FIRST = date(2025, 1, 1)
LONGEST = 1800.0  # seconds until a run is given up


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=3)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--engine", choices=("whisperx", "echo"), default="whisperx")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="dayscribe-bench-"))
    try:
        with cluster() as environment:
            print(json.dumps(run(folder, environment, asked), indent=2))
    finally:
        EmbeddedPostgres(folder / "home" / "postgres").stop()
        shutil.rmtree(folder, ignore_errors=True)
    return 0


@contextmanager
def cluster() -> Iterator[dict[str, str]]:
    """The environment of a cluster with one CPU node and one GPU node."""
    base, script = Path(tempfile.mkdtemp(prefix="slurm-")), ROOT / "scripts" / "cluster.sh"
    port = free_ports(6)
    options = {"CTLD_PORT": str(port), "NODE_PORT": str(port + 1), "CPU_NODES": "1", "GPU_NODES": "1"}
    environment = (
        os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin"} | options | {"NODE_PREFIX": f"b{os.getpid()}"}
    )
    subprocess.run([script, "up", base], env=environment, check=True, stdout=subprocess.DEVNULL)
    try:
        yield environment | {"SLURM_CONF": str(base / "slurm.conf")}
    finally:
        subprocess.run([script, "down", base, "--purge"], env=environment, check=False, stdout=subprocess.DEVNULL)


def run(folder: Path, environment: dict[str, str], asked: argparse.Namespace) -> dict[str, Any]:
    """The days, from the master's submission to the last verdict."""
    server = EmbeddedPostgres(folder / "home" / "postgres")
    dsn = server.start()
    with connect(dsn) as connection:
        initialise(connection, Roles.prefixed("dayscribe"))
        site = settings(folder, dsn, asked.engine)
        for number in range(asked.days):
            on = FIRST + timedelta(days=number)
            truth = make_day(
                folder / "audio", site="bench", date=on, slots=asked.slots, clips=asked.clips, seed=7,
                trouble=Trouble.none(), progress=lambda _: None,
            )  # fmt: skip
            add = ["days", "add", str(on), "--site", "bench", "--location", truth.location]
            program = Path(sys.executable).with_name("dayscribe")
            call: list[str | Path] = ["bash", "-c", 'set -a; . "$1"; shift; exec "$@"', "-", site, program, *add]
            subprocess.run(call, env=environment, check=True, stdout=subprocess.DEVNULL)
        began = time.monotonic()
        master = ["sbatch", f"--output={folder}/master.log", "slurm/0_master_scheduler.sh", str(site), "5"]
        subprocess.run(master, env=environment, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        first = until(lambda: seen(connection), began)
        done = until(lambda: finished(connection, asked.days), began)
        closed = until(lambda: not jobs.live(connection), began)
        return told(connection, first=first, done=done, closed=closed) | {"engine": asked.engine}


def settings(folder: Path, dsn: str, engine: str) -> Path:
    """The site's settings in a file."""
    models = ROOT / "models" / "demo"
    values = {
        "HOME": folder / "home", "LEDGER__DSN": dsn, "ENGINE__NAME": engine, "ENGINE__DEVICE": "cpu",
        "ENGINE__MODEL": models / "asr.en", "ENGINE__ALIGNER": models / "aligner", "ENGINE__LANGUAGE": "en",
        "ENGINE__CHUNK_SIZE": "8", "SLURM__PARTITION": "gpu", "SLURM__CPU_PARTITION": "cpu", "SLURM__CPUS": "1",
        "SLURM__MEMORY_GB": "6", "SLURM__FIRST_TASKS": "1", "WORKER__LEASES": "4",
    }  # fmt: skip
    file = folder / "site.env"
    file.write_text("".join(f"DAYSCRIBE_{name}='{value}'\n" for name, value in values.items()).replace("''", "'"))
    return file


def seen(connection: Connection) -> bool:
    return any(days.tally(connection, row["id"])["transcribed"] for row in days.find(connection))


def finished(connection: Connection, count: int) -> bool:
    return bool(sum(row["state"].startswith("completed") for row in days.find(connection)) == count)


def until(true: Callable[[], bool], began: float) -> float:
    """Seconds from the start until it is true."""
    while not true():
        if time.monotonic() - began > LONGEST:
            raise TimeoutError(f"not within {LONGEST:.0f} s")
        time.sleep(0.1)
    return round(time.monotonic() - began, 1)


def told(connection: Connection, *, first: float, done: float, closed: float) -> dict[str, Any]:
    records = [start["record"] for job in jobs.latest(connection) for start in jobs.tasks_of(connection, job["id"])]
    whole = [record for record in records if record and record.get("recordings")]
    tallies = [days.tally(connection, row["id"]) for row in days.find(connection)]
    return {
        "seconds_to_first_transcript": first,
        "seconds_to_last_day": done,
        "seconds_to_last_verdict": closed,
        "recordings": sum(tally["recordings"] for tally in tallies),
        "audio_seconds": round(sum(tally["audio_seconds"] for tally in tallies)),
        "orders": [job["state"] for job in jobs.latest(connection)],
        "engine_share_of_task": share(whole, "seconds"),
        "engine_share_once_loaded": share(whole, "work_seconds"),
        "load_seconds": round(statistics.median([record["load_seconds"] for record in whole]), 1),
    }


def share(records: list[dict[str, Any]], of: str) -> float:
    busy, whole = (float(sum(record[name] for record in records)) for name in ("engine_seconds", of))
    return round(busy / whole, 3)


def free_ports(count: int) -> int:
    """The first of a run of free ports on loopback."""
    for first in range(21_000, 31_000, count):
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    raise OSError("no run of free ports on loopback")


if __name__ == "__main__":
    raise SystemExit(main())
