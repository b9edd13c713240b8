"""WhisperX one recording after the other: what it says unmodified, offline, with its silent bugs kept out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from db.states import FailureClass
from hpc.demo.speech import TRAINED_VOICES, Speaker
from hpc.engine_options import EngineOptions
from hpc.engines.whisperx.answers import UNALIGNED, segment_of
from hpc.engines.whisperx.per_file import PerFileEngine
from hpc.errors import BadSetting, MachineUnfit, ModelMissing
from hpc.hearing import hear
from hpc.model import SAMPLE_RATE, Audio, Failure, Recording, Result, Transcript
from hpc.models import resolve
from hpc.stages.engine_process import EngineProcess

pytestmark = pytest.mark.speech
TEXTS = (
    "unit seven copy north street. today monday may twenty three. station nine channel two please report over.",
    "yes unit four red road. friday morning seven hundred.",
    "one two three four. stop. june thirty one.",
)
# Unmodified WhisperX as its own documentation uses it, in a process of its own.
REFERENCE = """
import json, sys
import numpy as np, torch, whisperx
torch.set_num_threads(1)
clips = [clip for _, clip in sorted(np.load(sys.argv[1]).items())]
answers = []
aligner, description = whisperx.load_align_model("en", "cpu", model_name=sys.argv[2])
for case in json.loads(sys.argv[3]):
    model = whisperx.load_model(
        case["model"], "cpu", compute_type="int8", threads=1, asr_options={"beam_size": case["beam_size"]}
    )
    for clip in clips:
        sound = clip.astype(np.float32) / 32768
        said = model.transcribe(sound, batch_size=4, chunk_size=case["chunk_size"])
        aligned = whisperx.align(said["segments"], aligner, description, sound, "cpu")["segments"]
        answers.append({"language": said["language"], "segments": aligned})
json.dump(answers, open(sys.argv[4], "w"), default=float)
"""


@pytest.fixture(scope="module")
def attempts() -> Iterator[list[str]]:
    """Every try, from any thread of this process, to reach the network while the engines live."""
    seen: list[str] = []
    watching = True

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and event in ("socket.getaddrinfo", "socket.gethostbyname"):
            seen.append(f"{event} {arguments[0]}")
        if watching and event == "socket.connect" and isinstance(arguments[1], tuple):
            seen.append(f"{event} {arguments[1]}")

    sys.addaudithook(watch)
    yield seen
    watching = False


@pytest.fixture(scope="module")
def options() -> EngineOptions:
    chosen = EngineOptions(model="demo/asr.en", aligner="demo/aligner", device="cpu", chunk_size=8, batch_size=4)
    return resolve(chosen)[0]


@pytest.fixture(scope="module")
def engine(options: EngineOptions, attempts: list[str]) -> PerFileEngine:
    return PerFileEngine(options)


@pytest.fixture(scope="module")
def multilingual(options: EngineOptions, tmp_path_factory: pytest.TempPathFactory) -> EngineOptions:
    """The demo model with the empty token by which CTranslate2 knows multilingual models: it detects languages."""
    path = tmp_path_factory.mktemp("models") / "asr"
    shutil.copytree(options.model_path, path)
    vocabulary = json.loads((path / "vocabulary.json").read_text())
    vocabulary[vocabulary.index("Ā")] = ""
    (path / "vocabulary.json").write_text(json.dumps(vocabulary))
    return replace(options, model="asr", model_path=str(path), beam_size=1, chunk_size=30)


@pytest.fixture(scope="module")
def detecting(multilingual: EngineOptions, engine: PerFileEngine) -> PerFileEngine:
    return PerFileEngine(multilingual)


def audio(pcm: NDArray[np.int16], ordinal: int = 0) -> Audio:
    return Audio(Recording(1, ordinal, f"{ordinal}.mp3".encode(), 1, bytes(32)), pcm)


@pytest.fixture(scope="module")
def clips() -> list[Audio]:
    """Three short ones, and one of several chunks."""
    speaker = Speaker()
    short = [audio(speaker.say(text, voice=TRAINED_VOICES[7 * at]).pcm, at) for at, text in enumerate(TEXTS)]
    return [*short, audio(np.concatenate([clip.pcm for clip in short * 2]), len(short))]


@contextmanager
def replaced(target: Any, name: str, make: Callable[[Any], Any]) -> Iterator[None]:
    """`make` is given what stands there now."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, name, make(getattr(target, name)))
        yield


