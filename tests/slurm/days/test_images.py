"""Days on a real cluster, through real images: the master and the jobs inside, SLURM's commands outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo

from db import days, transcripts
from db.connect import connect
from db.states import TaskEnd
from hpc.demo.day import make_day
from hpc.demo.score import score
from hpc.demo.trouble import Trouble

ROOT = Path(__file__).parents[3]
DAY = "2025-01-01"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"  # the images' and ours are the same


@pytest.fixture
def site(cluster: Any, site_on: Callable[..., AbstractContextManager[Any]], images: Any) -> Iterator[Any]:
    """A site whose jobs all run in images. They see the ledger's socket at a place that is not below /dev."""
    with site_on(cluster) as made:
        with connect(made.dsn) as connection:
            (made.folder / "ledger").symlink_to(connection.info.host)
        made.dsn = make_conninfo(made.dsn, host=str(made.folder / "ledger"))
        (made.folder / "audio").mkdir()
        shown = [images.settings["CONTAINERS__BINDS"], f"{made.folder}/ledger", f"{made.folder}/audio"]
        made.write(**images.settings | {"CONTAINERS__BINDS": " ".join(shown)})
        yield made


@pytest.mark.speech
def test_a_day_is_transcribed_inside_by_nothing_but_the_master(site: Any, images: Any) -> None:
    models = ROOT / "models" / "demo"
    site.write(
        ENGINE__NAME="whisperx", ENGINE__MODEL=str(models / "asr.en"), ENGINE__ALIGNER=str(models / "aligner"),
        ENGINE__LANGUAGE="en", ENGINE__CHUNK_SIZE="8", SLURM__FIRST_TASKS="1", SLURM__MEMORY_GB="6",
        WORKER__PREFLIGHT="always",  # as on a GPU: the canary first
    )  # fmt: skip
    truth = make_day(
        site.folder / "audio", site="zurich", date=date.fromisoformat(DAY), slots=8, clips=2, seed=7,
        trouble=Trouble.none(), progress=lambda _=1: None,
    )  # fmt: skip
    site.dayscribe("days", "add", DAY, "--site", "zurich", "--location", truth.location)
    site.master(every=3)
    site.cluster.until(lambda: set(site.days().values()) == {"completed"}, "the day is done", 120)
    site.cluster.until(lambda: {job["state"] for job in site.jobs()} == {"succeeded"}, "the jobs are closed")
    assert len(site.jobs()) == 1
    with connect(site.dsn) as connection:
        day = days.get(connection, "zurich", date.fromisoformat(DAY))
        found = score(truth, list(transcripts.of_day(connection, day.id)))
        [receipt] = [row["receipt"] for row in connection.execute("SELECT receipt FROM runs")]
    assert (found.unexpected, found.word_error_rate < 0.05) == (0, True)
    assert receipt["image"] == images.digest("audio_processing.sif")


# Where a node, an image or a setting is at fault, nobody's recording is.


def wrong_digest(site: Any, images: Any) -> None:
    record = site.folder / "images" / "images.sha256"
    record.write_text(record.read_text().replace(images.digest("audio_processing.sif"), "0" * 64))


def no_image(site: Any, images: Any) -> None:
    (site.folder / "images" / "audio_processing.sif").unlink()


def no_program(site: Any, images: Any) -> None:
    """An image in which there is nothing of ours; a folder, so it needs no digest."""
    (site.folder / "images" / "audio_processing.sif").unlink()
    for name in ("bin", "dev", "etc", "proc", "sys", "tmp", "usr", "var/tmp"):
        (site.folder / "images" / "audio_processing.sif" / name).mkdir(parents=True)


def bound_from_nowhere(site: Any, images: Any) -> None:
    site.write(CONTAINERS__BINDS=f"{site.settings['CONTAINERS__BINDS']} /nowhere")


def no_gpu(site: Any, images: Any) -> None:
    site.write(ENGINE__DEVICE="auto")


def deaf(site: Any, images: Any) -> None:
    """The preflight hears other words than the canary's: the echo engine's own."""
    site.write(WORKER__PREFLIGHT="always")


def foreign_code(site: Any, images: Any) -> None:
    """A bind of the site's own that brings packages of the host into Python's path."""
    inside = f"/opt/venv/lib/python{PYTHON}/site-packages/leak.pth"
    site.write(CONTAINERS__BINDS=f"{site.settings['CONTAINERS__BINDS']} {site.folder}/leak.pth:{inside}")
    (site.folder / "leak.pth").write_text("/tmp\n")


@pytest.fixture
def with_own_images(site: Any, images: Any) -> Any:
    """The same images under names that a test may break."""
    (site.folder / "images").mkdir()
    for name in ("audio_processing.sif", "pipeline_utils.sif"):
        (site.folder / "images" / name).symlink_to(images.folder / name)
    (site.folder / "images" / "images.sha256").write_text((images.folder / "images.sha256").read_text())
    site.write(CONTAINERS__AUDIO=str(site.folder / "images" / "audio_processing.sif"), SLURM__FIRST_TASKS="1")
    return site


