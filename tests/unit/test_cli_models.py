"""`dayscribe models`: what is listed, what a lock notices, and how it is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hpc.cli import main

FILES = ("model.bin", "config.json", "vocabulary.json", "tokenizer.json", "preprocessor_config.json")


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one model of made-up files, and nothing else in reach but what we ship."""
    for name in ("HF_HOME", "HF_HUB_CACHE", "TORCH_HOME", "DAYSCRIBE_MODELS", "DAYSCRIBE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr("hpc.log.configure", lambda **_options: None)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "models" / "tiny"
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_text("{}")
    return folder


@pytest.fixture
def models(model: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Calls `dayscribe models …` with that folder: (exit code, rows, stderr)."""

    def call(*arguments: str) -> tuple[int, list[dict[str, Any]], str]:
        with pytest.raises(SystemExit) as left:
            main.main(["--set", f"models={model.parent}", "models", *arguments, "--json"])
        out, err = capsys.readouterr()
        assert isinstance(left.value.code, int)
        return left.value.code, json.loads(out) if out else [], err

    return call


def test_a_model_is_listed_with_its_kind_place_and_lock(models: Any, model: Path) -> None:
    code, rows, _ = models("list")

    tiny = next(row for row in rows if row["name"] == "tiny")
    assert code == 0
    assert tiny == {
        "name": "tiny", "kind": "asr", "languages": [], "megabytes": 0.0, "locked": False, "digest": None,
        "revision": None, "bundle": None, "path": str(model),
    }  # fmt: skip


def test_a_model_that_was_never_locked_is_told_and_is_no_failure(models: Any) -> None:
    code, rows, _ = models("verify", "tiny")

    assert (code, [(row["verdict"], row["harmless"]) for row in rows]) == (0, [("unlocked", True)])


def test_a_file_that_changed_after_the_lock_is_told_and_fails(models: Any, model: Path) -> None:
    assert models("lock", "tiny")[0] == 0
    assert models("verify", "tiny")[:2] == (
        0, [{"name": "tiny", "verdict": "ok", "harmless": True, "said": str(model)}],
    )  # fmt: skip
    (model / "model.bin").write_text("[]")

    code, rows, err = models("verify", "tiny")

    assert (code, [row["verdict"] for row in rows]) == (78, ["changed"])
    assert str(model / "model.bin") in rows[0]["said"]
    assert "tiny" in err


def test_a_name_that_is_no_model_is_an_error_with_the_way_to_the_names(models: Any) -> None:
    code, rows, err = models("verify", "nix")

    assert (code, rows) == (78, [])
    assert "nix" in err and "models list" in err
