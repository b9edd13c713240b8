"""The doctor on a real cluster: what SLURM says to an order, and a job that looks at a node."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
SITE = 'set -a; . "$1"; set +a; shift; exec "$@"'
REAL = {
    "ENGINE__NAME": "whisperx",
    "ENGINE__MODEL": str(ROOT / "models" / "demo" / "asr.en"),
    "ENGINE__ALIGNER": str(ROOT / "models" / "demo" / "aligner"),
    "ENGINE__LANGUAGE": "en",
    "ENGINE__CHUNK_SIZE": "8",
    "SLURM__MEMORY_GB": "6",
}
Sites = Callable[..., AbstractContextManager[Any]]


def begun(site: Any, *words: str) -> subprocess.Popen[str]:
    """`dayscribe doctor …` under the site's settings."""
    program = Path(sys.executable).with_name("dayscribe")
    return subprocess.Popen(
        ["bash", "-c", SITE, "-", site.file, program, "doctor", *words], env=site.cluster.environment, cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def doctor(site: Any, *words: str) -> tuple[int, dict[str, dict[str, str]], str]:
    """The exit code, the findings by their names, and what was said beside."""
    process = begun(site, *words, "--json")
    out, said = process.communicate(timeout=180)
    return process.returncode, {row["what"]: row for row in json.loads(out or "[]")}, said


def wanting(found: dict[str, dict[str, str]]) -> set[str]:
    return {what for what, row in found.items() if row["verdict"] == "wanting"}


def names(site: Any) -> list[str]:
    return str(site.cluster.run("squeue", "-h", "-o", "%j").stdout).split()


@contextmanager
def closed(cluster: Any) -> Iterator[None]:
    """No job of the GPU partition starts."""
    cluster.run("scontrol", "update", "partitionname=gpu", "state=DOWN")
    try:
        yield
    finally:
        cluster.run("scontrol", "update", "partitionname=gpu", "state=UP")


def test_slurm_is_asked_whether_it_would_take_the_orders_of_these_settings(cluster: Any, site_on: Sites) -> None:
    with site_on(cluster) as site:
        code, found, said = doctor(site)
        assert code == 0, said
        assert "in partition gpu" in found["order of a GPU job"]["found"]
        assert "in partition cpu" in found["order of a job without GPU"]["found"]
        assert (found["SLURM's accounting"]["verdict"], found["SLURM's accounting"]["found"]) == (
            "advice", "accounting is off",
        )  # fmt: skip
        assert names(site) == []
        site.write(SLURM__PARTITION="gold", SLURM__CPU_MEMORY_GB="900")
        code, found, said = doctor(site)
        assert (code, wanting(found)) == (78, {"order of a GPU job", "order of a job without GPU"})
        assert found["order of a GPU job"]["found"] == "Invalid partition name specified"
        assert "order of a GPU job" in said


@pytest.mark.speech
def test_a_good_node_transcribes_the_clip_whose_words_are_known(cluster: Any, site_on: Sites) -> None:
    with site_on(cluster, **REAL) as site:
        code, found, said = doctor(site, "--gpu-node")
        assert (code, wanting(found)) == (0, set()), said
        assert "job" in found["node"]["found"]
        assert found["canary"]["found"].startswith("'station seven copy go north over' on cpu")
        assert found["torch"]["found"].startswith("torch ")
        assert found["ledger"]["found"].startswith("PostgreSQL")
        assert found["GPU asked for"]["verdict"] == "advice"
        [folder] = (site.home / "doctor").iterdir()
        assert site.dsn not in (folder / "findings.json").read_text()
        assert list(site.folder.glob("home/results/*")) == []


def test_a_gpu_that_is_asked_for_and_not_there_is_wanting(cluster: Any, site_on: Sites) -> None:
    with site_on(cluster, ENGINE__DEVICE="auto") as site:
        code, found, said = doctor(site, "--gpu-node")
        assert (code, wanting(found)) == (78, {"GPU"}), said
        assert found["GPU"]["found"] == "no NVIDIA driver"
        assert "set engine.device to cpu" in found["GPU"]["mend"]
        assert "Something is wanting: GPU." in said


def test_a_node_that_cannot_start_our_program_says_why(cluster: Any, site_on: Sites) -> None:
    with site_on(cluster, SLURM__MODULES="cuda/12") as site:
        code, found, _ = doctor(site, "--gpu-node")
        assert (code, wanting(found)) == (78, {"GPU job"})
        assert "there is no module command" in found["GPU job"]["mend"]


def test_a_job_that_does_not_start_is_told_of_and_shown_later_and_no_tick_knows_it(
    cluster: Any, site_on: Sites
) -> None:
    with site_on(cluster) as site:
        with closed(cluster):
            code, found, said = doctor(site, "--gpu-node", "--wait", "1")
            assert (code, found) == (75, {})
            [folder] = (site.home / "doctor").iterdir()
            assert "has not started (PENDING (PartitionDown)). It goes on by itself" in said
            assert f"dayscribe doctor --report {folder}" in said
            code, found, said = doctor(site, "--report", str(folder))
            assert (code, found) == (75, {})
            assert "has found nothing yet: PENDING (PartitionDown)" in said
            assert "0 active tasks" in site.tick()
            assert names(site) == ["dayscribe-doctor"]
        cluster.until(lambda: doctor(site, "--report", str(folder))[0] == 0, "the node has spoken")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_whoever_stops_waiting_takes_the_job_back(cluster: Any, site_on: Sites, number: signal.Signals) -> None:
    with site_on(cluster) as site, closed(cluster):
        process = begun(site, "--gpu-node")
        assert process.stderr is not None
        assert "takes it back" in process.stderr.readline()  # from now on it waits
        cluster.until(lambda: names(site) == ["dayscribe-doctor"], "the job is there")
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 130
        assert "was taken back" in said
        cluster.until(lambda: names(site) == [], "the job is gone")


def test_where_slurm_is_not_a_sentence_says_so(cluster: Any, site_on: Sites) -> None:
    with site_on(cluster) as site:
        program = Path(sys.executable).with_name("dayscribe")
        done = subprocess.run(
            [program, "doctor", "--gpu-node"], env={"PATH": str(program.parent), "DAYSCRIBE_HOME": str(site.home)},
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 78
        assert "There is no sbatch on this host" in done.stderr
        assert not (site.home / "doctor").exists()


@pytest.mark.speech
def test_a_node_is_looked_at_inside_the_image_of_gpu_jobs(cluster: Any, site_on: Sites, images: Any) -> None:
    with site_on(cluster, **REAL) as site:
        site.write(**images.settings)
        code, found, said = doctor(site, "--gpu-node")
        assert (code, wanting(found)) == (0, set()), said
        assert f"in the audio image {images.digest('audio_processing.sif')[:12]}…" in found["node"]["found"]
        assert found["closed image"]["found"] == "nothing came in"
        assert (found["staged audio"]["verdict"], found["image"]["verdict"]) == ("ok", "ok")
        assert found["canary"]["found"].startswith("'station seven copy go north over' on cpu")
        assert "ledger" not in found
        site.write(CONTAINERS__BINDS="/no/such/folder")
        code, found, _ = doctor(site, "--gpu-node")
        assert (code, wanting(found)) == (78, {"GPU job"})
        assert "/no/such/folder" in found["GPU job"]["mend"]
