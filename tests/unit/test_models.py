"""Models are found by name or directory, held to their digests, and never fetched."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from hpc import models
from hpc.engine_options import EngineOptions
from hpc.errors import ModelChanged, ModelMissing
from hpc.models import Kind, Model, Trouble, find_model, list_models, lock, measure, resolve, search_folders, verify

ASR_FILES = ("model.bin", "config.json", "vocabulary.json", "tokenizer.json", "preprocessor_config.json")
ALIGNER_FILES = ("model.safetensors", "config.json", "vocab.json", "preprocessor_config.json")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home without a single model of its own."""
    for name in ("DAYSCRIBE_MODELS", "HF_HOME", "HF_HUB_CACHE", "TORCH_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def make(folder: Path, files: tuple[str, ...], *, vocabulary: str = '["", "a"]') -> Path:
    folder.mkdir(parents=True)
    for name in files:
        (folder / name).write_text(f"{name} of {folder.name}")
    if "vocabulary.json" in files:
        (folder / "vocabulary.json").write_text(vocabulary)
    return folder


def speech(folder: Path, name: str = "small") -> Model:
    return find_model(str(make(folder / name, ASR_FILES)), Kind.ASR)


def troubles(model: Model) -> list[tuple[Trouble, str]]:
    return [(finding.trouble, finding.file.name) for finding in verify(model)]


def test_a_name_is_looked_for_in_the_folders_of_the_settings_then_of_the_environment_then_among_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    monkeypatch.setenv("DAYSCRIBE_MODELS", str(second))
    assert search_folders([first])[:2] == (first, second)
    make(second / "small", ASR_FILES)
    assert find_model("small", Kind.ASR, [first]).path == second / "small"
    make(first / "small", ASR_FILES)
    assert find_model("small", Kind.ASR, [first]).path == first / "small"


def test_the_shipped_demo_models_are_found_locked_and_whole() -> None:
    for name, kind in (("demo/asr.en", Kind.ASR), ("demo/aligner", Kind.ALIGNER)):
        model = find_model(name, kind)
        assert model.locked
        assert verify(model) == []


def test_a_directory_is_taken_as_it_is(tmp_path: Path) -> None:
    assert find_model(str(make(tmp_path / "mine", ASR_FILES)), Kind.ASR).path == tmp_path / "mine"


@pytest.mark.parametrize("marked", [True, False])
def test_a_name_finds_the_files_that_hugging_faces_tools_keep(tmp_path: Path, marked: bool) -> None:
    cached = tmp_path / "cache" / "huggingface" / "hub" / "models--Systran--faster-whisper-large-v3"
    snapshot = make(cached / "snapshots" / "abc123", ASR_FILES)
    if marked:
        (cached / "refs").mkdir()
        (cached / "refs" / "main").write_text("abc123\n")
        make(cached / "snapshots" / "newer", ASR_FILES)
    assert find_model("large-v3", Kind.ASR).path == snapshot
    assert "Systran/faster-whisper-large-v3" in [model.name for model in list_models()]


def test_a_missing_model_is_an_error_that_says_where_it_was_looked_for_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing) as caught:
        find_model("large-v3", Kind.ASR, [tmp_path])
    said = str(caught.value)
    assert "'large-v3' is not on this machine" in said
    assert str(tmp_path) in said
    assert "dayscribe models fetch large-v3" in said
    assert caught.value.exit_code == 78


def test_the_list_names_kinds_sizes_and_locks_without_reading_a_model(tmp_path: Path) -> None:
    make(tmp_path / "a" / "small", ASR_FILES)
    make(tmp_path / "a" / "sub" / "aligner", ALIGNER_FILES)
    (tmp_path / "a" / "notes").mkdir()
    listed = [model for model in list_models([tmp_path / "a"]) if model.path.is_relative_to(tmp_path)]
    assert [(model.name, model.kind, model.locked) for model in listed] == [
        ("sub/aligner", Kind.ALIGNER, False),
        ("small", Kind.ASR, False),
    ]
    assert listed[1].size == sum((tmp_path / "a" / "small" / name).stat().st_size for name in ASR_FILES)
    assert listed[1].digest == ""


