"""The job scripts of slurm/, run by a real bash with other programs in place of SLURM's and ours."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

SLURM = Path(__file__).resolve().parents[2] / "slurm"
COMMON = SLURM / "common.sh"
BASH = shutil.which("bash") or "/bin/bash"
MASTER = "0_master_scheduler.sh"
TASKS = ["1_globus_transfer_job.sh", "2_process_audio_job.sh", "3_ingest_job.sh", "5_deliver_job.sh"]
AS_MASTER = {"SLURM_JOB_ID": "9", "SLURM_JOB_NAME": "ds-master"}


def until(true: Callable[[], bool]) -> None:
    for _ in range(3000):
        if true():
            return
        threading.Event().wait(0.01)
    pytest.fail("it never came")


def executable(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{BASH}\n{script}\n")
    path.chmod(0o755)
    return path


@contextmanager
def started(words: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """A script that is going on; whatever the test finds, nothing of it stays."""
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True) as script:
        try:
            yield script
        finally:
            with suppress(ProcessLookupError):
                os.killpg(script.pid, signal.SIGKILL)


@dataclass
class Clone:
    """A clone of ours, in which sbatch and our program write down what they were told."""

    root: Path
    spool: Path  # where SLURM keeps the copy of a script that it runs
    log: Path

    def run(self, script: str, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """As SLURM does: a copy of the script, in an environment of its own."""
        self.spool.mkdir(exist_ok=True)
        copy = shutil.copy(SLURM / script, self.spool / "slurm_script")
        return self.start(str(copy), *words, **{"SLURM_SUBMIT_DIR": str(self.root)} | variables)

    def start(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.root.parent / 'bin'}:/usr/bin:/bin"
        given = {"PATH": path, "HOME": str(self.root.parent), "LOG": str(self.log)} | variables
        return subprocess.run([BASH, *words], check=False, capture_output=True, text=True, env=given, timeout=60)

    @property
    def told(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    root = tmp_path / "clone"
    (root / "slurm").mkdir(parents=True)
    for script in SLURM.glob("*.sh"):
        shutil.copy(script, root / "slurm")
    executable(root / ".venv/bin/dayscribe", 'echo "dayscribe $*" >>"$LOG"; exit "${CODE:-0}"')
    executable(tmp_path / "bin/sbatch", 'echo "sbatch $*" >>"$LOG"; env | grep ^SLURM_ | sort >>"$LOG"; echo 10')
    return Clone(root, tmp_path / "spool", tmp_path / "log")


def settings(clone: Clone, **variables: str) -> str:
    file = clone.root.parent / "job.env"
    file.write_text("".join(f"{name}='{value}'\n" for name, value in variables.items()))
    return str(file)


def order(clone: Clone, **more: str) -> str:
    """The settings of a job whose Python writes down what it is told."""
    python = executable(clone.root.parent / "bin/python", 'printf "%s\\n" "${@:3}" >>"$LOG"; exit "${CODE:-0}"')
    code = clone.root.parent / "code"
    code.mkdir(exist_ok=True)
    given = {"DAYSCRIBE_PYTHON": str(python), "DAYSCRIBE_CODE": str(code), "DAYSCRIBE_JOB": "/home/jobs/7"}
    return settings(clone, **given | more)


# keep_kernels


def test_a_job_without_an_image_keeps_its_kernels_below_home_unless_it_is_told_another_place(
    clone: Clone, tmp_path: Path
) -> None:
    python = 'printf "%s\n" "$CUDA_CACHE_PATH" "$CUDA_CACHE_MAXSIZE" >>"$LOG"'
    given = order(clone, DAYSCRIBE_HOME=str(tmp_path / "home"))
    executable(tmp_path / "bin/python", python)
    clone.run(TASKS[1], given)
    clone.run(TASKS[1], given, CUDA_CACHE_PATH="/fast/kernels", CUDA_CACHE_MAXSIZE="7")

    kept = f"{tmp_path}/home/cuda-{os.getuid()}/"
    assert clone.told[0].startswith(kept)
    assert clone.told[1:] == [str(4 << 30), "/fast/kernels", "7"]


# run_on


CHILD = """
import os, signal, sys
def heard(number, _):
    with open(sys.argv[1], "a") as log:
        log.write(signal.Signals(number).name + chr(10))
    if number == signal.SIGTERM:
        os._exit(75)
signal.signal(signal.SIGUSR1, heard)
signal.signal(signal.SIGTERM, heard)
open(sys.argv[1], "a").write("ready" + chr(10))
while True:
    signal.pause()
