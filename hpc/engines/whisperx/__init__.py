"""Speech to text by WhisperX, one recording after the other: the reference that any faster way must agree with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from db.errors import DayscribeError
from hpc.blame import blame
from hpc.engine_options import EngineOptions, compute_type_on
from hpc.engines.whisperx.offline import is_gpu_lost, is_out_of_memory, prepare, silence
from hpc.errors import BadSetting, FailureClass, ModelMissing
from hpc.model import Audio, Failure, Segment, Transcript, Word

UNALIGNED = "unaligned"  # the flag of a transcript whose words have no times


class WhisperXEngine:
    """`whisperx.load_model(…).transcribe` and `whisperx.align` as they are, with nothing carried between recordings.

    Left to itself WhisperX keeps the last file's language after an error, throws away how sure it was of it, gives
    times past the end of the audio, and fails a whole run for one language without an aligner.
    """

    def __init__(self, options: EngineOptions) -> None:
        if not options.model_path or not Path(options.model_path).is_dir():
            raise ModelMissing(
                f"The speech model {options.model!r} has no directory on this machine. "
                "See which there are: dayscribe models list"
            )
        prepare(options)
        import torch

        torch.set_num_threads(options.threads)
        self._options = options
        self._device = _device(options.device, gpu=torch.cuda.is_available())
        self._pipeline = _load(options, self._device)
        self._asr_options = self._pipeline.options
        self._pipeline.detect_language = self._detect
        self._probability: float | None = None
        self._language = self._known_language()
        self._aligners = self._load_aligners()

    def transcribe(self, batch: Sequence[Audio]) -> Sequence[Transcript | Failure]:
        return [self._one(audio) for audio in batch]

    def _one(self, audio: Audio) -> Transcript | Failure:
        if not len(audio.pcm):
            return Failure(FailureClass.EMPTY, "The recording has no samples.")
        sound = audio.pcm.astype(np.float32) / np.float32(32768)
        try:
            return self._transcript(sound, audio.duration)
        except DayscribeError:
            raise
        except Exception as error:
            if is_gpu_lost(error):
                raise  # only a new process gets it back; this recording is then tried alone
            if is_out_of_memory(error):
                return Failure(FailureClass.ENGINE_ERROR, f"Out of memory with one chunk at a time: {blame(error)}")
            return Failure(FailureClass.ENGINE_ERROR, f"WhisperX failed: {blame(error)}")

    def _transcript(self, sound: NDArray[np.float32], duration: float) -> Transcript:
        said = self._hear(sound)
        segments = [segment for segment in said["segments"] if segment["text"].strip()]
        if not segments:
            return Transcript(language=None, segments=())
        language, flags = said["language"], tuple[str, ...]()
        if self._aligners:
            aligned = self._aligners.align(segments, language, sound)
            segments, flags = (segments, (UNALIGNED,)) if aligned is None else (aligned, ())
        return Transcript(
            language=language,
            segments=tuple(_segment(segment, duration) for segment in segments),
            language_probability=self._probability,
            flags=flags,
        )

    def _hear(self, sound: NDArray[np.float32]) -> Any:
        """WhisperX's answer; with less at a time when memory runs out, which changes nothing in the answer."""
        batch_size = self._options.batch_size
        while True:
            self._forget()
            try:
                return self._pipeline.transcribe(
                    sound,
                    batch_size=batch_size,
                    language=self._language,
                    task=self._options.task,
                    chunk_size=self._options.chunk_size,
                )
            except Exception as error:
                if batch_size == 1 or not is_out_of_memory(error):
                    raise
                batch_size //= 2

    def _forget(self) -> None:
        """Nothing of an earlier recording, whether it went well or not, may reach the next."""
        self._pipeline.tokenizer = None
        self._pipeline.options = self._asr_options
        self._probability = None

    def _detect(self, sound: NDArray[np.float32]) -> str:
        """What FasterWhisperPipeline.detect_language does, except that the probability is kept."""
        from whisperx.audio import N_SAMPLES, log_mel_spectrogram

        model = self._pipeline.model
        mel = log_mel_spectrogram(
            sound[:N_SAMPLES],
            n_mels=model.feat_kwargs.get("feature_size") or 80,
            padding=max(0, N_SAMPLES - len(sound)),
        )
        token, probability = model.model.detect_language(model.encode(mel))[0][0]
        self._probability = round(float(probability), 4)
        return str(token[2:-2])

    def _known_language(self) -> str | None:
        """The language of every recording, or None to detect each one's."""
        from whisperx.utils import LANGUAGES

        asked, model = self._options.language, self._options.model
        if not self._pipeline.model.model.is_multilingual:
            if asked not in ("auto", "en") or self._options.task == "translate":
                raise BadSetting(f"The model {model!r} knows English only; it cannot {self._options.task} {asked!r}.")
            return "en"
        if asked == "auto":
            return None
        if asked not in LANGUAGES:
            raise BadSetting(f"language is {asked!r}; WhisperX has no such language code.")
        return asked

    def _load_aligners(self) -> Any:
        if not self._options.align or self._options.task == "translate":
            return None
        from hpc.engines.whisperx.aligning import Aligners

        aligners = Aligners(dict(self._options.aligner_paths), self._device, self._options.sentences_path)
        if self._language:
            aligners.load(self._language)
        return aligners


