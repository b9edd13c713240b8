"""WhisperX and faster-whisper as their users run them, file after file: for `dayscribe bench`, never for work."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hpc.engine_options import EngineOptions
from hpc.engines.whisperx import answers
from hpc.engines.whisperx.offline import prepare, silence
from hpc.model import Audio, Failure, Segment, Transcript, compression_ratio

CLI_THREADS = 4  # what whisperx's command line gives CTranslate2, on any machine; torch it leaves alone
CLI_BATCH_SIZE = 8


class Counted:
    """CTranslate2's model, and what it was asked."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.asked = {"generate_calls": 0, "chunks": 0, "steps": 0, "language_calls": 0}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def generate(self, *arguments: Any, **named: Any) -> Any:
        said = self._model.generate(*arguments, **named)
        self.asked["generate_calls"] += 1
        self.asked["chunks"] += len(said)
        self.asked["steps"] += max(len(one.sequences_ids[0]) for one in said) + 1
        return said

    def detect_language(self, *arguments: Any, **named: Any) -> Any:
        self.asked["language_calls"] += 1
        return self._model.detect_language(*arguments, **named)


class WhisperX:
    """`whisperx.load_model(…).transcribe` and `whisperx.align`, unmodified, with its command line's defaults.

    Kinder than that command line: it reads each file once, and keeps every aligner that it has loaded.
    """

    batch_size = CLI_BATCH_SIZE

    def __init__(self, options: EngineOptions) -> None:
        _set_up(options)
        import whisperx

        self._options, self._align = options, whisperx.align
        self._known_language = None if options.language == "auto" else options.language
        vad_model = None
        if options.vad_method == "silero":
            from hpc.engines.whisperx.silero import BundledSilero  # its own would come from the network

            vad_model = BundledSilero(vad_onset=options.vad_onset, chunk_size=options.chunk_size)
        with silence():
            self._pipeline = whisperx.load_model(
                options.model_path,
                options.device,
                compute_type=options.compute_type,
                language=self._known_language,
                task=options.task,
                asr_options={name: getattr(options, name) for name in ("beam_size", "hotwords", "initial_prompt")},
                vad_model=vad_model,
                vad_options={name: getattr(options, name) for name in ("chunk_size", "vad_onset", "vad_offset")},
                threads=CLI_THREADS,
                local_files_only=True,
            )
        self._model = self._pipeline.model.model = Counted(self._pipeline.model.model)
        self._spent: defaultdict[str, float] = defaultdict(float)
        self._pipeline.detect_language = self._timed("language", self._pipeline.detect_language)
        model = self._pipeline.model
        model.generate_segment_batched = self._timed("text", model.generate_segment_batched)
        self._aligner = self._load_aligners()

    def hear(self, audios: Sequence[Audio], done: Callable[[], None]) -> list[Transcript | Failure]:
        said = []
        for audio in audios:
            said.append(self._one(audio))
            done()
        return said

    def counts(self) -> Mapping[str, int]:
        return self._model.asked

    def stages(self) -> Mapping[str, float]:
        """One thing after the other: all that the process spends is the stage's, CTranslate2's threads included."""
        spent = self._spent
        return {
            "speech": spent["whole"] - spent["language"] - spent["text"],  # and the features
            **{name: spent[name] for name in ("language", "text", "alignment")},
        }

    def _one(self, audio: Audio) -> Transcript | Failure:
        sound = audio.pcm.astype(np.float32) / np.float32(32768)
        try:
            said = self._timed("whole", self._pipeline.transcribe)(
                sound, batch_size=self.batch_size, chunk_size=self._options.chunk_size
            )
            segments, flags = self._words(said, sound)
        except Exception as error:  # noqa: BLE001 - a clip that it cannot do would end its command line
            return answers.failed(error)
        chunks = [answers.chunk_of(one, audio.duration, compression_ratio(one["text"])) for one in said["segments"]]
        return answers.transcript(segments, said["language"], None, audio.duration, chunks=chunks, flags=flags)

    def _words(self, said: Any, sound: Any) -> tuple[list[Any], tuple[str, ...]]:
        """Its aligned segments. What its aligner loses of the text we compare before it is lost."""
        segments = [segment for segment in said["segments"] if segment["text"].strip()]
        if not segments or self._aligner is None:
            return segments, ()
        aligner = self._aligner.load(said["language"])
        if aligner is None:
            return segments, (answers.UNALIGNED,)
        from hpc.engines.whisperx.aligning import is_good

        aligned = self._timed("alignment", self._align)(segments, *aligner, sound, self._options.device)["segments"]
        return (aligned, ()) if is_good(aligned, segments) else (segments, (answers.UNALIGNED,))

    def _load_aligners(self) -> Any:
        options = self._options
        if not options.align or options.task == "translate":
            return None

        from hpc.engines.whisperx.aligning import Aligners

        aligners = Aligners(dict(options.aligner_paths), options.device, options.sentences_path)
        if self._known_language:
            aligners.load(self._known_language)
        return aligners

    def _timed(self, what: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            before = time.process_time()
            try:
                return work(*arguments, **named)
            finally:
                self._spent[what] += time.process_time() - before

        return run


class FasterWhisper:
    """`faster_whisper.BatchedInferencePipeline(…).transcribe`, with its own defaults and its own voice detector."""

    batch_size = 8

    def __init__(self, options: EngineOptions) -> None:
        _set_up(options)
        from faster_whisper import BatchedInferencePipeline
        from faster_whisper import WhisperModel as Model

        self._options = options
        model = Model(
            options.model_path, device=options.device, compute_type=options.compute_type, local_files_only=True
        )
        self._model = model.model = Counted(model.model)
        self._pipeline = BatchedInferencePipeline(model=model)

    def hear(self, audios: Sequence[Audio], done: Callable[[], None]) -> list[Transcript | Failure]:
        said = []
        for audio in audios:
            said.append(self._one(audio))
            done()
        return said

    def counts(self) -> Mapping[str, int]:
        return self._model.asked

    def stages(self) -> Mapping[str, float]:
        return {}

    def _one(self, audio: Audio) -> Transcript | Failure:
        options = self._options
        try:
            segments, told = self._pipeline.transcribe(
                audio.pcm.astype(np.float32) / np.float32(32768),
                language=None if options.language == "auto" else options.language,
                task=options.task,
                beam_size=options.beam_size,
                chunk_length=options.chunk_size,
                hotwords=options.hotwords,
                initial_prompt=options.initial_prompt,
            )
            heard = tuple(Segment(one.text, one.start, one.end, avg_logprob=one.avg_logprob) for one in segments)
        except Exception as error:  # noqa: BLE001 - as above
            return answers.failed(error)
        return Transcript(told.language if heard else None, heard)


def _set_up(options: EngineOptions) -> None:
    """As quiet and as offline as our own engine, and with the libraries' own choice of threads."""
    prepare(options, threads=1)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.pop(name, None)