@pytest.mark.parametrize(
    ("spoil", "when", "sentence"),
    [
        (wrong_digest, "before", "is not the one that was ordered"),
        (no_image, "after", "no image at"),
        (no_program, "after", "could not be started"),
        (bound_from_nowhere, "before", "/nowhere"),
        (no_gpu, "before", "its order asks for one"),
        (deaf, "before", "and this machine heard"),
        (foreign_code, "before", "/tmp came in from outside"),
    ],
)
def test_no_recording_is_charged_for_an_image_or_a_node(
    with_own_images: Any, images: Any, spoil: Callable[[Any, Any], None], when: str, sentence: str
) -> None:
    """The task ends as infrastructure, with the sentence that a person needs, and nothing was tried."""
    site = with_own_images
    site.add(DAY, archives=1, clips=1)
    if when == "before":
        spoil(site, images)
        site.tick()
    else:
        site.write(SLURM__OPTIONS="--hold")
        site.tick()
        spoil(site, images)
        site.cluster.run("scontrol", "release", site.jobs()[0]["scheduler_id"])
    site.write(SCHEDULE__BACKOFF_SECONDS="600")
    site.cluster.until(lambda: site.tick() and site.jobs()[0]["state"] == "failed", f"the job is over: {site.jobs()}")
    [record] = site.records(site.jobs()[0]["id"])
    assert record.ended_as == TaskEnd.INFRASTRUCTURE
    assert sentence in record.reason
    assert sentence in site.jobs()[0]["message"]
    with connect(site.dsn) as connection:
        tried = [tuple(row.values()) for row in connection.execute("SELECT state, attempts FROM shards")]
    assert tried == [("ready", 0)]
    assert site.rows() == []


# What comes in from outside, and what does not.