def test_what_cannot_be_read_is_no_model_and_breaks_no_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "closed", ASR_FILES)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    monkeypatch.setattr(os, "access", lambda path, _: "closed" not in str(path))
    assert not [model for model in list_models([tmp_path]) if model.path.is_relative_to(tmp_path)]


def test_an_unlocked_model_is_told_of_and_used(tmp_path: Path) -> None:
    model = speech(tmp_path)
    (finding,) = verify(model)
    assert (finding.trouble, finding.harmless) == (Trouble.UNLOCKED, True)
    assert models.ensure(model).digest == measure(model).digest != ""


def test_a_locked_model_is_whole_until_a_byte_changes(tmp_path: Path) -> None:
    model = speech(tmp_path)
    target = lock(model)
    locked = find_model(str(model.path), Kind.ASR)
    assert verify(locked) == []
    assert (locked.locked, locked.digest) == (True, measure(model).digest)
    weights = model.path / "model.bin"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    assert troubles(locked) == [(Trouble.CHANGED, "model.bin")]
    with pytest.raises(ModelChanged, match=r"model\.bin was changed: found \d+ bytes.*locked \d+ bytes.*models lock"):
        models.ensure(locked)
    assert json.loads(target.read_text())["files"]["config.json"].keys() == {"sha256", "size"}


def test_a_missing_file_is_named_with_what_it_should_be(tmp_path: Path) -> None:
    model = speech(tmp_path)
    lock(model)
    (model.path / "model.bin").unlink()
    assert troubles(model) == [(Trouble.MISSING, "model.bin"), (Trouble.MISSING, "model.bin")]
    with pytest.raises(ModelMissing, match=r"model\.bin is missing"):
        models.ensure(model)


@pytest.mark.parametrize("name", ASR_FILES)
def test_each_of_the_five_files_of_a_speech_model_is_required(tmp_path: Path, name: str) -> None:
    model = speech(tmp_path)
    (model.path / name).unlink()
    with pytest.raises(ModelMissing, match=name):
        models.ensure(model)


@pytest.mark.parametrize("name", ALIGNER_FILES)
def test_each_of_the_files_of_an_aligner_is_required(tmp_path: Path, name: str) -> None:
    model = find_model(str(make(tmp_path / "aligner", ALIGNER_FILES)), Kind.ALIGNER)
    (model.path / name).unlink()
    with pytest.raises(ModelMissing, match=name):
        models.ensure(model)


@pytest.mark.parametrize(("tokens", "named"), [(51864, False), (51865, False), (51866, True)])
@pytest.mark.parametrize("vocabulary", ["vocabulary.json", "vocabulary.txt"])
def test_only_vocabularies_of_before_large_v3_need_no_word_about_their_mel_bands(
    tmp_path: Path, tokens: int, named: bool, vocabulary: str
) -> None:
    model = speech(tmp_path)
    (model.path / "preprocessor_config.json").unlink()
    (model.path / "vocabulary.json").unlink()
    words = [f"w{at}" for at in range(tokens)]
    text = json.dumps(words) if vocabulary.endswith("json") else "".join(f"{word}\n" for word in words)
    (model.path / vocabulary).write_text(text)
    assert [finding.file.name for finding in verify(model) if not finding.harmless] == (
        ["preprocessor_config.json"] if named else []
    )


def test_where_a_model_was_fetched_from_is_in_its_lock_until_somebody_locks_it_anew(tmp_path: Path) -> None:
    model = speech(tmp_path)
    lock(model, repository="lab/small", revision="c0ffee")
    known = find_model(str(model.path), Kind.ASR)
    assert (known.repository, known.revision) == ("lab/small", "c0ffee")
    lock(model)
    assert find_model(str(model.path), Kind.ASR).revision == ""


