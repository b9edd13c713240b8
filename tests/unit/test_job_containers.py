"""slurm/container.sh, run by a real bash: what an image is shown and told; a runtime here writes down its words."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

SLURM = Path(__file__).resolve().parents[2] / "slurm"
BASH = shutil.which("bash") or "/bin/bash"
RUNTIME = r"""
if [[ ${1:-} == --version ]]; then echo "${VERSION:-apptainer version 1.4.5}"; exit; fi
printf '%s\0' "$@" >"$LOG/words"
env -0 >"$LOG/environment"
[[ -z ${FATAL:-} ]] || printf 'FATAL:   %s\n' "$FATAL" >&2
exit "${CODE:-0}"
"""


@dataclass
class Job:
    """An order's folder, an image, and a script that runs it as SLURM does."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def image(self) -> Path:
        return self.folder / "images" / "audio.sif"

    @property
    def job(self) -> Path:
        return self.folder / "home" / "jobs" / "7"

    def run(self, script: str = "2_process_audio_job.sh", **environment: str) -> subprocess.CompletedProcess[str]:
        file = self.job / "job.env"
        file.write_text("".join(f"{name}='{value}'\n" for name, value in self.settings.items()))
        given = {
            "PATH": f"{self.folder}/bin:/usr/bin:/bin", "HOME": str(self.folder / "person"), "LOG": str(self.folder),
            "SLURM_SUBMIT_DIR": str(SLURM.parent), "TMPDIR": str(self.folder / "node"), "SLURM_JOB_ID": "12",
            "SLURM_ARRAY_JOB_ID": "11", "SLURM_ARRAY_TASK_ID": "3", "SLURMD_NODENAME": "gpu1",
        } | self.environment | environment  # fmt: skip
        log = self.job / "log" / "task-3.log"
        with log.open("a") as out:
            done = subprocess.run(
                [BASH, SLURM / script, file], check=False, stdout=out, stderr=out, env=given, timeout=60
            )
        return subprocess.CompletedProcess(done.args, done.returncode, log.read_text(), "")

    @property
    def words(self) -> list[str]:
        return (self.folder / "words").read_text().split("\0")[:-1]

    @property
    def binds(self) -> list[str]:
        said = self.words
        return [said[place + 1] for place, word in enumerate(said) if word == "--bind"]

    @property
    def inside(self) -> dict[str, str]:
        """What the runtime hands in, by either of its prefixes."""
        lines = (self.folder / "environment").read_text().split("\0")[:-1]
        pairs = dict(line.split("=", 1) for line in lines)
        return {name.partition("ENV_")[2]: value for name, value in pairs.items() if "ENV_" in name and name[0] in "AS"}

    @property
    def kernels(self) -> Path:
        """Where compiled kernels are kept on a node without a GPU."""
        return self.folder / "home" / f"cuda-{os.getuid()}" / "any"

    @property
    def record(self) -> dict[str, object]:
        said: dict[str, object] = json.loads((self.job / "task-3.0.ended.json").read_text())
        return said


@pytest.fixture
def job(tmp_path: Path) -> Job:
    for name in (
        "bin",
        "images",
        "home/jobs/7/log",
        "code/db",
        "code/hpc",
        "code/monitor",
        "person",
        "audio",
        "models",
        "node",
    ):
        (tmp_path / name).mkdir(parents=True)
    made = Job(tmp_path)
    runtime = tmp_path / "bin" / "apptainer"
    runtime.write_text(f"#!{BASH}\n{RUNTIME}")
    runtime.chmod(0o755)
    made.image.write_bytes(b"an image")
    made.settings = {
        "DAYSCRIBE_HOME": str(tmp_path / "home"),
        "DAYSCRIBE_MODELS": str(tmp_path / "models"),
        "DAYSCRIBE_CONTAINERS__AUDIO": str(made.image),
        "DAYSCRIBE_IMAGE_SHA256": hashlib.sha256(b"an image").hexdigest(),
        "DAYSCRIBE_STAGED": str(tmp_path / "audio"),
        "DAYSCRIBE_CODE": str(tmp_path / "code"),
        "DAYSCRIBE_JOB": str(made.job),
    }
    return made


