"""Loads WhisperX and its models as the options say; what cannot be loaded is an error that names it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc.engine_options import EngineOptions, compute_type_on
from hpc.engines.whisperx.offline import is_gpu_lost, is_out_of_memory, prepare, silence
from hpc.errors import BadSetting, ModelMissing


@dataclass(frozen=True, slots=True)
class Loaded:
    """What an engine works with."""

    options: EngineOptions
    device: str  # "cpu" or "cuda"
    pipeline: Any  # whisperx's FasterWhisperPipeline
    language: str | None  # of every recording, or None to detect each one's
    aligners: Any  # hpc.engines.whisperx.aligning.Aligners, or None: nothing is to be aligned


def threads_of(options: EngineOptions) -> int:
    """The CPU threads that the engine may use: as many as asked for, or as this process has."""
    return options.threads or len(os.sched_getaffinity(0))


def load(options: EngineOptions, *, threads: int, workers: int = 1) -> Loaded:
    """Set up this process for good, and load. `threads` is for one piece of work, `workers` how many the model takes
    at a time."""
    if not options.model_path or not Path(options.model_path).is_dir():
        raise ModelMissing(
            f"The speech model {options.model!r} has no directory on this machine. "
            "See which there are: dayscribe models list"
        )
    device = _set_up(options, threads)
    pipeline = _pipeline(options, device, threads, workers)
    language = _known_language(options, pipeline)
    return Loaded(options, device, pipeline, language, _aligners(options, device, language))


def load_aligners(options: EngineOptions, *, threads: int) -> tuple[Any, str]:
    """The aligners alone, and the device that they are on."""
    device = _set_up(options, threads)
    aligners = _aligners(options, device, None)
    if aligners is None:
        raise BadSetting("Words get times only where engine.align is on and engine.task is transcribe.")
    return aligners, device


def _set_up(options: EngineOptions, threads: int) -> str:
    """This process, for good; the device."""
    prepare(options, threads)
    import torch

    torch.set_num_threads(threads)
    # pyannote turns it off for the whole process when it is first asked; word times must not hang on when, or whether.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return _device(options.device, gpu=torch.cuda.is_available())


def _device(asked: str, *, gpu: bool) -> str:
    if asked == "cuda" and not gpu:
        raise BadSetting("device is 'cuda', but torch finds no GPU it can use here. See: dayscribe doctor")
    return ("cuda" if gpu else "cpu") if asked == "auto" else asked


def _pipeline(options: EngineOptions, device: str, threads: int, workers: int) -> Any:
    import whisperx
    from whisperx.asr import WhisperModel

    vad_model = None
    if options.vad_method == "silero":
        from hpc.engines.whisperx.silero import BundledSilero

        vad_model = BundledSilero(vad_onset=options.vad_onset, chunk_size=options.chunk_size)
    compute_type = compute_type_on(device, options.compute_type)
    try:
        with silence():
            model = WhisperModel(
                options.model_path, device=device, compute_type=compute_type, cpu_threads=threads, num_workers=workers,
                local_files_only=True,
            )  # fmt: skip
            return whisperx.load_model(
                options.model_path,
                device,
                model=model,
                asr_options={name: getattr(options, name) for name in ("beam_size", "hotwords", "initial_prompt")},
                vad_model=vad_model,
                vad_options={name: getattr(options, name) for name in ("chunk_size", "vad_onset", "vad_offset")},
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


def _known_language(options: EngineOptions, pipeline: Any) -> str | None:
    from whisperx.utils import LANGUAGES

    asked, model = options.language, options.model
    if not pipeline.model.model.is_multilingual:
        if asked not in ("auto", "en") or options.task == "translate":
            raise BadSetting(f"The model {model!r} knows English only; it cannot {options.task} {asked!r}.")
        return "en"
    if asked == "auto":
        return None
    if asked not in LANGUAGES:
        raise BadSetting(f"language is {asked!r}; WhisperX has no such language code.")
    return asked


def _aligners(options: EngineOptions, device: str, language: str | None) -> Any:
    if not options.align or options.task == "translate":
        return None
    from hpc.engines.whisperx.aligning import Aligners

    aligners = Aligners(dict(options.aligner_paths), device, options.sentences_path)
    if language:
        aligners.load(language)
    return aligners
