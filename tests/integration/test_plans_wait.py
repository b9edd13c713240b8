"""A plan whose audio was let go: what it says before, while it waits, and to whom."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from db import plans, sites
from hpc.stages.arrival import MARK

ECHO = ("--set", "engine.name=echo", "--set", "engine.language=fr")
DONE = "2025-01-30"  # of one archive


def let_go(made: Any, folder: Path, *, state: str = "removed") -> Path:
    """The finished day's archive was brought here by a copy; where it lies at its source."""
    far = folder / "audio" / DONE / "00_00"
    far.parent.mkdir(parents=True, exist_ok=True)
    route = {"how": "copy", "staging": str(folder / "staging")}
    sites.put(made.connection, "zurich", location=str(folder / "audio"), route=route)
    staged = folder / "staging" / "zurich" / DONE
    made.connection.execute("UPDATE days SET staged = %s WHERE id = %s", [str(staged), made.done.id])
    made.connection.execute(
        "INSERT INTO files (day_id, path, kind, state, size, arrived_size, arrived, since, seen, shard)"
        f" VALUES (%s, '00_00', 'archive', %s, 1000, 1000, now(), 0, 0, '0_{DONE}_00_00.tar.xz')",
        [made.done.id, state],
    )
    return far


def drawn(answer: Callable[..., Any]) -> Any:
    return answer(*ECHO, "reprocess", "--date", DONE, "--dry-run")


def test_the_dry_run_tells_what_must_be_fetched_from_what_is_gone_for_good(
    a_day: Any,
    answer: Callable[..., Any],
    call: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    let_go(a_day, tmp_path)
    source = drawn(answer)["estimate"]["source"]
    assert (source["again"], source["again_bytes"], source["again_by"], source["gone"]) == (1, 1000, ["copy"], 0)
    assert call(*ECHO, "reprocess", "--date", DONE, "--dry-run") == 0
    assert "1 archives (1 kB) must be fetched again (by copy)" in capsys.readouterr().out

    a_day.connection.execute("UPDATE files SET gone = now()")
    source = drawn(answer)["estimate"]["source"]
    assert (source["again"], source["gone"], source["gone_days"]) == (0, 1, [f"zurich {DONE}"])
    assert call(*ECHO, "reprocess", "--date", DONE, "--dry-run") == 0
    assert f"1 archives (1 kB), which will fail: zurich {DONE}" in " ".join(capsys.readouterr().out.split())


def test_a_stored_plan_tells_the_costs_that_its_dry_run_told(
    a_day: Any, call: Callable[..., int], client: FlaskClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    let_go(a_day, tmp_path)
    assert call(*ECHO, "reprocess", "--date", DONE, "--dry-run") == 0
    dry = capsys.readouterr().out
    plan = max(row["id"] for row in plans.latest(a_day.connection))
    page = " ".join(client.get(f"/plans/{plan}").text.split())
    assert call("plans", "show", str(plan)) == 0
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    costs = ("audio", "cost", "disk", "read", "let go", "on SLURM", "readers")
    lines = [line.split() for line in dry.splitlines() if line.startswith(costs)]
    assert len(lines) == len(costs)
    assert [line for line in lines if line not in shown] == [], "a drawn plan costs what its dry run said"
    for said in ("time of the engine", "of results", "archives to be read", "fetched again by copy", "SLURM tasks"):
        assert said in page


def test_a_plan_that_waits_for_archives_says_so_to_whoever_opens_or_shows_it(
    a_day: Any, answer: Callable[..., Any], client: FlaskClient, tmp_path: Path
) -> None:
    let_go(a_day, tmp_path)
    plan = drawn(answer)["plan"]
    awaited = {"archives": 1, "bytes": 1000, "moving": 0}
    assert answer(*ECHO, "reprocess", "--plan", str(plan))["awaited"] == awaited
    assert answer("plans", "show", str(plan))["awaited"] == awaited
    assert client.get(f"/api/v1/plans/{plan}").get_json()["awaited"] == awaited
    assert "archives to be fetched again" in client.get(f"/plans/{plan}").text
    a_day.connection.execute("UPDATE files SET state = 'arrived'")
    assert client.get(f"/api/v1/plans/{plan}").get_json()["awaited"]["archives"] == 0
    assert "archives to be fetched again" not in client.get(f"/plans/{plan}").text


def test_work_here_ends_with_try_again_and_the_reason_while_the_source_gives_nothing(
    a_day: Any,
    answer: Callable[..., Any],
    call: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    let_go(a_day, tmp_path)
    plan = drawn(answer)["plan"]
    assert call(*ECHO, "reprocess", "--plan", str(plan), "--here") == 75
    said = " ".join(capsys.readouterr().err.split())
    assert f"plan {plan} waits for 1 archives that were let go: gone: its source lists 1 file no more" in said
    assert plans.get(a_day.connection, plan).state == "open"


@pytest.mark.parametrize("verb", ["open", "resume"])
def test_what_a_purge_took_from_staging_counts_as_let_go_once_a_plan_reads_it(
    a_day: Any, answer: Callable[..., Any], tmp_path: Path, verb: str
) -> None:
    let_go(a_day, tmp_path, state="arrived")
    nothing_to_see = drawn(answer)["estimate"]["source"]
    assert (nothing_to_see["again"], nothing_to_see["gone"]) == (0, 0), "what a host does not show is not gone"
    (tmp_path / "staging").mkdir()
    (tmp_path / "staging" / MARK).touch()
    told = drawn(answer)
    assert (told["estimate"]["source"]["again"], told["estimate"]["source"]["gone"]) == (1, 0)
    plan = str(told["plan"])
    if verb == "resume":
        a_day.connection.execute("UPDATE plans SET state = 'paused' WHERE id = %s", [told["plan"]])
        answer("plans", "resume", plan)
    else:
        answer(*ECHO, "reprocess", "--plan", plan)
    assert answer("plans", "show", plan)["awaited"]["archives"] == 1
    [due] = a_day.connection.execute("SELECT look_at <= clock_timestamp() AS so FROM days WHERE date = %s", [DONE])
    assert due["so"]
