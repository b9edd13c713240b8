"""The two images as they are shipped: what is in them, what is not, and what runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BOTH = pytest.mark.parametrize("name", ["audio_processing", "pipeline_utils"])
KEPT = "/etc /opt/dayscribe /opt/venv/bin /opt/venv/pyvenv.cfg /root /home /.singularity.d /usr/local /var /srv"


def image(images: Any, name: str) -> Path:
    return Path(images.folder / f"{name}.sif")


@pytest.mark.speech
def test_the_audio_image_passes_its_own_test(images: Any) -> None:
    said = images.run("test", *images.closed(images.audio)).stdout
    assert "packages, as audio.lock has them" in said
    assert "station seven copy go north over" in said


def test_the_utilities_image_passes_its_own_test(images: Any) -> None:
    said = images.run("test", *images.closed(images.utils)).stdout
    assert "packages, as utils.lock has them" in said
    assert "packages, as globus-cli.lock has them" in said
    assert re.search(r"psql \(PostgreSQL\) \d+", said)


@BOTH
def test_another_package_than_the_locks_fails_the_test(images: Any, name: str, tmp_path: Path) -> None:
    lock = "audio" if name == "audio_processing" else "utils"
    text = (ROOT / "requirements" / f"{lock}.lock").read_text()
    (tmp_path / "lock").write_text(re.sub(r"^click==\S+", "click==1.0", text, flags=re.MULTILINE))
    bind = f"{tmp_path}/lock:/opt/dayscribe/requirements/{lock}.lock"
    done = images.run("test", *images.closed(image(images, name), bind), check=False)
    assert done.returncode == 1
    assert "click: the lock has 1.0, and here is " in done.stdout


def test_a_package_that_the_lock_does_not_name_fails_the_test(images: Any, tmp_path: Path) -> None:
    text = (ROOT / "requirements" / "utils.lock").read_text()
    (tmp_path / "lock").write_text(re.sub(r"^flask==.*(\n +.*)*\n", "", text, flags=re.MULTILINE))
    bind = f"{tmp_path}/lock:/opt/dayscribe/requirements/utils.lock"
    done = images.run("test", *images.closed(images.utils, bind), check=False)
    assert done.returncode == 1
    assert "flask: the lock has none, and here is " in done.stdout


@BOTH
def test_labels_say_what_is_inside(images: Any, name: str) -> None:
    said = images.run("inspect", "--json", image(images, name)).stdout
    labels = json.loads(said)["data"]["attributes"]["labels"]
    record = json.loads((images.folder / f"{name}.json").read_text())
    assert labels["dayscribe.image"] == name
    assert labels["dayscribe.version"] == images.inside(image(images, name), "dayscribe", "--version").split()[-1]
    assert labels["dayscribe.code"] == record["code"]
    assert labels["dayscribe.base.digest"] == record["base_digest"]
    lock = ROOT / "requirements" / ("audio.lock" if name == "audio_processing" else "utils.lock")
    assert labels["dayscribe.lock"] == sha256(lock)
    assert labels["dayscribe.packages"] == record["packages"]


@BOTH
def test_run_is_our_command_and_help_says_how(images: Any, name: str) -> None:
    assert images.run("run", *images.closed(image(images, name)), "--version").stdout.startswith("dayscribe ")
    assert f"test {name}.sif" in images.run("run-help", image(images, name)).stdout


@BOTH
def test_a_checkout_that_is_bound_over_ours_is_what_runs(images: Any, name: str, tmp_path: Path) -> None:
    for package in ("db", "hpc", "monitor"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "hpc" / "__init__.py").open("a") as file:
        file.write("CAME_FROM = 'the checkout'\n")
    ask = ("python", "-c", "import hpc; print(getattr(hpc, 'CAME_FROM', 'the image'), hpc.__file__)")
    one = image(images, name)
    assert images.inside(one, *ask) == "the image /opt/dayscribe/hpc/__init__.py"
    binds = tuple(f"{tmp_path}/{package}:/opt/dayscribe/{package}" for package in ("db", "hpc", "monitor"))
    assert images.inside(one, *ask, binds=binds) == "the checkout /opt/dayscribe/hpc/__init__.py"
    assert images.inside(one, *ask, binds=(f"{tmp_path}:/opt/dayscribe",)).startswith("the checkout ")


@BOTH
def test_nothing_in_it_can_be_written_by_anybody(images: Any, name: str) -> None:
    one = image(images, name)
    for place in ("/opt/dayscribe/x", "/opt/venv/x", "/etc/x", "/usr/bin/x"):
        done = images.run("exec", *images.closed(one), "touch", place, check=False)
        assert done.returncode != 0 and "Read-only file system" in done.stderr
    assert (
        images.inside(
            one, "find", "/opt", "-xdev", "!", "-type", "l", "(", "-perm", "/022", "-o", "!", "-user", "root", ")"
        )
        == ""
    )


@BOTH
def test_no_trace_of_the_builder_stays(images: Any, name: str) -> None:
    one = image(images, name)
    words = {str(ROOT), str(images.folder), *configured()}
    words |= {word for word in (socket.gethostname(), os.environ.get("HOME", "")) if len(word) > 5}
    patterns = [part for word in sorted(words) for part in ("-e", word)]
    assert images.inside(one, "sh", "-c", f'grep -rsIlF "$@" {KEPT}; true', "-", *patterns) == ""
    leftovers = (
        "/etc/pip.conf ~root/.config ~root/.cache ~root/.pip /var/cache/build/* /var/cache/apt/* /var/lib/apt/lists/*"
    )
    leftovers += " /etc/apt/sources.list /etc/apt/auth.conf.d/* /opt/venv/bin/pip* /opt/globus/bin/pip* /etc/hostname"
    assert images.inside(one, "sh", "-c", f"ls -d {leftovers} 2>/dev/null; true") == ""


def configured() -> set[str]:
    """Whatever this machine tells pip, and would be told to the world by an image."""
    ask = ["python3", "-m", "pip", "config", "list"]
    said = subprocess.run(ask, capture_output=True, text=True, check=False).stdout
    words = {word for value in re.findall(r"='(.*)'$", said, re.MULTILINE) for word in value.split()}
    return {word for word in words if "://" in word or (word.startswith("/") and "certs" not in word)}


@BOTH
def test_python_of_the_host_stays_outside(images: Any, name: str, tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise SystemExit('the host came in')\n")
    home = tmp_path / ".local" / "lib" / "python3.11" / "site-packages"
    home.mkdir(parents=True)
    (home / "click.py").write_text("raise SystemExit('the home came in')\n")
    packages = ["--bind", f"{images.packages}:ro"] if name == "audio_processing" else []
    said = images.run(
        "exec", *packages, "--bind", str(tmp_path), "--pwd", str(tmp_path), image(images, name), "python", "-c",
        "import click, os, sys; print([n for n in ('PYTHONPATH', 'PYTHONHOME') if os.environ.get(n)], sys.path)",
        PYTHONPATH=str(tmp_path), HOME=str(tmp_path),
    ).stdout  # fmt: skip
    assert said.startswith("[] [") and str(tmp_path) not in said


def test_the_engine_asks_no_network_and_tells_nobody(images: Any) -> None:
    said = images.inside(images.audio, "env").splitlines()
    assert {"HF_HUB_OFFLINE=1", "TRANSFORMERS_OFFLINE=1", "PYANNOTE_METRICS_ENABLED=0", "DO_NOT_TRACK=1"} <= set(said)
    assert {"ORT_DISABLE_TELEMETRY=1", "PYTHONSAFEPATH=1", "PYTHONNOUSERSITE=1", "LANG=C.UTF-8"} <= set(said)


@pytest.mark.speech
def test_onnxruntime_makes_no_number_for_this_machine(images: Any) -> None:
    # Without the variable it says that it could not keep one, as home cannot be written.
    assert images.inside(images.audio, "python", "-c", "import onnxruntime") == ""


def test_audio_has_no_ffmpeg_program_and_no_postgresql(images: Any) -> None:
    for program in ("ffmpeg", "psql", "ssh", "globus"):
        assert images.run("exec", *images.closed(images.audio), "which", program, check=False).returncode == 1


def sha256(file: Path) -> str:
    return subprocess.run(["sha256sum", file], capture_output=True, text=True, check=True).stdout.split()[0]
