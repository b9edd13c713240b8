"""What an engine is told: plain values, safe to send to a child process and to write into a receipt."""

from __future__ import annotations

from dataclasses import dataclass

from hpc.errors import BadSetting

LONGEST_CHUNK = 30  # seconds: Whisper's window; WhisperX crashes on anything longer


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """The options of one run, under WhisperX's own names where it has one (`--option` of its command line)."""

    model: str = "large-v3"  # --model: a name or a directory
    language: str = "auto"  # --language: an ISO 639-1 code; "auto" hears it anew in every recording
    task: str = "transcribe"  # --task: "transcribe", or "translate" into English (never aligned, as in WhisperX)
    batch_size: int = 32  # --batch_size: chunks in one call of the model; changes speed and memory only
    device: str = "auto"  # --device: "cpu", "cuda"; "auto" takes a GPU where there is one
    compute_type: str = "default"  # --compute_type: "default" is int8 on a CPU and float16 on a GPU
    beam_size: int = 5  # --beam_size
    vad_method: str = "pyannote"  # --vad_method: "pyannote", or "silero" from the file inside faster-whisper
    vad_onset: float = 0.5  # --vad_onset
    vad_offset: float = 0.363  # --vad_offset (pyannote only)
    chunk_size: int = LONGEST_CHUNK  # --chunk_size: seconds of audio the model sees at once
    hotwords: str | None = None  # --hotwords
    initial_prompt: str | None = None  # --initial_prompt
    align: bool = True  # the opposite of --no_align
    aligner: str | None = None  # --align_model: a name or a directory; None is WhisperX's choice for the language
    # What WhisperX does not do; each is off unless it is asked for, and named in the receipt:
    detect_on: str = "start"  # the language: at the "start" of the recording, or in its first chunk of "speech"
    second_decode: bool = False  # of chunks whose text repeats itself
    no_speech_threshold: float | None = None  # chunks above it are dropped
    # How the work is done:
    threads: int = 0  # --threads, of one engine; 0: as many as this process may use
    generations: int = 0  # batches in the model at once; 0: two on a GPU, one a thread on a CPU
    # Filled by hpc.models, which knows where things lie on this machine:
    model_path: str = ""  # a directory
    aligner_paths: tuple[tuple[str, str], ...] = ()  # (language, directory or file), sorted
    sentences_path: str = ""  # NLTK's data directory; "" splits sentences without training data
    # For the echo engine, in tests: "raise:NAME", "crash:NAME", "hang:NAME" … (hpc/engines/echo.py).
    trouble: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("task", self.task, ("transcribe", "translate")),
            ("device", self.device, ("auto", "cpu", "cuda")),
            ("vad_method", self.vad_method, ("pyannote", "silero")),
            ("detect_on", self.detect_on, ("start", "speech")),
        ):
            if value not in allowed:
                raise BadSetting(f"{name} is {value!r}; it can be {' or '.join(allowed)}.")
        for name, number, least, most in (
            ("batch_size", self.batch_size, 1, 4096),
            ("beam_size", self.beam_size, 1, 100),
            ("chunk_size", self.chunk_size, 1, LONGEST_CHUNK),
            ("threads", self.threads, 0, 1024),
            ("generations", self.generations, 0, 16),
            ("no_speech_threshold", 1 if self.no_speech_threshold is None else self.no_speech_threshold, 0, 1),
            ("vad_onset", self.vad_onset, 0.001, 0.999),
            ("vad_offset", self.vad_offset, 0.001, 0.999),
        ):
            if not least <= number <= most:
                raise BadSetting(f"{name} is {number}; it lies between {least} and {most}.")
        if not self.model or not self.language:
            raise BadSetting("model and language cannot be empty.")


def compute_type_on(device: str, asked: str = "default") -> str:
    """The arithmetic behind "default": the fastest that costs no accuracy worth speaking of."""
    return {"cuda": "float16"}.get(device, "int8") if asked == "default" else asked
