"""Login nodes: nothing long is started there, but in a job."""

from __future__ import annotations

import socket

import pytest

from hpc.errors import OnLoginNode
from hpc.login_nodes import refuse


@pytest.fixture(autouse=True)
def on_login_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "login2.lab")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)


@pytest.mark.parametrize("patterns", [["login*"], ["node1", "login[12].lab"], ["*"], ["login2.lab"]])
def test_a_declared_login_node_refuses_and_says_where_else(patterns: list[str]) -> None:
    with pytest.raises(OnLoginNode) as caught:
        refuse(patterns, "a worker")

    assert str(caught.value) == (
        "login2.lab is a login node (login_nodes): start a worker in a job, or on another machine."
    )
    assert caught.value.exit_code == 78


@pytest.mark.parametrize("patterns", [[], ["node*"], ["login2"], ["login[13].lab"]])
def test_any_other_host_does_not(patterns: list[str]) -> None:
    refuse(patterns, "a worker")


def test_a_job_may_run_wherever_the_scheduler_put_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "12")

    refuse(["*"], "a worker")
