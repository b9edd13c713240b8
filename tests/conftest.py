"""What every test may ask for: a PostgreSQL of this run's own, and a fresh ledger in it."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import settings
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier

from db.connect import Connection, connect
from db.embedded import EmbeddedPostgres
from db.migrate import initialise
from db.roles import Roles

# These become other users of the system, as only root can; the rest of the suite runs as root and as anybody else.
collect_ignore = [] if os.geteuid() == 0 else ["integration/test_embedded_as_root.py"]

settings.register_profile("untimed", deadline=None)  # speed is measured in bench/, on a machine that does nothing else
settings.load_profile("untimed")
_ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(_ROOT / "tests" / "globus_service"))  # the loopback Globus: three modules that import each other
_TEMPLATE = "ledger_template"
_numbers = itertools.count(1)

# pytest -n: whole groups go to one worker each, so that what a file or a folder shares is made once. What takes longest
# comes first, lest one worker is busy long after the others. A real Slurm waits more than it works, beside anything.
_TOGETHER = ("tests/slurm/", "tests/containers/")
_FIRST = (*_TOGETHER, "tests/faults/", "tests/integration/engine/", "tests/integration/", "tests/models/")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return next((folder for folder in _TOGETHER if nodeid.startswith(folder)), nodeid.partition("::")[0])

    config.option.loadscopereorder = False
    return Groups(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores, since one mostly waits; an engine's process may take two gigabytes."""
    return min(len(os.sched_getaffinity(0)) + 1, 8)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In this order groups are handed out; and whichever test comes first waits until the images are built."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: [not item.nodeid.startswith(folder) for folder in _FIRST])
    for item in items:
        if "images" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(1800))


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Iterator[Any]:
    """What a worker reports has to be UTF-8; what a test printed, or compared, need not be."""
    return _sayable((yield))


def _sayable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {_sayable(name): _sayable(one) for name, one in value.items()}
    return type(value)(map(_sayable, value)) if isinstance(value, list | tuple) else value


@pytest.fixture(scope="module", autouse=True)
def environment() -> Iterator[None]:
    """An engine sets up its process for good, since it belongs to it alone; the other tests of this one want theirs."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def quick() -> Path:
    """A folder for databases that live for one test: in memory if there is room, as many small files take time."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2 << 30
    return memory if roomy else Path(tempfile.gettempdir())


@pytest.fixture(scope="session")
def postgres(quick: Path) -> Iterator[EmbeddedPostgres]:
    """One server for the whole run, with whatever programs this machine has (Debian's before the carried ones)."""
    folder = Path(tempfile.mkdtemp(prefix="dayscribe-test-", dir=quick))
    server = EmbeddedPostgres(folder, durable=False)
    server.start()
    home = server.describe().data.parent
    yield server
    server.stop()
    shutil.rmtree(home, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def admin_dsn(postgres: EmbeddedPostgres) -> str:
    return postgres.start()


@pytest.fixture(scope="session")
def roles() -> Roles:
    return Roles.prefixed("dayscribe")


@pytest.fixture(scope="session")
def template(admin_dsn: str, roles: Roles) -> str:
    """A migrated ledger that is only ever copied."""
    _execute(admin_dsn, "CREATE DATABASE {}", _TEMPLATE)
    with connect(make_conninfo(admin_dsn, dbname=_TEMPLATE)) as connection:
        initialise(connection, roles)
    return _TEMPLATE


@pytest.fixture(scope="session")
def fresh_ledger(admin_dsn: str, template: str) -> Callable[..., AbstractContextManager[str]]:
    """`with fresh_ledger() as dsn:` for tests that need more than one, or share one; `of` a quiet one, a copy of it."""

    @contextmanager
    def copy(of: str = "") -> Iterator[str]:
        name, source = f"ledger_{next(_numbers)}", str(conninfo_to_dict(of)["dbname"]) if of else template
        _execute(admin_dsn, "CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy", name, source)
        yield make_conninfo(admin_dsn, dbname=name)
        _execute(admin_dsn, "DROP DATABASE {} WITH (FORCE)", name)

    return copy


@dataclass(frozen=True)
class Images:
    """The light images of the tests: what is not in them is bound from our own environment."""

    folder: Path
    settings: dict[str, str]  # as variables without their prefix

    def digest(self, name: str) -> str:
        lines = (line.split() for line in (self.folder / "images.sha256").read_text().splitlines())
        return next(digest for digest, file in lines if file == name)


@pytest.fixture(scope="session")
def image_builder() -> Path:
    """scripts/images.sh, on a machine that can build images."""
    if why := _no_images_here():
        pytest.skip(f"NOT TESTED: containers/ and every job inside of images. {why}")
    return _ROOT / "scripts" / "images.sh"


@pytest.fixture(scope="session")
def images(image_builder: Path) -> Images:
    """Images out of containers/*.def; made once, and again when a recipe or a lock changes.

    Beside a worker that tests the images themselves, those have to be of our code, or it would make them anew under us.
    """
    any_code = {} if "PYTEST_XDIST_WORKER" in os.environ else {"IMAGES_ANY_CODE": "1"}
    made = subprocess.run(
        [image_builder, _ROOT / ".images"], env=os.environ | any_code, check=False,
        capture_output=True, text=True, timeout=1500,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    said = dict(line.split("=", 1) for line in made.stdout.splitlines())
    runtime = shutil.which("apptainer", path=said["PATH"].removesuffix("$PATH") + os.environ["PATH"])
    assert runtime is not None
    settings = {name.removeprefix("DAYSCRIBE_"): value for name, value in said.items() if name.startswith("DAYSCRIBE_")}
    return Images(_ROOT / ".images", settings | {"CONTAINERS__RUNTIME": runtime})


def _no_images_here() -> str | None:
    """Inside a chroot the kernel makes no user namespace; without one only a root with all capabilities builds."""
    all_of_them = int(Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1
    held = re.search(r"^CapEff:\s*(\w+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    if os.geteuid() == 0 and held and int(held[1], 16) == (1 << all_of_them) - 1:
        return None
    tried = subprocess.run(["unshare", "--user", "true"], capture_output=True, text=True, check=False)
    return None if tried.returncode == 0 else f"This machine makes no user namespace: {tried.stderr.strip()}."


@pytest.fixture
def dsn(fresh_ledger: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """A migrated, empty ledger for this test alone; the login is the server's superuser."""
    with fresh_ledger() as copy:
        yield copy


@pytest.fixture
def empty_dsn(admin_dsn: str) -> Iterator[str]:
    """A database with nothing in it."""
    name = f"empty_{next(_numbers)}"
    _execute(admin_dsn, "CREATE DATABASE {}", name)
    yield make_conninfo(admin_dsn, dbname=name)
    _execute(admin_dsn, "DROP DATABASE {} WITH (FORCE)", name)


@pytest.fixture
def ledger(dsn: str) -> Iterator[Connection]:
    with connect(dsn) as connection:
        yield connection


def _execute(dsn: str, statement: str, *names: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(SQL(statement).format(*map(Identifier, names)))


@pytest.fixture
def globus(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A Globus on loopback; the SDK in this process and in its children is pointed at it."""
    from globus_full import Service
    from globus_loopback import serving

    with serving(Service()) as service:
        for name, value in service.environment.items():
            monkeypatch.setenv(name, value)
        yield service
