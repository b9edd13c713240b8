"""A project group: two users of the system tick over one ledger, each with a login of their own, in one shared home."""

from __future__ import annotations

import multiprocessing
import os
import pwd
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from db.session import Session
from hpc import wiring
from hpc.config import load
from hpc.launchers.slurm import SlurmLauncher
from hpc.launchers.slurm.commands import Here
from hpc.scheduler import tick
from hpc.tick.world import Code, Report, World

ROOT = Path(__file__).parents[3]
SHE, HE = pwd.getpwnam("games"), pwd.getpwnam("backup")  # Debian has them; nobody logs in as either
GROUP = 60
DAYS = ("2025-01-01", "2025-01-02")

# The child only changes its user and starts programs: threads that other tests left behind do not matter to it.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.fixture
def site(cluster: Any, site_on: Callable[..., AbstractContextManager[Any]]) -> Iterator[Any]:
    """A home that is the group's, the job scripts where both can read them, and a login for each."""
    with site_on(cluster) as made:
        made.folder.chmod(0o755)
        made.home.mkdir()
        os.chown(made.home, SHE.pw_uid, GROUP)
        made.home.chmod(0o2770)
        shutil.copytree(ROOT / "slurm", made.folder / "clone" / "slurm")
        with psycopg.connect(made.dsn, autocommit=True) as admin:
            for person in (SHE, HE):
                admin.execute(f"CREATE ROLE {person.pw_name} LOGIN IN ROLE dayscribe_scheduler")  # type: ignore[arg-type]
        try:
            yield made
        finally:
            cluster.run("scancel", f"--user={SHE.pw_name}", check=False)
            cluster.run("scancel", f"--user={HE.pw_name}", check=False)
            with psycopg.connect(made.dsn, autocommit=True) as admin:
                for person in (SHE, HE):
                    admin.execute(f"DROP ROLE {person.pw_name}")  # type: ignore[arg-type]


def ticked(site: Any, person: pwd.struct_passwd, **wanted: Any) -> Report:
    """One tick by this person, in a process that is theirs for good."""
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_tick, args=(theirs, site, person, wanted))
    child.start()
    theirs.close()
    answer: Report | str = ours.recv()
    child.join()
    assert isinstance(answer, Report), answer
    return answer


def _tick(answers: Pipe, site: Any, person: pwd.struct_passwd, wanted: dict[str, Any]) -> None:
    try:
        dsn = make_conninfo(site.dsn, user=person.pw_name)
        session = Session(dsn, application="tick")
        session.connection()  # the socket of the tests' server is root's: opened before that is given up
        os.setgroups([GROUP])
        os.setgid(GROUP)
        os.setuid(person.pw_uid)
        os.umask(0o007)
        os.environ.clear()
        os.environ.update(site.cluster.environment | {"HOME": "/nonexistent", "USER": person.pw_name})
        answers.send(tick(_world(site, session, person.pw_name, wanted)))
    except BaseException as error:
        answers.send(f"{type(error).__name__}: {error}")
        raise


def _world(site: Any, session: Session, user: str, wanted: dict[str, Any]) -> World:
    settings = load(None, [f"home={site.home}", "engine.name=echo", "slurm.partition=gpu", "shared=true"])
    made = wiring.world(settings, session)
    slurm = settings.slurm.model_copy(
        update={"options": ["--hold"], "first_tasks": 2, "cpus": 1, "memory_gb": 1} | wanted
    )
    launcher = SlurmLauncher(Here(folder=site.folder / "clone"), slurm, user=user, warn_seconds=60)
    code = Code("c" * 64, site.folder)
    scripts = site.folder / "clone" / "slurm"
    return replace(made, user=user, launcher=launcher, wanted=slurm, scripts=scripts, code=lambda: code)


def owners(site: Any) -> dict[str, str]:
    """Whose each waiting job is, by its day."""
    lines = site.cluster.run("squeue", "-h", "-t", "PENDING", "-o", "%u %j").stdout.split("\n")
    return {line.split()[1][3:13]: line.split()[0] for line in lines if " ds-2025" in line}


def test_each_tick_touches_its_own_user_s_jobs_only_and_no_day_is_ordered_twice(site: Any) -> None:
    site.add(*DAYS, archives=2)
    (site.folder / "audio").chmod(0o755)
    first = ticked(site, SHE, most_tasks=2)
    assert [line.what for line in first.did] == ["listed", "listed", "submitted"]
    second = ticked(site, HE, most_tasks=4)
    assert ([line.what for line in second.did], second.saw["orders of others"]) == (["submitted"], 1)
    assert owners(site) == {DAYS[0]: SHE.pw_name, DAYS[1]: HE.pw_name}
    moved = ticked(site, HE, most_tasks=8, partition="cpu", gres="none")
    assert [(line.what, line.about) for line in moved.did] == [
        ("took back", f"zurich {DAYS[1]}"),
        ("submitted", f"zurich {DAYS[1]}"),
    ]
    assert owners(site) == {DAYS[0]: SHE.pw_name, DAYS[1]: HE.pw_name}
    assert [(job["state"], job["owner"]) for job in site.jobs()] == [
        ("submitted", SHE.pw_name),
        ("draining", HE.pw_name),
        ("submitted", HE.pw_name),
    ]


def test_what_one_makes_in_the_shared_home_the_other_may_change_and_nobody_else_may_read(site: Any) -> None:
    site.add(DAYS[0], archives=2)
    ticked(site, SHE)
    made = [site.home / "jobs", *sorted((site.home / "jobs").rglob("*"))]
    assert {(path.stat().st_gid, bool(path.stat().st_mode & 0o020), path.stat().st_mode & 0o007) for path in made} == {
        (GROUP, True, 0)
    }
