"""How a task says how it ended: whose fault it was decides what is charged for it."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

import pytest

from db.errors import BadData, DayscribeError
from db.states import TaskEnd
from hpc.cli.work_in_job import Task, recorded
from hpc.errors import BadSetting, Interrupted, MachineUnfit
from hpc.job_folder import JobFolder, Superseded

HERE = Task(task=3, restart=1, node="gpu1", job="9")


def ended(folder: Path, error: Exception | None) -> tuple[str | None, int | None, str]:
    with suppress(Exception), recorded(JobFolder(folder), HERE):
        if error is not None:
            raise error
    [record] = JobFolder(folder).records()
    return record.ended_as, record.exit_code, record.reason


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (None, TaskEnd.DONE, 0),
        (Superseded(), TaskEnd.SUPERSEDED, 0),
        (Interrupted("its time is nearly up"), TaskEnd.STOPPED, 75),
        (MachineUnfit("no GPU"), TaskEnd.INFRASTRUCTURE, 75),
        (BadSetting("no model"), TaskEnd.SETTINGS, 78),
        (BadData("not audio"), TaskEnd.DATA, 65),
        (DayscribeError("?"), TaskEnd.CRASH, 1),
        (RuntimeError("?"), TaskEnd.CRASH, 1),
        (OSError(errno.ENOENT, os.strerror(errno.ENOENT), "/x"), TaskEnd.CRASH, 1),
    ],
)
def test_each_end_has_its_name_and_code(tmp_path: Path, error: Exception | None, kind: TaskEnd, code: int) -> None:
    assert ended(tmp_path, error)[:2] == (kind, code)


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.ESTALE, errno.EIO])
def test_a_file_system_that_fails_is_the_nodes_fault_and_is_named(tmp_path: Path, number: int) -> None:
    """A bind to read only is written to, a quota is used up, a server went away: no recording is at fault."""
    found = ended(tmp_path, OSError(number, os.strerror(number), "/results/part"))

    assert found == (TaskEnd.INFRASTRUCTURE, 75, f"/results/part cannot be used on gpu1: {os.strerror(number)}")
