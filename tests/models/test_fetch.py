"""`dayscribe models fetch` against a hub on loopback: what comes, what is refused, and what an interruption leaves."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from loopback_hub import COMMIT, DEMO, EAR, VOICE, Hub, Repository, shipped

from hpc.engine_options import EngineOptions
from hpc.model_fetch import coming
from hpc.model_hub import weight
from hpc.models import Kind, find_model

Call = Callable[..., Any]
Fetch = Callable[..., subprocess.Popen[bytes]]
OTHER = "beef00" + "0" * 34


def content(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_only_the_files_that_are_loaded_come_each_as_the_hub_has_it(hub: Hub, models: Call, machine: Path) -> None:
    said = models("fetch", VOICE, EAR, "--no-align", "--to", "m")

    assert said.code == 0, said.err
    assert [(row["name"], row["kind"], row["standing"]) for row in said.answer["models"]] == [
        (VOICE, "asr", "fetched"),
        (EAR, "aligner", "fetched"),
    ]
    assert said.answer["complete"] is True
    voice, ear = content(machine / "m" / VOICE), content(machine / "m" / EAR)
    assert voice.keys() - {"digests.json"} == shipped("asr.en").keys()
    assert ear.keys() - {"digests.json"} == {*shipped("aligner"), "alphabet.json"}
    assert {**voice, **shipped("asr.en")} == voice
    assert [path.name for path in (machine / "m").iterdir() if path.name.startswith(".")] == []


def test_what_was_fetched_is_found_by_the_name_it_was_asked_for(
    hub: Hub, models: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories["Systran/faster-whisper-tiny.en"] = hub.repositories[VOICE]

    said = models("fetch", "tiny.en", "--no-align")

    assert (said.code, said.answer["found_here"]) == (0, True), said.err
    listed = models("list").answer
    assert {"name": "Systran/faster-whisper-tiny.en", "bundle": "complete", "revision": COMMIT}.items() <= next(
        row for row in listed if row["name"].startswith("Systran")
    ).items()
    folder = Path(said.answer["folder"])
    found = find_model("tiny.en", Kind.ASR, [folder])
    assert (found.path, found.locked) == (folder / "Systran/faster-whisper-tiny.en", True)


def test_the_first_folder_of_the_settings_that_can_be_written_is_where_models_go(
    hub: Hub, models: Call, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAYSCRIBE_MODELS", f"{machine}/file/none:{machine}/ours")
    (machine / "file").touch()

    said = models("fetch", VOICE, "--no-align")

    assert said.answer["folder"] == str(machine / "ours"), said.err


def test_what_is_whole_is_kept_without_asking_the_hub_and_what_was_damaged_comes_again(
    hub: Hub, models: Call, machine: Path
) -> None:
    models("fetch", VOICE, "--no-align", "--to", "m")
    hub.asked.clear()
    said = models("fetch", VOICE, "--no-align", "--to", "m")
    assert [row["standing"] for row in said.answer["models"]] == ["kept"]
    assert hub.asked == []

    config = machine / "m" / VOICE / "config.json"
    config.write_text("{}")
    said = models("fetch", VOICE, "--no-align", "--to", "m")

    assert [row["standing"] for row in said.answer["models"]] == ["fetched"], said.err
    assert config.read_bytes() == shipped("asr.en")["config.json"]
    assert hub.sent("model.bin") == [], "the weights were right, and came again"


def test_a_revision_is_recorded_and_another_takes_the_place_of_the_one_that_is_here(
    hub: Hub, models: Call, machine: Path
) -> None:
    models("fetch", f"{VOICE}@main", "--no-align", "--to", "m")
    bundle = json.loads((machine / "m" / "bundle.json").read_text())
    assert [(one["revision"], one["asked"]) for one in bundle["models"]] == [(COMMIT, f"{VOICE}@main")]
    later = Repository(shipped("asr.en") | {"vocabulary.json": b'["a", "b"]'}, OTHER, {"main", "v2"})
    hub.repositories[VOICE] = later

    assert models("fetch", VOICE, "--no-align", "--to", "m").answer["models"][0]["standing"] == "kept"
    assert models("fetch", f"{VOICE}@{COMMIT[:8]}", "--no-align", "--to", "m").answer["models"][0]["standing"] == "kept"
    said = models("fetch", f"{VOICE}@v2", "--no-align", "--to", "m")

    assert [(row["standing"], row["revision"]) for row in said.answer["models"]] == [("fetched", OTHER)], said.err
    assert (machine / "m" / VOICE / "vocabulary.json").read_bytes() == b'["a", "b"]'
    assert hub.sent("model.bin") == [""], "both revisions have the same weights, and they came twice"
    assert models("verify", "--bundle", "m").code == 0


def test_a_connection_that_breaks_in_the_middle_goes_on_where_it_was(
    hub: Hub, models: Call, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100_000)  # it writes no less at once
    hub.cut["model.bin"] = [1_000_000, 500_000]

    said = models("fetch", VOICE, "--no-align", "--to", "m")

    assert said.code == 0, said.err
    assert (machine / "m" / VOICE / "model.bin").read_bytes() == shipped("asr.en")["model.bin"]
    assert hub.sent("model.bin") == ["", "bytes=1000000-", "bytes=1500000-"]


def test_a_fetch_that_is_killed_in_the_middle_ends_with_the_same_bytes_when_it_is_run_again(
    hub: Hub, models: Call, held_fetch: Fetch, machine: Path
) -> None:
    whole = os.urandom(25 << 20)  # huggingface_hub writes 10 MiB at once
    hub.repositories[VOICE].files["model.bin"] = whole
    hub.hold["model.bin"] = 22 << 20
    process = held_fetch(VOICE, "--no-align", "--to", str(machine / "m"))
    wait_for_bytes(process, machine / "m", 20 << 20)
    process.kill()
    process.wait()
    hub.release.set()
    assert not (machine / "m" / VOICE).exists(), "half a model has the name of a whole one"
    lacking = [(row["name"], row["verdict"]) for row in models("verify", "--bundle", "m").answer if not row["harmless"]]
    assert lacking == [(VOICE, "missing")]

    said = models("fetch", VOICE, "--no-align", "--to", "m")

    assert said.code == 0, said.err
    wanted = shipped("asr.en") | {"model.bin": whole}
    assert {name: data for name, data in content(machine / "m" / VOICE).items() if name != "digests.json"} == wanted
    assert hub.sent("model.bin") == ["", f"bytes={20 << 20}-"]
    assert hub.sent("config.json") == [""], "a small file that was whole came twice"
    assert models("verify", "--bundle", "m").code == 0


def wait_for_bytes(process: subprocess.Popen[bytes], folder: Path, size: int) -> None:
    """Until what was sent has been written down: a process that is killed before has nothing to go on with."""
    while process.poll() is None and coming(folder) < size:
        os.sched_yield()


def test_two_fetches_do_not_write_into_each_other(hub: Hub, models: Call, held_fetch: Fetch, machine: Path) -> None:
    hub.hold["model.bin"] = 1000
    held_fetch(VOICE, "--no-align", "--to", str(machine / "m"))

    said = models("fetch", VOICE, "--no-align", "--to", "m")

    assert (said.code, "Another fetch is at work" in said.err) == (75, True), said.err


def test_how_far_a_fetch_is_can_be_told_while_folders_vanish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library tidies its folders away while the weight of what has come is taken."""
    for name in ("kept", "vanished"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"1234")
    scandir = os.scandir

    def late(path: str | Path) -> Any:
        if Path(path).name == "vanished":
            raise FileNotFoundError(errno.ENOENT, "it is gone", str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", late)
    assert weight(tmp_path) == 4


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_a_variable_that_forbids_the_network_is_named(hub: Hub, machine: Path, name: str) -> None:
    """In a process of its own: the library looks at its environment when it is imported."""
    command = [sys.executable, "-P", "-c", "from hpc.cli.main import main; main()", "models", "fetch", VOICE]
    said = subprocess.run(command, env=os.environ | {name: "1"}, capture_output=True, text=True, check=False)
    assert (said.returncode, name in said.stderr) == (78, True), said.stderr
    assert hub.asked == []


@pytest.mark.parametrize(("times", "code"), [(1, 0), (9, 75)])
def test_wrong_bytes_are_thrown_away_and_asked_for_once_more(
    hub: Hub, models: Call, machine: Path, times: int, code: int
) -> None:
    hub.wrong["model.bin"] = times

    said = models("fetch", VOICE, "--no-align", "--to", "m")

    assert said.code == code, said.err
    assert len(hub.sent("model.bin")) == 2
    if code:
        assert "model.bin" in said.err and "thrown away" in said.err
        assert not (machine / "m" / VOICE).exists()
    else:
        assert (machine / "m" / VOICE / "model.bin").read_bytes() == shipped("asr.en")["model.bin"]


def test_a_small_file_with_a_wrong_byte_is_noticed_too(hub: Hub, models: Call) -> None:
    hub.wrong["config.json"] = 9
    said = models("fetch", VOICE, "--no-align", "--to", "m")
    assert (said.code, "config.json" in said.err) == (75, True), said.err


def test_a_hub_that_stumbles_once_is_asked_again_and_one_that_lies_down_is_not_waited_for(
    hub: Hub, models: Call
) -> None:
    hub.statuses = [500]
    assert models("fetch", VOICE, "--no-align", "--to", "m").code == 0
    hub.statuses = [503] * 9
    said = models("fetch", EAR, "--no-align", "--to", "m")
    assert (said.code, "status 503" in said.err) == (75, True), said.err


def test_a_misspelt_name_brings_the_right_one(hub: Hub, models: Call, machine: Path) -> None:
    said = models("fetch", "larg-v3", "--to", "m")
    assert (said.code, "did you mean large-v3?" in said.err) == (78, True), said.err
    said = models("fetch", "Systran/faster-whisper-larg-v3", "--no-align", "--to", "m")
    assert (said.code, "did you mean large-v3?" in said.err) == (78, True), said.err
    assert not (machine / "m" / "bundle.json").exists(), "what cannot be had was noted as wanted"
    said = models("fetch", VOICE, "--languages", "germn", "--to", "m")
    assert (said.code, "did you mean de?" in said.err) == (78, True), said.err


def test_a_gated_model_says_where_its_terms_are_and_a_token_opens_it_and_is_not_shown(
    hub: Hub, models: Call, monkeypatch: pytest.MonkeyPatch, machine: Path
) -> None:
    hub.repositories[VOICE].gated = True
    said = models("fetch", VOICE, "--no-align", "--to", "m")
    assert (said.code, "accepted its terms" in said.err) == (78, True), said.err
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    refused = models("fetch", VOICE, "--no-align", "--to", "m")
    assert refused.code == 78
    monkeypatch.setenv("HF_TOKEN", "opens-the-gate")

    opened = models("fetch", VOICE, "--no-align", "--to", "m")

    assert opened.code == 0, opened.err
    assert "Bearer opens-the-gate" in hub.tokens
    written = b"".join(content(machine / "m").values())
    for secret in ("hf_wrong", "opens-the-gate", "secret-of-the-address"):
        assert secret not in refused.err + opened.err + json.dumps(opened.answer)
        assert secret.encode() not in written


def test_a_revision_that_is_not_there_is_named(hub: Hub, models: Call) -> None:
    said = models("fetch", f"{VOICE}@v9", "--no-align", "--to", "m")
    assert (said.code, "no revision 'v9'" in said.err) == (78, True), said.err


def test_no_network_is_a_reason_to_try_again(machine: Path, models: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://user:password@127.0.0.1:9")
    said = models("fetch", VOICE, "--no-align", "--to", "m")
    assert (said.code, "127.0.0.1 cannot be reached" in said.err) == (75, True), said.err
    assert "password" not in said.err


def test_a_hub_that_says_no_more_is_left_after_a_while(hub: Hub, models: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.file_download

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
    monkeypatch.setattr(huggingface_hub.file_download.time, "sleep", lambda _seconds: None)
    hub.hold["model.bin"] = 1_000_000

    said = models("fetch", VOICE, "--no-align", "--to", "m")

    assert said.code == 0, said.err
    assert len(hub.sent("model.bin")) == 2


def test_a_login_page_in_the_way_is_not_taken_for_a_hub(hub: Hub, models: Call) -> None:
    hub.page = b"<html>Please log in</html>"
    said = models("fetch", VOICE, "--no-align", "--to", "m")
    assert (said.code, "login page" in said.err) == (75, True), said.err


def test_too_little_room_is_said_before_a_byte_comes(hub: Hub, models: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(1, 1, 1000))
    said = models("fetch", VOICE, "--no-align", "--to", "m")
    assert (said.code, "has no room" in said.err, hub.sent("config.json")) == (75, True, []), said.err


def test_a_disk_that_fills_up_on_the_way_keeps_what_came(
    hub: Hub, models: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.file_download

    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(huggingface_hub.file_download, "http_get", full)
        said = models("fetch", VOICE, "--no-align", "--to", "m")
    assert (said.code, "no room left" in said.err) == (75, True), said.err
    assert models("fetch", VOICE, "--no-align", "--to", "m").code == 0


def test_a_repository_of_another_kind_is_refused_before_it_is_fetched(hub: Hub, models: Call) -> None:
    hub.repositories["lab/whisper"] = Repository({"config.json": b"{}", "model.safetensors": b"w" * 200_000})
    said = models("fetch", "lab/whisper", "--no-align", "--to", "m")
    assert (said.code, "no model.bin" in said.err, hub.sent("config.json")) == (78, True, []), said.err


def test_names_in_a_repository_cannot_lead_out_of_its_folder(hub: Hub, models: Call, machine: Path) -> None:
    evil = {"../config.json": b"{}", "/etc/model.bin": b"", ".cache/x.json": b"{}", "vocabulary.json/../../x": b""}
    hub.repositories[VOICE].files |= evil
    hub.repositories[EAR].files |= evil | {"in/x.json": b"{}"}
    said = models("fetch", VOICE, EAR, "--no-align", "--to", "m")
    assert said.code == 0, said.err
    assert content(machine / "m" / VOICE).keys() - {"digests.json"} == shipped("asr.en").keys()
    assert content(machine / "m" / EAR).keys() - {"digests.json", "alphabet.json"} == shipped("aligner").keys()
    asked = {path.partition("/resolve/")[2].partition("/")[2] for _, path, _ in hub.asked if "/resolve/" in path}
    assert not asked & {*evil, "in/x.json"}


def test_a_model_of_before_large_v3_has_no_preprocessor_file_and_needs_none(hub: Hub, models: Call) -> None:
    small = {name: data for name, data in shipped("asr.en").items() if name != "preprocessor_config.json"}
    old = small | {"vocabulary.json": json.dumps([str(at) for at in range(51864)]).encode()}
    hub.repositories[VOICE].files = old
    assert models("fetch", VOICE, "--no-align", "--to", "m").code == 0
    hub.repositories[EAR].files = small | {"vocabulary.json": json.dumps([str(at) for at in range(51866)]).encode()}

    said = models("fetch", EAR, "--no-align", "--to", "m")

    assert (said.code, "preprocessor_config.json is missing" in said.err) == (78, True), said.err


def test_a_dry_run_says_what_would_come_and_writes_nothing(hub: Hub, models: Call, machine: Path) -> None:
    said = models("fetch", VOICE, "--languages", "en", "--dry-run", "--to", "m")
    assert said.code == 0, said.err
    assert [(row["name"], row["standing"]) for row in said.answer["models"]] == [
        (VOICE, "to fetch"),
        ("WAV2VEC2_ASR_BASE_960H", "to fetch"),
        ("nltk_data", "to fetch"),
    ]
    assert not (machine / "m").exists()


def test_a_folder_is_copied_into_the_bundle_with_its_lock(machine: Path, models: Call) -> None:
    said = models("fetch", str(DEMO / "asr.en"), "--no-align", "--to", "m")
    assert said.code == 0, said.err
    assert content(machine / "m" / "asr.en") == content(DEMO / "asr.en")
    assert models("verify", "--bundle", "m").code == 0
    assert str(DEMO) not in (machine / "m" / "bundle.json").read_text()


def test_the_settings_aligner_is_fetched_for_its_language(
    hub: Hub, models: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAYSCRIBE_ENGINE__ALIGNER", EAR)
    monkeypatch.setenv("DAYSCRIBE_ENGINE__MODEL", VOICE)
    said = models("fetch", "--dry-run")
    assert [row["name"] for row in said.answer["models"]] == [VOICE, EAR, "nltk_data"], said.err


def test_a_model_stays_as_it_is_until_the_revision_that_replaces_it_is_whole(
    hub: Hub, models: Call, machine: Path
) -> None:
    models("fetch", VOICE, "--no-align", "--to", "m")
    before = content(machine / "m" / VOICE)
    hub.repositories[VOICE] = Repository(shipped("asr.en") | {"model.bin": b"w" * 200_000}, OTHER)
    hub.wrong["model.bin"] = 9

    assert models("fetch", f"{VOICE}@main", "--no-align", "--to", "m").code == 75

    assert content(machine / "m" / VOICE) == before
    assert models("verify", "--bundle", "m").code == 0


@pytest.mark.speech
def test_a_fetched_bundle_that_was_copied_transcribes_without_a_network(
    hub: Hub, models: Call, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hpc import canary
    from hpc.models import resolve
    from hpc.registry import target

    assert models("fetch", VOICE, EAR, "--no-align", "--to", "m").code == 0
    shutil.copytree(machine / "m", machine / "node")
    shutil.rmtree(machine / "m")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    hub.asked.clear()
    options = EngineOptions(model=VOICE, aligner=EAR, language="en", chunk_size=8, device="cpu")

    ready, found = resolve(options, [machine / "node"])
    song = canary.sing(target("engines", "whisperx"), ready)

    assert [(model.locked, model.revision) for model in found] == [(True, COMMIT), (True, COMMIT)]
    assert (song.heard, song.timed_words) == (canary.WORDS, len(canary.WORDS.split()))
    assert hub.asked == []
