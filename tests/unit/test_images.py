"""Which image a job runs in: its recorded digest, the folders it is shown, and what must not have come in with us."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from hpc import images
from hpc.errors import BadSetting, MachineUnfit
from hpc.sections import ContainersSettings

DIGEST = hashlib.sha256(b"image").hexdigest()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "audio.sif"
    path.write_bytes(b"image")
    return path


def test_jobs_that_transcribe_have_one_image_and_all_others_another() -> None:
    settings = ContainersSettings(audio=Path("/a.sif"), utils=Path("/u.sif"))

    assert [images.of(settings, kind) for kind in ("process", "stage", "ingest")] == [
        Path("/a.sif"), Path("/u.sif"), Path("/u.sif"),
    ]  # fmt: skip
    assert images.of(ContainersSettings(), "process") is None


def test_a_digest_is_the_one_that_sha256sum_recorded(image: Path) -> None:
    with (image.parent / "images.sha256").open("w") as out:
        out.write(f"{'0' * 64}  another.sif\nnonsense\n{'1' * 63}  audio.sif\n")
        out.flush()
        subprocess.run(["sha256sum", image.name], cwd=image.parent, stdout=out, check=True)

    assert images.digest_of(image) == DIGEST


def test_an_image_without_a_recorded_digest_is_refused_with_the_command_that_records_it(image: Path) -> None:
    with pytest.raises(BadSetting, match=r"sha256sum audio.sif >>images.sha256"):
        images.digest_of(image)
    with pytest.raises(BadSetting, match=r"There is no image .*nothing\.sif"):
        images.digest_of(image.with_name("nothing.sif"))


def test_a_folder_has_no_digest(tmp_path: Path) -> None:
    assert images.digest_of(tmp_path) is None


def test_an_image_is_shown_the_fewest_folders_that_hold_what_it_reads() -> None:
    folders = ["/d/2025-01-01", "/d/2025-01-01", "/d/2025-01-01/more", "/d/2025-01-011", "/e", ""]

    assert images.staged(folders) == ("/d/2025-01-01", "/d/2025-01-011", "/e")
    assert images.staged([]) == ()


@pytest.mark.parametrize("folder", ["/a:b", "/a,b", "/a\nb"])
def test_a_folder_that_cannot_be_named_to_the_runtime_is_refused(folder: str) -> None:
    with pytest.raises(BadSetting, match="a colon or a comma is in its name"):
        images.bindable(["/fine", folder])


def test_what_is_inside_alone_is_no_leak() -> None:
    path = ["/opt/venv/lib/python3.11/site-packages", "/opt/dayscribe", "/usr/lib/python311.zip", "/usr/lib/python3.11"]
    environment = {
        "PATH": "/opt/venv/bin",
        "DAYSCRIBE_HOME": "/h",
        "SLURM_JOB_ID": "1",
        "DAYSCRIBE_ENGINE__HOTWORDS": "a",
    }

    assert images.leaks(environment, path, image="audio", user_site=False) == []


@pytest.mark.parametrize(
    ("environment", "path", "user_site", "found"),
    [
        ({"PYTHONPATH": "/x"}, (), False, "PYTHONPATH"),
        (
            {},
            ("/home/her/.local/lib/python3.11/site-packages",),
            False,
            "/home/her/.local/lib/python3.11/site-packages",
        ),
        ({}, (), True, "packages of the user's own"),
        ({"PGPASSFILE": "/home/her/.pgpass"}, (), False, "PGPASSFILE"),
        ({"DAYSCRIBE_LEDGER__DSN": "service=lab"}, (), False, "DAYSCRIBE_LEDGER__DSN"),
        ({"GLOBUS_CLIENT_SECRET": "x"}, (), False, "GLOBUS_CLIENT_SECRET"),
        ({"HF_TOKEN": "x"}, (), False, "HF_TOKEN"),
    ],
)
def test_code_of_the_host_and_secrets_are_leaks(
    environment: dict[str, str], path: tuple[str, ...], user_site: bool, found: str
) -> None:
    assert images.leaks(environment, path, image="audio", user_site=user_site) == [found]


def test_the_image_without_a_gpu_may_reach_the_ledger() -> None:
    environment = {"PGPASSFILE": "/home/her/.pgpass", "DAYSCRIBE_LEDGER__DSN": "service=lab"}

    assert images.leaks(environment, (), image="utils", user_site=False) == []


def test_a_leak_is_the_machines_fault_and_its_value_is_not_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAYSCRIBE_INSIDE", "audio")
    monkeypatch.setattr("sys.path", ["/opt/venv/lib"])
    monkeypatch.setenv("MY_SECRET", "cAnArY")
    with pytest.raises(MachineUnfit, match=r"MY_SECRET.* came in from outside") as refusal:
        images.refuse_leaks()
    assert "cAnArY" not in str(refusal.value)

    monkeypatch.delenv("DAYSCRIBE_INSIDE")
    images.refuse_leaks()  # outside of our images a person may have what they like
