"""SLURM's words, both ways: what its commands print, what an order is as one sbatch, and what silence is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hpc.errors import BadSetting, NoAnswer, SubmitRefused
from hpc.jobs import JobSpec, Look, Seen
from hpc.launchers.slurm import SlurmLauncher, words
from hpc.launchers.slurm.commands import Answer
from hpc.sections import SlurmSettings

NAME = "ds-2025-01-01-0123456789ab"
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
        "--output=/home/jobs/7/task-%a.log",
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
        "--output=/j/task-%a.log", "--open-mode=append", "--export=NONE", "--signal=B:USR1@120", "--no-requeue",
        "--ntasks=1", "--cpus-per-task=1", "--mem=4G", "--partition=cpu", "--account=lab", "/s.sh", "/j/job.env",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "spec", "there", "absent"),
    [
        ({}, {}, "--gres=gpu:1", "--partition="),
        ({"gres": "none"}, {}, "--cpus-per-task=8", "--gres"),
        ({"gres": ""}, {}, "--cpus-per-task=8", "--gres"),
        ({}, {"exclude": ("n1", "n2")}, "--exclude=n1,n2", "--qos"),
        ({}, {"folder": Path("/a%b/7")}, "--output=/a%%b/7/task-%a.log", "--exclude"),
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


@dataclass
class Commands:
    """Answers each command with what was put down for it, and remembers the questions."""

    answers: dict[str, Answer | Exception] = field(default_factory=dict)
    asked: list[list[str]] = field(default_factory=list)
    patience: set[float] = field(default_factory=set)

    def __call__(self, question: Sequence[str], *, seconds: float) -> Answer:
        self.asked.append(list(question))
        self.patience.add(seconds)
        answer = self.answers[question[0]]
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def names(self) -> list[str]:
        return [question[0] for question in self.asked]


@pytest.fixture
def commands() -> Commands:
    return Commands({"squeue": Answer(0), "sacct": Answer(0), "sbatch": Answer(0, "12\n"), "scancel": Answer(0)})


@pytest.fixture
def launcher(commands: Commands) -> SlurmLauncher:
    return SlurmLauncher(commands, SlurmSettings(command_seconds=7), user="me", warn_seconds=120.0)


RUNNING = f"12_0|RUNNING|gpu|a|q|n1|None|{NAME}\n"
ENDED = f"12_0|COMPLETED|gpu|a|q|n1|None|{NAME}\n"


@pytest.mark.parametrize(
    ("queue", "ids", "asked"),
    [
        ("", [], ["squeue"]),
        (RUNNING, ["12"], ["squeue"]),
        (RUNNING + ENDED, ["12"], ["squeue"]),
        (ENDED, ["12"], ["squeue", "sacct"]),
        ("", ["12", "13", "14"], ["squeue", "sacct"]),
        (RUNNING, ["12", "13", "14"], ["squeue", "sacct"]),
    ],
)
def test_a_look_is_one_squeue_and_at_most_one_sacct_for_all_that_is_not_at_work(
    launcher: SlurmLauncher, commands: Commands, queue: str, ids: list[str], asked: list[str]
) -> None:
    commands.answers["squeue"] = Answer(0, queue)

    launcher.look(ids)

    assert (commands.names, commands.patience) == (asked, {7.0})
    if "sacct" in asked:
        gone = [job for job in ids if job != "12" or queue == ENDED or not queue]
        assert f"--jobs={','.join(gone)}" in commands.asked[1]


def test_the_queue_is_asked_for_ones_own_ended_jobs_too_in_a_format_of_our_own(
    launcher: SlurmLauncher, commands: Commands
) -> None:
    launcher.look([])

    assert commands.asked == [["squeue", "--noheader", "--states=all", "--user=me", "--format=%i|%T|%P|%a|%q|%N|%r|%j"]]


def test_an_empty_queue_is_an_answer(launcher: SlurmLauncher) -> None:
    assert launcher.look([]) == Look(())
    assert launcher.look(["12"]) == Look((), ())


@pytest.mark.parametrize(
    ("answer", "trouble"),
    [
        (Answer(None), "squeue: no answer in time"),
        (Answer(1, "", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n"),
         "squeue: load_jobs error: Unable to contact slurm controller (connect failure)"),
        (Answer(1, RUNNING, ""), "squeue: exit code 1"),
        (Answer(0, "12|RUNNING\n"), "squeue printed a line of 2 fields"),
        (Answer(0, RUNNING + "x" + RUNNING), "squeue printed a job id that is none"),
    ],
)  # fmt: skip
def test_a_queue_that_does_not_answer_is_none_and_never_empty(
    launcher: SlurmLauncher, commands: Commands, answer: Answer, trouble: str
) -> None:
    commands.answers["squeue"] = answer

    assert launcher.look(["12"]) == Look(None, trouble=trouble)
    assert commands.names == ["squeue"]


@pytest.mark.parametrize(
    ("answer", "trouble"),
    [
        (Answer(None), "sacct: no answer in time"),
        (Answer(1, "", "Slurm accounting storage is disabled\n"), "accounting is off"),
        (Answer(1, "", "sacct: error: Problem talking to the database: Connection refused\n"),
         "sacct: Problem talking to the database: Connection refused"),
        (Answer(0, "12|COMPLETED\n"), "sacct printed a line that is not as asked for"),
        (BadSetting("sacct is not on this machine"), "no sacct here"),
    ],
)  # fmt: skip
def test_accounting_that_does_not_answer_leaves_the_queues_answer_standing(
    launcher: SlurmLauncher, commands: Commands, answer: Answer | Exception, trouble: str
) -> None:
    commands.answers["sacct"] = answer

    assert launcher.look(["12"]) == Look((), None, accounting_trouble=trouble)


def test_other_peoples_jobs_are_not_even_looked_at(launcher: SlurmLauncher, commands: Commands) -> None:
    commands.answers["squeue"] = Answer(0, RUNNING + "77|RUNNING|p|a|q|n1|None|my-job\n78+0|PENDING|p|a|q||None|mpi\n")

    queue = launcher.look([]).queue

    assert queue is not None
    assert [seen.job for seen in queue] == ["12"]


@pytest.mark.parametrize(("out", "job"), [("12\n", "12"), ("4711;east\n", "4711")])
def test_the_id_that_sbatch_prints_is_the_jobs(launcher: SlurmLauncher, commands: Commands, out: str, job: str) -> None:
    commands.answers["sbatch"] = Answer(0, out)

    assert launcher.submit(SPEC) == job
    assert commands.asked == [words.sbatch(SPEC, SlurmSettings(), warn_seconds=120.0)]


FAILED = "sbatch: error: Batch job submission failed: "


@pytest.mark.parametrize(
    "answer",
    [
        Answer(None),
        Answer(1, "", f"{FAILED}Socket timed out on send/recv operation\n"),
        Answer(1, "", f"{FAILED}Unable to contact slurm controller (connect failure)\n"),
        Answer(1, "", "sbatch: error: Batch job submission failed: Zero Bytes were transmitted or received\n"),
        Answer(1, "", f"{FAILED}Slurm backup controller in standby mode\n"),
        Answer(1, "", f"{FAILED}Transport endpoint is not connected\n"),
        Answer(0, ""),
        Answer(0, "sbatch: Submitted batch job twelve\n"),
    ],
)
def test_after_these_nobody_knows_whether_the_job_is_there(
    launcher: SlurmLauncher, commands: Commands, answer: Answer
) -> None:
    commands.answers["sbatch"] = answer

    with pytest.raises(NoAnswer, match="the next looks will tell"):
        launcher.submit(SPEC)


@pytest.mark.parametrize(
    ("said", "limit"),
    [
        ("Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)", True),
        ("QOSMaxSubmitJobPerUserLimit", True),
        ("Invalid job array specification", True),
        ("Invalid partition name specified", False),
        ("Requested node configuration is not available", False),
        ("Invalid account or account/partition combination specified", False),
        ("Invalid qos specification", False),
        ("Access/permission denied", False),
    ],
)
def test_a_refusal_is_told_in_slurms_words_and_whether_fewer_tasks_may_be_taken(
    launcher: SlurmLauncher, commands: Commands, said: str, limit: bool
) -> None:
    commands.answers["sbatch"] = Answer(1, "", f"sbatch: warning: something\n{FAILED}{said}\n")

    with pytest.raises(SubmitRefused) as caught:
        launcher.submit(SPEC)

    assert (str(caught.value), caught.value.limit) == (f"Batch job submission failed: {said}", limit)


@pytest.mark.parametrize(
    ("only_pending", "asked"), [(True, ["scancel", "--state=PENDING", "12"]), (False, ["scancel", "12"])]
)
def test_what_waits_is_taken_back_and_what_runs_left_unless_it_is_meant(
    launcher: SlurmLauncher, commands: Commands, only_pending: bool, asked: list[str]
) -> None:
    launcher.cancel("12", only_pending=only_pending)

    assert commands.asked == [asked]


@pytest.mark.parametrize("answer", [Answer(None), Answer(1, "", "scancel: error: Kill job error on job id 12: x\n")])
def test_a_job_that_may_not_be_taken_back_is_told(launcher: SlurmLauncher, commands: Commands, answer: Answer) -> None:
    commands.answers["scancel"] = answer

    with pytest.raises(NoAnswer, match=r"^scancel: (no answer in time|Kill job error on job id 12: x)$"):
        launcher.cancel("12", only_pending=True)


def test_what_would_be_asked_is_shown_as_a_person_would_type_it(launcher: SlurmLauncher, tmp_path: Path) -> None:
    script = tmp_path / "a b.sh"
    script.write_text("#!/bin/bash\necho hello\n")
    fields = {name: getattr(SPEC, name) for name in JobSpec.__slots__}

    shown = launcher.render(JobSpec(**fields | {"script": script}))

    assert shown.startswith("sbatch --parsable ")
    assert shown.endswith(f" '{script}' /home/jobs/7/job.env\n\n#!/bin/bash\necho hello\n")
