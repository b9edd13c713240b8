"""Synthetic speech: its words, their times, its formats, and that it can be made again."""

from __future__ import annotations

import ctypes
import random
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from db.errors import NeedsConfiguration
from hpc.demo import speech
from hpc.demo.codecs import Codec, decode, encode
from hpc.demo.sounds import COLOURS, TIMBRES, hum, music, noise
from hpc.demo.speech import HELD_OUT_VOICES, TRAINED_VOICES, WORDS, Speaker, sentence


@pytest.fixture(scope="module")
def speaker() -> Speaker:
    return Speaker()


def test_the_vocabulary_has_65_different_words() -> None:
    assert len(WORDS) == len(set(WORDS)) == 65


def test_sentences_use_only_the_vocabulary_and_repeat_for_a_seed() -> None:
    first, second = random.Random(7), random.Random(7)
    drawn = [sentence(first) for _ in range(300)]
    assert drawn == [sentence(second) for _ in range(300)]
    assert {word for words in drawn for word in words} == set(WORDS)


def test_an_utterance_says_when_each_word_was_spoken(speaker: Speaker) -> None:
    spoken = speaker.say("station three, channel six please stop over.", voice="gmw/en-US+f2")
    assert [word for word, _, _ in spoken.words] == ["station", "three", "channel", "six", "please", "stop", "over"]
    edges = [edge for _, start, end in spoken.words for edge in (start, end)]
    assert edges == sorted(edges)
    assert 2.0 < edges[-1] < len(spoken.pcm) / 16_000
    assert spoken.pcm.dtype == np.int16


def test_words_that_the_synthesiser_would_join_keep_times_of_their_own(speaker: Speaker) -> None:
    spoken = speaker.say("july no one may may.", voice="gmw/en")
    assert [word for word, _, _ in spoken.words] == ["july", "no", "one", "may", "may"]


def test_the_sound_is_where_the_times_say(speaker: Speaker) -> None:
    spoken = speaker.say("seven, seven.", voice="gmw/en", word_gap=60)
    (_, _, first_end), (_, second_start, _) = spoken.words
    assert second_start - first_end > 0.2
    pause = spoken.pcm[int((first_end + 0.05) * 16_000) : int((second_start - 0.05) * 16_000)]
    assert np.abs(pause).max() < 0.02 * np.abs(spoken.pcm).max()


def test_a_new_speaker_with_the_same_calls_makes_the_same_samples() -> None:
    def day() -> list[bytes]:
        speaker, rng = Speaker(), random.Random(3)
        return [
            speaker.say(
                " ".join(sentence(rng)), voice=rng.choice(TRAINED_VOICES), rate=rng.randint(110, 215)
            ).pcm.tobytes()
            for _ in range(20)
        ]

    assert day() == day()


def test_every_voice_speaks_and_no_held_out_voice_was_trained(speaker: Speaker) -> None:
    mute = [voice for voice in (*TRAINED_VOICES, *HELD_OUT_VOICES) if not speaker.say("one", voice=voice).pcm.any()]
    assert mute == []
    assert not set(TRAINED_VOICES) & set(HELD_OUT_VOICES)


def test_an_unknown_voice_is_named(speaker: Speaker) -> None:
    with pytest.raises(NeedsConfiguration, match="nobody"):
        speaker.say("one", voice="gmw/en+nobody")


def test_a_missing_synthesiser_names_the_debian_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_name: str) -> ctypes.CDLL:
        raise OSError("cannot open shared object file")

    # Asked anew, and what is known stays known: later the loader would show a speaker's copy, which is gone.
    monkeypatch.setattr(speech, "_library_path", speech._library_path.__wrapped__)
    monkeypatch.setattr(ctypes, "CDLL", absent)
    with pytest.raises(NeedsConfiguration, match="libespeak-ng1 espeak-ng-data"):
        Speaker()


@pytest.mark.parametrize("codec", get_args(Codec))
def test_a_codec_gives_back_what_was_said_and_the_same_bytes_again(
    codec: Codec, speaker: Speaker, tmp_path: Path
) -> None:
    pcm = speaker.say("unit nine over", voice="gmw/en-US").pcm
    data = encode(pcm, codec=codec)
    assert data == encode(pcm, codec=codec)
    heard, said = decode(data)[: len(pcm)], pcm[: len(decode(data))] / 32768
    assert abs(len(decode(data)) - len(pcm)) < 0.15 * 16_000  # some codecs fill their last frame
    assert np.corrcoef(np.abs(heard), np.abs(said))[0, 1] > 0.8  # in its place, not shifted


def test_the_bit_rate_sets_the_size(speaker: Speaker) -> None:
    pcm = speaker.say("today monday april twenty one please report over", voice="gmw/en").pcm
    small, large = (len(encode(pcm, codec="mp3", bitrate=rate)) for rate in (16_000, 64_000))
    assert 3 < large / small < 5


def test_sounds_without_speech_are_steady_in_power_and_repeat_for_a_seed() -> None:
    makers = [lambda rng, c=colour: noise(rng, 32_000, colour=c) for colour in COLOURS]
    makers += [lambda rng, t=timbre: music(rng, 32_000, timbre=t) for timbre in TIMBRES]
    makers.append(lambda rng: hum(rng, 32_000))
    for make in makers:
        sound = make(np.random.default_rng(5))
        assert np.array_equal(sound, make(np.random.default_rng(5)))
        assert np.sqrt(np.mean(sound**2)) == pytest.approx(1, abs=1e-3)
