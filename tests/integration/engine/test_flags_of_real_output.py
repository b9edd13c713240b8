"""Flags of what the demo model really writes: loops, what it cannot understand, another language; none of the rest."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from db import captions, metadata
from db.session import Session
from hpc.demo.sounds import noise
from hpc.demo.speech import TRAINED_VOICES, Speaker, sentence
from hpc.engine_options import EngineOptions
from hpc.hearing import hear
from hpc.model import SAMPLE_RATE, Audio, Recording, Result, Transcript
from hpc.models import resolve
from hpc.stages.ingest import ingest
from hpc.triage import judge_day

VOICE = TRAINED_VOICES[3]
TEXT = " ".join(" ".join(sentence(random.Random(seed))) for seed in range(6))
LOOP = "go left " * 12


@pytest.fixture(scope="module")
def heard() -> list[tuple[Audio, Transcript]]:
    """What the model makes of each sound, by its name."""
    from hpc.engines.whisperx.batched import BatchedEngine

    speaker = Speaker()
    calm = speaker.say(TEXT + ".", voice=VOICE).pcm
    sounds = {
        "calm": calm,
        "loop": speaker.say(LOOP + ".", voice=VOICE).pcm,
        "drowned": _drowned(calm),
        "german": speaker.say("die katze schläft unter dem tisch und der hund vor der tür", voice="gmw/de").pcm,
        "silence": np.zeros(10 * SAMPLE_RATE, np.int16),
    }
    audios = [
        Audio(Recording(0, n, f"{name}.mp3".encode(), len(sound), bytes(32)), sound)
        for n, (name, sound) in enumerate(sounds.items())
    ]
    options = EngineOptions(
        model="demo/asr.en", aligner="demo/aligner", device="cpu", chunk_size=8, threads=2, vad_method="silero"
    )
    answers = hear(BatchedEngine(resolve(options)[0]), audios)
    return [(audio, said) for audio, said in zip(audios, answers, strict=True) if isinstance(said, Transcript)]


def _drowned(sound: NDArray[np.int16]) -> NDArray[np.int16]:
    """Under noise in which nobody understands a word."""
    level = np.sqrt(np.mean(sound.astype(np.float64) ** 2))
    mixed = sound + 4 * level * noise(np.random.default_rng(1), len(sound), colour="pink")
    return np.clip(mixed * 0.3, -32768, 32767).astype(np.int16)


@pytest.fixture
def session(dsn: str) -> Iterator[Session]:
    made = Session(dsn, application="test")
    yield made
    made.close()


def test_the_demo_models_own_loops_and_mistakes_are_flagged_and_what_it_hears_rightly_is_not(
    a_day: Any, session: Session, heard: list[tuple[Audio, Transcript]]
) -> None:
    [shard] = a_day.lease(a_day.connection, a_day.open.id, 1)
    results = [Result(audio.recording, said, audio.duration) for audio, said in heard]
    assert ingest(a_day.connection, a_day.publish(shard, results, sealed=True), actor="worker-1").settled
    nothing = dict.fromkeys(metadata.COLUMNS)
    languages = {"calm": "en", "loop": "en", "german": "de", "drowned": "en"}
    rows = [(name, *(nothing | {"text_language": language}).values()) for name, language in languages.items()]
    metadata.put(a_day.connection, a_day.open.id, rows)
    told = {"calm": TEXT, "loop": LOOP, "drowned": TEXT}
    captions.put(a_day.connection, a_day.open.id, [(name, "eng-US", "ASR", text, None) for name, text in told.items()])
    judge_day(session, a_day.open.id)

    found = a_day.connection.execute(
        "SELECT r.meta_id, array_agg(f.flag) FILTER (WHERE f.flag IS NOT NULL) AS flags FROM recordings r"
        " LEFT JOIN flags f ON f.transcript_id = r.current_id WHERE r.shard_id = %s GROUP BY r.meta_id",
        [shard.id],
    )
    flags = {row["meta_id"]: set(row["flags"] or ()) for row in found}
    assert (flags["calm"], flags["silence"], flags["loop"]) == (set(), set(), {"repetition"})
    assert flags["drowned"] >= {"captions_differ"}
    assert flags["german"] >= {"language"}
