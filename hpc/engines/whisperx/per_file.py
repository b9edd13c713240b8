"""The reference: WhisperX as it is, one recording after the other. The batched engine must agree with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from db.errors import DayscribeError
from hpc.engine_options import EngineOptions
from hpc.engines.whisperx import answers
from hpc.engines.whisperx.loading import load, threads_of
from hpc.engines.whisperx.offline import is_gpu_lost, is_out_of_memory
from hpc.errors import BadSetting, MachineUnfit
from hpc.model import Audio, Failure, Transcript, compression_ratio
from hpc.ports import AtWork


class PerFileEngine:
    """`whisperx.load_model(…).transcribe` and `whisperx.align` as they are, with nothing carried between recordings.

    Left to itself WhisperX keeps the last file's language after an error, throws away how sure it was of it, gives
    times past the end of the audio, and fails a whole run for one language without an aligner.
    """

    def __init__(self, options: EngineOptions) -> None:
        if options.detect_on != "start" or options.second_decode or options.no_speech_threshold is not None:
            raise BadSetting("The engine whisperx_per_file does what WhisperX does; these options are whisperx's own.")
        loaded = load(options, threads=threads_of(options))
        self._options, self._pipeline, self._aligners = options, loaded.pipeline, loaded.aligners
        self._asr_options = self._pipeline.options
        self._pipeline.detect_language = self._detect
        self._probability: float | None = None
        self._language = loaded.language

    def transcribe(
        self, audios: Iterator[Audio | None], at_work: AtWork
    ) -> Iterator[tuple[Audio, Transcript | Failure]]:
        """Answers in the order of the stream."""
        for audio in audios:
            if audio is not None:
                with at_work([audio]):
                    answer = self._one(audio)
                yield audio, answer

    def _one(self, audio: Audio) -> Transcript | Failure:
        if not len(audio.pcm):
            return answers.NO_SAMPLES
        sound = audio.pcm.astype(np.float32) / np.float32(32768)
        try:
            return self._transcript(sound, audio.duration)
        except DayscribeError:
            raise
        except Exception as error:
            if is_gpu_lost(error):
                raise  # only a new process gets it back; this recording is then tried alone
            if is_out_of_memory(error) and not isinstance(error, MemoryError):
                raise MachineUnfit("The GPU has no memory left for one recording. Lower engine.batch_size.") from error
            return answers.failed(error)

    def _transcript(self, sound: NDArray[np.float32], duration: float) -> Transcript:
        said = self._hear(sound)
        chunks = [answers.chunk_of(one, duration, compression_ratio(one["text"])) for one in said["segments"]]
        segments, flags = [segment for segment in said["segments"] if segment["text"].strip()], tuple[str, ...]()
        if segments and self._aligners:
            aligned = self._aligners.align(segments, said["language"], sound)
            segments, flags = (segments, (answers.UNALIGNED,)) if aligned is None else (aligned, ())
        return answers.transcript(segments, said["language"], self._probability, duration, chunks=chunks, flags=flags)

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
                if not is_out_of_memory(error):
                    raise
                if (
                    batch_size == 1
                ):  # every window of the model is as large as any other: it is not this recording's doing
                    raise MachineUnfit(
                        f"Memory does not suffice for one chunk of the model {self._options.model!r}."
                    ) from error
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
