"""Days that come from elsewhere, on a real cluster: a stage job asks or copies; ticks follow; nobody waits."""

from __future__ import annotations

import json
import re
import secrets
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo

from db import days, listings, transfers
from db.connect import connect
from hpc.demo.day import make_day
from hpc.demo.trouble import Trouble

ROOT = Path(__file__).parents[3]
DAY = "2025-01-01"
SLOTS, CLIPS = 4, 2
KINDS = ("archive", "comments", "metadata", "subtitles")
BELOW = "{site}_{year}_{monthname}/prepped_data"


@dataclass
class Way:
    """A site whose days come by a loopback Globus, and what may be seen of it by nobody."""

    site: Any
    globus: Any
    far: Any
    near: Any

    @property
    def here(self) -> Path:
        return Path(self.near.root) / "staging" / "zurich" / DAY

    def write(self, **settings: str) -> None:
        """The site's settings, and those of the SDK, which are not ours."""
        self.site.write(**settings)
        with self.site.file.open("a") as file:
            file.writelines(f"{name}={value}\n" for name, value in self.globus.environment.items())

    def add(self) -> None:
        """The site and its day, listed by nobody yet."""
        self.site.dayscribe(
            "sites", "add", "zurich", "--collection", self.far.id, "--location", "/", "--folder", BELOW,
            "--destination", self.near.id, "--destination-folder", "/staging", "--time-zone", "Europe/Zurich",
        )  # fmt: skip
        self.site.dayscribe("days", "add", DAY, "--site", "zurich")

    def login(self) -> None:
        """A person's, who opens the address and brings the code back."""
        words = [Path(sys.executable).with_name("dayscribe"), "globus", "login"]
        call = 'set -a; . "$1"; set +a; shift; exec "$@"'
        with subprocess.Popen(
            ["bash", "-c", call, "-", self.site.file, *words], env=self.site.cluster.environment, text=True, cwd=ROOT,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ) as asking:  # fmt: skip
            assert asking.stdin is not None
            assert asking.stdout is not None
            said = ""
            for line in asking.stdout:
                said += line
                if address := re.search(r"http://\S+/authorize\?\S+", line):
                    asking.stdin.write(self.globus.auth.code_for(address[0]) + "\n")
                    asking.stdin.flush()
        assert asking.returncode == 0, said

    def statuses(self) -> list[str]:
        return [task.document["status"] for task in self.globus.transfer.tasks.values()]

    def ends(self) -> list[str]:
        """How the stage jobs ended, as they say themselves."""
        staging = [job["id"] for job in self.site.jobs() if job["kind"] == "stage"]
        return [str(record.ended_as) for job in staging for record in self.site.records(job) if record.ended]

    def whole(self) -> bool:
        folder = Path(self.far.root) / "zurich_2025_january" / "prepped_data"
        return bytes_in(self.here) == bytes_in(folder)

    def secrets(self) -> list[bytes]:
        words = {self.globus.auth.secret, *self.globus.auth.tokens, *self.globus.auth.refresh}
        return [word.encode() for word in words]


def bytes_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


@pytest.fixture
def way(site: Any, globus: Any) -> Iterator[Way]:
    """A service account's site; a tick has time for nothing, so that the stage job lists and asks."""
    yield from prepared(site, globus)


def prepared(site: Any, globus: Any, **settings: str) -> Iterator[Way]:
    globus.auth.secret = "cAnArY-" + secrets.token_hex(12)
    far, near = (globus.transfer.collection(site.folder / name, name) for name in ("far", "near"))
    make_day(
        far.root, site="zurich", date=date.fromisoformat(DAY), slots=SLOTS, clips=CLIPS, seed=7,
        trouble=Trouble.none(), progress=lambda _=1: None,
    )  # fmt: skip
    secret = site.folder / "secret.json"
    secret.write_text(json.dumps({"client_id": globus.auth.client_id, "client_secret": globus.auth.secret}))
    secret.chmod(0o600)
    usual = {"TRANSFER__STAGING": str(near.root / "staging"), "TRANSFER__RESERVE_GB": "0"}
    usual |= {"GLOBUS__SECRET_FILE": str(secret), "GLOBUS__TOKENS": str(site.folder / "tokens")}
    made = Way(site, globus, far, near)
    made.write(**usual | {"SCHEDULE__LIST_SECONDS": "0"} | settings)
    try:
        yield made
    finally:
        globus.transfer.release()


def comes_and_is_transcribed(way: Way) -> None:
    """The master alone: the stage job asks and leaves, and everything else follows when Globus is done."""
    site = way.site
    way.globus.transfer.hold()
    site.master(every=2)
    until(site, lambda: way.ends() == ["done"], "the stage job ends")
    assert way.statuses() == ["ACTIVE", "ACTIVE"]
    assert list(site.days().values()) == ["transferring"]
    until(site, lambda: states(site) == {"succeeded"}, "a tick has heard of its end")
    assert [job["kind"] for job in site.jobs()] == ["stage"]  # nothing is ordered while Globus is at work
    way.globus.transfer.release()
    is_completed_by_two_jobs(site)


def is_completed_by_two_jobs(site: Any) -> None:
    until(site, lambda: set(site.days().values()) == {"completed"}, "the day is done", 120)
    until(site, lambda: states(site) == {"succeeded"}, "the jobs are closed")
    assert [job["kind"] for job in site.jobs()] == ["stage", "process"]


