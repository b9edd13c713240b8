"""A day delivered to another collection by the real globus-sdk, against a loopback Globus that misbehaves."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from db import faults
from db.session import Session
from hpc.deliver import Delivered, Wish, deliver_day
from hpc.errors import BadSetting, InFlight, NoAnswer, NotVerified
from hpc.parcel import Target
from hpc.wiring import deliveries as wiring

DAY = "2025-01-01"


class Bar:
    def advance(self, count: float = 1) -> None: ...


@contextmanager
def no_bars(_label: str, _total: float | None, _unit: str) -> Iterator[Bar]:
    yield Bar()


class Desk:
    """Our collection is the home's; the other one is an archive's. Nobody waits: each call asks once."""

    def __init__(self, lab: Any, globus: Any, folder: Path) -> None:
        self.lab, self.globus = lab, globus
        self.ours = globus.transfer.collection(lab.home, "the cluster's project")
        self.archive = globus.transfer.collection(folder / "archive", "the archive")
        secret = folder / "secret.json"
        secret.write_text(json.dumps({"client_id": globus.auth.client_id, "client_secret": globus.auth.secret}))
        secret.chmod(0o600)
        lab.settings = {
            "globus.secret_file": str(secret), "deliver.collection": self.ours.id,
            "deliver.collection_folder": "/deliveries",
        }  # fmt: skip
        self.target = Target.parse(f"globus://{self.archive.id}/speech", site="audio")
        self.session = Session(lab.dsn, application="test")

    def once(self, **wish: bool) -> Delivered:
        hands = wiring.hands(self.lab.load(), self.session, bars=no_bars, stop=lambda: False, by_job=True)
        return deliver_day(hands, self.lab.day(), Wish(self.target, **wish))

    def deliver(self, **wish: bool) -> Delivered:
        """Asked as often as it takes; the task is given its time in between."""
        for _ in range(8):
            try:
                return self.once(**wish)
            except (InFlight, NoAnswer):
                self.globus.transfer.wait()
        raise AssertionError("it never comes to an end")

    @property
    def there(self) -> Path:
        return Path(self.archive.root) / "speech"


@pytest.fixture
def desk(lab: Any, globus: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(faults, "_seen", {})
    made = Desk(lab, globus, tmp_path)
    yield made
    made.session.close()


def checked(folder: Path) -> bool:
    """What anybody can do there at any time."""
    manifest = f"manifests/audio/{DAY}.sha256"
    return subprocess.run(["sha256sum", "-c", "--quiet", manifest], cwd=folder, check=False).returncode == 0


def test_a_day_goes_to_another_collection_and_its_manifest_last(desk: Desk) -> None:
    done = desk.deliver(audio=True)
    assert done.state == "verified"
    assert checked(desk.there)
    assert (desk.there / "audio" / "2025" / "01" / "01" / "00_00" / "audio.tar").is_file()
    first, last = (task.data["DATA"] for task in desk.globus.transfer.tasks.values())
    assert [item["destination_path"] for item in last] == [f"/speech/manifests/audio/{DAY}.sha256"]
    assert len(first) == done.files - 1


def test_a_lost_answer_makes_no_second_task(desk: Desk) -> None:
    desk.globus.fault("POST", "/transfer$", "lost", times=3)
    desk.deliver()
    assert len(desk.globus.transfer.tasks) == 2  # the files, the manifest


@pytest.mark.parametrize("harm", ["truncate", "omit"])
def test_succeeded_is_not_believed(desk: Desk, harm: str) -> None:
    """By what the destination lists. Its bytes only Globus itself reads, with verify_checksum, and whoever is there."""
    desk.globus.transfer.harm = {f"{DAY}.parquet": harm}
    with pytest.raises(NotVerified):
        desk.deliver()
    assert not (desk.there / "manifests").exists()
    desk.globus.transfer.harm = {}
    assert desk.deliver().state == "verified"
    assert checked(desk.there)


def test_what_is_verified_there_is_not_sent_again(desk: Desk) -> None:
    desk.deliver()
    tasks = len(desk.globus.transfer.tasks)
    assert desk.once().state == "there already"
    assert len(desk.globus.transfer.tasks) == tasks


def test_without_a_collection_of_ours_it_is_said_which_setting_is_wanting(desk: Desk) -> None:
    del desk.lab.settings["deliver.collection"]
    with pytest.raises(BadSetting, match=r"deliver\.collection"):
        desk.once()


def test_the_parquet_there_is_the_one_that_was_packed_here(desk: Desk) -> None:
    desk.deliver(parts=False)
    packed, there = (root / "transcripts" / "audio" / f"{DAY}.parquet" for root in (desk.lab.packed, desk.there))
    digest: Callable[[Path], str] = lambda path: hashlib.sha256(path.read_bytes()).hexdigest()  # noqa: E731
    assert digest(packed) == digest(there)
