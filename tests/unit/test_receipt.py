"""The run key digests what changes the words and nothing else; the receipt says everything."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc import receipt
from hpc.engine_options import EngineOptions
from hpc.model import Run
from hpc.model_lock import Kind, Model
from hpc.receipt import make_run

OPTIONS = EngineOptions(
    model="demo/asr.en",
    device="cpu",
    compute_type="int8",
    model_path="/m/asr.en",
    aligner_paths=(("de", "/m/german"), ("en", "/m/english")),
)
SPEECH = Model("demo/asr.en", Path("/m/asr.en"), Kind.ASR, "a" * 64)
ENGLISH = Model("english", Path("/m/english"), Kind.ALIGNER, "b" * 64)
GERMAN = Model("german", Path("/m/german"), Kind.ALIGNER, "c" * 64)
SENTENCES = Model("nltk_data", Path("/m/nltk_data"), Kind.SENTENCES, "d" * 64)
MODELS = (SPEECH, ENGLISH, GERMAN)


def run(options: EngineOptions = OPTIONS, models: tuple[Model, ...] = MODELS, **said: Any) -> Run:
    told: dict[str, Any] = {"engine": "whisperx", "who": "ada", "why": "a day", "image_digest": None} | said
    return make_run(options, models, **told)


def test_the_key_is_sixteen_bytes_and_the_receipt_is_plain_json() -> None:
    made = run()
    assert len(made.key) == 16
    assert json.loads(json.dumps(made.receipt)) == made.receipt


def test_the_receipt_says_what_made_the_words_and_who_wanted_them() -> None:
    said = run(image_digest="sha256:1234").receipt
    assert (said["engine"], said["who"], said["why"], said["image"]) == ("whisperx", "ada", "a day", "sha256:1234")
    assert said["options"]["beam_size"] == 5
    assert said["aligners"] == {"de": "c" * 64, "en": "b" * 64}
    assert {model["name"]: model["digest"] for model in said["models"]}["demo/asr.en"] == "a" * 64
    assert set(said["libraries"]) >= {"whisperx", "ctranslate2", "faster-whisper", "torch", "pyannote-audio"}
    assert len(said["code"]["digest"]) == 64


def test_the_receipt_holds_no_path_and_no_host() -> None:
    assert "/m/" not in json.dumps(run().receipt)


irrelevant = st.fixed_dictionaries(
    {},
    optional={
        "batch_size": st.integers(1, 4096),
        "threads": st.integers(1, 64),
        "device": st.sampled_from(["cpu", "cuda", "auto"]),
        "model_path": st.text(max_size=20),
        "trouble": st.just(("slow:1",)),
    },
)


@given(irrelevant, st.text(), st.text(), st.none() | st.text())
def test_where_by_whom_and_how_fast_the_work_is_done_does_not_change_the_key(
    changes: dict[str, Any], who: str, why: str, image: str | None
) -> None:
    assert run(replace(OPTIONS, **changes), who=who, why=why, image_digest=image).key == run().key


def test_the_order_and_the_names_of_models_do_not_change_the_key() -> None:
    assert run(models=MODELS[::-1]).key == run().key
    moved = replace(ENGLISH, path=Path("/elsewhere"), name="another-name")
    paths = (("de", "/m/german"), ("en", "/elsewhere"))
    assert run(replace(OPTIONS, aligner_paths=paths), (SPEECH, moved, GERMAN)).key == run().key


RELEVANT: dict[str, Any] = {
    "language": "de",
    "task": "translate",
    "compute_type": "float16",
    "beam_size": 1,
    "vad_method": "silero",
    "vad_onset": 0.4,
    "vad_offset": 0.3,
    "chunk_size": 8,
    "hotwords": "Zürich",
    "initial_prompt": "Radio.",
    "align": False,
    "detect_on": "speech",
    "second_decode": True,
    "no_speech_threshold": 0.6,
}


@pytest.mark.parametrize("name", RELEVANT)
def test_every_option_that_changes_the_words_changes_the_key(name: str) -> None:
    assert run(replace(OPTIONS, **{name: RELEVANT[name]})).key != run().key


def test_an_option_is_either_known_to_change_the_words_or_known_not_to() -> None:
    known = set(RELEVANT) | set(receipt._NO_CHANGE)
    assert {field.name for field in fields(EngineOptions)} == known


@pytest.mark.parametrize("which", [0, 1, 2])
def test_another_digest_of_any_model_changes_the_key(which: int) -> None:
    changed = tuple(replace(model, digest="e" * 64) if at == which else model for at, model in enumerate(MODELS))
    assert run(models=changed).key != run().key


def test_sentence_data_changes_the_key() -> None:
    assert run(models=(*MODELS, SENTENCES)).key != run().key


def test_the_same_two_aligners_for_each_others_language_change_the_key() -> None:
    swapped = replace(OPTIONS, aligner_paths=(("de", "/m/english"), ("en", "/m/german")))
    assert run(swapped).key != run().key


def test_another_engine_or_library_version_changes_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = run().key
    assert run(engine="echo").key != before
    for library in ("whisperx", "ctranslate2", "faster-whisper", "torch", "pyannote-audio", "transformers"):
        with monkeypatch.context() as patch:
            patch.setattr(receipt, "_version", lambda name, new=library: "99" if name == new else "1")
            newer = run().key
            patch.setattr(receipt, "_version", lambda _: "1")
            assert run().key != newer


def test_other_code_of_ours_does_not_change_the_key_but_shows_in_the_receipt(monkeypatch: pytest.MonkeyPatch) -> None:
    before = run()
    monkeypatch.setattr(receipt, "code_digest", lambda: "f" * 64)
    after = run()
    assert after.key == before.key
    assert after.receipt["code"]["digest"] == "f" * 64
