"""A bundle that was copied is the one that was fetched, or says what is not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from loopback_hub import DEMO, EAR, VOICE, Hub

from hpc import model_bundle
from hpc.model_lock import Kind, describe, lock

Call = Callable[..., Any]


@pytest.fixture
def copy(hub: Hub, models: Call, machine: Path) -> Path:
    """A bundle of two models, fetched and carried to another folder."""
    assert models("fetch", VOICE, EAR, "--no-align", "--to", "m").code == 0
    shutil.copytree(machine / "m", machine / "node")
    return machine / "node"


def verdicts(models: Call, folder: Path) -> tuple[int, list[tuple[str, str]]]:
    said = models("verify", "--bundle", str(folder))
    return said.code, [(row["name"], row["verdict"]) for row in said.answer if row["verdict"] != "ok"]


def test_a_copy_is_read_to_the_last_byte_and_found_right(models: Call, copy: Path) -> None:
    assert verdicts(models, copy) == (0, [])
    said = models("verify", "--bundle", str(copy)).answer
    assert [row["name"] for row in said] == [
        VOICE, EAR, "pyannote (in whisperx)", "silero (in faster-whisper)",
    ]  # fmt: skip


def test_a_changed_byte_a_missing_and_a_further_model_are_each_told(models: Call, copy: Path) -> None:
    weights = copy / VOICE / "model.bin"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    shutil.rmtree(copy / EAR)
    shutil.copytree(DEMO / "aligner", copy / "another")
    assert verdicts(models, copy) == (78, [(VOICE, "changed"), (EAR, "missing"), ("another", "extra")])


def test_a_model_that_was_changed_and_locked_anew_is_not_the_one_of_the_bundle(models: Call, copy: Path) -> None:
    (copy / VOICE / "config.json").write_text("{}")
    lock(describe(VOICE, copy / VOICE, Kind.ASR))
    assert verdicts(models, copy) == (78, [(VOICE, "changed")])


def test_a_model_that_never_came_makes_a_bundle_incomplete(models: Call, hub: Hub, machine: Path, copy: Path) -> None:
    hub.wrong["model.safetensors"] = 9
    assert models("fetch", VOICE, EAR, "--no-align", "--to", "n").code == 75
    assert verdicts(models, machine / "n") == (78, [(EAR, "missing"), (".fetching", "unfinished")])


def test_a_list_shows_of_which_bundle_a_model_is_and_what_that_lacks(
    models: Call, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAYSCRIBE_MODELS", str(copy))
    assert {row["name"]: row["bundle"] for row in models("list").answer}[VOICE] == "complete"
    (copy / EAR / "vocab.json").unlink()
    said = models("list")
    assert {row["name"]: row["bundle"] for row in said.answer}[VOICE] == "incomplete"
    assert f"lacks {EAR}" in said.err


def test_what_is_fetched_later_joins_the_bundle(models: Call, hub: Hub, machine: Path) -> None:
    models("fetch", VOICE, "--no-align", "--to", "m")
    models("fetch", EAR, "--no-align", "--to", "m")
    assert [entry.name for entry in (model_bundle.read(machine / "m") or model_bundle.Bundle()).entries] == [VOICE, EAR]


def test_the_list_of_a_bundle_holds_digests_versions_and_nothing_of_this_machine(
    copy: Path, hub: Hub, machine: Path
) -> None:
    text = (copy / "bundle.json").read_text()
    said = json.loads(text)
    assert said["format"] == 1
    assert {one["name"]: (one["kind"], one["asked"]) for one in said["models"]} == {
        VOICE: ("asr", VOICE),
        EAR: ("aligner", EAR),
    }
    assert all(len(one["digest"]) == 64 and one["size"] > 0 and len(one["revision"]) == 40 for one in said["models"])
    assert {one["package"] for one in said["vad"]} == {"whisperx", "faster-whisper"}
    assert {"whisperx", "faster-whisper", "huggingface-hub", "dayscribe"} <= said["made_with"].keys()
    assert str(machine) not in text and "127.0.0.1" not in text


def test_another_detector_of_speech_than_the_bundles_is_told(
    models: Call, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = model_bundle.detectors()
    monkeypatch.setattr(model_bundle, "detectors", lambda: [replace(ours[0], sha256="0" * 64)])
    assert verdicts(models, copy) == (
        78,
        [("pyannote (in whisperx)", "changed"), ("silero (in faster-whisper)", "absent")],
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "newer dayscribe"),
        ({"models": [{"path": "../../etc"}]}, "not the list of a bundle"),
        ({"models": [{"path": "/etc"}]}, "not the list of a bundle"),
        ({"models": [{"kind": "virus"}]}, "not the list of a bundle"),
        ({"vad": None}, "not the list of a bundle"),
    ],
)
def test_a_list_that_is_none_is_refused(models: Call, copy: Path, change: dict[str, Any], said: str) -> None:
    listed = json.loads((copy / "bundle.json").read_text())
    for key, value in change.items():
        if key == "models":
            listed["models"][0] |= value[0]
        else:
            listed[key] = value
    (copy / "bundle.json").write_text(json.dumps(listed))
    answer = models("verify", "--bundle", str(copy))
    assert (answer.code, said in answer.err) == (78, True), answer.err


def test_a_damaged_list_hides_no_model(models: Call, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAYSCRIBE_MODELS", str(copy))
    (copy / "bundle.json").write_text("{")
    said = models("list")
    assert {row["name"]: row["bundle"] for row in said.answer}[VOICE] == "incomplete"
    assert (said.code, "not the list of a bundle" in said.err) == (0, True)


def test_a_folder_without_a_list_is_no_bundle(models: Call, machine: Path) -> None:
    said = models("verify", "--bundle", str(machine))
    assert (said.code, "models fetch --to" in said.err) == (78, True), said.err
