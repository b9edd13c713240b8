"""SLURM's words, both ways: what its commands print, and what an order is as one sbatch."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpc.jobs import JobSpec, Seen
from hpc.launchers.slurm import words
from hpc.sections import SlurmSettings

NAME = "ds-2025-01-01-0123456789ab"
SITES = Path(__file__).resolve().parents[2] / "slurm" / "sites"
SPEC = JobSpec(
    name=NAME,
    script=Path("/clone/slurm/2_process_audio_job.sh"),
    argument=Path("/home/jobs/7/job.env"),
    folder=Path("/home/jobs/7"),
    tasks=8,
    at_once=4,
    minutes=95,
    gpu=True,
)


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        # 22.05
        (
            f"12_[4-7,9%2]|PENDING|gpu|lab|normal||Priority|{NAME}",
            Seen("12", NAME, "PENDING", "Priority", "", None, 5, "gpu", "lab", "normal"),
        ),
        (
            f"12_3|RUNNING|gpu|(null)|(null)|node07|None|{NAME}",
            Seen("12", NAME, "RUNNING", "None", "node07", 3, 1, "gpu"),
        ),
        (
            "15|COMPLETED|cpu|(null)|(null)|node01|None|ds-master",
            Seen("15", "ds-master", "COMPLETED", "None", "node01", None, 1, "cpu"),
        ),
        # 24.11
        (
            f"40_[0-15%4]|PENDING|gpu|root|normal||JobArrayTaskLimit|{NAME}",
            Seen("40", NAME, "PENDING", "JobArrayTaskLimit", "", None, 16, "gpu", "root", "normal"),
        ),
        (
            f"40_2|FAILED|gpu|root|normal|node02|NonZeroExitCode|{NAME}",
            Seen("40", NAME, "FAILED", "NonZeroExitCode", "node02", 2, 1, "gpu", "root", "normal"),
        ),
        (
            "41|PENDING|a,b|root|normal||Nodes required for job are DOWN, DRAINED or reserved|ds-x",
            Seen("41", "ds-x", "PENDING", "Nodes required for job are DOWN, DRAINED or reserved", "", None, 1, "a,b",
                 "root", "normal"),
        ),
        # a name of somebody's own, with what separates the fields; a job of several components
        ("42|RUNNING|p|a|q|n1|None|a|b|c", Seen("42", "a|b|c", "RUNNING", "None", "n1", None, 1, "p", "a", "q")),
        ("43+1|RUNNING|p|a|q|n1|None|mpi", Seen("43", "mpi", "RUNNING", "None", "n1", None, 1, "p", "a", "q")),
    ],
)  # fmt: skip
def test_a_line_of_squeue_is_read(line: str, seen: Seen) -> None:
    assert list(words.read_queue([line])) == [seen]


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        (f"12_0|COMPLETED|0:0|node07|{NAME}", Seen("12", NAME, "COMPLETED", "", "node07", 0, exit_code=0)),
        (f"12_1|FAILED|75:0|node07|{NAME}", Seen("12", NAME, "FAILED", "", "node07", 1, exit_code=75)),
        (
            f"12_2|OUT_OF_MEMORY|0:125|n1|{NAME}",
            Seen("12", NAME, "OUT_OF_MEMORY", "", "n1", 2, exit_code=0, signal=125),
        ),
        (f"12_3|TIMEOUT|0:0|n1|{NAME}", Seen("12", NAME, "TIMEOUT", "", "n1", 3, exit_code=0)),
        (f"12_4|NODE_FAIL|1:0|n1|{NAME}", Seen("12", NAME, "NODE_FAIL", "", "n1", 4, exit_code=1)),
        (
            f"12_5|CANCELLED by 1000|0:15|n1|{NAME}",
            Seen("12", NAME, "CANCELLED", "by 1000", "n1", 5, exit_code=0, signal=15),
        ),
        (
            f"12_[6-9%2]|CANCELLED by 1000|0:0|None assigned|{NAME}",
            Seen("12", NAME, "CANCELLED", "by 1000", "", None, 4, exit_code=0),
        ),
        ("15|PENDING|0:0|None assigned|ds-master", Seen("15", "ds-master", "PENDING", "", "", None, exit_code=0)),
        ("16|RUNNING|||a|b", Seen("16", "a|b", "RUNNING")),
    ],
)  # fmt: skip
def test_a_line_of_sacct_is_read(line: str, seen: Seen) -> None:
    assert list(words.read_accounting([line])) == [seen]


@pytest.mark.parametrize(
    ("expression", "tasks"),
    [
        ("0", 1), ("4-7", 4), ("4-7,9%2", 5), ("1,3,5", 3), ("0-9:3", 4), ("0-10:3", 4), ("0-9:3,20-21%1", 6),
        ("0-999%4", 1000),
    ],
)  # fmt: skip
def test_an_arrays_expression_stands_for_so_many_tasks(expression: str, tasks: int) -> None:
    [seen] = words.read_queue([f"1_[{expression}]|PENDING|p|a|q||Priority|ds-x"])

    assert (seen.job, seen.task, seen.tasks) == ("1", None, tasks)


REST = "|PENDING|p|a|q||Priority|ds-x"


@pytest.mark.parametrize(
    "line",
    [
        "", "slurm_load_jobs error: Unable to contact slurm controller", "12|RUNNING", f"JOBID{REST}", f"{REST}",
        f"12_{REST}", f"12_a{REST}", f"12_[4-7{REST}", f"12_[]{REST}", f"12_[4-]{REST}", f"12_[-7]{REST}",
        f"12_[4-7,...]{REST}", f"12_[4-7:0]{REST}", f"12_[4-7:x]{REST}", f"12_[a-b]{REST}", f"12.batch{REST}",
        f" 12{REST}", f"-12{REST}",
    ],
)  # fmt: skip
def test_a_line_of_squeue_that_is_not_as_asked_for_is_no_answer(line: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        list(words.read_queue([f"12_3|RUNNING|gpu|a|q|n|None|{NAME}", line]))


@pytest.mark.parametrize(
    "line",
    [
        "",
        "12|COMPLETED|0:0|n1",
        "12.batch|COMPLETED|0:0|n1|batch",
        "x|COMPLETED|0:0|n1|ds-x",
        "12_[9-]|FAILED|0:0|n|ds-x",
    ],
)
def test_a_line_of_sacct_that_is_not_as_asked_for_is_no_answer(line: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        list(words.read_accounting([line]))


def test_only_what_is_named_like_ours_or_known_by_its_id_is_ours() -> None:
    mine, renamed = Seen("12", NAME, "RUNNING"), Seen("13", "renamed", "RUNNING")
    others = [Seen("14", "my-ds-job", "RUNNING"), Seen("130", "dst", "RUNNING"), Seen("1", "", "PENDING")]

    assert words.ours([mine, *others, renamed], ["13"]) == (mine, renamed)
    assert words.ours(others, []) == ()


def test_a_gpu_job_is_asked_for_in_these_words() -> None:
    wanted = SlurmSettings(partition="gpu", account="lab", qos="short", constraint="a100|h100")

    assert words.sbatch(SPEC, wanted, warn_seconds=120.0) == [
        "sbatch",
        "--parsable",
        f"--job-name={NAME}",
        "--array=0-7%4",
        "--time=95",
        "--output=/home/jobs/7/log/task-%a.log",
        "--open-mode=append",
        "--export=NONE",
        "--signal=B:USR1@120",
        "--requeue",
        "--ntasks=1",
        "--cpus-per-task=8",
        "--mem=32G",
        "--partition=gpu",
        "--account=lab",
        "--qos=short",
        "--gres=gpu:1",
        "--constraint=a100|h100",
        "/clone/slurm/2_process_audio_job.sh",
        "/home/jobs/7/job.env",
    ]


def test_a_job_without_a_gpu_asks_for_no_gpu_and_for_the_cpu_partition() -> None:
    wanted = SlurmSettings(partition="gpu", cpu_partition="cpu", account="lab", constraint="a100", requeue=False)
    spec = JobSpec("ds-ingest-0123456789ab", Path("/s.sh"), Path("/j/job.env"), Path("/j"), 1, 1, 240, gpu=False)

    assert words.sbatch(spec, wanted, warn_seconds=120.0) == [
        "sbatch", "--parsable", "--job-name=ds-ingest-0123456789ab", "--array=0-0%1", "--time=240",
        "--output=/j/log/task-%a.log", "--open-mode=append", "--export=NONE", "--signal=B:USR1@120", "--no-requeue",
        "--ntasks=1", "--cpus-per-task=1", "--mem=4G", "--partition=cpu", "--account=lab", "/s.sh", "/j/job.env",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "spec", "there", "absent"),
    [
        ({}, {}, "--gres=gpu:1", "--partition="),
        ({"gres": "none"}, {}, "--cpus-per-task=8", "--gres"),
        ({"gres": ""}, {}, "--cpus-per-task=8", "--gres"),
        ({}, {"exclude": ("n1", "n2")}, "--exclude=n1,n2", "--qos"),
        ({}, {"folder": Path("/a%b/7")}, "--output=/a%%b/7/log/task-%a.log", "--exclude"),
        ({"options": ["--reservation=lab", "--exclusive"]}, {}, "--reservation=lab", "--account"),
    ],
)
def test_a_choice_is_named_only_where_there_is_one(
    settings: dict[str, object], spec: dict[str, object], there: str, absent: str
) -> None:
    fields = {name: getattr(SPEC, name) for name in JobSpec.__slots__} | spec
    asked = words.sbatch(JobSpec(**fields), SlurmSettings(**settings), warn_seconds=1.0)

    assert asked.count(there) == 1
    assert [word for word in asked if word.startswith(absent)] == []


def test_a_persons_own_options_come_after_ours_and_before_the_script() -> None:
    asked = words.sbatch(SPEC, SlurmSettings(options="--reservation=lab --mail-type=FAIL"), warn_seconds=1.0)

    assert asked[-4:] == ["--reservation=lab", "--mail-type=FAIL", str(SPEC.script), str(SPEC.argument)]


def test_no_variable_and_no_secret_is_on_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody on the cluster reads it; what the job needs is in its file."""
    monkeypatch.setenv("PGPASSWORD", "hush-hush")
    monkeypatch.setenv("DAYSCRIBE_LEDGER__DSN", "service=hush-hush")
    wanted = SlurmSettings(modules="cuda/12.8", every_seconds=77777)

    said = " ".join(words.sbatch(SPEC, wanted, warn_seconds=120.0))

    assert [
        word for word in ("hush", "DAYSCRIBE", "PG", "cuda", "77777", "--export=ALL", "--wrap") if word in said
    ] == []


def test_nobody_asks_slurm_for_mail() -> None:
    """An array would send one for each task; who has to know is told once, by `dayscribe alert`."""
    asked = words.sbatch(SPEC, SlurmSettings(), warn_seconds=1.0)
    assert not [word for word in asked if "mail" in word.lower()]
    scripts = [*(Path(__file__).resolve().parents[2] / "slurm").rglob("*.sh"), *SITES.iterdir()]
    assert len(scripts) > 8
    assert [path.name for path in scripts if "--mail" in path.read_text() or "MAIL_TYPE" in path.read_text()] == []