def test_an_aligner_says_which_languages_whisperx_takes_it_for(tmp_path: Path) -> None:
    make(tmp_path / "jonatasgrosman" / "wav2vec2-large-xlsr-53-dutch", ALIGNER_FILES)
    make(tmp_path / "wav2vec2-large-xlsr-53-polish", ALIGNER_FILES)
    make(tmp_path / "mine", ALIGNER_FILES)
    (tmp_path / "wav2vec2_fairseq_base_ls960_asr_ls960.pth").touch()
    listed = {model.name: models.languages_of(model) for model in list_models([tmp_path])}
    assert listed["jonatasgrosman/wav2vec2-large-xlsr-53-dutch"] == ("nl",)
    assert listed["wav2vec2-large-xlsr-53-polish"] == ("pl",)
    assert (listed["mine"], listed["WAV2VEC2_ASR_BASE_960H"]) == ((), ("en",))


def test_what_is_on_its_way_is_no_model_yet(tmp_path: Path) -> None:
    make(tmp_path / ".fetching" / "half", ASR_FILES)
    assert not [model for model in list_models([tmp_path]) if model.path.is_relative_to(tmp_path)]


def test_an_extra_file_that_would_be_loaded_is_refused_and_a_card_is_not(tmp_path: Path) -> None:
    model = speech(tmp_path)
    lock(model)
    (model.path / "README.md").write_text("About this model.")
    assert verify(model) == []
    (model.path / "added_tokens.json").write_text("{}")
    assert troubles(model) == [(Trouble.EXTRA, "added_tokens.json")]
    with pytest.raises(ModelChanged, match="would be loaded too"):
        models.ensure(model)


def test_a_lock_that_is_not_a_lock_is_refused(tmp_path: Path) -> None:
    model = speech(tmp_path)
    (model.path / "digests.json").write_text("<html>")
    with pytest.raises(ModelChanged, match=r"digests\.json is not a list of digests"):
        verify(model)


def test_two_copies_have_one_digest_and_another_name_inside_has_another(tmp_path: Path) -> None:
    one, two = speech(tmp_path / "a"), speech(tmp_path / "b")
    assert measure(one).digest == measure(two).digest
    (two.path / "config.json").rename(two.path / "config2.json")
    assert measure(one).digest != measure(two).digest


def test_a_remembered_hash_is_used_until_the_files_time_or_size_changes(tmp_path: Path) -> None:
    model, memory = speech(tmp_path), tmp_path / "memory.json"
    before = measure(model, cache=memory)
    path = model.path / "model.bin"
    known = json.loads(memory.read_text())
    known[str(path)][-1] = "0" * 64
    memory.write_text(json.dumps(known))
    assert measure(model, cache=memory).digest != before.digest, "the memory was not asked"
    assert measure(model).digest == before.digest, "a full look believed the memory"
    os.utime(path, ns=(1, 1))
    assert measure(model, cache=memory).digest == before.digest


def test_a_damaged_or_unwritable_memory_costs_time_and_nothing_else(tmp_path: Path) -> None:
    model, memory = speech(tmp_path), tmp_path / "memory.json"
    memory.write_text("not json")
    assert measure(model, cache=memory) == measure(model)
    assert measure(model, cache=Path("/proc/nowhere/memory.json")) == measure(model)


def test_options_are_resolved_to_directories_with_their_models_measured(tmp_path: Path) -> None:
    path, aligner = make(tmp_path / "m" / "tiny.en", ASR_FILES), make(tmp_path / "m" / "al", ALIGNER_FILES)
    ready, found = resolve(EngineOptions(model="tiny.en", aligner="al", device="cpu"), [tmp_path / "m"])
    assert (ready.model_path, ready.aligner_paths) == (str(path), (("en", str(aligner)),))
    assert (ready.device, ready.compute_type) == ("cpu", "int8")
    assert [model.name for model in found] == ["tiny.en", "al"]
    assert all(model.digest for model in found)
    assert models.hash_memory().is_file()


