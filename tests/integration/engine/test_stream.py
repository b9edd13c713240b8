"""The engine's stream: every chunk back where it belongs, no needless wait, and one item's trouble is its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from db.states import FailureClass
from hpc.demo.speech import TRAINED_VOICES, Speaker
from hpc.engine_options import EngineOptions
from hpc.engines.whisperx.answers import EMPTY_TEXT
from hpc.engines.whisperx.batched import BatchedEngine
from hpc.engines.whisperx.lanes import THREAD
from hpc.errors import MachineUnfit
from hpc.hearing import hear
from hpc.model import SAMPLE_RATE, Audio, Failure, Recording, Transcript
from hpc.models import resolve

if TYPE_CHECKING:
    from hpc.engines.whisperx.generation import Said
    from hpc.engines.whisperx.speech import Span

BANDS = 40  # in each half of the model's 80
SECONDS = 2.0  # of one tone


@pytest.fixture(scope="module")
def options() -> EngineOptions:
    chosen = EngineOptions(
        model="demo/asr.en", aligner="demo/aligner", device="cpu", chunk_size=8, threads=2, batch_size=8, align=False
    )
    return resolve(chosen)[0]


@pytest.fixture(scope="module")
def engine(options: EngineOptions) -> BatchedEngine:
    return BatchedEngine(options)


@pytest.fixture
def tones(engine: BatchedEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[list[int]]]]:
    """A model that says which two tones it hears, and a voice detector that cuts between tones. Returned is the list of
    the batches it was given, as the numbers it heard."""
    from hpc.engines.whisperx import stream
    from hpc.engines.whisperx.generation import Said
    from hpc.engines.whisperx.speech import Span

    batches: list[list[list[int]]] = []

    def find(_: Any, works: Sequence[Any]) -> list[list[Span]]:
        counts = [round(work.audio.duration / SECONDS) for work in works]
        return [[Span(SECONDS * at, SECONDS * (at + 1), SECONDS) for at in range(count)] for count in counts]

    def decode(source: NDArray[np.float32], languages: Sequence[Any], **_: Any) -> list[Said]:
        heard = [loudest(mel[:, 20 : int(80 * SECONDS)]) for mel in source]
        batches.append(heard)
        return [Said(" ".join(map(str, pair)), -0.1, 0.0) for pair in heard]

    monkeypatch.setattr(stream, "_find", find)
    monkeypatch.setattr(engine.generation, "_decode", decode)
    monkeypatch.setattr("hpc.engines.whisperx.generation._storage", np.stack)
    monkeypatch.setattr(engine.generation, "_encoded_at_once", 0)
    monkeypatch.setattr(engine.generation, "batch_size", engine.loaded.options.batch_size)
    yield batches
    for thread in threading.enumerate():  # after an error nobody waits for what is still at work
        if thread.name == THREAD:
            thread.join(timeout=60)


def loudest(mel: Any) -> list[int]:
    """The loudest band of the lower and of the upper half."""
    mean = np.asarray(mel).mean(axis=1)
    return [int(mean[:BANDS].argmax()), BANDS + int(mean[BANDS:].argmax())]


def tone(low: int, high: int) -> NDArray[np.int16]:
    """Sounds loudest in these two of the 80 mel bands."""
    time = np.arange(int(SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    return (8000 * (np.sin(2 * np.pi * hertz(low) * time) + np.sin(2 * np.pi * hertz(high) * time))).astype(np.int16)


def hertz(band: int) -> float:
    """The middle of a mel band, as librosa (and so Whisper) lays 80 of them up to 8 kHz."""
    top = 15 + np.log(8000 / 1000) / (np.log(6.4) / 27)
    mel = (band + 1) * top / 81
    return float(mel * 200 / 3 if mel < 15 else 1000 * np.exp(np.log(6.4) / 27 * (mel - 15)))


def clip(*parts: NDArray[np.int16], ordinal: int = 0) -> Audio:
    pcm = np.concatenate(parts) if parts else np.zeros(0, np.int16)
    return Audio(Recording(ordinal % 3, ordinal, b"%d.mp3" % ordinal, 1, bytes(32)), pcm)


def tuned(count: int, *, seed: int) -> list[tuple[Audio, str]]:
    """Clips of one to four tones, and what has to be heard in each; no two chunks of all sound the same."""
    rng = np.random.default_rng(seed)
    pairs = iter(rng.permutation([(low, high) for low in range(2, 38, 2) for high in range(44, 78, 2)]).tolist())
    made = []
    for ordinal in range(count):
        mine = [next(pairs) for _ in range(rng.integers(1, 5))]
        made.append((clip(*(tone(*pair) for pair in mine), ordinal=ordinal), " ".join(f"{a} {b}" for a, b in mine)))
    return made


def texts(answers: Sequence[Transcript | Failure]) -> list[str]:
    return [answer.text if isinstance(answer, Transcript) else answer.reason for answer in answers]


@pytest.mark.parametrize("seed", [1, 2])
def test_every_chunk_comes_back_once_to_its_own_recording_and_place(
    engine: BatchedEngine, tones: list[list[list[int]]], seed: int
) -> None:
    clips, expected = zip(*tuned(100, seed=seed), strict=True)
    assert texts(hear(engine, clips)) == list(expected)
    heard = [tuple(pair) for batch in tones for pair in batch]
    assert len(set(heard)) == len(heard) == sum(len(text.split()) // 2 for text in expected)
    assert len(heard) / (len(tones) * 8) >= 0.9


def test_a_batch_waits_for_company_while_more_is_on_its_way(
    engine: BatchedEngine, tones: list[list[list[int]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread, which would rather do a batch than look for more speech; speech is found recording by recording."""
    monkeypatch.setattr(engine, "means", replace(engine.means, windows=1, generations=1))
    monkeypatch.setattr(engine, "_threads", 1)
    clips, expected = zip(*tuned(50, seed=11), strict=True)
    assert texts(hear(engine, clips)) == list(expected)
    assert [len(batch) for batch in tones[:-1]] == [8] * (len(tones) - 1)


