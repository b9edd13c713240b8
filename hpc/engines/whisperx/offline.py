"""The manners of the speech libraries: no network, no telemetry, no chatter, and what their errors mean."""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import os
import re
import warnings
from collections.abc import Iterator

from hpc.engine_options import EngineOptions

# Every one of these must be set before the library that reads it is imported.
_QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime's is on by itself, and writes an id of the machine down
    "PYANNOTE_METRICS_ENABLED": "0",  # else pyannote sends the length of every recording to its makers
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}


# In the words of torch and of CTranslate2.
_HUNGRY = re.compile("out of memory|ALLOC_FAILED|can't allocate memory", re.IGNORECASE)
_OF_THE_GPU = re.compile("cuda|cublas|cudnn|cusolver|cufft", re.IGNORECASE)


def prepare(options: EngineOptions, threads: int) -> None:
    """Set up this process. It belongs to the engine alone, so what is set here stays."""
    os.environ.update(_QUIET)
    # More OpenMP threads than asked for spin against each other: six times slower was measured.
    os.environ.update({name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")})
    # WhisperX makes this directory if it is not there. The model's own is there, and nobody else can write to it.
    os.environ["TORCH_HOME"] = options.model_path
    if options.sentences_path:
        os.environ["NLTK_DATA"] = options.sentences_path
    # WhisperX's warnings quote the text of segments; transcripts have no place in logs.
    log = logging.getLogger("whisperx")
    log.addHandler(logging.NullHandler())
    log.propagate = False
    log.setLevel(logging.CRITICAL)
    for message in ("\\s*torchcodec is not installed correctly", "TensorFloat-32", "std\\(\\): degrees of freedom"):
        warnings.filterwarnings("ignore", message=message)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """WhisperX prints what it loads, and Lightning advises to convert WhisperX's own file."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)


def is_out_of_memory(error: BaseException) -> bool:
    """The machine's memory or the GPU's; CTranslate2 and torch say the latter with a RuntimeError."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(_HUNGRY.search(str(error))))


def free_memory() -> None:
    """Give the GPU back what torch keeps for later; CTranslate2 may need it now."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def is_gpu_lost(error: BaseException) -> bool:
    """After any other error of CUDA's, everything that the process asks of the GPU fails."""
    return isinstance(error, RuntimeError) and bool(_OF_THE_GPU.search(str(error))) and not is_out_of_memory(error)