def transcripts(answers: Sequence[Transcript | Failure]) -> list[Transcript]:
    assert all(isinstance(answer, Transcript) for answer in answers), answers
    return [answer for answer in answers if isinstance(answer, Transcript)]


def test_it_says_exactly_what_unmodified_whisperx_says(
    engine: PerFileEngine, detecting: PerFileEngine, clips: list[Audio], tmp_path: Path
) -> None:
    options = engine._options
    np.savez(tmp_path / "clips.npz", **{str(at): clip.pcm for at, clip in enumerate(clips)})
    cases = [
        {"model": chosen.model_path, "beam_size": chosen.beam_size, "chunk_size": chosen.chunk_size}
        for chosen in (options, detecting._options)
    ]
    subprocess.run(
        [sys.executable, "-c", REFERENCE, tmp_path / "clips.npz", options.aligner_paths[0][1], json.dumps(cases),
         tmp_path / "out.json"],
        env=os.environ | {"NLTK_DATA": str(Path(options.model_path).parent / "nltk_data")}, check=True,
    )  # fmt: skip
    reference = json.loads((tmp_path / "out.json").read_text())
    ours = transcripts([*hear(engine, clips), *hear(detecting, clips)])
    assert sum(len(said["segments"]) for said in reference) > len(reference)  # several sentences in one recording
    for said, transcript, clip in zip(reference, ours, clips * 2, strict=True):
        assert (transcript.language, transcript.flags) == (said["language"], ())
        clamp = lambda time, end=clip.duration: min(time, end)  # noqa: E731
        assert [
            (s.text, s.start, s.end, s.avg_logprob, [(w.text, w.start, w.end, w.score) for w in s.words])
            for s in transcript.segments
        ] == [
            (s["text"], clamp(s["start"]), clamp(s["end"]), s["avg_logprob"],
             [(w["word"], clamp(w["start"]), clamp(w["end"]), w["score"]) for w in s["words"]])
            for s in said["segments"]
        ]  # fmt: skip


def test_the_language_is_detected_anew_for_every_recording_with_its_probability(
    detecting: PerFileEngine, clips: list[Audio]
) -> None:
    heard: list[int] = []

    def counting(detect: Any) -> Any:
        return lambda sound: (heard.append(len(sound)), detect(sound))[1]

    with replaced(detecting._pipeline, "detect_language", counting):
        answers = transcripts(hear(detecting, clips))
    assert heard == [len(clip.pcm) for clip in clips]
    assert [answer.language for answer in answers] == ["en"] * len(clips)
    assert all(answer.language_probability and answer.language_probability > 0.5 for answer in answers)


def test_a_language_kept_from_a_failed_recording_never_reaches_the_next(
    detecting: PerFileEngine, clips: list[Audio]
) -> None:
    before = transcripts(hear(detecting, clips[1:]))
    languages = iter(["de", *["en"] * len(clips)])

    def failing_once(generate: Any) -> Any:
        calls = iter([True])

        def run(*arguments: Any, **named: Any) -> Any:
            if next(calls, False):
                raise ValueError("secret words")
            return generate(*arguments, **named)

        return run

    with (
        replaced(detecting._pipeline, "detect_language", lambda detect: lambda s: (detect(s), next(languages))[1]),
        replaced(detecting._pipeline.model, "generate_segment_batched", failing_once),
    ):
        failure, *after = hear(detecting, clips)
    assert isinstance(failure, Failure)
    assert failure.kind is FailureClass.ENGINE_ERROR
    assert "ValueError" in failure.reason
    assert "secret" not in failure.reason
    assert after == before


def test_a_language_that_is_set_is_not_detected_and_has_no_probability(
    multilingual: EngineOptions, engine: PerFileEngine, clips: list[Audio]
) -> None:
    told = PerFileEngine(replace(multilingual, language="en"))
    with replaced(told._pipeline, "detect_language", lambda _: None):
        (answer,) = transcripts(hear(told, clips[:1]))
    assert (answer.language, answer.language_probability) == ("en", None)


def test_when_memory_is_short_fewer_chunks_at_a_time_give_the_same_answer(
    engine: PerFileEngine, clips: list[Audio]
) -> None:
    before, sizes = hear(engine, clips), list[int]()

    def cramped(generate: Any) -> Any:
        def run(features: Any, *rest: Any, **named: Any) -> Any:
            sizes.append(len(features))
            if len(features) > 1:
                raise RuntimeError("CUDA failed with error out of memory")
            return generate(features, *rest, **named)

        return run

    with replaced(engine._pipeline.model, "generate_segment_batched", cramped):
        assert hear(engine, clips) == before
    assert max(sizes) > 1