"""


def test_the_signals_that_slurm_sends_to_the_script_reach_the_program(tmp_path: Path) -> None:
    """A signal ends the shell's wait, and not the program: it goes on until it is done."""
    log = tmp_path / "log"
    log.touch()
    words = [
        BASH,
        "-c",
        f'source "{COMMON}"; run_on "$@"; echo never',
        "job",
        sys.executable,
        "-S",
        "-c",
        CHILD,
        str(log),
    ]
    with started(words) as script:
        until(lambda: log.read_text() == "ready\n")
        for times in (1, 2):
            script.send_signal(signal.SIGUSR1)
            until(lambda times=times: log.read_text().count("SIGUSR1") == times)  # type: ignore[misc]
        assert script.poll() is None
        script.send_signal(signal.SIGTERM)
        out, _ = script.communicate(timeout=60)

    assert (script.returncode, out, log.read_text()) == (75, "", "ready\nSIGUSR1\nSIGUSR1\nSIGTERM\n")


def test_a_program_that_ends_while_the_signal_is_handed_on_still_gives_its_own_exit_code(tmp_path: Path) -> None:
    """`kill` returns when the program is gone: by then nothing is left to wait for but its code."""
    log = tmp_path / "log"
    log.touch()
    gone = 'while [[ $1 == -TERM ]] && builtin kill -0 "$2" 2>/dev/null; do :; done'
    slow = f'kill() {{ builtin kill "$@" || return; {gone}; }}'
    words = [BASH, "-c", f'source "{COMMON}"; {slow}; run_on "$@"', "job", sys.executable, "-S", "-c", CHILD, str(log)]
    with started(words) as script:
        until(lambda: log.read_text() == "ready\n")
        script.send_signal(signal.SIGTERM)
        script.wait(timeout=60)

    assert (script.returncode, log.read_text()) == (75, "ready\nSIGTERM\n")


@pytest.mark.parametrize(
    ("program", "code"),
    [("exit 0", 0), ("exit 1", 1), ("exit 65", 65), ("exit 75", 75), ("exit 137", 137), ("kill -9 $$", 137),
     ("exit 255", 255)],
)  # fmt: skip
def test_the_programs_exit_code_is_the_scripts(clone: Clone, program: str, code: int) -> None:
    assert clone.start("-c", f'source "{COMMON}"; run_on bash -c "$1"', "job", program).returncode == code


# common.sh


def test_no_python_of_the_person_comes_in_between(clone: Clone) -> None:
    shown = 'echo "${PYTHONPATH-unset} ${PYTHONHOME-unset} $PYTHONNOUSERSITE $PYTHONSAFEPATH"'
    done = clone.start("-c", f'source "{COMMON}"; {shown}', PYTHONPATH="/mine", PYTHONHOME="/mine")

    assert done.stdout == "unset unset 1 1\n"


def test_a_command_of_slurm_gets_nothing_of_the_job_around_it(clone: Clone) -> None:
    leaks = {
        "SLURM_MEM_PER_CPU": "1", "SLURM_MEM_PER_NODE": "1", "SLURM_JOB_ID": "9", "SBATCH_QOS": "x",
        "SQUEUE_FORMAT": "x", "SACCT_FORMAT": "x", "SALLOC_X": "x", "SRUN_X": "x", "SCANCEL_X": "x",
    }  # fmt: skip
    kept = {"SLURM_CONF": "/c", "SLURM_BITSTR_LEN": "0", "MINE": "two\nSLURM_lines"}
    names = "|".join([*leaks, *kept])
    script = f'source "{COMMON}"; scrubbed env | grep -E \'^({names})=\' | sort; echo "$SLURM_JOB_ID"'

    done = clone.start("-c", script, **leaks | kept)

    assert done.stdout == "MINE=two\nSLURM_BITSTR_LEN=0\nSLURM_CONF=/c\n9\n"


# the jobs that a tick orders


@pytest.mark.parametrize("script", TASKS)
def test_a_task_runs_the_code_and_the_python_of_its_order(clone: Clone, script: str) -> None:
    done = clone.run(script, order(clone), CODE="75")

    assert (done.returncode, clone.told) == (75, [str(clone.root.parent / "code"), "work", "--job", "/home/jobs/7"])


