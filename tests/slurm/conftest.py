"""A real Slurm on loopback for the tests: one without accounting, one with, each for the whole session."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "cluster.sh"
PORTS = 8


def clean() -> dict[str, str]:
    """Our environment without what would change Slurm's answers, and with the folder of its daemons."""
    ours = {name: value for name, value in os.environ.items() if not re.match("(SLURM|SBATCH|SQUEUE)_", name)}
    return ours | {"PATH": f"{ours.get('PATH', '/usr/bin:/bin')}:/usr/sbin"}


def free(ports: range) -> bool:
    """Whether nobody listens on any of these."""
    with ExitStack() as held:
        try:
            for port in ports:
                held.enter_context(socket.socket()).bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_ports() -> int:
    """The first of a run of free ports, below those that the kernel gives out by itself."""
    # Sessions side by side have neighbouring process numbers. Each begins to look far from where the others do: between
    # our look and the daemon's bind somebody else may come.
    offset = os.getpid() * 97 * PORTS
    for step in range(0, 20_000, PORTS):
        first = 10_000 + (offset + step) % 20_000
        if free(range(first, first + PORTS)):
            return first
    raise AssertionError("there is no run of free ports on loopback")


@dataclass(frozen=True)
class Cluster:
    """A running cluster and how to talk to it."""

    base: Path
    environment: dict[str, str]

    def run(self, *argv: str | Path, timeout: float = 30, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program as a user of this cluster; what it wrote is in the failure's message."""
        done = subprocess.run(
            argv, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout,
            check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{argv} exited {done.returncode}: {done.stdout}{done.stderr}"
        return done

    def sbatch(self, *argv: str | Path) -> str:
        """Submit a job; its number."""
        return self.run("sbatch", "--parsable", *argv).stdout.strip().partition(";")[0]

    def states(self, job_id: str) -> dict[str, str]:
        """The state of a job, or of every task of an array, by the number that squeue prints; {} for one it forgot."""
        said = self.run("squeue", "-h", "-t", "all", "-r", "-j", job_id, "-o", "%i %T", check=False)
        assert said.returncode == 0 or "Invalid job id" in said.stderr, said.stderr
        return dict(line.split() for line in said.stdout.splitlines())

    def until(self, predicate: Callable[[], object], what: str, seconds: float = 60) -> None:
        """Look again and again until it is true."""
        give_up, pause = time.monotonic() + seconds, threading.Event()
        while not predicate():
            assert time.monotonic() < give_up, f"not within {seconds} seconds: {what}\n{self.log()}"
            pause.wait(0.05)

    def log(self) -> str:
        """The end of the controller's log."""
        return "\n".join((self.base / "log" / "slurmctld.log").read_text(errors="replace").splitlines()[-30:])

    def pid(self, daemon: str) -> int:
        """The process of slurmctld, slurmdbd, or a node by its name."""
        return int((self.base / "run" / f"{daemon}.pid").read_text())

    def signal(self, daemon: str, number: int) -> None:
        """Send a daemon a signal; after one that ends it, wait until the process is gone."""
        pid = self.pid(daemon)
        os.kill(pid, number)
        if number in {signal.SIGKILL, signal.SIGTERM}:
            self.until(lambda: not alive(pid), f"{daemon} is gone")

    def restart(self, daemon: str) -> None:
        """End a daemon, if it still lives, and start it again.

        The controller is asked to end, since it writes down what it knows only every few seconds: killed earlier, it
        comes back without having heard that a job runs, and starts it anew. Kill it yourself to test that.
        """
        with suppress(FileNotFoundError, ProcessLookupError):
            self.signal(daemon, signal.SIGTERM if daemon.startswith("slurm") else signal.SIGKILL)
        self.run(SCRIPT, "start", self.base, daemon, timeout=90)


def alive(pid: int) -> bool:
    """Whether a process still runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@contextmanager
def started(**options: str) -> Iterator[Cluster]:
    """A cluster in a folder of its own; afterwards nothing of it is left, however the tests ended."""
    if not shutil.which("slurmctld", path=clean()["PATH"]):
        pytest.fail("Slurm is not installed: scripts/packages.sh slurm")
    base = Path(tempfile.mkdtemp(prefix="slurm-"))  # pytest's own folders have paths too long for munge's socket
    port = free_ports()
    ports = {"CTLD_PORT": str(port), "DBD_PORT": str(port + 1), "NODE_PORT": str(port + 2)}
    cluster = Cluster(base, clean() | {"SLURM_CONF": str(base / "slurm.conf")})
    try:
        with (base / "up.txt").open("w+") as said:  # a file, since daemons would hold a pipe open
            up = subprocess.run(
                [SCRIPT, "up", base], env=clean() | ports | {"MIN_JOB_AGE": "86400"} | options,
                stdin=subprocess.DEVNULL, stdout=said, stderr=said, timeout=180, check=False,
            )  # fmt: skip
        assert up.returncode == 0, (base / "up.txt").read_text()
        yield cluster
    finally:  # down cancels every job first
        subprocess.run([SCRIPT, "down", base, "--purge"], env=clean(), timeout=90, check=False)
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(scope="session")
def own_cluster() -> Callable[..., AbstractContextManager[Cluster]]:
    """`with own_cluster(CPU_NODES="1", NODE_PREFIX="x") as cluster:` for a test that breaks more than it could mend."""
    return started


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """One node without and two with two GPUs each; no accounting; ended jobs stay in sight."""
    # The nodes' names carry our process number: cgroups are per node, and two sessions may run side by side.
    with started(CPU_NODES="1", GPU_NODES="2", GPUS_PER_NODE="2", NODE_PREFIX=f"t{os.getpid()}") as running:
        yield running


@pytest.fixture(scope="session")
def accounting_cluster() -> Iterator[Cluster]:
    """One node without and one with GPUs, and slurmdbd with a database behind it."""
    with started(DBD="1", CPU_NODES="1", GPU_NODES="1", NODE_PREFIX=f"a{os.getpid()}") as running:
        yield running