def states(site: Any) -> set[str]:
    return {job["state"] for job in site.jobs()}


def until(site: Any, true: Callable[[], object], what: str, seconds: float = 90) -> None:
    """As the cluster waits; what the master and the jobs said is in the failure's message."""
    try:
        site.cluster.until(true, what, seconds)
    except AssertionError as error:
        told = [f"{job['kind']} {job['state']}: {job['message']}\n{site.log(job['id'])}" for job in site.jobs()]
        log = site.folder / "master.log"
        said = log.read_text()[-3000:] if log.exists() else "the master said nothing"
        raise AssertionError("\n".join([str(error), str(site.days()), *told, said])) from error


def assert_all_is_here(site: Any) -> None:
    """Every file by the ledger, verified, and each kind by one transfer."""
    with connect(site.dsn) as connection:
        day = days.get(connection, "zurich", date.fromisoformat(DAY))
        files = listings.gaps(connection, day.id)
        moved = sorted((row["what"], row["state"]) for row in transfers.latest(connection))
    counted = {row["kind"]: (row["expected"], row["verified"], row["missing"]) for row in files}
    assert counted == dict.fromkeys(KINDS, (SLOTS, SLOTS, 0))
    assert moved == [("archives", "succeeded"), ("companions", "succeeded")]
    assert len(site.rows()) == SLOTS * CLIPS


def assert_no_secret_is_told(way: Way) -> None:
    """Neither in what we write, nor in what SLURM keeps of jobs: scripts, environments, logs."""
    kept = dict(way.site.kept()) | {path: path.read_bytes() for path in (way.site.file, way.site.folder / "master.log")}
    assert len([path for path in kept if path.name == "job.env"]) == 2
    assert len(way.secrets()) > 1
    assert [(path, word) for path, text in kept.items() for word in way.secrets() if word in text] == []
    names = [path.read_text().count("DAYSCRIBE_GLOBUS__") for path in sorted(way.site.home.glob("jobs/*/job.env"))]
    assert names[0] > 0
    assert names[1:] == [0]  # what transcribes is told nothing of who moves files


def test_the_master_alone_brings_a_day_by_globus_and_no_job_waits_for_it(way: Way) -> None:
    way.add()
    comes_and_is_transcribed(way)
    assert way.statuses() == ["SUCCEEDED", "SUCCEEDED"]
    assert way.whole()
    assert_all_is_here(way.site)
    assert_no_secret_is_told(way)
    staging = next(job for job in way.site.jobs() if job["kind"] == "stage")
    [record] = way.site.records(staging["id"])
    assert record.exit_code == 0
    assert record.facts["seconds"] < 30  # it asked, and left: the task was held all the while


def test_the_master_alone_copies_a_day_in_a_job_of_its_own(site: Any) -> None:
    truth = make_day(
        site.folder / "far", site="zurich", date=date.fromisoformat(DAY), slots=SLOTS, clips=CLIPS, seed=7,
        trouble=Trouble.none(), progress=lambda _=1: None,
    )  # fmt: skip
    site.write(SCHEDULE__LIST_SECONDS="0", TRANSFER__RESERVE_GB="0", TRANSFER__STAGING=str(site.folder / "staging"))
    site.dayscribe("sites", "add", "zurich", "--location", truth.location, "--copy")
    site.dayscribe("days", "add", DAY, "--site", "zurich")
    site.master(every=2)
    is_completed_by_two_jobs(site)
    assert_all_is_here(site)
    assert bytes_in(site.folder / "staging" / "zurich" / DAY) == bytes_in(Path(truth.audio))


@pytest.fixture
def inside(
    cluster: Any, site_on: Callable[..., AbstractContextManager[Any]], images: Any, globus: Any
) -> Iterator[Way]:
    """The same site in images. Of the host they are shown the ledger's socket and our packages, and what container.sh
    shows by itself: nothing of where the day lies at its source."""
    with site_on(cluster) as site:
        with connect(site.dsn) as connection:
            (site.folder / "ledger").symlink_to(connection.info.host)
        site.dsn = make_conninfo(site.dsn, host=str(site.folder / "ledger"))
        shown = {"CONTAINERS__BINDS": f"{images.settings['CONTAINERS__BINDS']} {site.folder}/ledger"}
        yield from prepared(site, globus, **images.settings | shown)


@pytest.mark.parametrize("who", ["a service account", "a person"])
def test_the_same_day_comes_inside_of_images(inside: Way, who: str) -> None:
    """The secret's file, or the folder of the logins, which are renewed there; and staging."""
    if who == "a person":
        inside.write(GLOBUS__SECRET_FILE="", GLOBUS__CLIENT_ID=inside.globus.auth.client_id)
        inside.login()
        inside.globus.auth.expire()  # whoever asks next has to renew it, in an image
    inside.add()
    comes_and_is_transcribed(inside)
    assert inside.whole()
    assert_all_is_here(inside.site)
    assert_no_secret_is_told(inside)
    given = [path.read_text() for path in inside.site.home.glob("jobs/*/job.env")]
    assert all("DAYSCRIBE_IMAGE_SHA256=" in text for text in given)
    kept = list((inside.site.folder / "tokens").rglob("tokens-*.json"))
    assert len(kept) == (who == "a person")
    for path in kept:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        good = [name for name, token in inside.globus.auth.tokens.items() if token.expires > time.time()]
        assert [name for name in good if name in path.read_text()] != []
