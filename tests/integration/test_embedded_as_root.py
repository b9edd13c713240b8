"""The embedded server when root starts it, and beside other users: collected only where the suite runs as root."""

from __future__ import annotations

import multiprocessing
import os
import pwd
import shutil
import tempfile
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import psycopg
import pytest

from db import places, servers
from db.embedded import EmbeddedPostgres
from db.errors import NeedsConfiguration

NOBODY = pwd.getpwnam("nobody")

# The child only changes its user and starts programs: threads that other tests left behind do not matter to it.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.fixture
def room(quick: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder everybody may pass through; what root keeps elsewhere lies in it, too."""
    folder = Path(tempfile.mkdtemp(prefix="dayscribe-room-", dir=quick))
    folder.chmod(0o755)
    monkeypatch.setattr(places, "ELSEWHERE", folder / "elsewhere")
    usual = os.umask(0o077)  # as careful administrators have it
    yield folder
    os.umask(usual)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def server(room: Path) -> Iterator[EmbeddedPostgres]:
    one = EmbeddedPostgres(room / "ledger", durable=False)
    yield one
    one.stop()


@pytest.fixture
def closed(room: Path) -> Iterator[EmbeddedPostgres]:
    """A server in a folder below one that only root may enter."""
    (room / "private").mkdir(mode=0o700)
    one = EmbeddedPostgres(room / "private/ledger", durable=False)
    yield one
    one.stop()


def as_nobody(work: Callable[[], object]) -> object:
    """What `work` returns in a child that is another user for good; its error, if it raises one."""
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_become, args=(theirs, work))
    child.start()
    theirs.close()
    answer: object = ours.recv()
    child.join()
    return answer


def _become(answers: Pipe, work: Callable[[], object]) -> None:
    os.setgroups([])
    os.setgid(NOBODY.pw_gid)
    os.setuid(NOBODY.pw_uid)
    os.environ["HOME"] = "/nonexistent"
    try:
        answers.send(work())
    except (psycopg.Error, NeedsConfiguration) as error:
        answers.send(f"{type(error).__name__}: {error}")


def seven(dsn: str) -> object:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("select seven from t").fetchone()
    return row and row[0]


def fill(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("create table t as select 7 as seven")


def test_the_server_is_never_root_and_its_files_are_its_own(server: EmbeddedPostgres) -> None:
    server.start()
    facts = server.describe()
    owner = facts.data.stat().st_uid
    assert owner != 0
    assert Path(f"/proc/{facts.pid}").stat().st_uid == owner
    assert {path.stat().st_uid for path in (facts.data.parent, *facts.data.parent.glob("socket-*"))} == {owner}


def test_each_user_has_a_server_and_cannot_enter_the_others(server: EmbeddedPostgres, room: Path) -> None:
    dsn = server.start()
    (room / "theirs").mkdir(mode=0o700)
    os.chown(room / "theirs", NOBODY.pw_uid, NOBODY.pw_gid)
    other = EmbeddedPostgres(room / "theirs", durable=False)
    their_dsn = as_nobody(other.start)
    assert isinstance(their_dsn, str)
    assert as_nobody(lambda: fill(their_dsn)) is None
    assert as_nobody(lambda: seven(their_dsn)) == 7
    assert "Permission denied" in str(as_nobody(lambda: seven(dsn)))
    assert str(as_nobody(server.start)).startswith(
        f"NeedsConfiguration: The embedded database cannot use {room}/ledger/"
    )
    facts = other.describe()
    assert Path(f"/proc/{facts.pid}").stat().st_uid == NOBODY.pw_uid
    assert facts.pid != server.describe().pid
    # Root may use it; it stays theirs.
    assert other.start() == their_dsn
    other.stop()
    other.start()
    assert as_nobody(lambda: seven(other.start())) == 7
    as_nobody(other.stop)
    assert not other.running()


def test_below_a_closed_folder_the_data_lies_elsewhere_and_no_folder_is_opened(
    closed: EmbeddedPostgres, room: Path
) -> None:
    fill(closed.start())
    data = closed.describe().data
    assert data.is_relative_to(room / "elsewhere")
    modes = {path: oct(path.stat().st_mode & 0o777) for path in (room / "private", closed.root, data.parent, data)}
    assert set(modes.values()) == {"0o700"}
    closed.stop()
    again = EmbeddedPostgres(closed.root, durable=False)
    assert seven(again.start()) == 7
    assert again.describe().data == data


def test_opening_the_closed_folder_later_does_not_lose_the_data(closed: EmbeddedPostgres, room: Path) -> None:
    fill(closed.start())
    closed.stop()
    (room / "private").chmod(0o755)
    assert seven(closed.start()) == 7


def test_a_removed_closed_folder_is_a_fresh_start(closed: EmbeddedPostgres, room: Path) -> None:
    fill(closed.start())
    abandoned = EmbeddedPostgres(closed.describe().data.parent)
    shutil.rmtree(closed.root)
    with psycopg.connect(closed.start()) as connection:
        assert connection.execute("select to_regclass('t')").fetchone() == (None,)
    abandoned.stop()


def test_programs_that_only_root_can_reach_are_copied_and_no_folder_is_opened(
    server: EmbeddedPostgres, room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    carried = [one for one in servers.installed() if servers.CARRIER in str(one.folder)]
    assert carried, "the development environment carries PostgreSQL programs"
    package = carried[0].root.parent
    (room / "private").mkdir(mode=0o700)
    shutil.copytree(carried[0].root, room / "private" / package.name / carried[0].root.name)
    shutil.copytree(f"{package}.libs", room / "private" / f"{package.name}.libs")
    monkeypatch.setenv(servers.SETTING, str(room / "private" / carried[0].folder.relative_to(package.parent)))
    fill(server.start())
    assert server.describe().programs.is_relative_to(room / "elsewhere")
    assert server.describe().version == carried[0].version
    assert oct((room / "private").stat().st_mode & 0o777) == "0o700"
    copies = list((room / "elsewhere").iterdir())
    server.stop()
    assert seven(server.start()) == 7
    assert list((room / "elsewhere").iterdir()) == copies


@pytest.mark.parametrize(("writer", "target"), [(NOBODY.pw_uid, "elsewhere/precious"), (0, "precious")])
def test_what_another_user_laid_into_a_folder_is_not_followed_by_root(
    server: EmbeddedPostgres, room: Path, writer: int, target: str
) -> None:
    """A pointer or a link of theirs would make root give away or overwrite what it names."""
    precious = room / target
    precious.mkdir(mode=0o700, parents=True)
    (precious / "file").write_text("kept")
    server.root.mkdir()
    (server.root / places.POINTER).write_text(f"{precious}\n")
    os.chown(server.root / places.POINTER, writer, 0)
    os.chown(server.root, NOBODY.pw_uid, NOBODY.pw_gid)
    server.start()
    server.stop()
    settings = server.describe().data / "dayscribe.conf"
    settings.unlink()
    settings.symlink_to(precious / "file")
    server.start()
    assert (precious.stat().st_uid, (precious / "file").read_text()) == (0, "kept")
    assert server.describe().data == server.root / "data"
    (server.root / "lock").unlink()
    (server.root / "lock").symlink_to(precious / "new")
    with pytest.raises(NeedsConfiguration, match="lock: Too many levels of symbolic links"):
        server.stop()
    assert sorted(path.name for path in precious.iterdir()) == ["file"]
    (server.root / "lock").unlink()


def test_a_system_where_root_cannot_become_another_user_says_so(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container that knows only one user."""
    monkeypatch.setattr(places, "_spare_account", lambda: places.Account(2**32 - 2, 2**32 - 2))
    monkeypatch.setattr(places.subprocess, "run", _not_permitted)
    with pytest.raises(
        NeedsConfiguration, match=r"must run as another user .*does not allow that \(Operation not permi"
    ):
        server.start()


def _not_permitted(*arguments: object, **settings: object) -> None:
    raise PermissionError(1, "Operation not permitted")