def test_memory_that_is_never_enough_for_one_chunk_is_the_machines_fault_and_no_recordings(
    engine: PerFileEngine, clips: list[Audio]
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise RuntimeError("CUDA failed with error out of memory")

    with (
        replaced(engine._pipeline.model, "generate_segment_batched", lambda _: full),
        pytest.raises(MachineUnfit, match="one chunk of the model"),
    ):
        hear(engine, clips[:1])


def test_a_lost_gpu_is_not_blamed_on_the_recording(engine: PerFileEngine, clips: list[Audio]) -> None:
    def lost(*_: Any, **__: Any) -> Any:
        raise RuntimeError("CUDA error: unspecified launch failure")

    with (
        replaced(engine._pipeline.model, "generate_segment_batched", lambda _: lost),
        pytest.raises(RuntimeError, match="launch failure"),
    ):
        hear(engine, clips[:1])


def _broken(align: Any) -> Any:
    def run(*_: Any, **__: Any) -> Any:
        raise IndexError("secret words")

    return run


def _forgetful(align: Any) -> Any:
    def run(*arguments: Any, **named: Any) -> Any:
        said = align(*arguments, **named)
        return said | {"segments": said["segments"][:-1]}

    return run


def _timeless(align: Any) -> Any:
    def run(*arguments: Any, **named: Any) -> Any:
        said = align(*arguments, **named)
        return said | {"segments": [segment | {"end": float("nan")} for segment in said["segments"]]}

    return run


@pytest.mark.parametrize("how", [_broken, _forgetful, _timeless])
def test_an_alignment_that_goes_wrong_leaves_the_text_without_word_times(
    engine: PerFileEngine, clips: list[Audio], how: Callable[[Any], Any]
) -> None:
    import whisperx

    (good,) = transcripts(hear(engine, clips[:1]))
    with replaced(whisperx, "align", how):
        (answer,) = transcripts(hear(engine, clips[:1]))
    assert answer.flags == (UNALIGNED,)
    assert answer.text == good.text
    assert all(not segment.words and segment.end <= clips[0].duration for segment in answer.segments)


def test_a_language_without_an_aligner_is_transcribed_and_flagged(
    multilingual: EngineOptions, engine: PerFileEngine, clips: list[Audio]
) -> None:
    bare = PerFileEngine(replace(multilingual, aligner_paths=()))
    (answer,) = transcripts(hear(bare, clips[:1]))
    assert (answer.flags, answer.language) == ((UNALIGNED,), "en")
    assert answer.text


def test_without_alignment_there_are_segments_and_no_flag(
    options: EngineOptions, engine: PerFileEngine, clips: list[Audio]
) -> None:
    (answer,) = transcripts(hear(PerFileEngine(replace(options, align=False)), clips[:1]))
    assert answer.flags == ()
    assert answer.text
    assert all(not segment.words for segment in answer.segments)


def test_a_number_that_is_not_a_number_is_nothing() -> None:
    said = {
        "text": " a b", "start": np.float64(-0.1), "end": np.float64(9.0), "avg_logprob": float("nan"),
        "words": [{"word": "a", "start": np.float64(0.5), "end": 7.1, "score": np.float64("nan")}, {"word": "b"}],
    }  # fmt: skip
    segment = segment_of(said, duration=7.0)
    assert (segment.start, segment.end, segment.avg_logprob) == (0.0, 7.0, None)
    assert [(word.start, word.end, word.score) for word in segment.words] == [(0.5, 7.0, None), (None, None, None)]
    assert type(segment.words[0].start) is float


def test_silero_hears_the_same_words_without_fetching_anything(
    options: EngineOptions, engine: PerFileEngine, clips: list[Audio], attempts: list[str]
) -> None:
    silero = PerFileEngine(replace(options, vad_method="silero"))
    spoken = transcripts(hear(silero, clips))
    pyannote = transcripts(hear(engine, clips))
    agreed = [a.text == b.text for a, b in zip(spoken, pyannote, strict=True)]
    assert sum(agreed) >= len(clips) - 1  # another voice detector cuts elsewhere; the small model may mind once
    assert hear(silero, [audio(np.zeros(SAMPLE_RATE, np.int16))]) == [Transcript(None, ())]
    assert attempts == []


def test_noise_and_hum_are_no_speech(engine: PerFileEngine) -> None:
    hiss = np.random.default_rng(1).normal(0, 1500, 10 * SAMPLE_RATE).astype(np.int16)
    hum = (6000 * np.sin(2 * np.pi * 50 * np.arange(10 * SAMPLE_RATE) / SAMPLE_RATE)).astype(np.int16)
    assert hear(engine, [audio(hiss), audio(hum)]) == [Transcript(None, ()), Transcript(None, ())]


def test_a_missing_model_is_an_error_before_anything_is_loaded(options: EngineOptions, tmp_path: Path) -> None:
    for path in ("", str(tmp_path / "nothing")):
        with pytest.raises(ModelMissing, match="no directory on this machine"):
            PerFileEngine(replace(options, model_path=path))


def test_an_unreadable_model_or_aligner_is_an_error_that_names_it(
    options: EngineOptions, engine: PerFileEngine, tmp_path: Path
) -> None:
    speech, aligner = tmp_path / "asr.en", tmp_path / "aligner"
    shutil.copytree(options.model_path, speech)
    (speech / "model.bin").write_bytes(b"\0" * 1000)
    with pytest.raises(ModelMissing, match=f"{speech} cannot be read"):
        PerFileEngine(replace(options, model_path=str(speech)))
    shutil.copytree(options.aligner_paths[0][1], aligner)
    (aligner / "model.safetensors").write_bytes(b"\0" * 1000)
    with pytest.raises(ModelMissing, match=f"aligner for 'en' in {aligner} cannot be read"):
        PerFileEngine(replace(options, aligner_paths=(("en", str(aligner)),)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"language": "de"}, "knows English only"),
        ({"task": "translate"}, "knows English only"),
        ({"compute_type": "float16"}, "compute_type 'float16' does not work on this cpu"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_at_the_start(
    options: EngineOptions, engine: PerFileEngine, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadSetting, match=message):
        PerFileEngine(replace(options, **change))


def test_a_language_that_does_not_exist_is_refused(multilingual: EngineOptions, engine: PerFileEngine) -> None:
    with pytest.raises(BadSetting, match="'zz'; WhisperX has no such language"):
        PerFileEngine(replace(multilingual, language="zz"))


def test_telemetry_is_off_and_the_network_was_never_tried(
    engine: PerFileEngine, clips: list[Audio], attempts: list[str]
) -> None:
    from pyannote.audio.telemetry.metrics import is_metrics_enabled

    transcripts(hear(engine, clips))
    assert not is_metrics_enabled()
    assert attempts == []


def test_nothing_that_was_said_is_printed_or_logged(
    engine: PerFileEngine, clips: list[Audio], capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    hear(engine, [*clips, audio(np.zeros(SAMPLE_RATE, np.int16))])
    assert capfd.readouterr() == ("", "")
    assert caplog.text == ""


def test_its_own_process_gives_the_same_answers_and_reports_a_missing_model(
    engine: PerFileEngine, options: EngineOptions, clips: list[Audio]
) -> None:
    target = "hpc.engines.whisperx.per_file:PerFileEngine"
    with pytest.raises(ModelMissing, match="no directory"):
        EngineProcess(target, replace(options, model_path="/nowhere"), hang_seconds=600).start()
    with EngineProcess(target, options, hang_seconds=600) as process:
        for clip in clips:
            process.submit(clip)
        results: list[Result] = []
        while process.held:
            results += process.wait()
    assert results == [
        Result(clip.recording, answer, clip.duration) for clip, answer in zip(clips, hear(engine, clips), strict=True)
    ]


def test_the_tables_read_from_the_libraries_sources_are_the_libraries_own(engine: PerFileEngine) -> None:
    import faster_whisper.utils
    import torchaudio
    from whisperx import alignment

    from hpc import models

    assert models.usual_aligners() == alignment.DEFAULT_ALIGN_MODELS_TORCH | alignment.DEFAULT_ALIGN_MODELS_HF
    assert models._table("faster_whisper", "utils.py", "_MODELS") == faster_whisper.utils._MODELS
    bundles = {name: getattr(torchaudio.pipelines, name)._path for name in models._TORCHAUDIO}
    assert bundles == models._TORCHAUDIO