def _device(asked: str, *, gpu: bool) -> str:
    if asked == "cuda" and not gpu:
        raise BadSetting("device is 'cuda', but torch finds no GPU it can use here. See: dayscribe doctor")
    return ("cuda" if gpu else "cpu") if asked == "auto" else asked


def _load(options: EngineOptions, device: str) -> Any:
    import whisperx

    vad_model = None
    if options.vad_method == "silero":
        from hpc.engines.whisperx.silero import BundledSilero

        vad_model = BundledSilero(vad_onset=options.vad_onset, chunk_size=options.chunk_size)
    compute_type = compute_type_on(device, options.compute_type)
    try:
        with silence():
            return whisperx.load_model(
                options.model_path,
                device,
                compute_type=compute_type,
                asr_options={name: getattr(options, name) for name in ("beam_size", "hotwords", "initial_prompt")},
                vad_model=vad_model,
                vad_options={name: getattr(options, name) for name in ("chunk_size", "vad_onset", "vad_offset")},
                local_files_only=True,
                threads=options.threads,
            )
    except (ValueError, RuntimeError, OSError) as error:
        if "compute type" in str(error):
            raise BadSetting(f"compute_type {compute_type!r} does not work on this {device}: {error}") from error
        if is_gpu_lost(error) or is_out_of_memory(error):
            raise  # the machine's trouble, not the model's
        raise ModelMissing(
            f"The speech model in {options.model_path} cannot be read: {error}. "
            "See what is wrong with it: dayscribe models verify"
        ) from error


def _segment(said: Any, duration: float) -> Segment:
    return Segment(
        text=str(said["text"]),
        start=_time(said["start"], duration) or 0.0,
        end=_time(said["end"], duration) or 0.0,
        words=tuple(
            Word(
                text=str(word["word"]),
                start=_time(word.get("start"), duration),
                end=_time(word.get("end"), duration),
                score=_number(word.get("score")),
            )
            for word in said.get("words", ())
        ),
        avg_logprob=_number(said.get("avg_logprob")),
    )


def _number(value: Any) -> float | None:
    """A plain float: WhisperX gives NumPy's, and NaN for what it does not know."""
    return None if value is None or math.isnan(value) else float(value)


def _time(value: Any, duration: float) -> float | None:
    """Seconds within the recording: the last chunk can end a little after it."""
    number = _number(value)
    return None if number is None else min(max(number, 0.0), duration)
