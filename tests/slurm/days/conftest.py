"""A site on a real cluster: a ledger, days of archives, settings in a file, and the master that is submitted."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from db import days, jobs
from db.connect import connect
from hpc.job_folder import Record, folder_of

# These become other users of the system, as only root can.
collect_ignore = [] if os.geteuid() == 0 else ["test_two_people.py"]

ROOT = Path(__file__).parents[3]
DATES = ("2025-01-01", "2025-01-02", "2025-01-03")
USUAL = {
    "ENGINE__NAME": "echo",
    "ENGINE__DEVICE": "cpu",
    "SLURM__PARTITION": "gpu",
    "SLURM__CPUS": "1",
    "SLURM__MEMORY_GB": "2",
    "SLURM__CPU_PARTITION": "cpu",
    "SLURM__CPU_MEMORY_GB": "1",
    "SLURM__FIRST_TASKS": "2",
    "SLURM__COMMAND_SECONDS": "20",
    "SCHEDULE__BACKOFF_SECONDS": "0.001",
    "WORKER__DECODERS": "1",
    "WORKER__LEASES": "1",
    "WORKER__LEASE_SECONDS": "2",
    "WORKER__ENGINE_HANG_SECONDS": "60",
}


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"shared_{path.parent.name}", path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    return made


@dataclass
class Site:
    """One ledger, one home and one site's settings on a cluster."""

    cluster: Any
    dsn: str
    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)  # of the person's shell, not of the settings

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def file(self) -> Path:
        return self.folder / "site.env"

    def write(self, **settings: str) -> None:
        """The site's settings, as a person writes them."""
        self.settings |= settings
        own = {"HOME": str(self.home), "LEDGER__DSN": self.dsn} | USUAL | self.settings
        lines = [f"DAYSCRIBE_{name}={shlex.quote(value)}\n" for name, value in own.items()]
        self.file.write_text("".join(lines))

    def dayscribe(self, *words: str, check: bool = True) -> str:
        """Run our program under the site's settings, where the cluster's commands are; what it printed."""
        program = Path(sys.executable).with_name("dayscribe")
        call = 'set -a; . "$1"; set +a; shift; exec "$@"'
        environment = {**self.cluster.environment, **self.variables}
        done = subprocess.run(
            ["bash", "-c", call, "-", self.file, program, *words], env=environment, cwd=ROOT, capture_output=True,
            text=True, check=False, timeout=120,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{words} exited {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def tick(self) -> str:
        return self.dayscribe("schedule", "--once")

    def add(self, *dates: str, archives: int = 8, clips: int = 3) -> None:
        """Days of small archives, listed by nobody yet."""
        made = _module(ROOT / "tests" / "faults" / "conftest.py")
        for on in dates:
            (self.folder / "audio" / on).mkdir(parents=True)
            for n in range(archives):
                sounds = {f"{on}-{n}-{k}.wav": made.clip(300 + 20 * n + k, 0.2) for k in range(clips)}
                made.archive(self.folder / "audio" / on / f"0_{on}_{n // 6:02}_{n % 6}0.tar.xz", sounds)
        location = str(self.folder / "audio" / "{date}")
        for on in dates:
            self.dayscribe("days", "add", on, "--site", "zurich", "--location", location)

    def master(self, every: int) -> str:
        """Submit the master from the clone, as the README says."""
        words = ["sbatch", "--parsable", f"--output={self.folder}/master.log", "slurm/0_master_scheduler.sh"]
        done = subprocess.run(
            [*words, str(self.file), str(every)], env=self.cluster.environment, cwd=ROOT, capture_output=True,
            text=True, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    def days(self) -> dict[str, str]:
        with connect(self.dsn) as connection:
            return {row["date"].isoformat(): row["state"] for row in days.find(connection)}

    def jobs(self) -> list[dict[str, Any]]:
        """All orders, oldest first."""
        with connect(self.dsn) as connection:
            return jobs.latest(connection)[::-1]

    def rows(self) -> list[Any]:
        """Every recording with what was heard, in values that must not depend on how the work was done."""
        question = (
            "SELECT d.date, s.name, s.state, r.ordinal, r.meta_id, r.state AS became, t.text, t.version"
            " FROM recordings r JOIN shards s ON s.id = r.shard_id JOIN days d ON d.id = r.day_id"
            " LEFT JOIN transcripts t ON t.id = r.current_id ORDER BY 1, 2, 4"
        )
        with connect(self.dsn) as connection:
            return [tuple(row.values()) for row in connection.execute(question)]

    def records(self, job: int) -> list[Record]:
        return folder_of(self.home, job).records()

    def until_days(self, state: str, seconds: float = 90) -> None:
        """Tick until every day is in this state."""

        def there() -> bool:
            self.tick()
            return set(self.days().values()) == {state}

        self.cluster.until(there, f"every day is {state}: {self.days()}", seconds)

    def until_started(self, job: int) -> None:
        """Wait until a task of the order has said that it began."""
        self.cluster.until(lambda: self.records(job), f"job {job} begins: {self.log(job)}")

    def log(self, job: int) -> str:
        return "\n".join(path.read_text() for path in sorted(folder_of(self.home, job).path.glob("log/*.log")))

    def kept(self) -> Iterator[tuple[Path, bytes]]:
        """Every file that we write, or that SLURM keeps of jobs: scripts, environments, logs; but for what it clears
        away behind a job that ends while we look."""
        base = self.cluster.base
        for folder in (self.home, base / "state", base / "spool", base / "log"):
            for here, _, names in os.walk(folder):
                for path in (Path(here, name) for name in names):
                    with suppress(FileNotFoundError):
                        if path.is_file() and not path.is_symlink():
                            yield path, path.read_bytes()

    def processes(self) -> list[int]:
        """The processes that were started with this site's folder in their words."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    words = (entry / "cmdline").read_bytes()
                    state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                except OSError:
                    continue
                if os.fsencode(self.home) in words and state not in "ZX" and int(entry.name) != os.getpid():
                    found.append(int(entry.name))
        return found

    def signal(self, number: int) -> None:
        """Send it to all of them; one that ended with its parent meanwhile needs it no more."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, number)


@pytest.fixture(scope="session")
def site_on(fresh_ledger: Callable[[], AbstractContextManager[str]]) -> Callable[..., AbstractContextManager[Site]]:
    """`with site_on(cluster, SLURM__QOS="high") as site:`"""

    @contextmanager
    def make(cluster: Any, **settings: str) -> Iterator[Site]:
        folder = Path(tempfile.mkdtemp(prefix="dayscribe-slurm-"))
        with fresh_ledger() as dsn:
            site = Site(cluster, dsn, folder)
            site.write(**settings)
            try:
                yield site
            finally:
                cluster.run("scancel", "--user=root" if os.geteuid() == 0 else "--me", timeout=30, check=False)
                cluster.until(lambda: not cluster.run("squeue", "-h", "-o", "%i").stdout.split(), "no job is left")
        shutil.rmtree(folder, ignore_errors=True)

    return make


@pytest.fixture
def site(cluster: Any, site_on: Callable[..., AbstractContextManager[Site]]) -> Iterator[Site]:
    with site_on(cluster) as made:
        yield made
