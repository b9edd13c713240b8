"""A real day with hostile names in it, a real sshd on loopback with keys of its own, and the command run over them."""

from __future__ import annotations

import io
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import wave
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from db import days
from db.connect import connect
from hpc.cli import main
from hpc.config import Settings, load

DAY = "2025-01-01"
QUARANTINED = 65
CLIPS = {
    "00_00": {
        "first.wav": 440.0,
        "../../x.wav": 500.0,
        "-e sh.wav": 550.0,
        "new\nline.wav": 600.0,
        "a/same.wav": 650.0,
        "b/same.wav": 700.0,
        "same_2.wav": 750.0,
        "broken.wav": None,
    },
    "00_10": {"$(touch pwned).wav": 800.0, "ünï.wav": 850.0},
}


def clip(tone: float, seconds: float = 0.5) -> bytes:
    times = np.arange(int(16_000 * seconds)) / 16_000
    samples = (8000 * np.sin(2 * np.pi * tone * times)).astype("<i2")
    with io.BytesIO() as out:
        with wave.open(out, "wb") as file:
            file.setparams((1, 2, 16_000, len(samples), "NONE", ""))
            file.writeframes(samples.tobytes())
        return out.getvalue()


def write_audio(folder: Path) -> None:
    folder.mkdir(parents=True)
    for slot, clips in CLIPS.items():
        with tarfile.open(folder / f"0_{DAY}_{slot}.tar.xz", "w:xz") as out:
            for name, tone in clips.items():
                data = b"" if tone is None else clip(tone)
                member = tarfile.TarInfo(name)
                member.size = len(data)
                out.addfile(member, io.BytesIO(data))


@dataclass
class Lab:
    """A ledger with the day worked in it, and where its things lie."""

    dsn: str
    folder: Path
    said: tuple[str, str] = ("", "")
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def audio(self) -> Path:
        return self.folder / "audio"

    @property
    def packed(self) -> Path:
        return self.home / "deliveries" / "audio" / DAY / "tree"

    def assignments(self) -> list[str]:
        wanted = {"ledger.dsn": self.dsn, "home": str(self.home), "engine.name": "echo", "worker.decoders": "1"}
        return [f"{key}={value}" for key, value in (wanted | self.settings).items()]

    def load(self) -> Settings:
        return load(None, self.assignments())

    def words(self) -> list[str]:
        return [word for one in self.assignments() for word in ("--set", one)]

    def day(self) -> days.Day:
        with connect(self.dsn) as connection:
            return days.get(connection, "audio", date.fromisoformat(DAY))

    def rows(self, question: str = "SELECT * FROM deliveries ORDER BY id") -> list[dict[str, Any]]:
        with connect(self.dsn) as connection:
            return connection.execute(question).fetchall()

    def do(self, statement: str) -> None:
        with connect(self.dsn) as connection:
            connection.execute(statement)


@pytest.fixture(scope="module")
def worked(
    fresh_ledger: Callable[[], AbstractContextManager[str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lab]:
    """The day, run through the pipeline by the echo engine, once a module."""
    with fresh_ledger() as dsn:
        lab = Lab(dsn, tmp_path_factory.mktemp("lab"))
        write_audio(lab.audio)
        program = Path(sys.executable).with_name("dayscribe")
        ran = subprocess.run(
            [program, *lab.words(), "run", DAY, "--folder", str(lab.audio)], capture_output=True, text=True, check=False
        )
        assert ran.returncode == QUARANTINED, ran.stderr
        yield lab


@pytest.fixture
def lab(worked: Lab, undisturbed: None) -> Iterator[Lab]:
    """The day as nobody has delivered it yet."""
    worked.settings = {}
    yield worked
    worked.do("DELETE FROM deliveries")
    shutil.rmtree(worked.home / "deliveries", ignore_errors=True)


Deliver = Callable[..., int]


@pytest.fixture
def deliver(lab: Lab, capsys: pytest.CaptureFixture[str]) -> Deliver:
    """`dayscribe deliver DAY …`; its exit code, and what it said in lab.said."""

    def run(*words: str) -> int:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main.main([*lab.words(), "deliver", DAY, *words])
        lab.said = capsys.readouterr()
        assert isinstance(left.value.code, int)
        return left.value.code

    return run


@pytest.fixture
def answer(lab: Lab, deliver: Deliver) -> Callable[..., Any]:
    def run(*words: str) -> Any:
        assert deliver(*words, "--json") == 0, lab.said[1]
        [row] = json.loads(lab.said[0])
        return row

    return run


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


@dataclass(frozen=True)
class Host:
    """An sshd of ours: nobody logs in but with `key`, and `known_hosts` is all that is known of it."""

    folder: Path
    port: int
    user: str

    @property
    def key(self) -> Path:
        return self.folder / "key"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known hosts"  # with a space, as somebody's folder may have

    def url(self, folder: Path | str) -> str:
        return f"ssh://{self.user}@127.0.0.1:{self.port}{folder}"

    def settings(self) -> dict[str, str]:
        return {"deliver.ssh_key": str(self.key), "deliver.known_hosts": str(self.known_hosts)}


def make_key(path: Path) -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", path], check=True)
    return " ".join(path.with_suffix(".pub").read_text().split()[:2])


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A real sshd as this user."""
    server = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if server is None:
        pytest.skip("NOT TESTED: delivery over ssh. There is no sshd here: scripts/packages.sh delivery")
    folder = tmp_path_factory.mktemp("sshd")
    made = Host(folder, _free_port(), pwd.getpwuid(os.getuid()).pw_name)
    known = make_key(folder / "host_key")
    (folder / "authorized_keys").write_text(make_key(made.key) + "\n")
    made.known_hosts.write_text(f"[127.0.0.1]:{made.port} {known}\n")
    config = f"""
Port {made.port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
"""
    (folder / "sshd_config").write_text(config)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where Debian's sshd, as root, wants to shut itself in
    log = (folder / "sshd.log").open("wb")
    process = subprocess.Popen(
        [server, "-D", "-e", "-f", str(folder / "sshd_config")], stdin=subprocess.DEVNULL, stderr=log
    )
    try:
        _wait_for(made.port, process, folder / "sshd.log")
        yield made
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    pause = threading.Event()
    for _ in range(500):
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, log.read_text()
        pause.wait(0.02)
    raise AssertionError(f"sshd does not listen: {log.read_text()}")


def tree(folder: Path) -> dict[str, bytes]:
    """What lies in a folder, by its place."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="session")
def tree_of() -> Callable[[Path], dict[str, bytes]]:
    return tree