def test_the_copy_of_the_code_comes_before_all_others(clone: Clone, tmp_path: Path) -> None:
    for where in ("code", "elsewhere"):
        (tmp_path / where / "hpc/cli").mkdir(parents=True)
        text = f"import os, sys\ndef main(): print('{where}', sys.argv[1:], os.environ['DAYSCRIBE_HOME'])\n"
        for name, content in (("__init__.py", ""), ("cli/__init__.py", ""), ("cli/main.py", text)):
            (tmp_path / where / "hpc" / name).write_text(content)
    asked = order(clone, DAYSCRIBE_PYTHON=sys.executable, DAYSCRIBE_HOME="/home of ours")

    done = clone.run(TASKS[1], asked, PYTHONPATH=str(tmp_path / "elsewhere"), DAYSCRIBE_HOME="/another")

    assert (done.stdout, done.stderr) == ("code ['work', '--job', '/home/jobs/7'] /home of ours\n", "")


@pytest.mark.parametrize("script", TASKS)
def test_a_node_without_the_settings_says_so_and_is_to_blame(clone: Clone, script: str) -> None:
    done = clone.run(script, "/nowhere/job.env")

    assert (done.returncode, clone.told) == (255, [])
    assert done.stderr.startswith("dayscribe: no settings at /nowhere/job.env: is this file system there on ")


@pytest.mark.parametrize("script", TASKS)
def test_a_node_without_the_clone_says_so_and_is_to_blame(clone: Clone, script: str) -> None:
    done = clone.run(script, order(clone), SLURM_SUBMIT_DIR="/nowhere")

    assert (done.returncode, clone.told) == (255, [])
    assert done.stderr.startswith("dayscribe: no clone at /nowhere on ")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"DAYSCRIBE_PYTHON": "/nowhere/python"}, "no Python at /nowhere/python: is this file system there on "),
        ({"DAYSCRIBE_CODE": "/nowhere/code"}, "no code at /nowhere/code: is this file system there on "),
        ({"DAYSCRIBE_SLURM__MODULES": "cuda/12.8"}, "slurm.modules names modules, and there is no module command on "),
    ],
)
def test_a_node_that_lacks_what_the_job_needs_says_so_and_is_to_blame(
    clone: Clone, wrong: dict[str, str], said: str
) -> None:
    done = clone.run(TASKS[1], order(clone, **wrong))

    assert (done.returncode, clone.told) == (255, [])
    assert done.stderr.startswith(f"dayscribe: {said}")


def test_the_modules_are_loaded_before_the_program_runs(clone: Clone) -> None:
    module = {"BASH_FUNC_module%%": '() { echo "module $*" >>"$LOG"; }'}

    done = clone.run(TASKS[1], order(clone, DAYSCRIBE_SLURM__MODULES=" cuda/12.8  gcc "), **module)

    assert (done.returncode, clone.told[0], clone.told[2]) == (0, "module load cuda/12.8 gcc", "work")


def test_a_script_without_settings_says_how_it_is_used(clone: Clone) -> None:
    done = clone.run(TASKS[1])

    assert done.returncode != 0
    assert "usage: 2_process_audio_job.sh SETTINGS" in done.stderr


# the master


def test_the_master_submits_itself_again_before_it_ticks(clone: Clone) -> None:
    """A tick that fails ends nothing; what the job was given reaches the next one by words alone."""
    done = clone.run(
        MASTER, CODE="75", SLURM_JOB_PARTITION="cpu", SLURM_JOB_ACCOUNT="lab", SLURM_MEM_PER_CPU="1",
        SLURM_CONF="/c", **AS_MASTER,
    )  # fmt: skip

    again = (
        f"sbatch --parsable --chdir={clone.root} --dependency=singleton --begin=now+120 --partition=cpu --account=lab"
        f" {clone.root}/slurm/0_master_scheduler.sh"
    )
    assert (done.returncode, clone.told) == (75, [again, "SLURM_CONF=/c", "dayscribe schedule --once"])
    assert done.stdout == "next tick: job 10, in 120 seconds\n"


def test_the_next_master_goes_on_writing_where_this_one_does(clone: Clone, tmp_path: Path) -> None:
    """The clone may be somebody else's: a job whose log cannot be made ends without a word."""
    log = tmp_path / "100%.log"
    call = f'exec >"{log}"; exec bash {clone.root}/slurm/{MASTER}'
    done = clone.start("-c", call, SLURM_SUBMIT_DIR=str(clone.root), **AS_MASTER)

    assert (done.returncode, done.stderr) == (0, "")
    assert f" --output={tmp_path}/100%%.log " in clone.told[0]


