"""build_containers.sh with real builds of a small recipe: what it makes, what it keeps, and what no kill can spoil."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Script = Callable[..., tuple[int, str]]
ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "containers" / "build_containers.sh"


def builds(clone: Any) -> int:
    """How many builds have begun."""
    return len((clone.out / "cache" / "builds").read_text().splitlines())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--dock"], "no option and no image --dock"),
        (["audio"], "no option and no image audio"),
        (["--out"], "--out needs a value"),
        (["--packages", "some"], "--packages is baked or bound"),
        (["--out", "/a:b"], "a colon and a comma"),
    ],
)
def test_wrong_usage_is_64_and_says_what_is_wrong(script: Script, words: list[str], says: str) -> None:
    code, said = script(*words)
    assert (code, says in said) == (64, True), said


def test_help_tells_every_option(script: Script) -> None:
    code, said = script("--help")
    options = set(re.findall(r"^        (--[a-z-]+)\)", SCRIPT.read_text(), re.MULTILINE))
    assert code == 0 and len(options) > 8
    assert all(f"  {option} " in said for option in options - {"--help"})


def test_a_runtime_that_is_not_there_is_a_wrong_setting(script: Script, tmp_path: Path) -> None:
    code, said = script("--out", tmp_path, DAYSCRIBE_CONTAINERS__RUNTIME="no-such-program")
    assert code == 78 and "no-such-program" in said


def test_without_any_runtime_it_says_where_to_get_one(script: Script, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "dirname", "sed"):
        (programs / name).symlink_to(str(shutil.which(name)))
    code, said = script("--out", tmp_path, PATH=str(programs))
    assert code == 69 and "scripts/apptainer.sh" in said


@pytest.mark.parametrize(
    ("version", "works"),
    [
        ("apptainer version 1.1.9", False), ("apptainer version 1.2.0-rc.1", True), ("apptainer version 1.10.0", True),
        ("singularity version 3.8.7", False), ("singularity-ce version 3.11.4-1", False),
        ("singularity-ce version 4.1.0", True),
    ],
)  # fmt: skip
def test_a_runtime_without_build_arguments_is_refused(
    script: Script, version: str, works: bool, tmp_path: Path
) -> None:
    runtime = tmp_path / "runtime"
    runtime.write_text(f"#!/bin/sh\necho '{version}'\n")
    runtime.chmod(0o755)
    code, said = script("--check", "--out", tmp_path / "out", DAYSCRIBE_CONTAINERS__RUNTIME=str(runtime))
    assert code == (0 if works else 69), said
    assert works or version.rsplit(maxsplit=1)[-1] in said


def test_check_says_what_would_be_built_and_makes_nothing(script: Script, images: Any, tmp_path: Path) -> None:
    code, said = script("--check", "--out", tmp_path / "out", DAYSCRIBE_CONTAINERS__RUNTIME=images.runtime)
    assert code == 0
    assert said.count("would be built, as there is none") == 2
    assert not (tmp_path / "out").exists()


def test_not_enough_disk_is_74_and_says_how_much_it_takes(clone: Any) -> None:
    clone.out.mkdir()
    own = [sys.executable, ROOT / "containers" / "as_root.py"] if os.geteuid() == 0 else ["unshare", "-rm"]
    small = (  # there may be no mount program
        "import ctypes, os, sys; libc = ctypes.CDLL(None, use_errno=True); place, *words = sys.argv[1:];"
        " assert not libc.mount(b'none', os.fsencode(place), b'tmpfs', 0, b'size=16m'), ctypes.get_errno();"
        " os.execv(words[0], words)"
    )
    done = subprocess.run(
        [*own, sys.executable, "-c", small, clone.out, clone.root / "containers" / "build_containers.sh", *clone.tiny],
        env=clone.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 74, done.stderr
    assert re.search(r"16 MB are free, and building pipeline_utils takes \d+ MB", done.stderr)


def test_what_is_up_to_date_is_not_built_again_and_what_has_changed_is(clone: Any) -> None:
    assert "building, as there is none" in clone.build()
    assert "up to date" in clone.build()
    assert builds(clone) == 1
    changes = {
        "containers/pipeline_utils.def": "another recipe", "containers/inside/install.sh": "another recipe",
        "requirements/globus-cli.lock": "another lock", "hpc/jobs.py": "another code",
    }  # fmt: skip
    for name, says in changes.items():
        file = clone.root / name
        before = file.read_bytes()
        file.write_bytes(before + b"\n# changed\n")
        assert f"would be built, as it has {says}" in clone.check(), name
        file.write_bytes(before)
    assert "up to date" in clone.check()
    (clone.root / "hpc" / "jobs.py").write_text("")
    assert "up to date" in clone.check("--any-code")
    assert "as --force says so" in clone.check("--force")
    assert "building, as it has another code" in clone.build()
    assert builds(clone) == 2


def test_its_digest_is_recorded_beside_those_of_others(clone: Any) -> None:
    clone.out.mkdir()
    (clone.out / "other.sif").write_text("somebody's own\n")
    own = subprocess.run(["sha256sum", "other.sif"], cwd=clone.out, capture_output=True, text=True, check=True).stdout
    (clone.out / "images.sha256").write_text(own)
    clone.build()
    clone.build("--force")
    verified = subprocess.run(
        ["sha256sum", "-c", "images.sha256"], cwd=clone.out, capture_output=True, text=True, check=False
    )
    assert verified.stdout.splitlines() == ["other.sif: OK", "pipeline_utils.sif: OK"]
    record = json.loads((clone.out / "pipeline_utils.json").read_text())
    assert f"{record['sha256']}  pipeline_utils.sif" in (clone.out / "images.sha256").read_text()
    assert record["megabytes"] > 0 and record["runtime"].startswith("apptainer version")
    with (clone.out / "pipeline_utils.sif").open("ab") as file:
        file.write(b"x")
    assert "has changed since it was built" in clone.check()


def test_killed_in_the_middle_and_run_again_it_ends_the_same(clone: Any) -> None:
    clone.hold()
    first = clone.start(*clone.tiny)
    clone.wait_until_held()
    first.send_signal(signal.SIGKILL)
    first.communicate()
    survivors = clone.processes()
    assert survivors, "nothing of the killed build lives on: this test would prove nothing"
    said = clone.start(*clone.tiny)
    clone.wait_for(lambda: builds(clone) == 2, "the second build is in the middle")
    assert not survivors & clone.processes()
    clone.release()
    out, _ = said.communicate(timeout=100)
    assert said.returncode == 0, out
    assert not (clone.out / ".partial").exists() and not list(clone.temporary.iterdir())
    assert not clone.processes()
    assert {file.name for file in clone.out.iterdir()} == {
        ".lock", "cache", "log", "images.sha256", "pipeline_utils.json", "pipeline_utils.sif"
    }  # fmt: skip
    assert "up to date" in clone.check()


def test_killed_before_its_digest_was_recorded_it_is_no_image_that_jobs_take(clone: Any) -> None:
    clone.build()
    (clone.out / "pipeline_utils.json").unlink()
    assert "nothing is recorded" in clone.check()
    (clone.out / "images.sha256").unlink()
    clone.build()
    subprocess.run(["sha256sum", "--quiet", "-c", "images.sha256"], cwd=clone.out, check=True)


def test_interrupted_it_takes_all_its_processes_along(clone: Any) -> None:
    clone.hold()
    process = clone.start(*clone.tiny)
    clone.wait_until_held()
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 143
    assert not clone.processes()
    assert not (clone.out / ".partial").exists() and not list(clone.temporary.iterdir())
    assert not (clone.out / "pipeline_utils.sif").exists()


def test_of_two_at_once_one_builds_and_the_other_waits_for_it(clone: Any) -> None:
    clone.hold()
    first = clone.start(*clone.tiny)
    clone.wait_until_held()
    second = clone.start(*clone.tiny)
    assert second.stdout is not None
    waits = second.stdout.readline()
    assert "another build is at work" in waits
    clone.release()
    assert first.communicate(timeout=100)[0] and first.returncode == 0
    assert "up to date" in second.communicate(timeout=100)[0] and second.returncode == 0
    assert builds(clone) == 1


def test_an_image_that_fails_its_test_takes_no_place(clone: Any) -> None:
    clone.build()
    before = (clone.out / "images.sha256").read_text()
    recipe = clone.root / "containers" / "pipeline_utils.def"
    recipe.write_text(recipe.read_text().replace("test -s /opt/tiny.toml", "echo it is not well; exit 3"))
    code, said = clone.call(*clone.tiny)
    assert code == 1
    assert "| it is not well" in said and "pipeline_utils.log" in said
    assert (clone.out / "images.sha256").read_text() == before
    subprocess.run(["sha256sum", "--quiet", "-c", "images.sha256"], cwd=clone.out, check=True)


def test_a_folder_for_development_has_no_digest(clone: Any, images: Any) -> None:
    clone.build("--sandbox")
    assert not (clone.out / "images.sha256").exists()
    assert images.run("exec", "--containall", clone.out / "pipeline_utils", "cat", "/opt/tiny.toml").stdout
    assert "up to date" in clone.build("--sandbox")
    assert "building, as --force" in clone.build("--sandbox", "--force")
    assert not (clone.out / ".partial").exists()


def test_bound_packages_for_another_python_are_refused(clone: Any, images: Any) -> None:
    packages = clone.root / ".venv" / "lib" / "python3.9" / "site-packages"
    (packages / "some-1.0.dist-info").mkdir(parents=True)
    (packages / "some.cpython-39-x86_64-linux-gnu.so").touch()
    [base] = images.folder.glob("base-*.sif")
    code, said = clone.call("--out", clone.out, "--base", base, "--packages", "bound", "audio_processing")
    assert code == 1
    assert "the bound packages are for Python 3.9, and the base has Python 3." in said


def test_models_that_lead_out_of_their_folder_are_refused(clone: Any, tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (models / "link").symlink_to("/etc/passwd")
    code, said = clone.call("--check", "--out", clone.out, "--models", models, "audio_processing")
    assert code == 66 and "leads out of the folder" in said


@pytest.mark.speech
def test_models_can_be_baked_in_and_say_nothing_of_where_they_lay(clone: Any, images: Any, tmp_path: Path) -> None:
    models = tmp_path / "our-models"
    (models / "blobs").mkdir(parents=True)
    (models / "blobs" / "1").write_text("weights\n")
    (models / "large").mkdir()
    (models / "large" / "model.bin").symlink_to("../blobs/1")
    packages = Path(images.packages.partition(":")[0])
    here = clone.root / ".venv" / "lib" / packages.parent.name
    here.mkdir(parents=True)
    (here / "site-packages").symlink_to(packages)
    [base] = images.folder.glob("base-*.sif")
    words = [
        "--out",
        clone.out,
        "--base",
        base,
        "--fast",
        "--packages",
        "bound",
        "--models",
        models,
        "audio_processing",
    ]
    code, said = clone.call(*words)
    assert code == 0, said
    one = clone.out / "audio_processing.sif"
    assert images.inside(one, "cat", "/opt/models/large/model.bin") == "weights"
    assert images.inside(one, "readlink", "/opt/models/large/model.bin") == "../blobs/1"
    assert (
        images.inside(one, "sh", "-c", 'grep -rsl "$1" /.singularity.d /opt/dayscribe; true', "-", str(tmp_path)) == ""
    )
    (models / "large" / "more.bin").write_text("more\n")
    assert "would be built, as it has another models" in clone.call("--check", *words)[1]
