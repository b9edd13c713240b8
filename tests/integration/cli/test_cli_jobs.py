"""The commands around jobs, over a real ledger and a cluster of four small scripts: what they print and change."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpc.stages.publish import folder_of

Call = Callable[..., int]
DAY = "2025-01-31"
pytestmark = pytest.mark.usefixtures("cluster")
COMMANDS = {
    "squeue": 'cat "$CLUSTER/queue"',
    "sacct": "echo 'Slurm accounting storage is disabled' >&2; exit 1",
    "sbatch": 'printf "%s\\n" "$*" >>"$CLUSTER/asked"; echo 7',
    "scancel": 'printf "%s\\n" "$*" >>"$CLUSTER/cancelled"',
}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: None) -> Path:
    """The folder of the scripts' files; the commands are first on PATH."""
    monkeypatch.setenv("CLUSTER", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    (tmp_path / "bin").mkdir()
    for name, body in COMMANDS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    for name in ("queue", "asked", "cancelled"):
        (tmp_path / name).touch()
    return tmp_path


def test_a_dry_run_says_what_would_be_ordered_and_changes_nothing(
    a_day: Any, answer: Callable[..., Any], cluster: Path
) -> None:
    said = answer("schedule", "--dry-run")
    assert [(line["what"], line["about"]) for line in said["waits"]] == [("would submit", f"zurich {DAY}")]
    assert said["did"] == []
    assert answer("jobs", "list")["jobs"] == []
    assert (cluster / "asked").read_text() == ""


def test_a_tick_orders_and_the_jobs_can_be_looked_at(a_day: Any, answer: Callable[..., Any], cluster: Path) -> None:
    said = answer("schedule", "--once")
    assert [line["what"] for line in said["did"]] == ["judged", "submitted"]
    listed = answer("jobs", "list", "--live")
    [job] = listed["jobs"]
    assert (job["site"], job["date"], job["state"], job["scheduler_id"]) == ("zurich", DAY, "submitted", "7")
    assert [tick["owner"] for tick in listed["ticks"]] == [getpass.getuser()]
    for within, count in ((("--date", DAY), 1), (("--from", DAY), 1), (("--to", DAY), 1), (("--from", "2025-02-01"), 0),
                          (("--to", "2025-01-30"), 0), (("--site", "basel"), 0)):  # fmt: skip
        assert len(answer("jobs", "list", *within)["jobs"]) == count, within
    shown = answer("jobs", "show", str(job["id"]))
    assert shown["starts"] == []
    asked = (cluster / "asked").read_text()
    assert f"--job-name=ds-{DAY}-{job['token']}" in asked
    assert asked.rstrip().endswith(f"jobs/{job['id']}/job.env")
    assert str(a_day.dsn) not in asked


def test_a_job_that_is_not_there_is_named_with_the_command_that_lists(
    call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("jobs", "show", "99") == 65
    assert "no job 99" in capsys.readouterr().err


def test_a_drained_scheduler_says_who_drained_it_and_why_until_it_is_resumed(
    a_day: Any, answer: Callable[..., Any], cluster: Path
) -> None:
    said = answer("schedule", "--drain", "new disks")
    assert [line["what"] for line in said["waits"]] == ["paused"]
    assert "new disks" in said["waits"][0]["detail"]
    assert answer("jobs", "list")["paused"]["why"] == "new disks"
    assert (cluster / "asked").read_text() == ""
    assert [line["what"] for line in answer("schedule", "--resume")["did"]] == ["submitted"]


def test_no_slurm_on_the_machine_is_a_clear_error(
    a_day: Any, call: Call, cluster: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (cluster / "bin" / "squeue").unlink()
    monkeypatch.setenv("PATH", str(cluster / "bin"))
    assert call("schedule", "--once") == 78
    assert "squeue is not on this machine" in capsys.readouterr().err


def test_long_work_is_refused_on_a_declared_login_node(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (("run", DAY, "--site", "zurich"), ("work",), ("serve",)):
        assert call("--set", "login_nodes=*", *words) == 78
        assert "is a login node" in capsys.readouterr().err
    assert call("--set", "login_nodes=elsewhere*", "status") == 0


def test_what_a_migration_would_meet_at_work_is_said(
    a_day: Any, call: Call, answer: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    answer("schedule", "--once")
    assert call("db", "migrate") == 0
    said = capsys.readouterr().err
    assert f"at work: worker-1 has zurich {DAY}" in said
    assert f"live job: zurich {DAY} submitted" in said


def test_rendering_shows_the_command_and_the_script_and_asks_nothing(
    call: Call, capsys: pytest.CaptureFixture[str], cluster: Path
) -> None:
    words = ("--set", "slurm.partition=gpus", "--set", "slurm.gres=none", "--set", "slurm.options=--reservation=ours")
    assert call(*words, "slurm", "render", "--tasks", "3") == 0
    command, _, script = capsys.readouterr().out.partition("\n\n")
    assert "--array=0-2%3" in command
    assert "--partition=gpus" in command
    assert "--reservation=ours" in command
    assert "--gres" not in command
    assert script.startswith("#!/bin/bash")
    assert (cluster / "asked").read_text() == ""


def test_where_a_group_works_new_folders_are_its_own_and_nobody_else_s(a_day: Any, tmp_path: Path) -> None:
    """`shared` sets the umask; folders of results follow it and hand their group on."""
    before = os.umask(0o007)
    try:
        a_day.results = tmp_path / "shared"
        [lease] = a_day.lease(a_day.connection, a_day.open.id, 1)
        part = a_day.publish(lease, [], sealed=False)
    finally:
        os.umask(before)
    assert part.parent == folder_of(tmp_path / "shared", "zurich", a_day.open.date)
    assert {oct(folder.stat().st_mode & 0o7777) for folder in (part.parent, part.parent.parent)} == {"0o2770"}
    assert oct(part.stat().st_mode & 0o777) == "0o660"
