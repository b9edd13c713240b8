"""Many recordings at once get what unmodified WhisperX says of each alone, however they are packed and ordered."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from hpc.engine_options import EngineOptions
from hpc.engines.whisperx.answers import EMPTY_TEXT, UNALIGNED
from hpc.engines.whisperx.batched import BatchedEngine
from hpc.hearing import hear
from hpc.model import Audio, Failure, Transcript
from hpc.models import resolve

if TYPE_CHECKING:
    from hpc.engines.whisperx.speech import Span
    from hpc.engines.whisperx.work import Work

MODELS = ("demo", "random")
VARIANTS = ("prompted", "translating")
FEW = 16  # clips for these
PROMPTS = {"initial_prompt": "Radio, channel two.", "hotwords": "Zürich over", "beam_size": 3}
CLOSE = 1e-4  # of a log-probability: sums of floats differ in their last digits with the size of a batch


@pytest.fixture(scope="module")
def demo() -> EngineOptions:
    chosen = EngineOptions(model="demo/asr.en", aligner="demo/aligner", device="cpu", chunk_size=8, threads=2)
    return resolve(chosen)[0]


@pytest.fixture(scope="module")
def unmodified(
    demo: EngineOptions, random_model: Path, speech_clips: list[Audio], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What WhisperX itself says, by model."""
    folder, aligner = tmp_path_factory.mktemp("reference"), demo.aligner_paths[0][1]
    cases: dict[str, dict[str, Any]] = {
        "demo": {"model": demo.model_path, "compute_type": "int8", "chunk_size": 8},
        "random": {"model": str(random_model), "compute_type": "float32", "chunk_size": 30},
    }
    cases["prompted"] = cases["random"] | {"asr_options": PROMPTS, "language": "hu", "clips": FEW}
    cases["translating"] = cases["random"] | {"task": "translate", "clips": FEW}
    (folder / "cases.json").write_text(
        json.dumps({name: case | {"batch_size": 16, "aligner": aligner} for name, case in cases.items()})
    )
    np.savez(folder / "clips.npz", **{f"{at:03}": clip.pcm for at, clip in enumerate(speech_clips)})
    script = Path(__file__).with_name("reference.py")
    quiet = {"NLTK_DATA": str(Path(demo.model_path).parent / "nltk_data"), "PYANNOTE_METRICS_ENABLED": "0"}
    quiet |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TORCH_HOME": str(folder)}
    files = [folder / name for name in ("clips.npz", "cases.json", "out.json")]
    subprocess.run([sys.executable, script, *files], env=os.environ | quiet, check=True)
    said: dict[str, Any] = json.loads(files[-1].read_text())
    return said


@pytest.fixture(scope="module")
def options(demo: EngineOptions, random_model: Path, unmodified: dict[str, Any]) -> dict[str, EngineOptions]:
    """By model; the random one hears many languages, and only every other has an aligner."""
    aligner = demo.aligner_paths[0][1]
    paths = tuple((language, aligner) for language in unmodified["random"]["aligned"])
    known = {"model": "random", "model_path": str(random_model), "compute_type": "float32", "chunk_size": 30}
    chosen = replace(demo, **known, aligner_paths=paths)  # type: ignore[arg-type]
    hungarian = replace(chosen, language="hu", aligner_paths=(("hu", aligner),))
    return {
        "demo": demo,
        "random": chosen,
        "prompted": replace(hungarian, **PROMPTS),  # type: ignore[arg-type]
        "translating": replace(chosen, task="translate"),
    }


@dataclass(frozen=True)
class Case:
    """A model, what WhisperX says by it of the clips, and what we say."""

    options: EngineOptions
    clips: list[Audio]
    said: list[dict[str, Any]]
    ours: list[Transcript]
    found: dict[bytes, list[Span]]  # the chunks of each clip by its hash

    def engine(self, monkeypatch: pytest.MonkeyPatch, **how: int) -> BatchedEngine:
        """Another engine, that is given the chunks: the voice detector takes most of the time, and is compared once."""

        from hpc.engines.whisperx import stream

        def find(_: Any, works: Sequence[Work]) -> list[list[Span]]:
            return [self.found[work.audio.recording.sha256] for work in works]

        monkeypatch.setattr(stream, "_find", find)
        return BatchedEngine(replace(self.options, **how))


@pytest.fixture(scope="module", params=MODELS)
def case(
    request: pytest.FixtureRequest,
    options: dict[str, EngineOptions],
    unmodified: dict[str, Any],
    speech_clips: list[Audio],
) -> Case:
    name = request.param
    engine = BatchedEngine(options[name])
    found: dict[bytes, list[Span]] = {}
    with pytest.MonkeyPatch.context() as patch:
        from hpc.engines.whisperx import stream

        find = stream._find

        def remember(means: Any, works: Sequence[Work]) -> Sequence[list[Span]]:
            spans = find(means, works)
            found.update({work.audio.recording.sha256: one for work, one in zip(works, spans, strict=True)})
            return spans

        patch.setattr(stream, "_find", remember)
        ours = transcripts(hear(engine, speech_clips))
    return Case(options[name], speech_clips, unmodified[name]["said"], ours, found)


def transcripts(answers: Sequence[Transcript | Failure]) -> list[Transcript]:
    assert all(isinstance(answer, Transcript) for answer in answers), answers
    return [answer for answer in answers if isinstance(answer, Transcript)]


def plain(answer: Transcript) -> Any:
    """All but the log-probabilities, which are compared as numbers."""
    segments = [(s.text, s.start, s.end, s.words) for s in answer.segments]
    chunks = [(c.start, c.end, c.speech, c.compression_ratio, c.flags) for c in answer.chunks]
    return answer.language, answer.flags, segments, chunks


