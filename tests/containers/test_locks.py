"""The images' locks, without building anything: the versions that everybody works with, and all that our code needs."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = ROOT / "requirements"
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
HASHES = r"(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n?)+"
ENTRY = re.compile(r"^([a-z0-9][\w.-]*)==(\S+?)(?: ; ([^\\\n]+?))? \\\n" + HASHES, re.MULTILINE)
WANTED = {
    "audio": [*PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"]["speech"]],
    "utils": [*PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"]["globus"]],
}


def pins(name: str) -> set[tuple[str, str, str]]:
    """Name, version and rule of every entry, each of which has hashes."""
    return {(entry[1], entry[2], entry[3] or "") for entry in ENTRY.finditer((LOCKS / f"{name}.lock").read_text())}


def here(name: str) -> dict[str, str]:
    """What a lock has for this Python on this machine."""
    return {package: version for package, version, rule in pins(name) if not rule or Marker(rule).evaluate()}


def closure(direct: list[str]) -> set[str]:
    """The packages that these need, as the installed ones say of themselves."""
    found: set[tuple[str, str]] = set()
    waiting = [(Requirement(text), "") for text in direct]
    while waiting:
        requirement, asker = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": asker}):
            continue
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) not in found:
                found.add((name, extra))
                waiting += [(Requirement(text), extra) for text in requires(name) or []]
    return {name for name, _ in found}


@pytest.mark.parametrize("lock", ["audio", "utils"])
def test_an_image_has_the_very_versions_that_the_tests_run_with(lock: str) -> None:
    everybodys = {(name, version) for name, version, _ in pins("dev")}
    assert not {(name, version) for name, version, _ in pins(lock)} - everybodys
    assert here(lock).items() <= here("dev").items()


@pytest.mark.parametrize("lock", ["audio", "utils"])
def test_an_image_has_all_that_our_code_needs_and_nothing_else(lock: str) -> None:
    needed = closure([*WANTED[lock], *PROJECT["dependency-groups"]["image"]])
    assert set(here(lock)) == needed


@pytest.mark.parametrize("lock", ["audio", "utils", "globus-cli"])
def test_every_package_has_hashes_and_no_index_is_named(lock: str) -> None:
    text = (LOCKS / f"{lock}.lock").read_text()
    entries = re.findall(r"^[^\s#].*", text, re.M)
    assert len(pins(lock)) == len(entries)
    assert "://" not in text and "--index" not in text and "--find-links" not in text


def test_the_utilities_have_no_torch_and_the_globus_command_is_alone() -> None:
    assert not {"torch", "whisperx", "ctranslate2"} & set(here("utils"))
    assert "globus-cli" in here("globus-cli")
    assert "globus-cli" not in here("utils")
    assert "globus-sdk" in here("utils")
    assert "globus-sdk" not in here("audio")  # what transcribes has no business with who moves files
