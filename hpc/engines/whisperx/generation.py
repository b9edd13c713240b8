"""Chunks of many recordings in one call of the model, with a prompt for each; the numbers are WhisperX's own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import get_ctranslate2_storage
from whisperx.audio import N_FRAMES, N_SAMPLES, log_mel_spectrogram

from hpc.engines.whisperx.loading import Loaded
from hpc.engines.whisperx.offline import free_memory, is_out_of_memory
from hpc.engines.whisperx.speech import Sound
from hpc.errors import MachineUnfit
from hpc.model import compression_ratio

T = TypeVar("T")
R = TypeVar("R")
LOOPS = 2.4  # a compression ratio above it is a text that repeats itself: Whisper's own threshold
UNSURE = -1.0  # below this average log-probability Whisper, too, believes that there was no speech
CPU_BATCH_BYTES = 6 << 30  # of weights times chunks: 2 chunks of large-v3, 12 of small, 40 of tiny
CPU_ENCODED = 4
_NO_REPEAT = 3  # words of a repetition that a second decoding must not make


@dataclass(frozen=True, slots=True)
class Said:
    """What the model says of one chunk."""

    text: str
    avg_logprob: float
    no_speech_prob: float
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Language:
    """What is spoken, and how sure the model is; None where nobody asked it."""

    code: str
    probability: float | None = None


@dataclass(slots=True)
class Counts:
    """What the model was asked; the same on every machine."""

    generate_calls: int = 0
    chunks: int = 0
    steps: int = 0  # of the decoder, one after the other: the longest text of each call
    detect_calls: int = 0
    detected: int = 0
    halvings: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, **more: int) -> None:
        with self._lock:
            for name, value in more.items():
                setattr(self, name, getattr(self, name) + value)


class Generation:
    """The model of a pipeline. Its methods may be called from several threads: CTranslate2 takes its workers' number of
    batches at once."""

    def __init__(self, loaded: Loaded) -> None:
        self._options, self._model, self._asr = loaded.options, loaded.pipeline.model, loaded.pipeline.options
        self._mels = self._model.feat_kwargs.get("feature_size") or 80
        self.counts = Counts()
        self._encoded_at_once = CPU_ENCODED if loaded.device == "cpu" else 0  # 0: all of a batch
        self.batch_size = _batch_size(loaded)  # falls when memory runs out, and stays there
        self.prompt = cache(self._prompt)

    def languages(self, sounds: Sequence[Sound]) -> list[Language]:
        """Of the first 30 seconds of each, as FasterWhisperPipeline.detect_language does."""
        return self._sparing_memory(self._languages, [self._features(sound[:N_SAMPLES]) for sound in sounds])

    def say(self, asked: Sequence[tuple[Sound, Language | None]]) -> list[tuple[Said, Language]]:
        """The text of each chunk; one without a language gets the one that its own sound has."""
        return self._sparing_memory(self._generate, [(self._features(sound), language) for sound, language in asked])

    def _features(self, sound: Sound) -> Any:
        """Log-mel, shape (mels, 3000)."""
        mel = log_mel_spectrogram(torch.from_numpy(sound), self._mels, padding=max(0, N_SAMPLES - len(sound)))
        return mel[:, :N_FRAMES]  # a chunk can be a frame longer than the model's window

    def _languages(self, features: Sequence[Any]) -> list[Language]:
        self.counts.add(detect_calls=1, detected=len(features))
        source, _ = self._heard(features)
        found = self._model.model.detect_language(source)
        return [_language(one) for one in found]

    def _generate(self, items: Sequence[tuple[Any, Language | None]]) -> list[tuple[Said, Language]]:
        source, encoded = self._heard([features for features, _ in items])
        languages = [language for _, language in items]
        if None in languages:
            source = source if encoded else self._model.model.encode(source)
            found = self._model.model.detect_language(source)
            languages = [known or _language(one) for known, one in zip(languages, found, strict=True)]
        known = [language for language in languages if language is not None]
        said = self._decode(source, known)
        if self._options.second_decode:
            said = self._again(items, known, said)
        return [(self._judged(one), language) for one, language in zip(said, known, strict=True)]

    def _heard(self, features: Sequence[Any]) -> tuple[Any, bool]:
        """What a call is given, and whether the encoder has done its part. The memory that it needs grows with how many
        it has at once; on a CPU they gain nothing by it."""
        if not self._encoded_at_once or len(features) <= self._encoded_at_once:
            return _storage(features), False
        parts = range(0, len(features), self._encoded_at_once)
        encoded = [self._model.model.encode(_storage(features[at : at + self._encoded_at_once])) for at in parts]
        return get_ctranslate2_storage(np.concatenate([np.asarray(part) for part in encoded])), True

    def _decode(self, source: Any, languages: Sequence[Language], *, no_repeat: int | None = None) -> list[Said]:
        """As WhisperModel.generate_segment_batched does, but for the prompts and one more number."""
        asr = self._asr
        results = self._model.model.generate(
            source,
            [self.prompt(language.code) for language in languages],
            beam_size=asr.beam_size,
            patience=asr.patience,
            length_penalty=asr.length_penalty,
            max_length=self._model.max_length,
            suppress_blank=asr.suppress_blank,
            suppress_tokens=asr.suppress_tokens,
            no_repeat_ngram_size=asr.no_repeat_ngram_size if no_repeat is None else no_repeat,
            repetition_penalty=asr.repetition_penalty,
            return_scores=True,
            return_no_speech_prob=True,
        )
        ids = [result.sequences_ids[0] for result in results]
        self.counts.add(generate_calls=1, chunks=len(ids), steps=max(map(len, ids)) + 1)
        end = self._tokenizer("en").eot
        texts = self._model.hf_tokenizer.decode_batch([[token for token in one if token < end] for one in ids])
        return [
            Said(
                text,
                result.scores[0] * len(one) ** asr.length_penalty / (len(one) + 1),
                float(result.no_speech_prob),
            )
            for text, one, result in zip(texts, ids, results, strict=True)
        ]

    def _again(
        self, items: Sequence[tuple[Any, Language | None]], languages: Sequence[Language], said: list[Said]
    ) -> list[Said]:
        """Those that repeat themselves once more; the better text is kept."""
        loops = [at for at, one in enumerate(said) if (compression_ratio(one.text) or 0.0) > LOOPS]
        if not loops:
            return said
        source = _storage([items[at][0] for at in loops])
        better = dict(
            zip(loops, self._decode(source, [languages[at] for at in loops], no_repeat=_NO_REPEAT), strict=True)
        )
        return [_better(one, better[at]) if at in better else one for at, one in enumerate(said)]

    def _judged(self, said: Said) -> Said:
        limit = self._options.no_speech_threshold
        if limit is None or not (said.no_speech_prob > limit and said.avg_logprob < UNSURE):
            return said
        return Said("", said.avg_logprob, said.no_speech_prob, (*said.flags, "dropped"))

    def _sparing_memory(self, work: Callable[[Sequence[T]], list[R]], items: Sequence[T]) -> list[R]:
        """work(items), in as few calls as memory allows; how few that is, is remembered."""
        done: list[R] = []
        while len(done) < len(items):
            batch = items[len(done) : len(done) + self.batch_size]
            try:
                done += work(batch)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if len(batch) == 1:  # every window of the model is as large as any other: it is not this chunk's doing
                    raise MachineUnfit(
                        f"Memory does not suffice for one chunk of the model {self._options.model!r}."
                    ) from error
                free_memory()
                self.counts.add(halvings=1)
                self.batch_size = min(self.batch_size, (len(batch) + 1) // 2)
        return done

    @cache  # noqa: B019 - there is one of it in the process
    def _tokenizer(self, language: str) -> Tokenizer:
        multilingual = self._model.model.is_multilingual
        return Tokenizer(self._model.hf_tokenizer, multilingual, task=self._options.task, language=language)

    def _prompt(self, language: str) -> list[int]:
        asr, tokenizer = self._asr, self._tokenizer(language)
        before = [] if asr.initial_prompt is None else tokenizer.encode(" " + asr.initial_prompt.strip())
        prompt: list[int] = self._model.get_prompt(
            tokenizer, before, without_timestamps=asr.without_timestamps, prefix=asr.prefix, hotwords=asr.hotwords
        )
        return prompt


def _batch_size(loaded: Loaded) -> int:
    """On a CPU large models take few chunks at a time: each thread has a batch, and one of many would take hours."""
    if loaded.device != "cpu":
        return loaded.options.batch_size
    size = (Path(loaded.options.model_path) / "model.bin").stat().st_size
    return max(1, min(loaded.options.batch_size, CPU_BATCH_BYTES // size))


def _storage(features: Sequence[Any]) -> Any:
    return get_ctranslate2_storage(torch.stack(list(features)).numpy())


def _language(found: Sequence[tuple[str, float]]) -> Language:
    token, probability = found[0]
    return Language(token[2:-2], round(float(probability), 4))


def _better(first: Said, second: Said) -> Said:
    ratios = [compression_ratio(one.text) for one in (first, second)]
    if ratios[1] is None or (ratios[0] or 0.0) <= ratios[1]:
        return first
    return Said(second.text, second.avg_logprob, second.no_speech_prob, ("decoded_twice",))
