"""Finding PostgreSQL's programs: what a person names, then the system's newest, then PATH, then the carried ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from db import servers
from db.errors import NoDatabaseServer


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with no PostgreSQL at all."""
    monkeypatch.delenv(servers.SETTING, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setattr(servers, "SYSTEM", (f"{tmp_path}/usr/*/bin",))
    monkeypatch.setattr(servers, "CARRIER", "no_such_package")
    return tmp_path


def install(folder: Path, version: str) -> Path:
    folder.mkdir(parents=True)
    for name in servers.PROGRAMS:
        (folder / name).write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {version} (Somebody 1.2)'\n")
        (folder / name).chmod(0o755)
    return folder


def test_the_newest_of_the_system_is_taken(machine: Path) -> None:
    install(machine / "usr/9.6/bin", "9.6.24")
    install(machine / "usr/17/bin", "17.2")
    install(machine / "usr/18/bin", "18.0")
    install(machine / "path", "20.1")
    assert servers.find() == servers.Programs(machine / "usr/18/bin", "18.0")


def test_data_is_served_by_the_version_that_made_it(machine: Path) -> None:
    install(machine / "usr/18/bin", "18.0")
    install(machine / "path", "16.3")
    assert servers.find(16, Path("data")).folder == machine / "path"


def test_the_folder_a_person_names_comes_first(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(machine / "usr/18/bin", "18.0")
    monkeypatch.setenv(servers.SETTING, str(install(machine / "mine", "17.5")))
    assert servers.find().version == "17.5"
    assert servers.find(18, Path("data")).version == "18.0"


def test_a_named_folder_without_the_programs_is_an_error_not_a_hint(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(machine / "usr/18/bin", "18.0")
    monkeypatch.setenv(servers.SETTING, str(machine / "mistyped"))
    with pytest.raises(NoDatabaseServer, match=r"DAYSCRIBE_PG_BINDIR is .*mistyped, .* lacks one of initdb, pg_ctl"):
        servers.find()


def test_programs_that_cannot_run_here_are_passed_over(machine: Path) -> None:
    broken = install(machine / "usr/18/bin", "18.0")
    (broken / "postgres").write_bytes(b"\x7fELF not for this machine")
    install(machine / "usr/17/bin", "17.2")
    assert servers.find().version == "17.2"


def test_a_machine_without_any_names_what_to_install(machine: Path) -> None:
    install(machine / "usr/13/bin", "13.9")
    with pytest.raises(
        NoDatabaseServer, match=r"version 15 or newer .*13\.9.* apt install postgresql; .* DAYSCRIBE_PG"
    ):
        servers.find()
