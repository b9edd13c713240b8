"""Real images for the tests: those of scripts/images.sh, built once for all sessions, and clones to build others."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / ".images"
TINY = Path(__file__).with_name("tiny.def")


def clean(**more: str) -> dict[str, str]:
    """Our environment without what would change an image or the choice of the runtime."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("APPTAINER", "SINGULARITY", "DAYSCRIBE_"))
    }
    return ours | more


@dataclass(frozen=True)
class Images:
    """The two images, and the program that runs them."""

    folder: Path
    runtime: str
    packages: str

    def run(self, *words: str | Path, check: bool = True, **more: str) -> subprocess.CompletedProcess[str]:
        """A command of the runtime's; what it wrote is in the failure's message."""
        done = subprocess.run(
            [self.runtime, *words], env=clean(**more), cwd="/", stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=200, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{words} exited {done.returncode}: {done.stdout}{done.stderr}"
        return done

    @property
    def audio(self) -> Path:
        return self.folder / "audio_processing.sif"

    @property
    def utils(self) -> Path:
        return self.folder / "pipeline_utils.sif"

    def closed(self, image: Path, *binds: str) -> list[str | Path]:
        """The options of a closed run in this image, and the image."""
        packages = [f"{self.packages}:ro"] if image == self.audio else []
        bound = [word for bind in (*packages, *binds) for word in ("--bind", bind)]
        return ["--containall", "--cleanenv", "--no-home", "--pwd", "/", *bound, image]

    def inside(self, image: Path, *words: str, binds: tuple[str, ...] = (), check: bool = True) -> str:
        """What a program prints in this image."""
        done = self.run("exec", *self.closed(image, *binds), *words, check=check)
        return (done.stdout + done.stderr).strip()


@pytest.fixture(scope="session")
def images(image_builder: Path) -> Images:
    """Built anew where our code has changed, too; a second session waits for the first."""
    done = subprocess.run(
        [image_builder, IMAGES], env=clean(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=1500,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"the images cannot be built:\n{done.stdout}{done.stderr}"
    said = dict(line.split("=", 1) for line in done.stdout.splitlines())
    runtime = Path(said["PATH"].partition(":")[0]) / "apptainer"
    return Images(IMAGES, str(runtime), said["DAYSCRIBE_CONTAINERS__BINDS"])


@pytest.fixture
def script() -> Callable[..., tuple[int, str]]:
    """build_containers.sh of our own clone; exit code and words."""

    def call(*words: str | Path, **more: str) -> tuple[int, str]:
        done = subprocess.run(
            [ROOT / "containers" / "build_containers.sh", *words], env=clean(**more), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    return call


@dataclass
class Clone:
    """A copy of what images are made of, with a recipe of a few seconds in place of pipeline_utils.def."""

    root: Path
    out: Path
    runtime: str
    base: Path
    temporary: Path
    begun: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *words: str | Path, **more: str) -> subprocess.Popen[str]:
        """build_containers.sh with these words, in a session of its own."""
        self.temporary.mkdir(exist_ok=True)
        process = subprocess.Popen(
            [self.root / "containers" / "build_containers.sh", *words], env=self.environment | more,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.begun.append(process)
        return process

    def call(self, *words: str | Path, **more: str) -> tuple[int, str]:
        """Exit code and words of one that has ended."""
        process = self.start(*words, **more)
        said, _ = process.communicate(timeout=200)
        return process.returncode, said

    @property
    def tiny(self) -> list[str | Path]:
        """The words that build the small one."""
        return ["--out", self.out, "--base", self.base, "--fast", "pipeline_utils"]

    @property
    def environment(self) -> dict[str, str]:
        return clean(DAYSCRIBE_CONTAINERS__RUNTIME=self.runtime, TMPDIR=str(self.temporary))

    def build(self, *more: str) -> str:
        code, said = self.call(*self.tiny, *more)
        assert code == 0, said
        return said

    def check(self, *more: str) -> str:
        code, said = self.call("--check", *self.tiny, *more)
        assert code == 0, said
        return said

    def hold(self) -> None:
        """Builds that begin after this wait in the middle."""
        (self.out / "cache").mkdir(parents=True, exist_ok=True)
        (self.out / "cache" / "hold").touch()

    def wait_until_held(self) -> None:
        self.wait_for((self.out / "cache" / "held").exists, "the build is in the middle")

    def release(self) -> None:
        (self.out / "cache" / "go").touch()

    def wait_for(self, predicate: Callable[[], object], what: str) -> None:
        give_up, pause = time.monotonic() + 60, threading.Event()
        while not predicate():
            assert time.monotonic() < give_up, f"not within a minute: {what}"
            pause.wait(0.05)

    def processes(self) -> set[int]:
        """Those of the build that waits in the middle: they look for its file, or their arguments name our folder."""
        found = set()
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes().decode(errors="replace")
                if str(self.out) in words or str(self.temporary) in words:
                    found.add(int(entry.name))
        return found

    def end(self) -> None:
        """Of a test that has failed nothing may live on, and the middle of a build names nothing of ours."""
        for process in self.begun:
            if process.poll() is None:
                process.kill()
                process.wait()
        sessions = set()
        for pid in self.processes():
            with suppress(OSError):
                sessions.add(os.getsid(pid))
        for pid in [int(entry.name) for entry in Path("/proc").glob("[0-9]*")]:
            with suppress(OSError):
                if os.getsid(pid) in sessions - {os.getsid(0)}:
                    os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def small_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that is a base: a shell, one program and their libraries, of this machine."""
    base = tmp_path_factory.mktemp("base")
    for folder in ("bin", "etc", "opt", "tmp", "var/tmp", "proc", "sys", "dev", "root", "usr"):
        (base / folder).mkdir(parents=True)
    for program in ("sh", "cat"):
        found = str(shutil.which(program))
        shutil.copy(found, base / "bin" / program)
        needs = subprocess.run(["ldd", found], capture_output=True, text=True, check=True).stdout
        for library in re.findall(r"(/\S+) \(0x", needs):
            (base / library[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, base / library[1:])
    return base


@pytest.fixture
def clone(images: Images, small_base: Path, tmp_path: Path) -> Iterator[Clone]:
    root = tmp_path / "clone"
    root.mkdir()
    for name in ("db", "hpc", "monitor", "models", "containers", "requirements"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "images"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, root)
    shutil.copy(TINY, root / "containers" / "pipeline_utils.def")
    made = Clone(root, tmp_path / "out", images.runtime, small_base, tmp_path / "tmp")
    yield made
    made.end()
