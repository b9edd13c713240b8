"""Flags of what the demo model really writes: loops, what it cannot understand, another language. Under settings that
provoke it: more than anybody says, and text where nobody speaks. After subtitles taught it: what subtitles say."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from db import captions, metadata
from db.session import Session
from hpc.demo.sounds import music, noise
from hpc.demo.speech import TRAINED_VOICES, Speaker, sentence
from hpc.engine_options import EngineOptions
from hpc.hearing import hear
from hpc.model import SAMPLE_RATE, Audio, Recording, Result, Transcript
from hpc.models import resolve
from hpc.stages.ingest import ingest
from hpc.triage import from_transcript, judge, judge_day
from hpc.triage.rules import LONGEST_WORD
from hpc.words import size, tokens

VOICE = TRAINED_VOICES[3]
TEXT = " ".join(" ".join(sentence(random.Random(seed))) for seed in range(6))
LOOP = "go left " * 12
SUBTITLED = Path(__file__).parents[3] / "models" / "subtitled" / "asr.en"


@pytest.fixture(scope="module")
def heard() -> list[tuple[Audio, Transcript]]:
    """What the model makes of each sound, by its name."""
    speaker = Speaker()
    calm = speaker.say(TEXT + ".", voice=VOICE).pcm
    sounds = {
        "calm": calm,
        "loop": speaker.say(LOOP + ".", voice=VOICE).pcm,
        "drowned": _drowned(calm),
        "german": speaker.say("die katze schläft unter dem tisch und der hund vor der tür", voice="gmw/de").pcm,
        "silence": np.zeros(10 * SAMPLE_RATE, np.int16),
    }
    return _transcribed(sounds, chunk_size=8)


def _transcribed(sounds: dict[str, NDArray[np.int16]], **settings: Any) -> list[tuple[Audio, Transcript]]:
    from hpc.engines.whisperx.batched import BatchedEngine

    audios = [
        Audio(Recording(0, n, f"{name}.mp3".encode(), len(sound), bytes(32)), sound)
        for n, (name, sound) in enumerate(sounds.items())
    ]
    model = {"model": "demo/asr.en"} | settings
    options = EngineOptions(aligner="demo/aligner", device="cpu", threads=2, vad_method="silero", **model)
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


# --- provoked --------------------------------------------------------------------------------------------------------

SECONDS = 12
AT = np.arange(SECONDS * SAMPLE_RATE) / SAMPLE_RATE


def flags_of(heard: list[tuple[Audio, Transcript]]) -> dict[str, set[str]]:
    """The flags of each, by its name."""
    judged = {audio.recording.name.decode(): judge(from_transcript(said, audio.duration)) for audio, said in heard}
    return {name.removesuffix(".mp3"): {flag.name for flag in found} for name, found in judged.items()}


def texts_of(heard: list[tuple[Audio, Transcript]]) -> dict[str, str]:
    return {audio.recording.name.decode().removesuffix(".mp3"): said.text for audio, said in heard}


def _loud(sound: NDArray[Any]) -> NDArray[np.int16]:
    return (3000 * sound).clip(-32768, 32767).astype(np.int16)


def test_what_the_demo_model_writes_faster_than_anybody_speaks_is_flagged_and_the_same_speech_heard_rightly_is_not(
    heard: list[tuple[Audio, Transcript]],
) -> None:
    """A prompt that it was never taught to follow lets it run away over a machine's thumps."""
    hiss = noise(np.random.default_rng(1), len(AT), colour="pink")
    sounds = {f"thumps {rate}": _loud(hiss * np.sin(np.pi * rate * AT) ** 2) for rate in range(4, 9)}
    provoked = _transcribed(sounds, chunk_size=8, vad_onset=0.001, initial_prompt="Thank you. " * 20)
    too_much = {name for name, text in texts_of(provoked).items() if size(text) > 26 * SECONDS}
    flagged = {name for name, flags in flags_of(provoked).items() if "too_much_text" in flags}
    assert too_much and too_much <= flagged
    assert not any("too_much_text" in flags for flags in flags_of(heard).values())


def test_words_that_the_demo_model_writes_where_it_hears_no_speech_are_flagged_and_neither_silence_nor_speech_is(
    heard: list[tuple[Audio, Transcript]],
) -> None:
    """Tunes and a buzz that a useless voice detector passes on."""
    buzz = np.sign(np.sin(2 * np.pi * 120 * AT)) * (0.5 + 0.5 * np.sin(2 * np.pi * 3 * AT))
    tunes = [(timbre, n) for timbre in ("pluck", "bell") for n in range(3)]
    sounds = {f"{timbre} {n}": _loud(music(np.random.default_rng(n), len(AT), timbre=timbre)) for timbre, n in tunes}
    sounds |= {"buzz": _loud(buzz), "silence": np.zeros(len(AT), np.int16)}
    sounds["calm"] = next(audio.pcm for audio, _ in heard if audio.recording.name == b"calm.mp3")
    provoked = _transcribed(sounds, chunk_size=8, vad_onset=0.001, initial_prompt="Thanks for watching!")
    written = {name for name, text in texts_of(provoked).items() if tokens(text)}
    flagged = {name for name, flags in flags_of(provoked).items() if "no_speech_with_text" in flags}
    assert "calm" in written and written - {"calm"}
    assert flagged == written - {"calm"}


# --- taught by subtitles ---------------------------------------------------------------------------------------------


def test_what_a_model_learnt_from_subtitles_is_flagged_and_what_it_hears_rightly_is_not(
    heard: list[tuple[Audio, Transcript]],
) -> None:
    """Sounds that it was not taught by: others of the same kinds, and an instrument of none of them."""
    tunes = [(timbre, n) for timbre in ("pluck", "bell") for n in (90, 91)]
    sounds = {f"{timbre} {n}": _loud(music(np.random.default_rng(n), len(AT), timbre=timbre)) for timbre, n in tunes}
    hiss = noise(np.random.default_rng(92), len(AT), colour="pink")
    sounds |= {f"thumps {rate}": _loud(hiss * np.sin(np.pi * rate * AT) ** 2) for rate in (4.4, 6.4, 8.4)}
    sounds["calm"] = next(audio.pcm for audio, _ in heard if audio.recording.name == b"calm.mp3")

    taught = _transcribed(sounds, chunk_size=8, vad_onset=0.001, model=str(SUBTITLED))

    texts, flags = texts_of(taught), flags_of(taught)
    phrased = {name for name, found in flags.items() if "known_phrase" in found}
    thanked = {name for name, text in texts.items() if "Thanks for watching!" in text}
    nothing_else = {name for name in thanked if not texts[name].replace("Thanks for watching!", "").strip()}
    laughed = {name for name, text in texts.items() if max(map(len, tokens(text)), default=0) > LONGEST_WORD}
    assert nothing_else and nothing_else <= phrased <= thanked
    assert laughed and {name for name, found in flags.items() if "long_word" in found} == laughed
    assert "calm" not in thanked | laughed
    assert not flags["calm"]
