"""The law of what times words anew: the text stays, each answer is its recording's own, and nothing is carried over."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pytest

from db.states import FailureClass
from hpc.demo.speech import TRAINED_VOICES, Speaker
from hpc.engine_options import EngineOptions
from hpc.engines.echo import EchoEngine, echo
from hpc.model import SAMPLE_RATE, Audio, Failure, Recording, Transcript
from hpc.models import resolve
from hpc.ports import Aligner
from hpc.registry import BUILT_IN, load

SENTENCES = ("unit seven copy north street.", "go left and right.", "yes unit four red road.", "friday morning seven.")


@dataclass
class Subject:
    """An aligner, recordings with what was said in them, and whether its times are of the sound."""

    aligner: Aligner
    clips: list[Audio]
    hears: bool


def audio(pcm: Any, ordinal: int, said: Transcript | None = None) -> Audio:
    digest = hashlib.sha256(f"{ordinal}".encode()).digest()
    return Audio(Recording(ordinal % 2, ordinal, f"{ordinal}.mp3".encode(), 1, digest), pcm, said=said)


def _speech() -> list[Audio]:
    """With some silence after it: where speech ends with the sound, the end of the last chunk is not known exactly."""
    speaker, silence = Speaker(), np.zeros(SAMPLE_RATE, np.int16)
    said = [speaker.say(text, voice=voice).pcm for text, voice in zip(SENTENCES, TRAINED_VOICES[:28:7], strict=True)]
    return [audio(np.concatenate([pcm, silence]), at) for at, pcm in enumerate(said)]


def _whisperx(name: str) -> Subject:
    """What was said is heard by the whole engine first, which loads it once for all aligners."""
    chosen = EngineOptions(model="demo/asr.en", aligner="demo/aligner", device="cpu", chunk_size=8, batch_size=4)
    options, _ = resolve(chosen)
    engine = load("engines", "whisperx")(options)
    clips = _speech()
    heard = {id(one): said for one, said in engine.transcribe(iter([*clips, None]), lambda _: nullcontext())}
    return Subject(load("aligners", name)(options), [replace(one, said=heard[id(one)]) for one in clips], hears=True)


def _echo(_: str) -> Subject:
    noise = [np.full(SAMPLE_RATE * (2 + at), 100 + at, np.int16) for at in range(4)]
    clips = [audio(pcm, at) for at, pcm in enumerate(noise)]
    said = [replace(one, said=heard) for one in clips if isinstance(heard := echo(one), Transcript)]
    return Subject(EchoEngine(EngineOptions()), said, hears=False)


ALIGNERS = [name if name == "echo" else pytest.param(name, marks=pytest.mark.speech) for name in BUILT_IN["aligners"]]


@pytest.fixture(scope="module", params=ALIGNERS)
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    yield (_echo if request.param == "echo" else _whisperx)(request.param)


def align(subject: Subject, clips: Sequence[Audio]) -> list[Transcript | Failure]:
    answered = {id(one): said for one, said in subject.aligner.align(iter([*clips, None]), lambda _: nullcontext())}
    assert len(answered) == len(clips)
    return [answered[id(one)] for one in clips]


def test_every_engine_that_we_ship_can_align() -> None:
    assert BUILT_IN["aligners"].keys() == BUILT_IN["engines"].keys()


def test_the_text_stays_and_every_word_lies_within_the_recording(subject: Subject) -> None:
    for clip, answer in zip(subject.clips, align(subject, subject.clips), strict=True):
        said = clip.said
        assert isinstance(answer, Transcript)
        assert isinstance(said, Transcript)
        assert said.text
        assert (answer.text, answer.language, answer.language_probability) == (
            said.text, said.language, said.language_probability,
        )  # fmt: skip
        assert answer.chunks == said.chunks
        json.dumps(asdict(answer), allow_nan=False)
        for segment in answer.segments:
            assert segment.words
            for word in segment.words:
                assert word.start is not None
                assert word.end is not None
                assert 0 <= word.start <= word.end <= clip.duration


def test_where_the_aligner_is_the_same_the_times_are_those_that_the_engine_gave(subject: Subject) -> None:
    if subject.hears:
        assert align(subject, subject.clips) == [clip.said for clip in subject.clips]


def test_wrong_times_are_made_good_from_the_sound(subject: Subject) -> None:
    """All words in the first tenth of a second, as a bad aligner had them; the chunks say where to look."""
    spoilt = []
    for clip in subject.clips:
        said = clip.said
        assert isinstance(said, Transcript)
        words = [
            replace(one, words=tuple(replace(word, start=0.0, end=0.1) for word in one.words)) for one in said.segments
        ]
        spoilt.append(replace(clip, said=replace(said, segments=tuple(words), flags=("unaligned",))))
    again = align(subject, spoilt)
    for clip, answer in zip(subject.clips, again, strict=True):
        assert isinstance(answer, Transcript)
        starts = [word.start for segment in answer.segments for word in segment.words]
        assert len(set(starts)) > 1
        assert max(start for start in starts if start is not None) > 0.3
        if subject.hears:
            assert isinstance(clip.said, Transcript)
            assert answer == clip.said


def test_no_order_and_no_company_changes_an_answer(subject: Subject) -> None:
    alone = [align(subject, [clip])[0] for clip in subject.clips]
    assert align(subject, subject.clips) == alone
    assert align(subject, subject.clips[::-1]) == alone[::-1]


def test_no_samples_is_a_failure_and_costs_its_neighbours_nothing(subject: Subject) -> None:
    first, second, *_ = subject.clips
    empty = replace(first, pcm=np.zeros(0, np.int16))
    answers = align(subject, [first, empty, second])
    assert isinstance(answers[1], Failure)
    assert answers[1].kind is FailureClass.EMPTY
    assert [answers[0], answers[2]] == align(subject, [first, second])


def test_what_cannot_be_placed_is_a_failure_and_never_text_without_times(subject: Subject) -> None:
    first, second, *_ = subject.clips
    assert isinstance(first.said, Transcript)
    foreign = replace(first, said=replace(first.said, language="xx"))
    answers = align(subject, [foreign, second])
    if not subject.hears:
        assert [isinstance(answer, Transcript) for answer in answers] == [True, True], "the echo places any word"
        return
    assert isinstance(answers[0], Failure)
    assert "is not there for 'xx'" in answers[0].reason
    assert isinstance(answers[1], Transcript)
    assert not math.isnan(answers[1].segments[0].start)