def test_the_next_master_gets_the_same_site_and_pause(clone: Clone) -> None:
    (clone.root / "slurm/sites").mkdir()
    site = clone.root / "slurm/sites/lab.env"
    site.write_text("DAYSCRIBE_SLURM__EVERY_SECONDS=45\n")

    clone.run(MASTER, "slurm/sites/lab.env", **AS_MASTER)
    clone.run(MASTER, "slurm/sites/lab.env", "30", **AS_MASTER)

    script = clone.root / "slurm/0_master_scheduler.sh"
    common = f"sbatch --parsable --chdir={clone.root} --dependency=singleton --begin=now"
    assert [line for line in clone.told if line.startswith("sbatch")] == [
        f"{common}+45 {script} {site} 45",
        f"{common}+30 {script} {site} 30",
    ]


def test_a_master_that_cannot_submit_itself_still_ticks(clone: Clone) -> None:
    executable(clone.root.parent / "bin/sbatch", "echo 'sbatch: error: no' >&2; exit 1")

    done = clone.run(MASTER, **AS_MASTER)

    assert (done.returncode, clone.told) == (0, ["dayscribe schedule --once"])
    assert "dayscribe: the next tick could not be submitted (1); this one goes on\n" in done.stderr


def test_a_pause_of_0_seconds_is_this_once_only(clone: Clone) -> None:
    (clone.root / "site.env").touch()

    assert clone.run(MASTER, "site.env", "0", **AS_MASTER).returncode == 0
    assert clone.told == ["dayscribe schedule --once"]


def test_outside_of_a_job_nothing_is_submitted(clone: Clone) -> None:
    assert clone.start(str(clone.root / "slurm" / MASTER)).returncode == 0
    assert clone.told == ["dayscribe schedule --once"]


@pytest.mark.parametrize("variables", [AS_MASTER, {}, AS_MASTER | {"SLURM_JOB_NAME": "other"}])
def test_a_master_that_was_not_submitted_from_its_clone_says_so(clone: Clone, variables: dict[str, str]) -> None:
    done = clone.run(MASTER, **{"SLURM_SUBMIT_DIR": str(clone.root.parent)} | variables)

    assert (done.returncode, clone.told) == (78, [])
    assert done.stderr == (
        f"dayscribe: {clone.root.parent} is not the clone:"
        " submit from its folder (cd CLONE; sbatch slurm/0_master_scheduler.sh)\n"
    )


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nowhere.env"], 255, "no settings at {root}/nowhere.env: is this file system there on "),
        (["site.env", "soon"], 78, "the second argument is a number of seconds, not soon"),
    ],
)
def test_a_wrong_word_to_the_master_is_told_before_anything_is_submitted(
    clone: Clone, words: list[str], code: int, said: str
) -> None:
    (clone.root / "site.env").touch()

    done = clone.run(MASTER, *words, **AS_MASTER)

    assert (done.returncode, clone.told) == (code, [])
    assert done.stderr.startswith(f"dayscribe: {said.format(root=clone.root)}")


def test_a_clone_that_is_not_installed_says_so(clone: Clone) -> None:
    (clone.root / ".venv/bin/dayscribe").unlink()

    done = clone.start(str(clone.root / "slurm" / MASTER))

    assert (done.returncode, done.stderr) == (
        78,
        f"dayscribe: no program at {clone.root}/.venv/bin/dayscribe: run make install in the clone,"
        " and submit from there\n",
    )


def test_with_an_exchange_the_master_runs_slurms_commands_for_the_program(clone: Clone) -> None:
    asks = r"""
echo "${*:1:3}" >>"$LOG"
printf '10\0squeue\0a b\0' >"$4/new" && mv "$4/new" "$4/1.ask"
until [[ -e $4/1.code ]]; do :; done
cat "$4/1.out" "$4/1.code" >>"$LOG"
echo "$4" >>"$LOG"
exit 75"""
    executable(clone.root / ".venv/bin/dayscribe", asks)
    executable(clone.root.parent / "bin/squeue", 'printf "<%s>\\n" "$@" "${SLURM_JOB_ID-no job}"')

    done = clone.run(MASTER, DAYSCRIBE_EXCHANGE="yes", DAYSCRIBE_SLURM__EVERY_SECONDS="0", **AS_MASTER)

    assert (done.returncode, clone.told[:-1]) == (75, ["schedule --once --exchange", "<a b>", "<no job>", "0"])
    assert not Path(clone.told[-1]).exists()