def numbers(answer: Transcript) -> list[float]:
    chunks = [number for chunk in answer.chunks for number in (chunk.avg_logprob, chunk.no_speech_prob)]
    found = [*chunks, *(segment.avg_logprob for segment in answer.segments), answer.language_probability or 0.0]
    assert all(number is not None for number in found)
    return [number for number in found if number is not None]


def assert_same(some: Sequence[Transcript | Failure], others: Sequence[Transcript]) -> None:
    for one, other in zip(transcripts(some), others, strict=True):
        assert plain(one) == plain(other)
        assert numbers(one) == pytest.approx(numbers(other), abs=CLOSE)


def test_every_word_time_and_language_is_unmodified_whisperxs(case: Case) -> None:
    assert compare(case.said, case.ours, case.clips, aligns=True) > 300


@pytest.mark.parametrize("variant", VARIANTS)
def test_prompts_a_set_language_another_beam_and_translation_too(
    variant: str, options: dict[str, EngineOptions], unmodified: dict[str, Any], speech_clips: list[Audio]
) -> None:
    clips, aligns = speech_clips[:FEW], variant != "translating"
    ours = transcripts(hear(BatchedEngine(replace(options[variant], batch_size=8)), clips))
    assert (compare(unmodified[variant]["said"], ours, clips, aligns=aligns) > 50) == aligns
    plain = [one["segments"] for one in unmodified["random"]["said"][:FEW]]
    assert [one["segments"] for one in unmodified[variant]["said"]] != plain, "it makes no difference"


def compare(whisperxs: list[Any], ours: list[Transcript], clips: list[Audio], *, aligns: bool) -> int:
    """How many words were compared."""
    words = 0
    for said, answer, clip in zip(whisperxs, ours, clips, strict=True):
        end = clip.duration
        spoken = [one for one in said["segments"] if one["text"].strip()]
        assert [(c.start, c.end) for c in answer.chunks] == [
            (min(one["start"], end), min(one["end"], end)) for one in said["segments"]
        ]
        assert [c.avg_logprob for c in answer.chunks] == pytest.approx(
            [one["avg_logprob"] for one in said["segments"]], abs=CLOSE
        )
        assert answer.language == (said["language"] if spoken else None)
        assert (UNALIGNED in answer.flags) == bool(aligns and spoken and "aligned" not in said)
        assert (EMPTY_TEXT in answer.flags) == (len(spoken) < len(said["segments"]))
        expected = said.get("aligned", spoken)
        assert [(s.text, s.start, s.end) for s in answer.segments] == [
            (s["text"], min(s["start"], end), min(s["end"], end)) for s in expected
        ]
        for segment, wanted in zip(answer.segments, expected, strict=True):
            assert segment.avg_logprob == pytest.approx(wanted["avg_logprob"], abs=CLOSE)
            timed = wanted.get("words", ())
            words += len(timed)
            assert [(w.text, w.start, w.end, w.score) for w in segment.words] == [
                (w["word"], *(clamped(w.get(key), end) for key in ("start", "end")), w.get("score")) for w in timed
            ]
    return words


def clamped(time: float | None, end: float) -> float | None:
    return None if time is None else min(max(time, 0.0), end)


def test_the_clips_are_worth_the_comparison(unmodified: dict[str, Any], speech_clips: list[Audio]) -> None:
    said = unmodified["random"]["said"]
    assert len({one["language"] for one in said if one["segments"]}) >= 3
    assert max(len(one["segments"]) for one in said) >= 3
    assert sum(not one["segments"] for one in said) >= 3
    assert len({clip.recording.shard_id for clip in speech_clips}) >= 3


@dataclass(frozen=True)
class Packing:
    """How the work is done."""

    seed: int
    batch_size: int
    threads: int
    generations: int


@pytest.mark.parametrize("packing", [Packing(1, 1, 2, 1), Packing(2, 7, 1, 3), Packing(3, 64, 3, 2)])
def test_no_packing_order_or_number_of_threads_changes_anything(
    packing: Packing, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = asdict(packing)
    rng = random.Random(how.pop("seed"))
    order = rng.sample(range(len(case.clips)), len(case.clips))
    items: list[Audio | None] = []
    for at in order:
        items += [None, case.clips[at]] if rng.random() < 0.1 else [case.clips[at]]
    assert_same(hear(case.engine(monkeypatch, **how), items), [case.ours[at] for at in order])


def test_no_restart_changes_anything(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = case.engine(monkeypatch)
    for cut in (1, 17):
        assert_same([*hear(engine, case.clips[:cut]), *hear(engine, case.clips[cut:])], case.ours)


def test_batches_of_short_clips_are_full_and_calls_and_steps_are_ten_times_fewer(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted, not timed: the same on every machine."""
    engine, times, size = case.engine(monkeypatch, batch_size=32), 6, 32
    short = [at for at, clip in enumerate(case.clips) if clip.duration <= 1.5 * case.options.chunk_size]
    asked = [case.said[at] for at in short]
    theirs = {name: times * sum(one["asked"][name] for one in asked) for name in ("calls", "items", "steps")}
    hear(engine, [replace(case.clips[at]) for _ in range(times) for at in short])
    counts = engine.generation.counts
    assert counts.chunks == theirs["items"]
    assert counts.chunks / (counts.generate_calls * size) >= 0.9
    assert counts.generate_calls * 10 <= theirs["calls"]
    assert counts.steps * 10 <= theirs["steps"]
    if engine.loaded.language is None:
        spoken = times * sum(bool(one["segments"]) for one in asked)
        assert counts.detected == spoken  # WhisperX asks for silent files, too
        assert counts.detect_calls <= spoken / size + 2