def test_a_task_runs_closed_off_and_sees_only_what_is_named(job: Job) -> None:
    done, here = job.run(), job.folder

    assert done.returncode == 0, done.stdout
    closed = {"--containall", "--cleanenv", "--no-home", "--nv"}
    assert closed <= set(job.words)
    assert job.words[-5:] == [str(job.image), "/opt/venv/bin/dayscribe", "work", "--job", str(job.job)]
    assert set(job.binds) == {
        f"{here}/node/dayscribe-{os.getuid()}-cache/inside-audio:/cache:rw",
        f"{here}/code/db:/opt/dayscribe/db:ro",
        f"{here}/code/hpc:/opt/dayscribe/hpc:ro",
        f"{here}/code/monitor:/opt/dayscribe/monitor:ro",
        f"{job.job}:{job.job}:rw",
        f"{job.job}/job.env:{job.job}/job.env:ro",
        f"{job.job}/log:{job.job}/log:ro",
        f"{here}/home/results:{here}/home/results:rw",
        f"{here}/audio:{here}/audio:ro",
        f"{here}/models:{here}/models:ro",
        f"{job.kernels}:{job.kernels}:rw",
    }


def test_its_scratch_is_the_nodes_own_and_gone_afterwards(job: Job) -> None:
    job.run()
    scratch = job.words[job.words.index("--workdir") + 1]

    assert Path(scratch).parent == job.folder / "node"
    assert not Path(scratch).exists()
    assert [path.name for path in (job.folder / "node").iterdir()] == [f"dayscribe-{os.getuid()}-cache"]


def test_what_a_task_needs_of_its_job_goes_in_and_nothing_else(job: Job) -> None:
    job.run(
        CUDA_VISIBLE_DEVICES="1", SLURM_RESTART_COUNT="2", LD_PRELOAD="", PYTHONPATH="/x", SLURM_CONF="/etc/slurm.conf"
    )

    assert {
        name: job.inside[name] for name in ("CUDA_VISIBLE_DEVICES", "SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT")
    } == {
        "CUDA_VISIBLE_DEVICES": "1",
        "SLURM_ARRAY_TASK_ID": "3",
        "SLURM_RESTART_COUNT": "2",
    }
    assert job.inside["DAYSCRIBE_INSIDE"] == "audio"
    assert not {"PYTHONPATH", "SLURM_CONF", "DAYSCRIBE_CODE", "HOME", "PATH"} & set(job.inside)


def test_compiled_kernels_outlive_the_job_in_a_folder_of_its_users_own(job: Job) -> None:
    """Inside there is no home to keep them in, and the image itself can only be read."""
    job.run()

    assert (job.inside["CUDA_CACHE_PATH"], job.inside["CUDA_CACHE_MAXSIZE"]) == (str(job.kernels), str(4 << 30))
    assert job.kernels.parent.stat().st_mode & 0o777 == 0o700
    assert job.kernels.is_dir()


def test_where_they_cannot_be_kept_they_are_kept_on_the_node(job: Job) -> None:
    job.kernels.parent.write_text("no folder")
    done = job.run()

    assert done.returncode == 0, done.stdout
    assert job.inside["CUDA_CACHE_PATH"] == "/cache/nv"


def test_a_folder_of_kernels_that_is_somebody_elses_link_is_not_used(job: Job) -> None:
    job.kernels.parent.symlink_to(job.folder / "audio")
    job.run()

    assert job.inside["CUDA_CACHE_PATH"] == "/cache/nv"


def test_the_image_without_a_gpu_keeps_no_kernels(job: Job) -> None:
    job.settings["DAYSCRIBE_CONTAINERS__UTILS"] = str(job.image)
    job.run("3_ingest_job.sh")

    assert not {"CUDA_CACHE_PATH", "CUDA_CACHE_MAXSIZE"} & set(job.inside)
    assert not job.kernels.exists()


def test_the_gpu_image_is_handed_no_secret(job: Job) -> None:
    (job.folder / "person" / ".pgpass").write_text("*:*:*:*:canary-secret")
    job.settings |= {"DAYSCRIBE_LEDGER__DSN": "service=lab", "PGSERVICE": "lab"}
    job.run(PGPASSWORD="canary-secret", GLOBUS_TOKEN="canary-secret", DAYSCRIBE_API_TOKEN_FILE="/x")

    assert not [name for name in job.inside if name.startswith(("PG", "GLOBUS")) or "DSN" in name or "TOKEN" in name]
    assert not [bind for bind in job.binds if "person" in bind]
    assert "canary-secret" not in "".join(job.words)


