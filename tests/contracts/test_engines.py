"""The law of every engine: answers in order, each from its own recording alone, and nothing carried to the next."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import jiwer
import numpy as np
import pytest
from numpy.typing import NDArray

from db.states import FailureClass
from hpc.demo.speech import TRAINED_VOICES, Speaker
from hpc.engine_options import EngineOptions
from hpc.engines.echo import EchoEngine
from hpc.engines.whisperx.batched import BatchedEngine
from hpc.engines.whisperx.per_file import PerFileEngine
from hpc.hearing import hear
from hpc.model import SAMPLE_RATE, Audio, Failure, Recording, Transcript
from hpc.models import resolve
from hpc.ports import Engine

POISON = b"poison.mp3"
SENTENCES = (
    "unit seven copy north street.",
    "go left and right.",
    "today monday may twenty three.",
    "station nine channel two please report over.",
    "yes unit four red road.",
    "friday morning seven hundred.",
)


@dataclass
class Subject:
    """An engine, how many shuffles it is worth, and whether it can hear."""

    engine: Engine
    shuffles: int
    hears: bool


def _echo(monkeypatch: pytest.MonkeyPatch) -> Subject:
    return Subject(EchoEngine(EngineOptions(trouble=(f"raise:{POISON.decode()}",))), shuffles=20, hears=False)


def _options() -> EngineOptions:
    chosen = EngineOptions(model="demo/asr.en", aligner="demo/aligner", device="cpu", chunk_size=8, batch_size=4)
    return resolve(chosen)[0]


def _per_file(monkeypatch: pytest.MonkeyPatch) -> Subject:
    engine: Any = PerFileEngine(_options())
    one, generate = engine._one, engine._pipeline.model.generate_segment_batched
    at_work: list[bytes] = []

    def remember(audio: Audio) -> Transcript | Failure:
        at_work[:] = [audio.recording.name]
        return one(audio)  # type: ignore[no-any-return]

    def fail_on_poison(*arguments: Any, **named: Any) -> Any:
        if at_work == [POISON]:
            raise RuntimeError("injected")
        return generate(*arguments, **named)

    monkeypatch.setattr(engine, "_one", remember)
    monkeypatch.setattr(engine._pipeline.model, "generate_segment_batched", fail_on_poison)
    return Subject(engine, shuffles=2, hears=True)


def _batched(monkeypatch: pytest.MonkeyPatch) -> Subject:
    engine = BatchedEngine(_options())
    from hpc.engines.whisperx import stream  # only now: the engine silences what its libraries say when imported

    say = stream._say

    def fail_on_poison(means: Any, pieces: Sequence[Any]) -> Any:
        if any(piece.audio.recording.name == POISON for piece in pieces):
            raise RuntimeError("injected")
        return say(means, pieces)

    monkeypatch.setattr(stream, "_say", fail_on_poison)
    return Subject(engine, shuffles=5, hears=True)


MAKERS: dict[str, Callable[[pytest.MonkeyPatch], Subject]] = {
    "echo": _echo, "whisperx": _batched, "whisperx_per_file": _per_file,
}  # fmt: skip
ENGINES = [name if name == "echo" else pytest.param(name, marks=pytest.mark.speech) for name in MAKERS]


@pytest.fixture(scope="module", params=ENGINES)
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """One engine a kind for all tests: what one test leaves behind would show in the next."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield MAKERS[request.param](monkeypatch)


def audio(pcm: NDArray[np.int16], ordinal: int, *, shard: int = 1, name: bytes | None = None) -> Audio:
    digest = hashlib.sha256(f"{shard}-{ordinal}".encode()).digest()
    return Audio(Recording(shard, ordinal, name or f"{ordinal}.mp3".encode(), 1, digest), pcm)


@pytest.fixture(scope="module")
def clips() -> list[Audio]:
    """Six sentences in six voices, of two shards."""
    speaker = Speaker()
    said = [speaker.say(text, voice=voice).pcm for text, voice in zip(SENTENCES, TRAINED_VOICES[:40:7], strict=True)]
    return [audio(pcm, at, shard=at % 2) for at, pcm in enumerate(said)]