def test_a_recording_leaves_as_soon_as_its_last_chunk_has_landed(
    engine: BatchedEngine, tones: list[list[list[int]]]
) -> None:
    clips, expected = zip(*tuned(60, seed=3), strict=True)
    room = threading.Semaphore(24)

    def source() -> Iterator[Audio | None]:
        for one in clips:
            if not room.acquire(blocking=False):
                yield None  # as of a worker whose engine is full
                assert room.acquire(timeout=60)
            yield one
        yield None

    answers = dict[int, str]()
    for audio, outcome in engine.transcribe(source(), nothing_at_stake):
        answers[audio.recording.ordinal] = texts([outcome])[0]
        room.release()
    assert [answers[at] for at in range(60)] == list(expected)


@contextmanager
def nothing_at_stake(_: Sequence[Audio]) -> Iterator[None]:
    yield


def test_a_quiet_tail_never_waits_for_company(engine: BatchedEngine, tones: list[list[list[int]]]) -> None:
    """The stream gives no more until all that it gave is answered: with a batch that waits to be full, for ever."""
    clips, expected = zip(*tuned(12, seed=4), strict=True)
    answered = threading.Semaphore(0)

    def source() -> Iterator[Audio | None]:
        for group in (clips[:3], clips[3:4], clips[4:]):
            yield from group
            yield None
            for _ in group:
                assert answered.acquire(timeout=60)

    answers = {}
    for audio, outcome in engine.transcribe(source(), nothing_at_stake):
        answers[audio.recording.ordinal] = texts([outcome])[0]
        answered.release()
    assert [answers[at] for at in range(12)] == list(expected)


def failing(decode: Callable[..., Any], *, on: int, error: Exception) -> Callable[..., Any]:
    """Fails whenever a tone of band `on` is in the batch, whatever else is."""

    def run(source: Any, languages: Any, **named: Any) -> Any:
        if any(on in loudest(mel[:, 20 : int(80 * SECONDS)]) for mel in source):
            raise error
        return decode(source, languages, **named)

    return run


