"""What an order says when its jobs run in images: the digest, the plan, the folders, and no way to the ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from db.session import Session
from hpc import wiring
from hpc.config import load
from hpc.errors import BadSetting
from hpc.job_folder import Order, PlannedShard

DIGEST = "a" * 64


@pytest.fixture
def settings(tmp_path: Path) -> list[str]:
    """Two images with recorded digests."""
    for name in ("audio.sif", "utils.sif"):
        (tmp_path / name).touch()
    (tmp_path / "images.sha256").write_text(f"{DIGEST}  audio.sif\n{'b' * 64}  utils.sif\n")
    named = [f"containers.{name}={tmp_path}/{name}.sif" for name in ("audio", "utils")]
    return [f"home={tmp_path}/home", "ledger.dsn=service=lab", *named]


@pytest.fixture
def session(dsn: str) -> Any:
    opened = Session(dsn, application="test")
    yield opened
    opened.close()


def order(kind: str, mode: str, *files: str) -> Order:
    planned = (PlannedShard(1, "1.tar", None, False, files, 1, staged="/audio/2025-01-01"),) if files else ()
    return Order(1, "t" * 12, kind, mode, "c" * 64, 1, 60, True, shards=planned)


def test_a_job_that_transcribes_works_by_a_plan_and_is_told_no_way_to_the_ledger(
    settings: list[str], session: Session
) -> None:
    world = wiring.world(load(None, settings), session)
    told = world.variables(order("process", "plan", "/audio/2025-01-01/1.tar"))

    assert world.plans
    assert world.image("process") == DIGEST
    assert (told["DAYSCRIBE_IMAGE_SHA256"], told["DAYSCRIBE_STAGED"]) == (DIGEST, "/audio/2025-01-01")
    assert [name for name in told if name.startswith("PG") or "LEDGER" in name or name == "DAYSCRIBE_PYTHON"] == []


def test_a_job_without_a_gpu_is_told_where_the_ledger_is(settings: list[str], session: Session) -> None:
    told = wiring.world(load(None, settings), session).variables(order("ingest", "ledger"))

    assert (told["DAYSCRIBE_IMAGE_SHA256"], told["DAYSCRIBE_LEDGER__DSN"]) == ("b" * 64, "service=lab")


def test_without_images_jobs_run_the_python_that_ordered_them(tmp_path: Path, session: Session) -> None:
    world = wiring.world(load(None, [f"home={tmp_path}"]), session)

    assert not world.plans
    assert world.image("process") is None
    assert world.variables(order("process", "ledger"))["DAYSCRIBE_PYTHON"]


def test_a_tick_inside_has_no_python_for_jobs_outside(
    settings: list[str], session: Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DAYSCRIBE_INSIDE", "utils")
    (tmp_path / "home" / "results").mkdir(parents=True)
    world = wiring.world(load(None, [*settings, "containers.audio="]), session)
    with pytest.raises(BadSetting, match=r"process jobs have none: set containers\.audio"):
        world.variables(order("process", "ledger"))
    monkeypatch.setenv("DAYSCRIBE_PYTHON", "/lab/python3")
    assert world.variables(order("process", "ledger"))["DAYSCRIBE_PYTHON"] == "/lab/python3"


def test_no_server_of_ones_own_is_started_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAYSCRIBE_INSIDE", "utils")
    with pytest.raises(BadSetting, match=r"start it outside .* name it in ledger.dsn"):
        wiring.ledger_dsn(load(None, [f"home={tmp_path}"]))
    assert not (tmp_path / "postgres").exists()


def test_a_tick_that_does_not_see_the_results_stops_before_it_takes_them_for_none(
    settings: list[str], session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAYSCRIBE_INSIDE", "utils")
    with pytest.raises(BadSetting, match="does not see the results' folder /elsewhere: name DAYSCRIBE_RESULTS"):
        wiring.world(load(None, [*settings, "results=/elsewhere"]), session)