@pytest.fixture(scope="module")
def alone(subject: Subject, clips: list[Audio]) -> list[Transcript | Failure]:
    """What the engine says of each clip by itself."""
    return [answer for clip in clips for answer in hear(subject.engine, [clip])]


def test_a_batch_is_answered_in_its_order_as_if_each_recording_were_alone(
    subject: Subject, clips: list[Audio], alone: Sequence[Transcript | Failure]
) -> None:
    assert hear(subject.engine, clips) == alone
    assert hear(subject.engine, []) == []


def test_no_order_of_the_batch_changes_an_answer(
    subject: Subject, clips: list[Audio], alone: Sequence[Transcript | Failure]
) -> None:
    for seed in range(subject.shuffles):
        order = random.Random(seed).sample(range(len(clips)), len(clips))
        assert hear(subject.engine, [clips[at] for at in order]) == [alone[at] for at in order]


def test_the_recordings_are_told_apart(alone: Sequence[Transcript | Failure]) -> None:
    texts = [answer.text for answer in alone if isinstance(answer, Transcript)]
    assert len(set(texts)) == len(SENTENCES)


def test_an_engine_that_hears_says_what_was_said(subject: Subject, alone: Sequence[Transcript | Failure]) -> None:
    texts = [answer.text for answer in alone if isinstance(answer, Transcript)]
    assert all(texts)
    if subject.hears:
        assert jiwer.wer(list(SENTENCES), texts) <= 0.1


@pytest.mark.parametrize("at", [0, 2, 5])
def test_a_failure_is_a_failure_and_the_next_recording_never_knows(
    subject: Subject, clips: list[Audio], alone: Sequence[Transcript | Failure], at: int
) -> None:
    poisoned = [audio(clip.pcm, i, name=POISON) if i == at else clip for i, clip in enumerate(clips)]
    answers = hear(subject.engine, [*poisoned, *map(replace, clips)])
    failure = answers.pop(at)
    assert isinstance(failure, Failure)
    assert failure.kind is FailureClass.ENGINE_ERROR
    assert not any(word in failure.reason for word in SENTENCES[at].strip(".").split())
    assert answers == [*alone[:at], *alone[at + 1 :], *alone]


def test_no_samples_is_a_failure_and_no_speech_is_an_empty_transcript(subject: Subject) -> None:
    empty = audio(np.zeros(0, np.int16), 0)
    silent = audio(np.zeros(3 * SAMPLE_RATE, np.int16), 1)
    answers = hear(subject.engine, [empty, silent])
    assert isinstance(answers[0], Failure)
    assert answers[0].kind is FailureClass.EMPTY
    assert answers[1] == Transcript(language=None, segments=())


def test_the_shortest_recordings_have_an_answer_that_keeps_the_law(subject: Subject) -> None:
    noise = np.random.default_rng(3).normal(0, 3000, SAMPLE_RATE // 2).astype(np.int16)
    for pcm in (noise[:1], noise[:10], noise[:399], noise):
        (answer,) = hear(subject.engine, [audio(pcm, 0)])
        assert isinstance(answer, Transcript)
        check(answer, len(pcm) / SAMPLE_RATE)


def test_every_transcript_keeps_the_law(clips: list[Audio], alone: Sequence[Transcript | Failure]) -> None:
    for clip, answer in zip(clips, alone, strict=True):
        assert isinstance(answer, Transcript)
        check(answer, clip.duration)
        assert answer.segments[0].words


def check(transcript: Transcript, duration: float) -> None:
    """Plain finite numbers within the recording, no empty text, a language exactly when there is speech."""
    assert (transcript.language is None) == (not transcript.segments)
    json.dumps(asdict(transcript), allow_nan=False)
    for segment in transcript.segments:
        assert segment.text.strip()
        assert 0 <= segment.start <= segment.end <= duration
        for word in segment.words:
            assert word.text
            for number in (word.start, word.end, word.score):
                assert number is None or (type(number) is float and math.isfinite(number))
            assert word.start is None or word.end is None or 0 <= word.start <= word.end <= duration