def test_sentence_data_beside_the_models_is_found(tmp_path: Path) -> None:
    make(tmp_path / "m" / "tiny.en", ASR_FILES)
    make(tmp_path / "m" / "al", ALIGNER_FILES)
    make(tmp_path / "m" / "nltk_data" / "tokenizers" / "punkt_tab" / "english", ("collocations.tab",))
    ready, found = resolve(EngineOptions(model="tiny.en", aligner="al", device="cpu"), [tmp_path / "m"])
    assert ready.sentences_path == str(tmp_path / "m" / "nltk_data")
    assert found[-1].kind is Kind.SENTENCES


def test_a_language_that_is_asked_for_must_have_its_aligner(tmp_path: Path) -> None:
    make(tmp_path / "m" / "big", ASR_FILES)
    options = EngineOptions(model="big", language="nl", device="cpu")
    with pytest.raises(ModelMissing, match=r"aligner 'jonatasgrosman/wav2vec2-large-xlsr-53-dutch'.*engine\.align"):
        resolve(options, [tmp_path / "m"])
    dutch = make(tmp_path / "m" / "wav2vec2-large-xlsr-53-dutch", ALIGNER_FILES)
    assert resolve(options, [tmp_path / "m"])[0].aligner_paths == (("nl", str(dutch)),)


def test_a_language_that_whisperx_cannot_align_is_transcribed_without(tmp_path: Path) -> None:
    make(tmp_path / "m" / "big", ASR_FILES)
    ready, _ = resolve(EngineOptions(model="big", language="sw", device="cpu"), [tmp_path / "m"])
    assert ready.aligner_paths == ()


def test_any_language_uses_every_aligner_there_is_and_needs_at_least_one(tmp_path: Path) -> None:
    make(tmp_path / "m" / "big", ASR_FILES)
    with pytest.raises(ModelMissing, match="models fetch WAV2VEC2_ASR_BASE_960H"):
        resolve(EngineOptions(model="big", device="cpu"), [tmp_path / "m"])
    dutch = make(tmp_path / "m" / "wav2vec2-large-xlsr-53-dutch", ALIGNER_FILES)
    english = tmp_path / "m" / "wav2vec2_fairseq_base_ls960_asr_ls960.pth"
    english.write_bytes(b"weights")
    ready, found = resolve(EngineOptions(model="big", device="cpu"), [tmp_path / "m"])
    assert ready.aligner_paths == (("en", str(english)), ("nl", str(dutch)))
    assert {model.kind for model in found} == {Kind.ASR, Kind.ALIGNER}


def test_a_single_file_aligner_is_locked_beside_itself(tmp_path: Path) -> None:
    english = tmp_path / "wav2vec2_fairseq_base_ls960_asr_ls960.pth"
    english.write_bytes(b"weights")
    model = find_model("WAV2VEC2_ASR_BASE_960H", Kind.ALIGNER, [tmp_path])
    assert lock(model) == tmp_path / "wav2vec2_fairseq_base_ls960_asr_ls960.pth.digests.json"
    assert verify(model) == []
    english.write_bytes(b"Weights")
    assert troubles(model) == [(Trouble.CHANGED, english.name)]


@pytest.mark.parametrize("options", [EngineOptions(align=False), EngineOptions(task="translate")])
def test_no_aligner_is_looked_for_where_nothing_is_aligned(tmp_path: Path, options: EngineOptions) -> None:
    make(tmp_path / "large-v3", ASR_FILES)
    assert resolve(options, [tmp_path])[0].aligner_paths == ()


def test_an_english_only_vocabulary_is_recognised_without_its_name(tmp_path: Path) -> None:
    make(tmp_path / "mine", ASR_FILES, vocabulary='["a", "b"]')
    english = make(tmp_path / "al", ALIGNER_FILES)
    make(tmp_path / "wav2vec2-large-xlsr-53-dutch", ALIGNER_FILES)
    ready, _ = resolve(EngineOptions(model="mine", aligner="al", device="cpu"), [tmp_path])
    assert ready.aligner_paths == (("en", str(english)),)
