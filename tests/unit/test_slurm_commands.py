"""Running SLURM's commands: here, in a clean environment, or by the job script, which is asked in files."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hpc.errors import BadSetting
from hpc.launchers.slurm import commands
from hpc.launchers.slurm.commands import Answer, Exchange, Here, scrubbed

COMMON = Path(__file__).resolve().parents[2] / "slurm" / "common.sh"
BASH = shutil.which("bash") or "/bin/bash"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Puts a command on PATH, in front of all others."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def put(name: str, script: str) -> None:
        (folder / name).write_text(f"#!{BASH}\n{script}\n")
        (folder / name).chmod(0o755)

    return put


def test_nothing_of_the_job_around_us_reaches_a_command_of_slurm() -> None:
    given = {
        "SLURM_MEM_PER_CPU": "4096", "SLURM_JOB_ID": "12", "SBATCH_PARTITION": "gpu", "SQUEUE_FORMAT": "%i",
        "SACCT_FORMAT": "x", "SALLOC_QOS": "x", "SRUN_DEBUG": "1", "SCANCEL_STATE": "RUNNING", "LC_ALL": "de_CH.UTF-8",
        "SLURM_TIME_FORMAT": "relative", "SLURM_CONF": "/etc/slurm/slurm.conf", "PATH": "/bin", "MY_SLURM_WORD": "x",
    }  # fmt: skip

    assert scrubbed(given) == {
        "SLURM_CONF": "/etc/slurm/slurm.conf",
        "PATH": "/bin",
        "MY_SLURM_WORD": "x",
        "SLURM_BITSTR_LEN": "0",
        "SLURM_TIME_FORMAT": "standard",
        "LC_ALL": "C",
    }
    assert len(given) == 13


def test_a_command_here_is_answered_with_its_output_error_and_exit_code(
    program: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SQUEUE_FORMAT", "%A")
    program("squeue", 'printf "%s\\n" "$@" "${SQUEUE_FORMAT:-none}" "$PWD"; printf "\\377 oh\\n" >&2; exit 3')

    assert Here(folder=tmp_path)(["squeue", "a b", "c\nd"], seconds=10) == Answer(
        3, f"a b\nc\nd\nnone\n{tmp_path}\n", "\ufffd oh\n"
    )


def test_a_command_that_is_not_here_is_a_matter_of_settings(program: Callable[[str, str], None]) -> None:
    with pytest.raises(BadSetting, match=r"^ds-no-such-command is not on this machine: "):
        Here()(["ds-no-such-command"], seconds=10)


def test_a_command_that_hangs_is_no_answer(program: Callable[[str, str], None]) -> None:
    program("squeue", "echo 12; exec sleep 60")

    assert Here()(["squeue"], seconds=0.2) == Answer(None)


@pytest.fixture
def exchange(tmp_path: Path, program: Callable[[str, str], None]) -> Iterator[Exchange]:
    """Answered by the real job script's function, as long as the test lasts."""
    folder = tmp_path / "exchange"
    folder.mkdir()
    alive = subprocess.Popen([BASH, "-c", "read -r _"], stdin=subprocess.PIPE)  # until its input ends
    script = f'source "{COMMON}"; answer "$1" "$2"'
    environment = os.environ | {"SLURM_MEM_PER_CPU": "1", "SQUEUE_FORMAT": "x"}
    answering = subprocess.Popen([BASH, "-c", script, "job", str(folder), str(alive.pid)], env=environment)
    yield Exchange(folder)
    alive.communicate()
    assert answering.wait(30) == 0, "the job script goes on when the program has ended"
    assert list(folder.iterdir()) == []


def test_a_question_in_a_file_is_answered_with_output_error_and_exit_code(
    exchange: Exchange, program: Callable[[str, str], None]
) -> None:
    program("squeue", "printf 'out\\nmore\\n'; echo bad >&2; exit 3")
    program("sacct", "env | grep -E '^(SLURM|SQUEUE)' | sort")

    assert exchange(["squeue"], seconds=10) == Answer(3, "out\nmore\n", "bad\n")
    assert exchange(["sacct"], seconds=10) == Answer(0, "SLURM_BITSTR_LEN=0\n", "")


def test_words_reach_the_command_as_they_are(exchange: Exchange, program: Callable[[str, str], None]) -> None:
    program("sbatch", 'printf "<%s>" "$@"')
    hostile = ["a b", "c\nd", "", "$(touch /tmp/never)", "`id`", "'\"\\", "*", "--x=é", "\n"]

    assert exchange(["sbatch", *hostile], seconds=10) == Answer(0, "".join(f"<{word}>" for word in hostile), "")


@pytest.mark.parametrize("words", [["touch"], ["env", "squeue"], ["./squeue"], ["squeue;touch"], [""]])
def test_nothing_but_slurms_commands_is_ever_run(exchange: Exchange, words: list[str], tmp_path: Path) -> None:
    assert exchange([*words, str(tmp_path / "made")], seconds=10) == Answer(126, "", "")
    assert not (tmp_path / "made").exists()


def test_a_command_that_is_not_where_the_job_script_runs_is_a_matter_of_settings(
    tmp_path: Path, program: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the machine's own programs only those that the function needs are in reach."""
    for name in ("rm", "touch", "mv", "timeout", "sleep", "bash"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name) or f"/bin/{name}")
    ask = tmp_path / "1.ask"
    ask.write_bytes(b"10\0scancel\0" + b"12\0")
    done = subprocess.run(
        [BASH, "-c", f'source "{COMMON}"; answer_one "$1"', "job", str(tmp_path / "1")],
        env={"PATH": str(tmp_path / "bin")}, check=False,
    )  # fmt: skip
    assert (done.returncode, (tmp_path / "1.code").read_text(), ask.exists()) == (0, "127\n", False)

    asking = Exchange(tmp_path)
    with pytest.raises(BadSetting, match=r"^scancel is not on the machine that runs the job script\.$"):
        asking(["scancel", "12"], seconds=10)


def test_a_command_that_hangs_outside_is_no_answer(exchange: Exchange, program: Callable[[str, str], None]) -> None:
    program("squeue", "echo 12; exec sleep 60")

    assert exchange(["squeue"], seconds=0.2) == Answer(None)


def test_a_folder_that_nobody_reads_is_no_answer_and_the_question_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "LATE", 0.05)

    assert Exchange(tmp_path)(["squeue"], seconds=0.05) == Answer(None)
    assert list(tmp_path.iterdir()) == []


def test_a_question_is_whole_when_it_can_be_seen(tmp_path: Path) -> None:
    found: list[bytes] = []

    def answerer() -> None:
        ask = tmp_path / "1.ask"
        for _ in range(2000):
            if ask.exists():
                found.append(ask.read_bytes())
                for ending, text in (("out", "fine\n"), ("err", ""), ("new", "0\n")):
                    (tmp_path / f"1.{ending}").write_text(text)
                (tmp_path / "1.new").rename(tmp_path / "1.code")
                return
            threading.Event().wait(0.005)

    thread = threading.Thread(target=answerer)
    thread.start()
    answer = Exchange(tmp_path)(["squeue", "a b"], seconds=60)
    thread.join()

    assert (answer, found) == (Answer(0, "fine\n", ""), [b"60\0squeue\0a b\0"])
