"""The random model is fit to test with: WhisperX loads it, and what it says hangs on all that it hears."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hpc.model import SAMPLE_RATE, Audio
from hpc.model_lock import LOCK, Kind, describe, verify

Build = Callable[..., Path]
Samples = NDArray[np.float32]
TINY = ("--width", "32", "--heads", "2", "--encoder-layers", "1", "--decoder-layers", "1")
# large-v3's, from its own tokenizer
IDS = {
    " ": 220, "": 50256, "<|endoftext|>": 50257, "<|startoftranscript|>": 50258, "<|en|>": 50259, "<|zh|>": 50260,
    "<|su|>": 50357, "<|yue|>": 50358, "<|translate|>": 50359, "<|transcribe|>": 50360, "<|startoflm|>": 50361,
    "<|startofprev|>": 50362, "<|nospeech|>": 50363, "<|notimestamps|>": 50364, "<|0.00|>": 50365, "<|30.00|>": 51865,
}  # fmt: skip


@dataclass
class Counted:
    """CTranslate2's model, and how many tokens it wrote for each window."""

    model: Any
    lengths: list[int] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def generate(self, *arguments: Any, **named: Any) -> Any:
        answers = self.model.generate(*arguments, **named)
        self.lengths += [len(answer.sequences_ids[0]) for answer in answers]
        return answers


@dataclass
class Heard:
    """What unmodified WhisperX makes of the clips."""

    pipeline: Any
    counted: Counted
    answers: list[dict[str, Any]] = field(default_factory=list)

    def text(self, sound: Samples) -> str:
        return _text(self.pipeline.transcribe(sound, batch_size=8))


def _text(answer: dict[str, Any]) -> str:
    return "".join(segment["text"] for segment in answer["segments"])


def _samples(clip: Audio) -> Samples:
    return clip.pcm.astype(np.float32) / 32768


@pytest.fixture(scope="module")
def heard(random_model: Path, speech_clips: list[Audio]) -> Iterator[Heard]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "OMP_NUM_THREADS"):
            patch.setenv(name, "1")
        patch.setenv("PYANNOTE_METRICS_ENABLED", "0")
        import torch
        import whisperx

        torch.set_num_threads(1)
        pipeline = whisperx.load_model(str(random_model), "cpu", local_files_only=True, threads=1)
        pipeline.model.model = counted = Counted(pipeline.model.model)
        answers = [pipeline.transcribe(_samples(clip), batch_size=8) for clip in speech_clips]
        yield Heard(pipeline, counted, answers)


def test_it_has_large_v3s_tokens_in_their_places(random_model: Path) -> None:
    vocabulary = json.loads((random_model / "vocabulary.json").read_text())
    assert len(vocabulary) == len(set(vocabulary)) == 51_866
    assert {token: vocabulary.index(token.replace(" ", "Ġ")) for token in IDS} == IDS
    config = json.loads((random_model / "config.json").read_text())
    assert config["lang_ids"] == list(range(50259, 50359))
    assert {50258, *range(50359, 50364)} < set(config["suppress_ids"])
    assert config["suppress_ids_begin"] == [220, 50257]
    assert json.loads((random_model / "preprocessor_config.json").read_text())["feature_size"] == 128


def test_its_tokenizer_and_its_vocabulary_are_one_and_can_write_anything(random_model: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(random_model / "tokenizer.json"))
    vocabulary = json.loads((random_model / "vocabulary.json").read_text())
    assert [tokenizer.id_to_token(token) for token in range(tokenizer.get_vocab_size())] == vocabulary
    for text in ("Hello world, it's 42 o'clock!", " naïve café 日本語 テスト 한국어", "Привет مرحبا 🙂", "\0\r\n\x7f"):
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids) == text


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(build: Build, tmp_path: Path) -> None:
    first, again, other = (build(tmp_path / str(at), *TINY, "--seed", str(seed)) for at, seed in enumerate((7, 7, 8)))
    digests = [json.loads((folder / LOCK).read_text())["files"] for folder in (first, again, other)]
    assert digests[0] == digests[1]
    assert {name for name in digests[0] if digests[0][name] != digests[2][name]} == {"model.bin"}


def test_a_width_that_its_heads_cannot_share_is_refused(build: Build, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="The width is 100; it is a multiple of the heads, of which there are 3"):
        build(tmp_path / "odd", "--width", "100", "--heads", "3")
    assert not (tmp_path / "odd").exists()


def test_its_files_are_all_that_a_model_needs_and_are_locked(random_model: Path, tmp_path: Path) -> None:
    assert verify(describe("random", random_model, Kind.ASR)) == []
    copy = shutil.copytree(random_model, tmp_path / "copy")
    weights = (copy / "model.bin").read_bytes()
    (copy / "model.bin").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    assert [finding.file.name for finding in verify(describe("copy", copy, Kind.ASR))] == ["model.bin"]


def test_it_hears_several_languages(heard: Heard) -> None:
    spoken = [answer["language"] for answer in heard.answers if answer["segments"]]
    assert len(set(spoken)) >= 3
    assert max(map(spoken.count, spoken)) <= 0.8 * len(spoken)


def test_it_says_something_else_in_every_window(heard: Heard, speech_clips: list[Audio]) -> None:
    said = [segment["text"] for answer in heard.answers for segment in answer["segments"]]
    assert len(said) > 32
    assert all(text.strip() for text in said)
    assert len(set(said)) == len(said)
    # not only at the end: what two windows have in common is no rule
    assert len({text[:20] for text in said}) >= 0.5 * len(said)


def test_a_window_has_about_fifty_tokens_and_hardly_one_has_many_more(heard: Heard) -> None:
    lengths = np.array(heard.counted.lengths)
    assert 40 <= lengths.mean() <= 65
    assert np.mean((lengths >= 20) & (lengths <= 100)) >= 0.95
    assert lengths.max() < 224  # WhisperX's limit: there a model that finds no end would stop
    assert lengths.std() >= 5


def test_the_same_sound_has_the_same_text_and_a_little_later_another(heard: Heard, speech_clips: list[Audio]) -> None:
    delay = np.zeros(SAMPLE_RATE // 5, np.float32)
    some = [
        (_samples(clip), _text(answer))
        for clip, answer in zip(speech_clips, heard.answers, strict=True)
        if answer["segments"] and clip.duration < 10
    ][:6]
    assert [heard.text(sound) for sound, _ in some] == [text for _, text in some]
    assert all(heard.text(np.concatenate([delay, sound])) != text for sound, text in some)


def test_speech_of_any_length_has_text_and_silence_noise_and_hum_have_none(
    heard: Heard, speech_clips: list[Audio]
) -> None:
    without = [clip for clip, answer in zip(speech_clips, heard.answers, strict=True) if not answer["segments"]]
    assert len(speech_clips) == 40
    assert len(without) == 8
    assert sum(not clip.pcm.any() for clip in without) == 3
