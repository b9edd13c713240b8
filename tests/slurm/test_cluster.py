"""The cluster that the other tests stand on behaves like a real one where they rely on it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"}


def ended(cluster: Any, job: str) -> dict[str, str]:
    """Its tasks' states once none of them runs or waits."""
    cluster.until(lambda: (now := set(cluster.states(job).values())) and now <= ENDED, f"job {job} has ended", 40)
    return dict(cluster.states(job))


def listening(pid: int) -> list[str]:
    """The addresses on which a process listens for TCP, as the kernel writes them."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(str(link.readlink()).removeprefix("socket:[").removesuffix("]"))
        except FileNotFoundError:
            continue  # closed meanwhile
    rows = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()
    ]
    return [row[1] for row in rows if row[3] == "0A" and row[9] in inodes]


def left_of(base: Path) -> list[str]:
    """The commands of live processes that this cluster started, or that were started for it."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                if os.fsencode(base) in (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes():
                    found.append((folder / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
    return found


def test_daemons_listen_on_loopback_only(cluster: Any) -> None:
    nodes = cluster.run("sinfo", "-h", "-N", "-o", "%N").stdout.split()
    assert len(nodes) == 3
    for daemon in ["slurmctld", *nodes]:
        addresses = listening(cluster.pid(daemon))
        assert addresses and {address.partition(":")[0] for address in addresses} == {"0100007F"}, daemon


def test_a_job_sees_the_gpu_that_slurm_gave_it(cluster: Any, tmp_path: Path) -> None:
    words = 'echo "$SLURMD_NODENAME $CUDA_VISIBLE_DEVICES $SLURM_JOB_GPUS"; sleep 2'
    job = cluster.sbatch(
        "--partition=gpu", "--gres=gpu:h100:1", "--array=0-3", f"--output={tmp_path}/%a.txt", f"--wrap={words}"
    )
    assert set(ended(cluster, job).values()) == {"COMPLETED"}
    seen = [(tmp_path / f"{n}.txt").read_text().split() for n in range(4)]
    assert {gpu for _, gpu, _ in seen} == {"0", "1"}
    assert all(visible == given for _, visible, given in seen)


def test_without_a_gpu_asked_for_a_job_sees_none(cluster: Any, tmp_path: Path) -> None:
    job = cluster.sbatch(f"--output={tmp_path}/out.txt", '--wrap=echo "GPUs:$CUDA_VISIBLE_DEVICES."')
    assert ended(cluster, job) == {job: "COMPLETED"}
    assert (tmp_path / "out.txt").read_text() == "GPUs:.\n"


def test_a_job_over_its_memory_ends_out_of_memory(cluster: Any, tmp_path: Path) -> None:
    held = "proctrack/cgroup" in (cluster.base / "slurm.conf").read_text()  # without cgroups nothing holds it to that
    greedy = "python3 -c 'print(len(bytearray(400 << 20)))'"
    job = cluster.sbatch("--mem=50M", f"--output={tmp_path}/out.txt", f"--wrap={greedy}")
    assert ended(cluster, job) == {job: "OUT_OF_MEMORY" if held else "COMPLETED"}


@pytest.mark.parametrize("daemon", ["slurmctld", "cpu1"])
def test_a_restarted_daemon_takes_up_its_job_again(cluster: Any, tmp_path: Path, daemon: str) -> None:
    name = daemon if daemon == "slurmctld" else cluster.run("sinfo", "-h", "-p", "cpu", "-o", "%N").stdout.strip()
    flag, began = tmp_path / "go", tmp_path / "began"
    job = cluster.sbatch(
        f"--output={tmp_path}/out.txt", f"--wrap=touch {began}; until [ -e {flag} ]; do sleep 0.1; done"
    )
    # RUNNING is the controller's word alone: a node that is killed before it has the job loses it.
    cluster.until(began.exists, "the job runs")
    old = cluster.pid(name)
    cluster.restart(name)
    assert cluster.pid(name) != old
    flag.touch()
    assert ended(cluster, job) == {job: "COMPLETED"}


def test_nothing_is_left_running_after_down(own_cluster: Callable[..., AbstractContextManager[Any]]) -> None:
    with own_cluster(CPU_NODES="1", GPU_NODES="0", NODE_PREFIX=f"d{os.getpid()}") as small:
        job = small.sbatch("--output=/dev/null", "--wrap=setsid sleep 1000 & sleep 1000")
        small.until(lambda: small.states(job) == {job: "RUNNING"}, "the job runs")
        assert left_of(small.base) != []
    assert left_of(small.base) == []
    assert not small.base.exists()


def test_up_twice_says_that_it_is_up_and_a_failed_start_leaves_nothing(
    cluster: Any, own_cluster: Callable[..., AbstractContextManager[Any]]
) -> None:
    script = Path(__file__).parents[2] / "scripts" / "cluster.sh"
    assert cluster.run(script, "up", cluster.base).stdout == f"already up: {cluster.base}\n"
    taken = str(cluster.run("scontrol", "show", "config").stdout.partition("SlurmctldPort")[2].split()[1])
    with (
        pytest.raises(AssertionError, match="the start failed"),
        own_cluster(CPU_NODES="1", GPU_NODES="0", NODE_PREFIX=f"f{os.getpid()}", EXTRA_CONF=f"SlurmctldPort={taken}x"),
    ):
        raise RuntimeError("it started")  # pragma: no cover


def test_accounting_answers_sacct(accounting_cluster: Any, tmp_path: Path) -> None:
    job = accounting_cluster.sbatch("--gres=gpu:1", "-p", "gpu", "--output=/dev/null", "--wrap=exit 3")
    assert ended(accounting_cluster, job) == {job: "FAILED"}
    question = ("sacct", "-n", "-X", "-P", "-j", job, "-o", "JobID,State,ExitCode,Account")
    accounting_cluster.until(
        lambda: accounting_cluster.run(*question).stdout == f"{job}|FAILED|3:0|lab\n", "sacct knows how the job ended"
    )


def test_without_accounting_sacct_says_so(cluster: Any) -> None:
    said = cluster.run("sacct", "-n", check=False)
    assert (said.returncode, "accounting storage is disabled" in said.stderr) == (1, True), said


def test_a_wrong_command_prints_the_usage() -> None:
    script = Path(__file__).parents[2] / "scripts" / "cluster.sh"
    done = subprocess.run([script, "sideways"], capture_output=True, text=True, check=False)
    assert done.returncode == 64
    assert "cluster.sh up BASE" in done.stderr
