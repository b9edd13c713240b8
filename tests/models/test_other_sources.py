"""What torchaudio and NLTK fetch by themselves: their own downloaders, in their child, pointed at loopback."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from loopback_hub import VOICE, Hub

from hpc import model_fetch

Call = Callable[..., Any]
Fetch = Callable[..., subprocess.Popen[bytes]]
FILE = "wav2vec2_fairseq_base_ls960_asr_ls960.pth"
FOUR = ("collocations.tab", "sent_starters.txt", "abbrev_types.txt", "ortho_context.tab")
# torchaudio's base model, much smaller, from where we say; the download is torch's own.
TINY = """
import os, sys, torch, torchaudio
bundle = torchaudio.pipelines.WAV2VEC2_ASR_BASE_960H
bundle._params.update(
    extractor_conv_layer_config=[(8, 10, 5), (8, 3, 2)], encoder_embed_dim=16, encoder_num_layers=1,
    encoder_num_heads=2, encoder_ff_interm_features=16, encoder_pos_conv_kernel=4, encoder_pos_conv_groups=2,
)
"""
SAVED = """
from torchaudio.pipelines._wav2vec2 import utils
whole = bundle._params | {"aux_num_out": bundle._params["aux_num_out"] + 3}  # three that torchaudio takes away
torch.save(utils._get_model(bundle._model_type, whole).state_dict(), sys.argv[1])
"""
FROM_LOOPBACK = (
    TINY
    + """
from torchaudio.pipelines._wav2vec2 import utils
utils.load_state_dict_from_url = lambda url, **options: torch.hub.load_state_dict_from_url(
    {url!r} + "/" + os.path.basename(url), **options
)
from hpc.engines.whisperx.fetching import main
main()
"""
)
SENTENCES_FROM_LOOPBACK = """
import urllib.request, nltk.downloader
nltk.downloader.urlopen = urllib.request.urlopen  # NLTK's own refuses loopback
from hpc.engines.whisperx import fetching
fetching._INDEX = {url!r} + "/index.xml"
fetching.main()
"""


@pytest.fixture
def sentences(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """NLTK's index and its package, and what the package holds."""
    files = {
        f"punkt_tab/{language}/{name}": f"{name} of {language}".encode()
        for language in ("english", "german")
        for name in FOUR
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    serve(hub, packed.getvalue(), sum(map(len, files.values())))
    use(monkeypatch, SENTENCES_FROM_LOOPBACK, hub)
    return files


def serve(hub: Hub, packed: bytes, unpacked: int) -> None:
    hub.pages["/punkt_tab.zip"] = packed
    hub.pages["/index.xml"] = (
        '<nltk_data><packages><package id="punkt_tab" name="Punkt" subdir="tokenizers" unzip="1" '
        f'size="{len(packed)}" unzipped_size="{unpacked}" checksum="{hashlib.md5(packed).hexdigest()}" '
        f'sha256_checksum="{hashlib.sha256(packed).hexdigest()}" url="{hub.url}/punkt_tab.zip"/>'
        "</packages><collections/></nltk_data>"
    ).encode()


def use(monkeypatch: pytest.MonkeyPatch, program: str, hub: Hub) -> None:
    command = (sys.executable, "-P", "-c", program.replace("{url!r}", repr(hub.url)))
    monkeypatch.setattr(model_fetch, "CHILD", command)
    monkeypatch.setattr(model_fetch, "TORCHAUDIO_BYTES", 1)


def held(folder: Path) -> dict[str, bytes]:
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and file.name != "digests.json"
    }


def fetched(models: Call, *wanted: str) -> Any:
    return models("fetch", *wanted, "--to", "m")


@pytest.fixture
def only_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    """No aligner of torchaudio's comes along."""
    monkeypatch.setattr("hpc.model_wishes.usual_aligners", lambda: {"en": "lab/wav2vec2-demo"})


def test_sentence_data_comes_with_an_aligner_and_nothing_but_the_data_stays(
    hub: Hub, models: Call, machine: Path, sentences: dict[str, bytes], only_sentences: None
) -> None:
    said = fetched(models, VOICE, "--languages", "en")

    assert said.code == 0, said.err
    assert [row["name"] for row in said.answer["models"]] == [VOICE, "lab/wav2vec2-demo", "nltk_data"]
    assert held(machine / "m" / "nltk_data") == {f"tokenizers/{name}": data for name, data in sentences.items()}
    assert models("verify", "--bundle", "m").code == 0
    assert fetched(models, VOICE, "--languages", "en").answer["models"][2]["standing"] == "kept"