def test_the_utils_image_is_handed_libpqs_files_and_the_ledger(job: Job) -> None:
    passfile = job.folder / "person" / ".pgpass"
    passfile.write_text("")
    job.settings |= {"DAYSCRIBE_LEDGER__DSN": "service=lab", "DAYSCRIBE_CONTAINERS__UTILS": str(job.image)}
    done = job.run("3_ingest_job.sh")

    assert done.returncode == 0, done.stdout
    assert "--nv" not in job.words
    assert f"{passfile}:{passfile}:ro" in job.binds
    assert f"{job.folder}/home:{job.folder}/home:rw" in job.binds
    assert (job.inside["PGPASSFILE"], job.inside["DAYSCRIBE_LEDGER__DSN"]) == (str(passfile), "service=lab")


def test_a_persons_own_settings_of_the_runtime_bind_nothing(job: Job) -> None:
    job.run(APPTAINER_BIND="/etc", APPTAINERENV_PYTHONPATH="/x", SINGULARITYENV_SECRET="y", SINGULARITY_BINDPATH="/etc")
    said = (job.folder / "environment").read_text()

    assert "APPTAINER_BIND" not in said
    assert not {"PYTHONPATH", "SECRET"} & set(job.inside)


def test_singularity_has_other_names_for_what_is_handed_in(job: Job) -> None:
    job.run(VERSION="singularity-ce version 4.1.0")

    assert "SINGULARITYENV_DAYSCRIBE_INSIDE=audio" in (job.folder / "environment").read_text().split("\0")


def test_a_sites_own_binds_are_to_read_only_unless_they_say_otherwise(job: Job) -> None:
    job.settings["DAYSCRIBE_CONTAINERS__BINDS"] = "/a:/b:ro /c /d:/e /f:/g:rw"
    job.run()

    assert job.binds[:4] == ["/a:/b:ro", "/c:/c:ro", "/d:/e:ro", "/f:/g:rw"]


def test_no_bind_covers_one_below_it_and_what_we_write_to_can_be_written(job: Job) -> None:
    """Not every runtime puts them in order; a site may well name the folder that holds everything."""
    job.settings["DAYSCRIBE_CONTAINERS__BINDS"] = f"{job.folder} {job.folder}/home/results"
    job.run()
    places = [bind.split(":")[1] for bind in job.binds]

    assert places == sorted(places, key=len)
    assert f"{job.folder}/home/results:{job.folder}/home/results:rw" in job.binds


def test_what_an_order_was_given_in_quotes_is_bound_without_them(job: Job) -> None:
    given = shlex.join(["/project/zürich", "/data/a~b:/c"])
    file = job.job / "job.env"
    job.settings["DAYSCRIBE_CONTAINERS__BINDS"] = given.replace("'", "'\"'\"'")
    job.run()

    assert "'" in file.read_text()
    assert {"/project/zürich:/project/zürich:ro", "/data/a~b:/c:ro"} <= set(job.binds)


def test_each_start_has_a_scratch_of_its_own(job: Job) -> None:
    """Two starts of one job may live at once, and two clusters may share a disk."""
    found = set()
    for more in ({}, {"SLURM_RESTART_COUNT": "1"}, {"SLURM_CLUSTER_NAME": "other"}):
        job.run(**more)
        found.add(job.words[job.words.index("--workdir") + 1])

    assert len(found) == 3


def test_a_folder_for_temporary_files_that_is_another_hosts_is_passed_over(job: Job) -> None:
    job.run(TMPDIR="/run/user/9999/session")

    assert job.words[job.words.index("--workdir") + 1].startswith(f"/tmp/dayscribe-{os.getuid()}-job-")


def test_a_script_that_slurm_kept_from_before_there_were_images_still_runs(job: Job, tmp_path: Path) -> None:
    old = tmp_path / "old.sh"
    old.write_text(f'source "{SLURM}/common.sh"\ndo_task "{SLURM.parent}" "$1"\n')
    done = job.run(str(old))

    assert done.returncode == 0, done.stdout
    assert job.words[-3:] == ["work", "--job", str(job.job)]


def test_the_python_of_jobs_outside_is_told_to_a_tick_inside(job: Job) -> None:
    job.settings |= {"DAYSCRIBE_CONTAINERS__UTILS": str(job.image), "DAYSCRIBE_PYTHON": "/lab/python3"}
    job.run("3_ingest_job.sh")
    assert job.inside["DAYSCRIBE_PYTHON"] == "/lab/python3"
    job.run()
    assert "DAYSCRIBE_PYTHON" not in job.inside


