"""Measures the master scheduler: how long a tick takes, and how often it asks SLURM, next to one job a shard.

    python bench/scheduler.py [--json] [--days 10,100,1000] [--shards 144]

A durable server of its own (fsync on) and the real launcher; SLURM's commands are scripts on PATH that answer at once,
show every task as running, and note each call. So what is timed is ours: a real sbatch adds its own time an order.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from db import days, jobs, shards, sites
from db.connect import Connection, connect
from db.embedded import EmbeddedPostgres
from db.migrate import initialise
from db.roles import Roles
from db.session import Session
from db.states import DayState, JobState
from hpc import wiring
from hpc.config import Settings
from hpc.scheduler import tick
from hpc.sections import LedgerSettings, SlurmSettings

TICKS = ("first: orders", "second: all running", "third: nothing changed")
COMPARED = ("sbatch", "squeue_a_round", "squeue_an_hour")
POLLS = 60.0  # rounds an hour of the reference: its master asks each minute, by one squeue for each job
SIZE = 100_000_000  # bytes of a shard

# The cluster in four scripts and three files: `calls` has a line a call, `queue` one a task, `last` the last job's id.
# Only the shell's own words, because every process that a script starts would be timed as ours.
SCRIPTS = {
    "sbatch": """
        name=none tasks=1
        for word; do
            case $word in
                --job-name=*) name=${word#*=} ;;
                --array=0-*) tasks=${word#*=0-} tasks=$((${tasks%%[%]*} + 1)) ;;
            esac
        done
        read -r job <'HERE/last'
        job=$((job + 1)) task=0
        echo $job >'HERE/last'
        while [ $task -lt $tasks ]; do
            echo "${job}_$task|RUNNING|gpu|(null)|(null)|n1|None|$name"
            task=$((task + 1))
        done >>'HERE/queue'
        echo $job
    """,
    "squeue": "exec cat 'HERE/queue'",
    "sacct": "",
    "scancel": "",
}


class Cluster:
    """SLURM's commands as scripts in a folder, and what was asked of them."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.bin = folder, folder / "bin"
        self.bin.mkdir(parents=True)
        self.clear()
        for name, body in SCRIPTS.items():
            script = self.bin / name
            text = f"#!/bin/sh\necho {name} >>'HERE/calls'\n{body}\n"
            script.write_text(text.replace("HERE", str(folder)))
            script.chmod(0o755)

    def clear(self) -> None:
        """Forget all jobs and all calls."""
        for name, text in (("calls", ""), ("queue", ""), ("last", "0\n")):
            (self._folder / name).write_text(text)

    def asked(self) -> Counter[str]:
        """How often each command was called since the last time this was asked."""
        calls = self._folder / "calls"
        counts = Counter(calls.read_text().split())
        calls.write_text("")
        return counts


def main() -> None:
    """Run all measures and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--days", default="10,100,1000")
    parser.add_argument("--shards", type=int, default=144)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cluster = Cluster(folder / "cluster")
        os.environ["PATH"] = f"{cluster.bin}{os.pathsep}{os.environ['PATH']}"
        ticks = []
        for count in map(int, wanted.days.split(",")):
            for most in (SlurmSettings().most_tasks, count * SlurmSettings().tasks_per_day):
                ticks += _ticks(folder / f"{count}-{most}", cluster, count, wanted.shards, most)
                if not wanted.json:
                    _print_ticks(ticks[-len(TICKS) :])
        ways = _ways(folder / "ways", cluster, wanted.shards)
    if wanted.json:
        print(json.dumps({"ticks": ticks, "ways": ways}, indent=2))
    else:
        _print_ways(ways)


def _ticks(folder: Path, cluster: Cluster, count: int, of_day: int, most: int) -> list[dict[str, Any]]:
    """Three ticks over so many open days; each has a world of its own, as the ticks of cron have."""
    rows = []
    cluster.clear()
    with _ledger(folder, count, of_day) as dsn:
        slurm = SlurmSettings(most_tasks=most)
        settings = Settings(home=folder / "home", ledger=LedgerSettings(dsn=dsn), slurm=slurm)
        for name in TICKS:
            with wiring.session(settings) as session:
                seconds, orders = _tick(settings, session)
                running = sum(job.state == JobState.RUNNING for job in session(jobs.live))
            assert running == (0 if name == TICKS[0] else orders), (running, orders)
            asked = cluster.asked()
            rows.append(
                {
                    "days": count,
                    "shards": count * of_day,
                    "most_tasks": most,
                    "tick": name,
                    "seconds": round(seconds, 3),
                    "orders": orders,
                    **{command: asked[command] for command in SCRIPTS},
                }
            )
    return rows


def _tick(settings: Settings, session: Session) -> tuple[float, int]:
    """Seconds of one tick, and the orders that are out after it; a tick that met trouble is no measure."""
    world = wiring.world(settings, session)
    began = time.perf_counter()
    report = tick(world)
    seconds = time.perf_counter() - began
    assert {line.what for line in report.waits} <= {"crowded"}, report.waits
    submitted = sum(line.what == "submitted" for line in report.did)
    before = report.saw["orders"]
    assert isinstance(before, int)
    return seconds, before + submitted


@contextmanager
def _ledger(folder: Path, count: int, of_day: int) -> Iterator[str]:
    """A ledger with so many days that are ready to be processed; its planner knows them, as that of an old one does."""
    server = EmbeddedPostgres(folder / "postgres")
    try:
        dsn = server.start()
        with connect(dsn) as connection:
            initialise(connection, Roles.prefixed("bench"))
            with connection.transaction():
                _fill(connection, count, of_day)
            connection.execute("VACUUM ANALYZE")
        yield dsn
    finally:
        server.stop()


def _fill(connection: Connection, count: int, of_day: int) -> None:
    site = sites.put(connection, "bench", location="/nowhere")
    days.add(connection, site.id, [date(2020, 1, 1) + timedelta(days=number) for number in range(count)])
    names = [f"{number:06}.tar.xz" for number in range(of_day)]
    new = [shards.NewShard(name, (name.encode(),), SIZE) for name in names]
    for day in days.find(connection, limit=count):
        shards.add(connection, day["id"], new, revision=0, max_attempts=5)
        days.move(connection, day["id"], DayState.READY_TO_PROCESS, actor="bench")


def _ways(folder: Path, cluster: Cluster, of_day: int) -> list[dict[str, Any]]:
    """One day submitted and looked at once, in three ways, every call counted by the same scripts."""
    first, second, _ = _ticks(folder, cluster, 1, of_day, SlurmSettings().most_tasks)
    an_hour = 3600 / SlurmSettings().every_seconds
    ours = _way("dayscribe: an array a day", of_day, Counter(first), Counter(second), an_hour)
    ways = [ours]
    for name, each in (("a job a shard, one squeue for all", False), ("the reference: a squeue a job", True)):
        cluster.clear()
        ids = [_say("sbatch", "--parsable", "process.sh", "2020-01-01", str(number)) for number in range(of_day)]
        submitting = cluster.asked()
        for question in [["-j", job] for job in ids] if each else [["-u", "me"]]:
            _say("squeue", *question, "-h", "-o", "%T")
        ways.append(_way(name, of_day, submitting, cluster.asked(), POLLS))
    ours = dict(ours)  # not rounded
    for way in ways:
        way["times_ours"] = {key: round(way[key] / ours[key], 1) for key in COMPARED}
        way |= {key: round(way[key], 2) for key in COMPARED}
    return ways


def _way(name: str, of_day: int, submitting: Counter[str], polling: Counter[str], an_hour: float) -> dict[str, Any]:
    """Calls for every 1,000 shards. Those of an hour are reckoned: the round's, at the pace of its polling."""
    each = 1000 / of_day
    return {
        "way": name,
        "counted": {
            "shards": of_day,
            "sbatch": submitting["sbatch"],
            "squeue_submitting": submitting["squeue"],
            "squeue_a_round": polling["squeue"],
        },
        "rounds_an_hour": an_hour,
        "sbatch": submitting["sbatch"] * each,
        "squeue_a_round": polling["squeue"] * each,
        "squeue_an_hour": polling["squeue"] * each * an_hour,
    }


def _say(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def _print_ticks(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        asked = ", ".join(f"{row[command]} {command}" for command in SCRIPTS)
        print(
            f"{row['days']:>5} days, most_tasks {row['most_tasks']:>6}  {row['tick']:<23} {row['seconds']:>8.3f} s"
            f"  {row['orders']:>5} orders out  {asked}",
            flush=True,
        )


def _print_ways(ways: list[dict[str, Any]]) -> None:
    shown = ways[0]["counted"]["shards"]
    print(f"\nCalls for every 1,000 shards; in brackets: times ours. Counted on one day of {shown} shards:")
    for way in ways:
        counts = way["counted"]
        print(
            f"{way['way']:<34} {counts['sbatch']:>3} sbatch, {counts['squeue_submitting']} squeue while submitting,"
            f" {counts['squeue_a_round']:>3} squeue a round"
        )
    for way in ways:
        sbatch, a_round, an_hour = (f"{way[key]:,} ({way['times_ours'][key]:,})" for key in COMPARED)
        print(
            f"{way['way']:<34} sbatch {sbatch:<16} squeue a round {a_round:<16}"
            f" an hour of {way['rounds_an_hour']:.0f} rounds {an_hour}"
        )


if __name__ == "__main__":
    main()
