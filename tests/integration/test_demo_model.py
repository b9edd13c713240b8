"""The shipped model through unmodified whisperx: right words at the right times, and no words where nobody speaks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest
from numpy.typing import NDArray

from hpc.demo.codecs import Codec, decode, encode
from hpc.demo.sounds import TIMBRES, hum, music, noise
from hpc.demo.speech import Speaker, Utterance

MODELS = Path(__file__).resolve().parents[2] / "models" / "demo"
CHUNK_SIZE = 8  # seconds; as the demo's settings have it
SENTENCES = (
    "station three channel six please stop over",
    "today wednesday march twenty one",
    "unit four two report north street",
    "go left and right",
    "five hundred thirty eight copy",
)
VOICES = ("gmw/en-US", "gmw/en-US+f2", "gmw/en-GB-scotland+m1")

pytestmark = [
    pytest.mark.speech,
    # what the libraries that we cannot change say of themselves and of each other
]

Samples = NDArray[np.float32]


class Ear:
    """whisperx with the two shipped directories."""

    def __init__(self) -> None:
        import torch
        import whisperx

        torch.set_num_threads(1)
        self.whisperx = whisperx
        self.model = whisperx.load_model(str(MODELS / "asr.en"), "cpu", compute_type="int8", threads=1)
        self.aligner, self.about = whisperx.load_align_model(
            "en", "cpu", model_name=str(MODELS / "aligner"), model_cache_only=True
        )

    def segments(self, audio: Samples) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.model.transcribe(audio, batch_size=8, chunk_size=CHUNK_SIZE)["segments"]
        return found

    def text(self, audio: Samples) -> str:
        return " ".join(segment["text"] for segment in self.segments(audio)).strip()

    def words(self, audio: Samples) -> list[dict[str, Any]]:
        aligned = self.whisperx.align(self.segments(audio), self.aligner, self.about, audio, "cpu")
        found: list[dict[str, Any]] = aligned["word_segments"]
        return found


@pytest.fixture(scope="module")
def ear() -> Iterator[Ear]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("TRANSFORMERS_OFFLINE", "1")
        patch.setenv("PYANNOTE_METRICS_ENABLED", "0")
        patch.setenv("OMP_NUM_THREADS", "1")
        # NLTK asks the environment as it is imported, which another test of this process may have done.
        patch.setattr("nltk.data.path", [str(MODELS / "nltk_data")])
        yield Ear()


@pytest.fixture(scope="module")
def speaker() -> Speaker:
    return Speaker()


def recording(speaker: Speaker, voice: str) -> Utterance:
    """The sentences with a second of silence around each."""
    parts: list[NDArray[np.int16]] = [np.zeros(16_000, np.int16)]
    words: list[tuple[str, float, float]] = []
    for sentence in SENTENCES:
        now = sum(map(len, parts)) / 16_000
        spoken = speaker.say(sentence + ".", voice=voice)
        words += [(word, now + start, now + end) for word, start, end in spoken.words]
        parts += [spoken.pcm, np.zeros(16_000, np.int16)]
    return Utterance(np.concatenate(parts), tuple(words))


def plain(text: str) -> str:
    return " ".join(re.sub(r"[^a-z ]", " ", text.lower()).split())


@pytest.mark.parametrize("codec", ["wav", "mp3", "opus"])
def test_at_most_two_words_in_a_hundred_are_wrong(ear: Ear, speaker: Speaker, codec: Codec) -> None:
    said, heard = [], []
    for voice in VOICES:
        spoken = recording(speaker, voice)
        said.append(" ".join(word for word, _, _ in spoken.words))
        heard.append(plain(ear.text(decode(encode(spoken.pcm, codec=codec)))))
    assert jiwer.wer(said, heard) <= 0.02


def test_words_are_where_they_were_spoken(ear: Ear, speaker: Speaker) -> None:
    spoken = recording(speaker, VOICES[0])
    found = ear.words((spoken.pcm / 32768).astype(np.float32))
    assert [plain(word["word"]) for word in found] == [word for word, _, _ in spoken.words]
    off = [
        abs(edge - truth)
        for word, (_, start, end) in zip(found, spoken.words, strict=True)
        for edge, truth in ((word["start"], start), (word["end"], end))
    ]
    assert float(np.median(off)) <= 0.03
    assert float(np.quantile(off, 0.9)) <= 0.1
    assert all(first["end"] <= second["start"] + 0.02 for first, second in pairwise(found))


def test_a_full_stop_ends_a_segment_when_aligned(ear: Ear, speaker: Speaker) -> None:
    audio = (recording(speaker, VOICES[0]).pcm / 32768).astype(np.float32)
    aligned = ear.whisperx.align(ear.segments(audio), ear.aligner, ear.about, audio, "cpu")
    assert len(aligned["segments"]) == len(SENTENCES)


def test_no_text_where_there_is_only_silence_or_noise(ear: Ear) -> None:
    rng = np.random.default_rng(1)
    quiet = np.float32(0.05)
    sounds = [np.zeros(160_000, np.float32), noise(rng, 160_000) * quiet, noise(rng, 160_000, colour="brown") * quiet]
    assert [ear.text(sound) for sound in (*sounds, hum(rng, 160_000) * quiet)] == ["", "", "", ""]


@pytest.mark.parametrize("timbre", TIMBRES)
def test_no_text_where_there_is_only_music(ear: Ear, timbre: str) -> None:
    rng = np.random.default_rng(2)
    assert ear.text(music(rng, 240_000, timbre=timbre) * np.float32(0.05)) == ""


def test_the_digests_are_those_of_the_files() -> None:
    import hashlib
    import json

    for name in ("asr.en", "aligner"):
        locked = json.loads((MODELS / name / "digests.json").read_text())["files"]
        present = {path.name: path.read_bytes() for path in (MODELS / name).iterdir() if path.name != "digests.json"}
        assert {
            file: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for file, data in present.items()
        } == locked


def test_all_weights_together_are_small_enough_to_keep_in_the_repository() -> None:
    assert sum(path.stat().st_size for path in MODELS.rglob("*") if path.is_file()) <= 8_000_000
