"""The doctor: each thing it looks at is found good, found wanting with a way to mend it, or worth advice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from db.errors import LedgerAway
from hpc.accelerator import Cuda
from hpc.doctor import machine as doctor
from hpc.doctor.finding import Verdict, attempt


def test_a_python_that_is_too_old_or_too_new_is_wanting() -> None:
    versions = [(3, 10), (3, 11), (3, 13), (3, 14)]

    verdicts = [doctor.python(version).verdict for version in versions]

    assert verdicts == [Verdict.WANTING, Verdict.OK, Verdict.OK, Verdict.WANTING]


def test_a_package_that_is_not_there_is_named() -> None:
    finding = doctor.packages(("click", "no_such_package"))

    assert (finding.verdict, finding.found) == (Verdict.WANTING, "1 of 2; missing: no_such_package")
    assert finding.mend


def test_a_stranger_named_like_one_of_our_packages_is_noticed(tmp_path: Path) -> None:
    finding = doctor.our_names(tmp_path)

    assert finding.verdict is Verdict.WANTING
    assert f"hpc is {Path(doctor.__file__).parents[1]}" in finding.found


@pytest.mark.parametrize(
    ("environment", "user_site", "verdict"),
    [({}, False, Verdict.OK), ({"PYTHONPATH": "/x"}, False, Verdict.ADVICE), ({}, True, Verdict.ADVICE)],
)
def test_a_leak_in_the_import_path_is_worth_advice(
    environment: dict[str, str], user_site: bool, verdict: Verdict
) -> None:
    assert doctor.import_paths(environment, user_site=user_site).verdict is verdict


@pytest.mark.parametrize(("mask", "verdict"), [(0o000, Verdict.ADVICE), (0o002, Verdict.OK), (0o077, Verdict.OK)])
def test_the_umask_is_read_and_left_as_it_was(mask: int, verdict: Verdict) -> None:
    before = os.umask(mask)
    try:
        assert doctor.permissions_of_new_files().verdict is verdict
    finally:
        assert os.umask(before) == mask


def test_a_passfile_that_others_can_read_is_wanting_and_a_password_in_the_environment_worth_advice(
    tmp_path: Path,
) -> None:
    file = tmp_path / ".pgpass"
    file.write_text("hush")
    file.chmod(0o640)
    assert doctor.passwords({}, tmp_path).verdict is Verdict.WANTING
    file.chmod(0o600)
    assert doctor.passwords({}, tmp_path).verdict is Verdict.OK
    finding = doctor.passwords({"PGPASSWORD": "hush"}, tmp_path)
    assert finding.verdict is Verdict.ADVICE
    assert "hush" not in str(finding)


def test_a_folder_that_is_not_there_yet_is_judged_by_the_one_above_it_and_not_made(tmp_path: Path) -> None:
    wanted = tmp_path / "a/b"

    assert doctor.folder("home", wanted).verdict is Verdict.OK
    assert doctor.room("room", wanted).what == "room"
    assert not (tmp_path / "a").exists()


def test_a_folder_below_a_file_is_wanting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    assert doctor.folder("home", tmp_path / "file/home").verdict is Verdict.WANTING


def test_too_little_room_is_wanting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "ROOM", 1 << 80)

    assert doctor.room("room", tmp_path).verdict is Verdict.WANTING


H100, V100 = ("NVIDIA H100", 9), ("Tesla V100", 7)


@pytest.mark.parametrize(
    ("device", "cuda", "verdict"),
    [
        ("cpu", None, Verdict.OK),
        ("auto", None, Verdict.OK),
        ("cuda", None, Verdict.WANTING),
        ("cuda", Cuda((12, 8), ()), Verdict.WANTING),
        ("auto", Cuda((13, 0), (H100,)), Verdict.OK),
        ("auto", Cuda((12, 4), (H100,)), Verdict.WANTING),  # the kernels would fail, or say nothing at all
        ("cuda", Cuda((12, 4), (V100,)), Verdict.OK),
        ("cuda", Cuda((11, 8), (V100,)), Verdict.WANTING),
    ],
)
def test_a_gpu_is_wanted_as_the_device_says_with_a_driver_new_enough_for_it(
    device: str, cuda: Cuda | None, verdict: Verdict
) -> None:
    finding = doctor.graphics(device, cuda, "4.8.5")

    assert finding.verdict is verdict
    assert bool(finding.mend) == (verdict is Verdict.WANTING)


def test_an_attempt_that_fails_is_wanting_with_the_sentence_of_its_error() -> None:
    def away() -> str:
        raise LedgerAway("The ledger is away.")

    assert attempt("ledger", lambda: "here").verdict is Verdict.OK
    assert attempt("ledger", away).mend == "The ledger is away."


def test_everything_wanting_or_worth_advice_says_how_to_mend_it(tmp_path: Path) -> None:
    machine = doctor.Machine(home=tmp_path, results=tmp_path / "r", embedded=True, speech=True, device="auto")

    findings = list(doctor.examine(machine))

    assert [finding.what for finding in findings if finding.verdict is not Verdict.OK and not finding.mend] == []
    assert {"Python", "packages", "home", "PostgreSQL programs", "GPU", "espeak-ng"} <= {one.what for one in findings}
    assert list(tmp_path.iterdir()) == []


def test_results_where_the_cluster_empties_folders_are_wanting_if_somebody_said_so_and_else_worth_advice(
    tmp_path: Path,
) -> None:
    def look(path: Path, *purged: Path, **environment: str) -> Verdict:
        found = doctor.kept("results", path, purged=purged, environment=environment)
        assert (found.verdict is Verdict.OK) == (not found.mend)
        return found.verdict

    assert look(Path("/project/audio")) is Verdict.OK
    assert look(Path("/purged/us/results"), Path("/purged")) is Verdict.WANTING
    assert look(Path("/scratch-of/us/results"), SCRATCH="/scratch-of/us") is Verdict.ADVICE
    assert look(Path("/gpfs/scratch60/us")) is Verdict.ADVICE
    assert look(tmp_path / "results", tmp_path / "other", TMPDIR=str(tmp_path)) is Verdict.ADVICE
    (tmp_path / "link").symlink_to(tmp_path / "bad")
    assert look(tmp_path / "link" / "results", tmp_path / "bad") is Verdict.WANTING
