"""Fixtures of the whole loopback Globus: it, a client of the real SDK at it, and the real `globus` command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from globus_sdk import ClientApp, GlobusAppConfig, TransferClient, TransferData

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]
if str(_HERE) not in sys.path:  # these modules import each other by name
    sys.path.insert(0, str(_HERE))

from globus_full import Service  # noqa: E402
from globus_loopback import serving  # noqa: E402

RETRIES = 1  # of the clients here


class Desk:
    """Two collections and a client of a service account."""

    def __init__(self, service: Service, folder: Path) -> None:
        self.service = service
        self.far = service.collection(folder / "far", "far")
        self.near = service.collection(folder / "near", "near")
        self.app = ClientApp(
            "test", client_id=service.auth.client_id, client_secret=service.auth.secret,
            config=GlobusAppConfig(token_storage="memory"),
        )  # fmt: skip
        self.client = patient(TransferClient(app=self.app))

    def write(self, *names: str, data: bytes = b"sound " * 100) -> None:
        for name in names:
            path = self.far.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def order(self, *names: str, recursive: bool = False, **said: Any) -> TransferData:
        said = {"label": "a day", "submission_id": self.client.get_submission_id()["value"]} | said
        made = TransferData(self.far.id, self.near.id, **said)
        for name in names:
            made.add_item(f"/{name}", f"/in/{name}", recursive=recursive)
        return made

    def submit(self, *names: str, **said: Any) -> str:
        task: str = self.client.submit_transfer(self.order(*names, **said))["task_id"]
        return task

    def got(self, name: str) -> bytes:
        return (self.near.root / "in" / name).read_bytes()


def patient(client: TransferClient) -> TransferClient:
    client.retry_config.max_retries = RETRIES
    client.retry_config.max_sleep = 0
    return client


@pytest.fixture
def globus_service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """A Globus on loopback; the SDK here and in child processes is pointed at it. In the end, what hangs is let go."""
    service = Service()
    with serving(service):
        for name, value in service.environment.items():
            monkeypatch.setenv(name, value)
        try:
            yield service
        finally:
            for event in [one.go for one in service.hangs] + [one.go for one in service.faults]:
                event.set()
            service.transfer.release()


@pytest.fixture
def globus_desk(globus_service: Service, tmp_path: Path) -> Iterator[Desk]:
    made = Desk(globus_service, tmp_path)
    yield made
    made.client.close()
    made.app.close()


@pytest.fixture(scope="session")
def globus_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real `globus`: one that is installed, or one from requirements/globus-cli.lock; it never shares our SDK."""
    if found := shutil.which("globus"):
        return Path(found)
    folder, uv = tmp_path_factory.mktemp("globus-cli"), _ROOT / ".venv" / "bin" / "uv"
    lock = _ROOT / "requirements" / "globus-cli.lock"
    if not uv.exists() or not lock.exists():
        pytest.skip("NOT TESTED: the real globus CLI. There is no `globus`, and nothing here that could install it.")
    python = folder / "venv" / "bin" / "python"
    steps: list[list[str | Path]] = [
        [uv, "venv", "-q", "--python", sys.executable, folder / "venv"],
        [uv, "pip", "sync", "-q", "--require-hashes", "--python", python, lock],
    ]
    for step in steps:
        try:
            done = subprocess.run(step, capture_output=True, text=True, check=False, timeout=150)
        except subprocess.TimeoutExpired:
            pytest.skip("NOT TESTED: the real globus CLI. Its installation did not end; is there a network?")
        if done.returncode:
            why = done.stderr.strip().splitlines()[-1:]
            pytest.skip(f"NOT TESTED: the real globus CLI. It could not be installed: {' '.join(why)}")
    return folder / "venv" / "bin" / "globus"


@pytest.fixture
def globus_cli(
    globus_program: Path, globus_service: Service, tmp_path: Path
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`globus_cli("ls", f"{collection}:/")`, as the service account of `globus_service`."""
    names = {name: value for name, value in os.environ.items() if not name.startswith("GLOBUS_CLI_")}
    names |= {"HOME": str(tmp_path), "GLOBUS_CLI_CLIENT_ID": globus_service.auth.client_id,
              "GLOBUS_CLI_CLIENT_SECRET": globus_service.auth.secret}  # fmt: skip

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [globus_program, *words], env=names, capture_output=True, text=True, check=False, timeout=60
        )

    return run