def test_sentence_data_with_a_wrong_byte_is_thrown_away(
    hub: Hub, models: Call, machine: Path, sentences: dict[str, bytes], only_sentences: None
) -> None:
    hub.wrong["punkt_tab.zip"] = 1
    said = fetched(models, VOICE, "--languages", "en")
    assert (said.code, "sha256 mismatch" in said.err) == (75, True), said.err
    assert not (machine / "m" / "nltk_data").exists()
    assert "nltk_data" in next(row["name"] for row in models("verify", "--bundle", "m").answer if not row["harmless"])

    assert fetched(models, VOICE, "--languages", "en").code == 0


@pytest.mark.usefixtures("only_sentences")
def test_a_fetch_that_is_killed_takes_its_child_along_and_ends_the_same_when_it_is_run_again(
    hub: Hub, models: Call, held_fetch: Fetch, machine: Path, sentences: dict[str, bytes]
) -> None:
    hub.hold["punkt_tab.zip"] = 100
    patched = (
        "import hpc.model_wishes as w, hpc.model_fetch as f; w.usual_aligners = lambda: {'en': 'lab/wav2vec2-demo'}"
    )
    before = f"{patched}; f.CHILD = {model_fetch.CHILD!r}"
    process = held_fetch(VOICE, "--languages", "en", "--to", str(machine / "m"), before=before)
    [child] = children(process.pid)
    process.kill()
    process.wait()
    while is_alive(child):
        os.sched_yield()
    hub.release.set()

    said = fetched(models, VOICE, "--languages", "en")

    assert said.code == 0, said.err
    assert [row["standing"] for row in said.answer["models"]] == ["kept", "kept", "fetched"]
    assert held(machine / "m" / "nltk_data") == {f"tokenizers/{name}": data for name, data in sentences.items()}
    assert models("verify", "--bundle", "m").code == 0


def children(parent: int) -> list[int]:
    tasks = Path(f"/proc/{parent}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_no_network_for_nltk_is_a_reason_to_try_again(
    hub: Hub, models: Call, sentences: dict[str, bytes], only_sentences: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    *command, program = model_fetch.CHILD
    monkeypatch.setattr(model_fetch, "CHILD", (*command, program.replace(hub.url, "http://127.0.0.1:9")))
    said = fetched(models, VOICE, "--languages", "en")
    assert (said.code, "NLTK" in said.err) == (75, True), said.err


def test_a_child_that_dies_without_a_word_is_a_reason_to_try_again(
    hub: Hub, models: Call, only_sentences: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_fetch, "CHILD", (sys.executable, "-c", "import os; os.abort()"))
    said = fetched(models, VOICE, "--languages", "en")
    assert (said.code, "without a word" in said.err) == (75, True), said.err


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("weights") / FILE
    program = TINY + SAVED
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)
    return path.read_bytes()


@pytest.mark.speech
def test_torchaudios_aligner_comes_by_torchaudios_own_download_and_is_locked(
    hub: Hub, models: Call, machine: Path, weights: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, FROM_LOOPBACK, hub)
    hub.pages[f"/{FILE}"] = weights

    said = fetched(models, "WAV2VEC2_ASR_BASE_960H", "--no-align")

    assert said.code == 0, said.err
    assert said.answer["models"][0]["languages"] == ["en"]
    assert (machine / "m" / FILE).read_bytes() == weights
    assert (machine / "m" / f"{FILE}.digests.json").is_file()
    assert models("verify", "--bundle", "m").code == 0


@pytest.mark.speech
@pytest.mark.parametrize("harm", ["cut short", "not weights", "a program"])
def test_what_torch_cannot_load_as_weights_alone_is_thrown_away(
    hub: Hub, models: Call, machine: Path, *, weights: bytes, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    use(monkeypatch, FROM_LOOPBACK, hub)
    hub.pages[f"/{FILE}"] = {
        "cut short": weights[: len(weights) // 2],
        "not weights": b"<html>",
        "a program": b"cposix\nsystem\n(S'touch ran'\ntR.",
    }[harm]
    said = fetched(models, "WAV2VEC2_ASR_BASE_960H", "--no-align")
    assert (said.code, "thrown away" in said.err) == (75, True), said.err
    assert not (machine / "ran").exists()
    assert not (machine / "m" / FILE).exists()
    hub.pages[f"/{FILE}"] = weights
    assert fetched(models, "WAV2VEC2_ASR_BASE_960H", "--no-align").code == 0
