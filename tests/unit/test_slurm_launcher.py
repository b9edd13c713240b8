"""The launcher that speaks to SLURM: how often it asks, and what refusal, limit and silence are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hpc.errors import BadSetting, NoAnswer, SubmitRefused
from hpc.jobs import JobSpec, Look
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


@pytest.mark.parametrize("name", ["a\u2028b", "a\x85b", "a|b", "a\x0bb", ""])
def test_whatever_somebody_calls_a_job_of_his_own_the_look_is_one(
    launcher: SlurmLauncher, commands: Commands, name: str
) -> None:
    commands.answers["squeue"] = Answer(0, f"7|RUNNING|gpu|a|q|n1|None|{name}\n{RUNNING}")

    found = launcher.look(["12"]).queue

    assert found is not None
    assert [one.job for one in found] == ["12"]


def test_an_order_can_be_tried_in_its_very_words(launcher: SlurmLauncher, commands: Commands) -> None:
    commands.answers["sbatch"] = Answer(0, "", "sbatch: Job 4 to start at noon on nodes gpu1 in partition gpu\n")

    assert launcher.would_take(SPEC) == "Job 4 to start at noon on nodes gpu1 in partition gpu"
    [tried] = commands.asked
    wanted = words.sbatch(SPEC, SlurmSettings(command_seconds=7), warn_seconds=120.0)
    assert tried == ["sbatch", "--test-only", *wanted[1:]]


def test_a_trial_that_is_refused_says_slurms_sentence(launcher: SlurmLauncher, commands: Commands) -> None:
    commands.answers["sbatch"] = Answer(1, "", "allocation failure: Invalid partition name specified\n")

    with pytest.raises(SubmitRefused, match=r"^Invalid partition name specified$"):
        launcher.would_take(SPEC)