def look_inside(site: Any, *words: str, **environment: str) -> str:
    """Run something else than our program just where and as a task of the last order would run it."""
    ready = 'source "$1/slurm/common.sh"; read_settings "$2"; choose_program "$1" audio'
    call = f'{ready}; "${{program[@]::${{#program[@]}}-1}}" "${{@:3}}"'  # all but our program's name
    order = site.home / "jobs" / str(site.jobs()[-1]["id"]) / "job.env"
    done = subprocess.run(
        ["bash", "-c", call, "-", ROOT, order, *words], env=site.cluster.environment | environment, text=True,
        capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def ordered(site: Any) -> Any:
    """A site with an order that waits."""
    site.write(SLURM__OPTIONS="--hold")
    site.add(DAY, archives=1, clips=1)
    site.tick()
    return site


LOOK = """
import json, os, sys, numpy, site
private = [name for name in (os.path.expanduser("~/.pgpass"), "/secrets", sys.argv[1]) if os.path.exists(name)]
print(json.dumps([dict(os.environ), numpy.__file__, sys.path, private, site.ENABLE_USER_SITE]))
"""


def test_nothing_of_a_persons_own_python_and_no_secret_is_seen_inside(ordered: Any, tmp_path: Path) -> None:
    canary = "cAnArY-0d1f"
    own = tmp_path / ".local" / "lib" / f"python{PYTHON}" / "site-packages"
    for folder in (own, tmp_path / "path"):
        (folder / "numpy").mkdir(parents=True)
        (folder / "numpy" / "__init__.py").write_text("raise SystemExit('the host leaked in')")
    (tmp_path / ".pgpass").write_text(canary)
    secret = {"PGPASSWORD": canary, "GLOBUS_TOKEN": canary, "APPTAINERENV_SMUGGLED": canary, "SOME_SECRET": canary}
    planted = {"HOME": str(tmp_path), "PYTHONPATH": str(tmp_path / "path")}
    of_the_job = {"CUDA_VISIBLE_DEVICES": "1", "SLURM_ARRAY_TASK_ID": "3"}
    said = look_inside(ordered, "/opt/venv/bin/python", "-c", LOOK, str(tmp_path), **secret, **planted, **of_the_job)
    environment, numpy, path, private, user_site = json.loads(said)
    assert canary not in said
    assert str(tmp_path) not in said
    assert (private, user_site) == ([], False)
    assert numpy.startswith(("/opt/venv/", "/opt/packages/"))
    assert [entry for entry in path if not entry.startswith(("/opt/", "/usr/"))] == []
    assert (environment["CUDA_VISIBLE_DEVICES"], environment["SLURM_ARRAY_TASK_ID"]) == ("1", "3")
    assert "DAYSCRIBE_LEDGER__DSN" not in environment


def test_what_the_host_runs_of_a_job_cannot_be_changed_from_inside(ordered: Any) -> None:
    """What decodes strangers' bytes may write its records there; not the next task's script, nor where it logs."""
    job = ordered.home / "jobs" / "1"
    before = (job / "job.env").read_text()
    tries = [
        f"echo touch /owned >>{job}/job.env", f"mv {job}/job.env {job}/x", f"rm {job}/job.json", f"touch {job}/log/x",
        f"rm -r {job}/log", f"ln -s /etc/passwd {job}/log/task-1.log",
    ]  # fmt: skip
    said = look_inside(ordered, "sh", "-c", "; ".join(f"({one}) 2>/dev/null || echo refused" for one in tries))
    assert said.split() == ["refused"] * len(tries)
    assert (job / "job.env").read_text() == before
    look_inside(ordered, "touch", str(job / "task-0.0.ended.json"))
    assert (job / "task-0.0.ended.json").exists()


def test_what_is_to_be_transcribed_and_the_image_itself_cannot_be_written(ordered: Any) -> None:
    tried = (
        f"touch {ordered.folder}/audio/{DAY}/new; touch /opt/dayscribe/new; touch {ordered.home}/new; touch /tmp/new"
    )
    said = look_inside(ordered, "sh", "-c", f"({tried}) 2>&1; ls {ordered.folder}/audio/{DAY}")
    assert said.count("Read-only file system") == 2
    assert "new" not in said.splitlines()
    assert not (ordered.home / "new").exists()
    assert len(list((ordered.folder / "audio" / DAY).iterdir())) == 1


# Signals, and what is left.


@pytest.fixture
def at_work(site: Any) -> Iterator[dict[str, Any]]:
    """A task that is frozen inside its image, after its first part was published."""
    site.write(SLURM__FIRST_TASKS="1", WORKER__PART_RECORDINGS="2")
    site.variables |= {"DAYSCRIBE_FAULTS_ARMED": "yes", "DAYSCRIBE_JOB_FAULT": "publish.dirsynced:stop"}
    site.add(DAY, archives=4, clips=2)
    site.tick()
    site.variables.clear()
    [job] = site.jobs()
    site.cluster.until(lambda: list(site.home.glob("results/*/*/parts/*")), "a first part is published")
    yield job
    site.signal(signal.SIGCONT)


@pytest.mark.parametrize("name", ["USR1", "TERM"])
def test_a_signal_reaches_our_program_inside(site: Any, at_work: dict[str, Any], name: str) -> None:
    site.cluster.run("scancel", "--batch", f"--signal={name}", at_work["scheduler_id"])
    site.signal(signal.SIGCONT)
    site.cluster.until(lambda: [one.ended_as for one in site.records(at_work["id"])] == ["stopped"], "it was stopped")
    assert [record.exit_code for record in site.records(at_work["id"])] == [75]
    site.until_days("completed")
    assert {(row[5], row[7]) for row in site.rows()} == {("transcribed", 1)}


def test_a_cancelled_job_leaves_no_process(site: Any, at_work: dict[str, Any]) -> None:
    """Frozen, it cannot leave by itself: SLURM kills the whole image, the engine and the decoders in it."""
    ours = Path("/proc/self/ns/pid").readlink()
    inside = [pid for pid in site.processes() if Path(f"/proc/{pid}/ns/pid").readlink() != ours]
    family = children(inside)
    assert len(family) >= 2
    site.cluster.run("scancel", at_work["scheduler_id"])
    site.cluster.until(
        lambda: not site.processes() and not [pid for pid in family if Path(f"/proc/{pid}").exists()], "gone"
    )
    site.signal(signal.SIGCONT)


def test_a_process_that_outlives_our_program_dies_with_its_image(ordered: Any) -> None:
    """It left its session, so nobody's signal reaches it; the image ends with the program that it was started for."""
    seconds = str(100_000 + os.getpid())  # a sleep that can be told from everybody's
    seen = f"grep -lz '^{seconds}$' /proc/[0-9]*/cmdline | wc -l"  # itself, the shell, and the stray
    said = look_inside(ordered, "sh", "-c", f"setsid sleep {seconds} & sleep 1; grep -zc . /proc/$!/cmdline; {seen}")
    assert said.splitlines()[0] == "2"  # sleep and its seconds
    ordered.cluster.until(lambda: f"sleep\0{seconds}\0".encode() not in every_command(), "the stray is gone", 10)


def every_command() -> bytes:
    """The words of all processes of this machine."""
    found = b""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found += path.read_bytes()
    return found


def children(pids: list[int]) -> list[int]:
    """These processes and all below them."""
    found = list(pids)
    for pid in found:
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            found += [int(child) for child in task.read_text().split() if int(child) not in found]
    return found


def test_twenty_images_may_start_at_once(site: Any) -> None:
    site.write(
        SLURM__PARTITION="cpu", SLURM__GRES="none", SLURM__MEMORY_GB="1",
        SLURM__FIRST_TASKS="20", SLURM__TASKS_PER_DAY="20", SLURM__AT_ONCE="20",
    )  # fmt: skip
    site.add(DAY, archives=20, clips=1)
    site.tick()
    [job] = site.jobs()
    assert job["tasks"] == 20
    site.until_days("completed", 120)
    assert [record.ended_as for record in site.records(job["id"])] == ["done"] * 20
    assert len(site.rows()) == 20
