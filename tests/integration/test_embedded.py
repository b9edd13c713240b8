"""The embedded server: any folder, any number of processes, killed in any way, and never anybody's data lost."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest

from db import places, servers
from db.embedded import EmbeddedPostgres
from db.errors import NeedsConfiguration, NoDatabaseServer

START = (
    "import sys; from pathlib import Path; from db.embedded import EmbeddedPostgres;"
    "print(EmbeddedPostgres(Path(sys.argv[1])).start())"
)
NEW = Callable[..., EmbeddedPostgres]


@pytest.fixture
def room(quick: Path) -> Iterator[Path]:
    """A folder that everybody may pass through, as a real home is (pytest's own are closed to other users)."""
    folder = Path(tempfile.mkdtemp(prefix="dayscribe-room-", dir=quick))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def new(room: Path) -> Iterator[NEW]:
    """Servers of this test; each is stopped at its end."""
    made: list[EmbeddedPostgres] = []

    def make(name: str = "ledger", *, durable: bool = False) -> EmbeddedPostgres:
        made.append(EmbeddedPostgres(room / name, durable=durable))
        return made[-1]

    yield make
    for server in made:
        server.stop()


def starter(root: Path, **environment: str) -> subprocess.Popen[str]:
    """Another process that starts the server of `root` and prints its connection string."""
    return subprocess.Popen(
        [sys.executable, "-c", START, str(root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


def ask(dsn: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(statement)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []


def pid_of(server: EmbeddedPostgres) -> int:
    pid = server.describe().pid
    assert pid is not None
    return pid


def kill_and_wait(pid: int, how: signal.Signals) -> None:
    """Until the process is gone, be it a zombie."""
    watch = os.pidfd_open(pid)
    os.kill(pid, how)
    assert select.select([watch], [], [], 60)[0] == [watch]
    os.close(watch)


def folders(room: Path) -> set[str]:
    return {path.name for path in room.iterdir()}


def test_a_missing_folder_becomes_a_closed_server_that_keeps_its_rows(new: NEW, room: Path) -> None:
    server = new("deep/below/ledger", durable=True)
    assert not server.running()
    dsn = server.start()
    ask(dsn, "create table t as select 7 as seven")
    assert server.running()
    assert server.start() == dsn
    assert ask(dsn, "select current_database(), current_setting('listen_addresses'), current_setting('fsync')") == [
        ("dayscribe", "", "on")
    ]
    home = room / "deep/below/ledger"
    assert {oct(path.stat().st_mode & 0o777) for path in (home, home / "data", *home.glob("socket-*"))} == {"0o700"}
    server.stop()
    assert not server.running()
    assert list(home.glob("socket-*")) == []
    assert ask(server.start(), "select seven from t") == [(7,)]


def test_six_processes_at_once_on_a_fresh_folder_get_one_server(new: NEW, room: Path) -> None:
    children = [starter(room / "ledger") for _ in range(6)]
    said = {child.communicate(timeout=120) for child in children}
    assert [child.returncode for child in children] == [0] * 6
    assert said == {(f"{new().start()}\n", "")}


def test_a_killed_postmaster_is_started_again_at_once_with_every_committed_row(new: NEW) -> None:
    server = new(durable=True)
    dsn = server.start()
    ask(dsn, "create table t as select 7 as seven")
    with psycopg.connect(dsn) as idle:  # its backend outlives the postmaster for a moment
        os.kill(pid_of(server), signal.SIGKILL)
        assert ask(server.start(), "select seven from t") == [(7,)]
        assert idle.pgconn.status == psycopg.pq.ConnStatus.OK  # it does not know yet
        with pytest.raises(psycopg.OperationalError):
            idle.execute("select 1")


def test_a_start_waits_for_what_a_killed_postmaster_left_behind(new: NEW, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two servers on one folder would destroy it: an orphan that cannot leave yet holds the next start up."""
    server = new()
    with psycopg.connect(server.start()) as client:
        orphan = client.info.backend_pid
        waited: list[float] = []

        def wake(seconds: float) -> None:
            waited.append(seconds)
            with contextlib.suppress(ProcessLookupError):
                os.kill(orphan, signal.SIGCONT)

        os.kill(orphan, signal.SIGSTOP)
        os.kill(pid_of(server), signal.SIGKILL)
        monkeypatch.setattr("db.embedded.time", SimpleNamespace(monotonic=time.monotonic, sleep=wake))
        try:
            assert ask(server.start(), "select 1") == [(1,)]
            assert waited
        finally:
            wake(0)


def test_a_killed_client_leaves_the_server_to_the_others_and_its_open_work_undone(new: NEW, room: Path) -> None:
    server = new()
    dsn = server.start()
    ask(dsn, "create table t (n int)")
    code = (
        "import psycopg, sys; c = psycopg.connect(sys.argv[1]); c.execute('insert into t values (1)'); c.commit();"
        "c.execute('insert into t values (2)'); print('open', flush=True); sys.stdin.read()"
    )
    client = subprocess.Popen(
        [sys.executable, "-c", code, dsn], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with client:
        assert client.stdout is not None
        assert client.stdout.readline() == "open\n"
        client.kill()
    assert ask(dsn, "select n from t") == [(1,)]
    other = EmbeddedPostgres(room / "ledger")
    other.stop()
    assert not server.running()


@pytest.mark.parametrize(
    "name", ["with a space", 'it\'s, $(touch hit) "odd" `touch hit` \\n', "Zürich ☂", "long-" + "x" * 120, "-D"]
)
def test_any_folder_name_will_do_and_other_processes_find_the_socket(new: NEW, room: Path, name: str) -> None:
    server = new(name)
    dsn = server.start()
    with starter(room / name) as other:
        assert other.communicate(timeout=60) == (f"{dsn}\n", "")
    assert ask(dsn, "select 1") == [(1,)]
    assert folders(room) == {name}
    socket = Path(psycopg.conninfo.conninfo_to_dict(dsn)["host"])
    assert oct(socket.stat().st_mode & 0o777) == "0o700"
    server.stop()
    assert not socket.exists()
    assert not list(room.rglob("hit"))


def test_a_server_whose_folder_was_removed_does_not_disturb_its_successor(new: NEW, room: Path) -> None:
    server = new()
    ask(server.start(), "create table old (n int)")
    old = pid_of(server)
    shutil.rmtree(room / "ledger")
    dsn = server.start()
    assert ask(dsn, "select to_regclass('old')") == [(None,)]
    kill_and_wait(old, signal.SIGINT)  # a fast stop removes its socket by name, as it does when it notices by itself
    assert ask(dsn, "select 1") == [(1,)]
    assert pid_of(server) != old


@pytest.mark.parametrize("name", ["ledger", "long-" + "x" * 120])
def test_a_copied_folder_is_a_server_of_its_own(new: NEW, room: Path, name: str) -> None:
    first = new(name, durable=True)
    dsn = first.start()
    ask(dsn, "create table t as select 7 as seven")
    subprocess.run(["cp", "-a", room / name, room / f"{name} 2"], check=True)
    second = new(f"{name} 2", durable=True)
    assert ask(second.start(), "delete from t returning seven") == [(7,)]
    second.stop()
    assert ask(dsn, "select seven from t") == [(7,)]


def test_a_process_id_given_to_somebody_else_is_not_the_server(new: NEW, room: Path) -> None:
    server = new()
    server.start()
    kill_and_wait(pid_of(server), signal.SIGKILL)
    file = room / "ledger/data/postmaster.pid"
    file.write_text("\n".join([str(os.getpid()), *file.read_text().splitlines()[1:]]) + "\n")
    assert not server.running()
    server.start()
    assert pid_of(server) != os.getpid()


def stand_ins(room: Path, initdb: str) -> Path:
    """A folder of programs: `initdb` is a script, the others are the real ones."""
    real = servers.find().folder
    folder = room / "programs"
    folder.mkdir()
    for name in ("postgres", "pg_ctl"):
        (folder / name).symlink_to(real / name)
    (folder / "initdb").write_text(f"#!/bin/sh\n{initdb}\n")
    (folder / "initdb").chmod(0o755)
    return folder


def test_a_starter_killed_while_it_makes_the_database_is_followed_by_the_next(new: NEW, room: Path) -> None:
    begun, ended = room / "begun", room / "ended"
    for fifo in (begun, ended):
        os.mkfifo(fifo)
        fifo.chmod(0o666)
    programs = stand_ins(room, f'echo half > "$2/PG_VERSION"; echo begun > "{begun}"; cat "{ended}"')
    victim = starter(room / "ledger", DAYSCRIBE_PG_BINDIR=str(programs))
    with victim:
        assert begun.read_text() == "begun\n"
        victim.kill()
    ended.write_text("")
    assert ask(new().start(), "select 1") == [(1,)]
    assert list((room / "ledger").glob("data.new-*")) == []


def test_a_full_disk_leaves_nothing_half_made(new: NEW, room: Path) -> None:
    """A limit on file size stops initdb for real where it writes its first large file."""
    code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)); " + START
    child = subprocess.run(
        [sys.executable, "-c", code, room / "ledger"], capture_output=True, text=True, check=False, timeout=60
    )
    assert "NeedsConfiguration: PostgreSQL" in child.stderr
    assert "Nothing was left behind" in child.stderr
    assert folders(room / "ledger") == {"lock"}
    assert ask(new().start(), "select 1") == [(1,)]


def test_a_network_file_system_is_refused_before_anything_is_made(
    new: NEW, room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = room / "mounts"
    mounts.write_text(
        f"22 1 8:1 / / rw - ext4 /dev/sda rw\n40 22 0:33 / {room}/net\\040home rw,relatime shared:1 - nfs4 srv:/x rw\n"
        f"41 40 8:2 / {room}/net\\040home/local rw - xfs /dev/sdb rw\n"
    )
    monkeypatch.setattr(places, "MOUNTS", mounts)
    assert places.network_mount(room / "net home/a/b") == ("nfs4", room / "net home")
    assert places.network_mount(room / "net home/local/b") is None
    assert places.network_mount(room / "net home too") is None
    (room / "net home").mkdir()
    server = new("net home/ledger")
    with pytest.raises(NeedsConfiguration, match=r"is on a network file system \(nfs4, mounted at .*net home\)"):
        server.start()
    assert folders(room / "net home") == set()


def test_a_folder_with_other_things_in_it_is_never_taken_over(new: NEW, room: Path) -> None:
    (room / "thesis").mkdir(mode=0o755)
    (room / "thesis/chapter.txt").write_text("words")
    with pytest.raises(NeedsConfiguration, match=r"has other things in it \(chapter\.txt\)"):
        new("thesis").start()
    assert oct((room / "thesis").stat().st_mode & 0o777) == "0o755"


def test_the_version_that_made_the_data_decides_which_programs_run_it(
    new: NEW, room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = servers.find()
    others = [one for one in servers.installed() if one.major != usual.major]
    assert others, "the development environment carries PostgreSQL programs besides the system's"
    monkeypatch.setenv(servers.SETTING, str(others[0].folder))
    server = new()
    server.start()
    server.stop()
    monkeypatch.setenv(servers.SETTING, str(usual.folder))
    server.start()
    assert server.describe().version == others[0].version


def test_data_of_a_version_that_is_not_installed_names_what_to_install(new: NEW, room: Path) -> None:
    server = new()
    server.start()
    server.stop()
    version = room / "ledger/data/PG_VERSION"
    was = version.read_text()
    version.write_text("99\n")
    with pytest.raises(NoDatabaseServer, match=r"was made by PostgreSQL 99, .* apt install postgresql-99"):
        server.start()
    version.write_text(was)
    assert ask(server.start(), "select 1") == [(1,)]


def test_letters_beyond_ascii_have_a_case_and_order_is_by_code_point(new: NEW) -> None:
    dsn = new().start()
    assert ask(dsn, "select lower('ÜBER') = 'über', to_tsvector('simple', 'ÉTÉ') @@ 'été'") == [(True, True)]
    assert ask(dsn, "select array(select unnest(array['b', 'Z', 'a', 'é']) order by 1)") == [(["Z", "a", "b", "é"],)]
