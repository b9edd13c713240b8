"""A ledger on TCP as a lab has it: TLS with a verified name, a password in a passfile, a login with few rights."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from db import servers
from db.connect import connect
from db.migrate import initialise
from db.roles import Roles

ROOT = Path(__file__).parents[3]
DAY, ANOTHER = "2025-01-01", "2025-02-01"
PASSWORD = "cAnArY-b1d4-of-the-ledger"
LOGIN = "dayscribe_scheduler"


@dataclass(frozen=True)
class Far:
    """Where it is: for an administrator on this machine, and for everybody by a libpq service."""

    admin: str
    variables: dict[str, str]
    certificate: Path


@pytest.fixture(scope="module")
def far() -> Iterator[Far]:
    folder = Path(tempfile.mkdtemp(prefix="dayscribe-tcp-"))
    folder.chmod(0o755)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    owner = pwd.getpwnam("postgres") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    own = folder / "server"
    own.mkdir(mode=0o700)
    certificate = folder / "root.crt"
    subject = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    key = ("-newkey", "rsa:2048", "-nodes", "-keyout", own / "server.key", "-out", certificate, "-days", "2")
    subprocess.run(["openssl", "req", "-x509", *key, *subject], check=True, capture_output=True)
    (own / "server.key").chmod(0o600)
    for path in (own, own / "server.key"):
        os.chown(path, owner.pw_uid, owner.pw_gid)
    programs, data = servers.find().folder, own / "data"

    def run(*words: str | Path) -> None:
        people: dict[str, Any] = {"user": owner.pw_uid, "group": owner.pw_gid} if os.geteuid() == 0 else {}
        done = subprocess.run(words, cwd=own, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False, **people)
        assert done.returncode == 0, (folder / "log").read_text()

    with (folder / "log").open("w") as log:
        run(programs / "initdb", "-D", data, "-U", "admin", "--auth=trust", "--no-sync")
        (data / "pg_hba.conf").write_text("local all admin trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n")
        wanted = {
            "listen_addresses": "127.0.0.1", "port": port, "ssl": "on", "ssl_cert_file": str(certificate),
            "ssl_key_file": str(own / "server.key"), "unix_socket_directories": str(own), "fsync": "off",
        }  # fmt: skip
        with (data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in wanted.items())
        run(programs / "pg_ctl", "-D", data, "-w", "-l", own / "server.log", "start")
        try:
            admin = f"host={own} port={port} user=admin dbname=postgres"
            with connect(admin) as connection:
                initialise(connection, Roles.prefixed("dayscribe"))
                connection.execute(f"ALTER ROLE {LOGIN} PASSWORD '{PASSWORD}'")
            yield Far(admin, _service(folder, port, certificate), certificate)
        finally:
            run(programs / "pg_ctl", "-D", data, "-m", "immediate", "stop")
    shutil.rmtree(folder, ignore_errors=True)


def _service(folder: Path, port: str, certificate: Path) -> dict[str, str]:
    """What a person has at home: a service file, and a passfile that only they can read."""
    (folder / "service").write_text(
        f"[lab]\nhost=localhost\nport={port}\ndbname=postgres\nuser={LOGIN}\n"
        f"sslmode=verify-full\nsslrootcert={certificate}\n"
    )
    (folder / "pass").write_text(f"localhost:{port}:*:{LOGIN}:{PASSWORD}\n")
    (folder / "pass").chmod(0o600)
    return {"PGSERVICEFILE": str(folder / "service"), "PGPASSFILE": str(folder / "pass")}


def test_jobs_reach_a_ledger_over_tls_by_a_service_and_the_password_is_nowhere_else(
    cluster: Any, site_on: Callable[..., AbstractContextManager[Any]], far: Far
) -> None:
    with site_on(cluster, LEDGER__DSN="service=lab", LEDGER__REQUIRE_TLS="true", SLURM__FIRST_TASKS="1") as site:
        site.dsn = far.admin  # for the test's own looks
        site.variables |= far.variables | {
            "DAYSCRIBE_FAULTS_ARMED": "yes",
            "DAYSCRIBE_JOB_FAULT": "record.committed:stop",
        }
        site.add(DAY)
        site.tick()
        site.variables = dict(far.variables)
        cluster.until(site.rows, "a first part is recorded")
        with psycopg.connect(far.admin) as admin:
            asked = (
                "SELECT DISTINCT a.usename, s.ssl FROM pg_stat_activity a JOIN pg_stat_ssl s USING (pid)"
                " WHERE a.application_name LIKE 'dayscribe-%'"
            )
            assert admin.execute(asked).fetchall() == [(LOGIN, True)]
        ask = "squeue -o '%all'; scontrol -o show job; ps -eo args; ps e -eo args 2>/dev/null"
        other = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "bash", "-c", ask)
        assert PASSWORD not in cluster.run(*other).stdout
        kept = dict(site.kept())
        assert "job.env" in {path.name for path in kept}
        assert [path for path, text in kept.items() if PASSWORD.encode() in text] == []
        site.signal(signal.SIGCONT)
        site.until_days("completed")
        cluster.until(lambda: site.tick() and site.jobs()[0]["state"] == "succeeded", "the job is closed")


ANYBODY = pwd.getpwnam("games")  # Debian has this user; nobody logs in as it


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_an_ordinary_user_needs_nothing_of_ours_but_images_a_clone_and_a_login(
    cluster: Any, site_on: Callable[..., AbstractContextManager[Any]], far: Far, images: Any
) -> None:
    """No Python of the host is used. The password is in the master's image alone, and never in the tasks'."""
    with site_on(cluster, LEDGER__DSN="service=lab", SLURM__FIRST_TASKS="1") as site:
        site.dsn = far.admin
        site.variables |= far.variables
        site.add(ANOTHER, archives=2)
        clone = at_home(site, far, images)
        words = ["sbatch", f"--output={site.home}/master.log", "slurm/0_master_scheduler.sh", str(site.file), "3"]
        me = ["setpriv", f"--reuid={ANYBODY.pw_uid}", f"--regid={ANYBODY.pw_gid}", "--clear-groups"]
        done = subprocess.run(
            [*me, "env", f"--chdir={clone}", f"HOME={site.home}", *words], env=cluster.environment | far.variables,
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        try:
            cluster.until(lambda: site.days()[ANOTHER] == "completed", "the day is done", seconds=150)
            cluster.until(lambda: site.jobs()[-1]["state"] == "succeeded", "the job is closed")
        finally:
            cluster.run("scancel", f"--user={ANYBODY.pw_name}", check=False)
        job = site.jobs()[-1]
        assert (job["owner"], str(job["date"])) == (ANYBODY.pw_name, ANOTHER)
        assert {path.owner() for path in site.home.glob("results/*/*/parts/*")} == {ANYBODY.pw_name}
        assert [path for path, text in site.kept() if PASSWORD.encode() in text] == []
        given = (site.home / "jobs" / str(job["id"]) / "job.env").read_text()
        assert "PGPASSFILE" not in given
        assert "DSN" not in given


def at_home(site: Any, far: Far, images: Any) -> Path:
    """What is this user's own, and a clone and audio that everybody may read; where the clone is."""
    clone = site.folder / "clone"
    for name in ("slurm", "db", "hpc", "monitor"):
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    site.write(
        **images.settings
        | {
            "CONTAINERS__BINDS": " ".join(
                [images.settings["CONTAINERS__BINDS"], str(far.certificate), f"{site.folder}/audio"]
            )
        }
    )
    site.folder.chmod(0o755)
    shutil.rmtree(site.home, ignore_errors=True)
    site.home.mkdir(mode=0o700)
    for own in (site.home, *far.variables.values()):
        os.chown(own, ANYBODY.pw_uid, ANYBODY.pw_gid)
    return clone