def test_a_poison_chunk_is_found_by_halving_and_only_its_recording_fails(
    engine: BatchedEngine, tones: list[list[list[int]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tuned(30, seed=5)
    poisoned = clip(tone(3, 61), tone(39, 45), tone(5, 63), ordinal=30)
    poison = failing(engine.generation._decode, on=39, error=ValueError("secret words"))
    monkeypatch.setattr(engine.generation, "_decode", poison)
    *answers, failure = hear(engine, [*(audio for audio, _ in made), poisoned])
    assert texts(answers) == [text for _, text in made]
    assert isinstance(failure, Failure)
    assert failure.kind is FailureClass.ENGINE_ERROR
    assert "ValueError" in failure.reason
    assert "secret" not in failure.reason
    assert texts(hear(engine, [replace(audio) for audio, _ in made])) == [text for _, text in made]


def cramped(decode: Callable[..., Any], most: int, sizes: list[int]) -> Callable[..., Any]:
    def run(source: Any, languages: Any, **named: Any) -> Any:
        sizes.append(len(source))
        if len(source) > most:
            raise RuntimeError("CUDA failed with error out of memory")
        return decode(source, languages, **named)

    return run


def test_when_memory_is_short_batches_are_halved_which_is_remembered_and_work_goes_on(
    engine: BatchedEngine, tones: list[list[list[int]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, sizes = tuned(40, seed=6), list[int]()
    monkeypatch.setattr(engine.generation, "_decode", cramped(engine.generation._decode, 3, sizes))
    assert texts(hear(engine, [audio for audio, _ in made])) == [text for _, text in made]
    assert engine.generation.batch_size == 2
    too_large = [size for size in sizes if size > 3]
    assert 2 <= len(too_large) <= 2 * engine.means.generations  # once for each batch that was in the model, and halved


class Watched:
    """CTranslate2's model, and how many sounds each call of it had."""

    def __init__(self, model: Any) -> None:
        self._model, self.encoded, self.generated = model, list[int](), list[int]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def encode(self, features: Any) -> Any:
        self.encoded.append(features.shape[0])
        return self._model.encode(features)

    def generate(self, source: Any, *rest: Any, **named: Any) -> Any:
        self.generated.append(source.shape[0])
        return self._model.generate(source, *rest, **named)


def test_on_a_cpu_the_encoder_has_few_sounds_at_once_and_the_decoder_the_whole_batch(
    engine: BatchedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hpc.engines.whisperx.generation import Language

    said = Speaker().say("unit seven copy north street.", voice=TRAINED_VOICES[0]).pcm.astype(np.float32) / 32768
    asked = [(said[: len(said) * (9 - at) // 9], Language("en")) for at in range(7)]
    whole = Watched(engine.generation._model.model)
    monkeypatch.setattr(engine.generation._model, "model", whole)
    parts = engine.generation.say(asked)
    assert (whole.encoded, whole.generated) == ([4, 3], [7])
    assert [engine.generation.say([one])[0][0].text for one in asked] == [one.text for one, _ in parts]
    monkeypatch.setattr(engine.generation, "_encoded_at_once", 0)  # as on a GPU
    assert engine.generation.say(asked) == parts
    assert whole.encoded == [4, 3]


def test_memory_that_does_not_suffice_for_one_chunk_is_the_machines_fault(
    engine: BatchedEngine, tones: list[list[list[int]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.generation, "_decode", cramped(engine.generation._decode, 0, []))
    with pytest.raises(MachineUnfit, match="one chunk of the model"):
        hear(engine, [audio for audio, _ in tuned(3, seed=7)])


def test_a_lost_gpu_ends_the_engine_rather_than_a_recording(
    engine: BatchedEngine, tones: list[list[list[int]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = failing(engine.generation._decode, on=39, error=RuntimeError("CUDA error: unspecified launch failure"))
    monkeypatch.setattr(engine.generation, "_decode", lost)
    with pytest.raises(RuntimeError, match="launch failure"):
        hear(engine, [audio for audio, _ in tuned(5, seed=8)] + [clip(tone(39, 45))])


def test_what_is_at_work_is_told_before_it_is_done_and_taken_back_after(
    engine: BatchedEngine, tones: list[list[list[int]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work: list[set[int]] = []
    seen: list[bool] = []
    lock, decode = threading.Lock(), engine.generation._decode

    @contextmanager
    def record(audios: Sequence[Audio]) -> Iterator[None]:
        mine = {audio.recording.ordinal for audio in audios}
        with lock:
            at_work.append(mine)
        yield
        with lock:
            at_work.remove(mine)

    def watched(source: Any, languages: Any, **named: Any) -> Any:
        with lock:
            seen.append(any(at_work))
        return decode(source, languages, **named)

    monkeypatch.setattr(engine.generation, "_decode", watched)
    hear(engine, [audio for audio, _ in tuned(20, seed=9)], record)
    assert seen
    assert all(seen)
    assert at_work == []


def test_a_trouble_of_the_voice_detector_costs_only_its_recording(
    engine: BatchedEngine, tones: list[list[list[int]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hpc.engines.whisperx import stream

    find = stream._find

    def harmed(means: Any, works: Sequence[Any]) -> Any:
        if any(work.audio.recording.ordinal == 4 for work in works):
            raise IndexError("secret")
        return find(means, works)

    monkeypatch.setattr(stream, "_find", harmed)
    answers = hear(engine, [audio for audio, _ in tuned(9, seed=10)])
    assert [at for at, answer in enumerate(answers) if isinstance(answer, Failure)] == [4]


def test_speech_without_words_is_flagged(
    engine: BatchedEngine, tones: list[list[list[int]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hpc.engines.whisperx.generation import Said

    def mute(source: Any, languages: Any, **_: Any) -> list[Said]:
        return [Said("  ", -0.5, 0.2) for _ in source]

    monkeypatch.setattr(engine.generation, "_decode", mute)
    (answer,) = hear(engine, [clip(tone(5, 50))])
    assert isinstance(answer, Transcript)
    assert (answer.language, answer.segments, answer.flags) == (None, (), (EMPTY_TEXT,))
    assert [(chunk.flags, chunk.no_speech_prob, chunk.compression_ratio) for chunk in answer.chunks] == [
        (("empty",), 0.2, None)
    ]


def test_chunks_that_are_no_speech_are_dropped_when_asked_and_repetitions_decoded_once_more(
    engine: BatchedEngine, tones: list[list[list[int]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hpc.engines.whisperx.generation import Said

    def decode(source: Any, languages: Any, *, no_repeat: int | None = None) -> list[Said]:
        repeats = [loudest(mel[:, 20 : int(80 * SECONDS)])[0] == 5 for mel in source]
        loop, nothing = Said("on and on " * (1 if no_repeat else 40), -0.2, 0.1), Said("hm", -1.5, 0.9)
        return [loop if again else nothing for again in repeats]

    clips = [clip(tone(5, 50)), clip(tone(9, 50))]
    monkeypatch.setattr(engine.generation, "_decode", decode)
    plain = hear(engine, clips)
    assert [len(text) for text in texts(plain)] == [399, 2]
    asked = replace(engine.loaded.options, second_decode=True, no_speech_threshold=0.6)
    monkeypatch.setattr(engine.generation, "_options", asked)
    answers = hear(engine, [replace(one) for one in clips])
    assert texts(answers) == ["on and on", ""]
    flags = [chunk.flags for answer in answers if isinstance(answer, Transcript) for chunk in answer.chunks]
    assert flags == [("decoded_twice",), ("dropped", "empty")]


def test_constant_sound_and_the_shortest_clips_have_an_answer(engine: BatchedEngine) -> None:
    constant = np.full(3 * SAMPLE_RATE, 20000, np.int16)
    shortest = np.random.default_rng(1).normal(0, 3000, SAMPLE_RATE // 20).astype(np.int16)
    answers = hear(engine, [clip(constant), clip(shortest), clip(shortest[:1]), clip()])
    assert [type(answer) for answer in answers] == [Transcript, Transcript, Transcript, Failure]


def test_a_chunk_past_the_end_is_cut_and_one_longer_than_the_window_too(engine: BatchedEngine) -> None:
    generation = engine.generation
    assert generation._features(np.zeros(481_000, np.float32)).shape == (80, 3000)
    assert generation._features(np.zeros(0, np.float32)).shape == (80, 3000)