def test_another_image_under_the_name_is_no_image(job: Job) -> None:
    job.image.write_bytes(b"another")
    done = job.run()

    assert done.returncode == 255
    assert not (job.folder / "words").exists()
    assert (job.record["ended_as"], job.record["exit_code"], job.record["node"]) == ("infrastructure", 255, "gpu1")
    assert "not the one that was ordered" in str(job.record["reason"])


def test_an_image_is_read_once_a_node_until_it_changes(job: Job) -> None:
    sums = job.folder / "bin" / "sha256sum"
    sums.write_text(f'#!{BASH}\necho read >>"$LOG/sums"\nexec {shutil.which("sha256sum")} "$@"\n')
    sums.chmod(0o755)
    assert [job.run().returncode for _ in range(3)] == [0, 0, 0]
    assert (job.folder / "sums").read_text() == "read\n"

    job.image.write_bytes(b"another image")
    assert [job.run().returncode for _ in range(2)] == [255, 255]
    assert (job.folder / "sums").read_text() == "read\nread\n"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"DAYSCRIBE_CONTAINERS__AUDIO": "/nowhere/audio.sif"}, "no image at /nowhere/audio.sif"),
        ({"DAYSCRIBE_CONTAINERS__RUNTIME": "nosuchruntime"}, "no nosuchruntime on"),
        ({"DAYSCRIBE_CODE": "/nowhere"}, "no code at /nowhere"),
        ({"DAYSCRIBE_STAGED": "/a,b"}, "/a,b cannot be bound"),
        ({"DAYSCRIBE_CONTAINERS__SCRATCH": "/proc/nowhere"}, "no scratch can be made in /proc/nowhere"),
        ({"DAYSCRIBE_SLURM__MODULES": "apptainer/1.4"}, "there is no module command"),
    ],
)
def test_what_a_node_lacks_is_said_in_the_tasks_record(job: Job, change: dict[str, str], reason: str) -> None:
    job.settings |= change
    done = job.run()

    assert done.returncode == 255
    assert job.record["ended_as"] == "infrastructure"
    assert reason in str(job.record["reason"])
    assert not (job.folder / "words").exists()


def test_what_the_runtime_said_when_it_could_not_start_is_the_reason(job: Job) -> None:
    done = job.run(CODE="255", FATAL='mount source "/scratch" does not exist \\ at all')

    assert done.returncode == 255
    assert (
        job.record["reason"] == "the image could not be started on gpu1: mount source /scratch does not exist  at all"
    )


def test_the_programs_own_exit_code_and_record_stand(job: Job) -> None:
    (job.job / "task-3.0.ended.json").write_text('{"ended_as": "done"}')

    assert job.run(CODE="75").returncode == 75
    assert job.run(CODE="255").returncode == 255
    assert job.record == {"ended_as": "done"}


def test_a_folder_is_an_image_without_a_digest(job: Job) -> None:
    job.image.unlink()
    job.image.mkdir()
    del job.settings["DAYSCRIBE_IMAGE_SHA256"]

    assert job.run().returncode == 0


def test_without_an_ordered_digest_the_recorded_one_counts(job: Job) -> None:
    digest = job.settings.pop("DAYSCRIBE_IMAGE_SHA256")
    assert job.run().returncode == 78
    (job.image.parent / "images.sha256").write_text(f"{'0' * 64}  other.sif\n{digest}  audio.sif\n")
    assert job.run().returncode == 0
    (job.image.parent / "images.sha256").write_text(f"{'0' * 64}  audio.sif\n")
    assert job.run().returncode == 255


@pytest.mark.parametrize("name", ["cache", "job--12.0"])
def test_what_somebody_else_put_in_our_place_is_not_used(job: Job, tmp_path: Path, name: str) -> None:
    (tmp_path / "elsewhere" / "inside").mkdir(parents=True)
    place = job.folder / "node" / f"dayscribe-{os.getuid()}-{name}"
    place.symlink_to(tmp_path / "elsewhere")
    if name != "cache":  # ours is made anew in its place, unless that cannot be
        (job.folder / "bin" / "rm").write_text(f"#!{BASH}\nexit 1\n")
        (job.folder / "bin" / "rm").chmod(0o755)

    assert job.run().returncode == 255
    assert "belongs to somebody else" in str(job.record["reason"])
