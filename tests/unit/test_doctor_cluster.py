"""The doctor before SLURM and on a node: what each answer means, and how the report of a job is read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from db.errors import TryAgain
from hpc.doctor import cluster, node, visit
from hpc.doctor.finding import Finding, Verdict
from hpc.doctor.node import Torch
from hpc.doctor.visit import Stage
from hpc.errors import BadSetting, NoAnswer, SubmitRefused
from hpc.job_folder import JobFolder, Record
from hpc.jobs import MASTER, PREFIX, JobSpec, Look, Seen
from hpc.sections import SlurmSettings

COMMANDS = ["sbatch", "squeue", "scancel"]
SILENT = Look(None, trouble="squeue: no answer in time")
JOB = Seen("12", visit.NAME, "PENDING", "Priority", task=0)


def one(findings: list[Finding], what: str) -> Finding:
    [finding] = [finding for finding in findings if finding.what == what]
    return finding


@dataclass
class Slurm:
    """Shows and says what was put down for it."""

    shows: Look = field(default_factory=lambda: Look((), ()))
    says: dict[bool, str | Exception] = field(default_factory=lambda: {True: "Job 4 to start", False: "Job 5 to start"})
    asked: list[JobSpec] = field(default_factory=list)

    def look(self, _ids: list[str]) -> Look:
        return self.shows

    def would_take(self, spec: JobSpec) -> str:
        assert spec.script.is_file()
        self.asked.append(spec)
        said = self.says[spec.gpu]
        if isinstance(said, Exception):
            raise said
        return said


def test_a_cluster_that_takes_both_kinds_of_order_is_good() -> None:
    slurm = Slurm()

    found = list(cluster.findings(slurm, SlurmSettings(), found=COMMANDS))

    assert [finding.verdict for finding in found] == [Verdict.OK] * 5
    assert one(found, "order of a GPU job").found == "Job 4 to start"
    assert [spec.gpu for spec in slurm.asked] == [True, False]
    assert not slurm.asked[0].script.exists()


def test_a_refusal_is_wanting_with_slurms_own_sentence() -> None:
    slurm = Slurm(says={True: SubmitRefused("Invalid account"), False: "Job 5 to start"})

    found = list(cluster.findings(slurm, SlurmSettings(), found=COMMANDS))

    refused = one(found, "order of a GPU job")
    assert (refused.verdict, refused.found) == (Verdict.WANTING, "Invalid account")
    assert "slurm.partition, .account" in refused.mend
    assert one(found, "order of a job without GPU").verdict is Verdict.OK


def test_a_cluster_that_does_not_answer_is_asked_once() -> None:
    slurm = Slurm(shows=SILENT)

    found = list(cluster.findings(slurm, SlurmSettings(), found=COMMANDS))

    assert (found[-1].verdict, found[-1].found) == (Verdict.WANTING, "squeue: no answer in time")
    assert slurm.asked == []
    assert cluster.soften(found[-1]).verdict is Verdict.ADVICE


def test_commands_that_are_not_here_are_named_and_nothing_is_asked() -> None:
    [finding] = cluster.findings(Slurm(shows=SILENT), SlurmSettings(), found=["sbatch"])

    assert (finding.verdict, finding.found) == (Verdict.WANTING, "no squeue, no scancel")


def test_a_cluster_without_accounting_is_worth_advice() -> None:
    off = cluster.accounting(Look((), None, accounting_trouble="accounting is off"))

    assert (off.verdict, off.found) == (Verdict.ADVICE, "accounting is off")
    assert cluster.accounting(Look((), ())).verdict is Verdict.OK


def test_modules_that_are_named_need_a_command_and_loaded_ones_reach_no_job() -> None:
    bad = cluster.modules("cuda/12", command=False)
    assert (bad.verdict, bad.found) == (Verdict.WANTING, "cuda/12, and no module command here")
    assert cluster.modules("cuda/12", command=True).verdict is Verdict.OK
    loaded = cluster.loaded({"LOADEDMODULES": "git/2:cuda/12.4:anaconda3/2024"})
    assert loaded is not None
    assert loaded.verdict is Verdict.OK
    assert loaded.found == "cuda/12.4, anaconda3/2024 loaded in this shell; jobs begin without (--export=NONE)"
    assert cluster.loaded({}) is None


BOTH = Torch("2.8.0", "12.8", ("NVIDIA H100",), "4.8.5", 1)


@pytest.mark.parametrize(
    ("device", "found", "verdict", "sentence"),
    [
        ("cuda", BOTH, Verdict.OK, "torch 2.8.0, CTranslate2 4.8.5, CUDA 12.8; 1 × NVIDIA H100"),
        ("cpu", replace(BOTH, gpus=(), seen=0), Verdict.OK, "torch 2.8.0, CTranslate2 4.8.5, CUDA 12.8; no GPU"),
        ("cuda", replace(BOTH, gpus=(), seen=0), Verdict.WANTING, "without a driver in sight ask SLURM for one"),
        ("cuda", replace(BOTH, cuda="", gpus=(), seen=0), Verdict.WANTING, "This torch has no CUDA in it"),
        ("cuda", replace(BOTH, seen=0), Verdict.WANTING, "CTranslate2 sees none"),
        ("cpu", Torch(trouble="No module named 'torch'"), Verdict.WANTING, "No module named 'torch'"),
    ],
)
def test_torch_and_ctranslate2_both_have_to_see_the_gpu_that_was_asked_for(
    device: str, found: Torch, verdict: Verdict, sentence: str
) -> None:
    finding = node.torch(device, found)

    assert finding.verdict is verdict
    assert sentence in f"{finding.found} {finding.mend}"


def test_a_torch_that_does_not_load_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "_ASK_TORCH", "import no_such_torch")

    assert node.ask_torch().trouble == "ModuleNotFoundError: No module named 'no_such_torch'"


def test_a_gpu_that_is_asked_for_and_not_used_is_worth_advice() -> None:
    finding = node.gpu_unused("cpu", asked=True)

    assert finding is not None
    assert finding.mend == "Set slurm.gres to none, or engine.device to auto."
    assert (node.gpu_unused("cpu", asked=False), node.gpu_unused("cuda", asked=True)) == (None, None)


def test_what_came_into_an_image_is_wanting_and_what_is_not_offline_worth_advice() -> None:
    assert node.leaks([]).verdict is Verdict.OK
    assert (node.leaks(["PYTHONPATH"]).verdict, node.leaks(["PYTHONPATH"]).found) == (Verdict.WANTING, "PYTHONPATH")
    assert node.offline(dict.fromkeys(node.OFFLINE, "1")).verdict is Verdict.OK
    assert node.offline({"HF_HUB_OFFLINE": "1"}).found == "not set: TRANSFORMERS_OFFLINE"


def test_places_are_tried_by_writing_and_left_as_they_were(tmp_path: Path) -> None:
    assert node.writable("results", tmp_path).verdict is Verdict.OK
    gone = node.writable("results", tmp_path / "gone")
    assert (gone.verdict, gone.found) == (Verdict.WANTING, f"{tmp_path}/gone: No such file or directory")
    clip = tmp_path / "clip"
    clip.write_bytes(b"x")
    assert node.read_only("staged audio", [str(clip)]).verdict is Verdict.ADVICE
    assert node.read_only("staged audio", ["/proc/self/cmdline"]).verdict is Verdict.OK
    assert node.read_only("staged audio", ["/no/clip"]).found == "/no/clip: No such file or directory"
    assert node.closed_root(tmp_path).found == f"{tmp_path} can be written"
    assert node.closed_root(Path("/proc/self")).verdict is Verdict.OK
    assert [path.name for path in tmp_path.iterdir()] == ["clip"]


def test_a_doctors_job_is_none_of_a_ticks() -> None:
    assert not visit.NAME.startswith(PREFIX)
    assert JOB.token is None
    assert visit.NAME != MASTER


GOOD = Finding("Python", Verdict.OK, "3.11", "3.11 to 3.13")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    visit.remember(tmp_path, "12")
    return tmp_path


def test_findings_survive_the_way_and_a_file_that_is_cut_off_is_none(folder: Path) -> None:
    path = folder / visit.FINDINGS
    visit.write(path, [GOOD], complete=True)
    assert visit.read(path) == ([GOOD], True)
    path.write_text(path.read_text()[:40])
    assert visit.read(path) == ([], False)
    path.write_text(json.dumps({"complete": True, "findings": [{"what": "x", "verdict": "fine", "found": ""}]}))
    assert visit.read(path) == ([], False)


def test_an_image_that_did_not_start_is_wanting_with_the_sentence_of_its_record(folder: Path) -> None:
    why = "the image could not be started on gpu1: no space left"
    JobFolder(folder).ended(Record(0, 0, "gpu1", 1.0, "12", 2.0, "infrastructure", 255, why))

    found = visit.outcome(folder, Stage("RUNNING", runs=True))

    assert found == [
        Finding("GPU job", Verdict.WANTING, "gpu1: our program was not started", "starts as a GPU job does", why)
    ]


def test_a_job_that_ended_early_tells_what_it_had_found_and_its_last_lines(folder: Path) -> None:
    visit.write(folder / visit.FINDINGS, [GOOD], complete=False)
    (folder / visit.LOG).parent.mkdir(exist_ok=True)
    (folder / visit.LOG).write_text("one\ntwo\nthree\n\nslurmstepd: CANCELLED DUE TO TIME LIMIT\n")

    assert visit.outcome(folder, Stage("RUNNING", runs=True)) is None
    found = visit.outcome(folder, Stage("TIMEOUT", over=True))

    assert found is not None
    assert found[0] == GOOD
    assert found[1].found == "the job ended before it had looked at everything: TIMEOUT"
    assert found[1].mend == "three / slurmstepd: CANCELLED DUE TO TIME LIMIT"


def test_a_job_that_left_nothing_at_all_says_so(folder: Path) -> None:
    found = visit.outcome(folder, Stage("FAILED", over=True))

    assert found is not None
    assert found[0].mend == f"It printed nothing into {folder}/log/task-0.log: can this node see that folder?"


@pytest.mark.parametrize(
    ("look", "stage"),
    [
        (SILENT, Stage("SLURM does not answer (squeue: no answer in time)")),
        (Look((JOB,)), Stage("PENDING (Priority)", waits=True)),
        (Look((replace(JOB, state="RUNNING", reason="None"),)), Stage("RUNNING", runs=True)),
        (Look((replace(JOB, state="TIMEOUT", reason="TimeLimit"),)), Stage("TIMEOUT (TimeLimit)", over=True)),
        (Look(()), Stage("SLURM does not know it any more", over=True)),
        (Look((), (replace(JOB, state="FAILED", reason=""),)), Stage("FAILED", over=True)),
    ],
)
def test_silence_is_no_end_of_a_job(look: Look, stage: Stage) -> None:
    assert visit.stage(look, "12") == stage


class Time:
    """A clock that only waiting moves."""

    now = 0.0

    def clock(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds


class Launcher:
    """Shows one look after the other, the last for ever."""

    def __init__(self, *looks: Look) -> None:
        self._looks: Iterator[Look] = iter(looks)
        self._last = looks[-1]

    def look(self, _ids: list[str]) -> Look:
        return next(self._looks, self._last)


def _follow(folder: Path, *looks: Look, wait: float = 30, told: list[str] | None = None) -> list[Finding]:
    time = Time()
    return visit.follow(
        Launcher(*looks), folder, "12", wait=wait, minutes=1,  # type: ignore[arg-type]
        tell=lambda _, words: (told if told is not None else []).append(words), clock=time.clock, pause=time.pause,
    )  # fmt: skip


RUNNING = Look((replace(JOB, state="RUNNING", reason="None"),))
OVER = Look((replace(JOB, state="COMPLETED", reason="None"),))


def test_whoever_waits_is_told_how_the_job_stands_until_the_node_has_spoken(folder: Path) -> None:
    told: list[str] = []
    visit.write(folder / visit.FINDINGS, [GOOD], complete=True)

    assert _follow(folder, Look((JOB,)), told=told) == [GOOD]
    assert told == ["PENDING (Priority)"]


def test_a_job_that_does_not_start_in_time_is_left_and_found_again(folder: Path) -> None:
    with pytest.raises(TryAgain, match=r"Job 12 has not started \(PENDING \(Priority\)\)") as caught:
        _follow(folder, Look((JOB,)))
    assert f"dayscribe doctor --report {folder}" in str(caught.value)
    with pytest.raises(TryAgain, match=r"Job 12 has found nothing yet: PENDING \(Priority\)"):
        visit.report(Launcher(Look((JOB,))), folder)  # type: ignore[arg-type]
    visit.write(folder / visit.FINDINGS, [GOOD], complete=True)
    assert visit.report(None, folder) == [GOOD]


def test_a_scheduler_that_falls_silent_is_waited_for_no_longer_than_a_job(folder: Path) -> None:
    with pytest.raises(TryAgain, match="has not started"):
        _follow(folder, SILENT)
    with pytest.raises(TryAgain, match="Job 12 is not done"):
        _follow(folder, RUNNING, SILENT)


def test_what_a_job_wrote_is_waited_for_after_its_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [finding] = _follow(folder, RUNNING, OVER)
    assert finding.found == "the job ended before it had looked at everything: COMPLETED"

    looks = 0
    seen = visit.stage

    def late(look: Look, job: str) -> Stage:
        nonlocal looks
        looks += 1
        if looks == 10:
            visit.write(folder / visit.FINDINGS, [GOOD], complete=True)
        return seen(look, job)

    monkeypatch.setattr(visit, "stage", late)
    assert _follow(folder, RUNNING, OVER) == [GOOD]


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="is no folder of a doctor's job"):
        visit.report(None, tmp_path)


def test_an_unanswered_question_to_sbatch_is_wanting_and_no_error() -> None:
    slurm = Slurm(says={True: NoAnswer("sbatch did not get through"), False: "Job 5 to start"})

    found = one(list(cluster.findings(slurm, SlurmSettings(), found=COMMANDS)), "order of a GPU job")

    assert (found.verdict, found.found) == (Verdict.WANTING, "sbatch did not get through")
