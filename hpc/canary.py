"""A clip whose words are known, through decoder and engine: does this machine transcribe at all, and rightly?"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

from hpc.engine_options import EngineOptions
from hpc.errors import EngineLost, MachineUnfit
from hpc.model import Audio, Member, Recording, Transcript
from hpc.stages.decode import DecodeLimits, DecoderPool
from hpc.stages.engine_process import EngineProcess

SHIPPED = Path(__file__).resolve().parent.parent / "models" / "demo"
CLIP = SHIPPED / "canary.flac"
WORDS = "station seven copy go north over"  # what espeak-ng says in it
LIMITS = DecodeLimits(seconds=60.0, timeout=60.0, memory=2 << 30)
HANG_SECONDS = 1800.0  # on a GPU of a new kind the driver compiles every kernel first


@dataclass(frozen=True, slots=True)
class Song:
    """What was heard, and how long it took."""

    device: str
    heard: str
    timed_words: int
    load_seconds: float
    seconds: float


def options(device: str) -> EngineOptions:
    """The small model that we ship, at the chunk size at which it is at its best."""
    return EngineOptions(
        model=str(SHIPPED / "asr.en"), aligner=str(SHIPPED / "aligner"), language="en", chunk_size=8, device=device
    )


def sing(target: str, ready: EngineOptions) -> Song:
    """Transcribe the clip with the engine at `target`; MachineUnfit when other words are heard, or none."""
    try:
        return _sing(target, ready)
    except EngineLost as lost:
        raise MachineUnfit(f"The canary was not transcribed on {ready.device}: {lost}") from lost


def _sing(target: str, ready: EngineOptions) -> Song:
    with EngineProcess(target, ready, hang_seconds=HANG_SECONDS) as engine:
        began = time.monotonic()
        engine.submit(_decoded())
        engine.lull()
        [result] = engine.wait()
        took = time.monotonic() - began
        heard = result.outcome
        if not isinstance(heard, Transcript):
            raise MachineUnfit(f"The canary was not transcribed on {ready.device}: {heard.reason}.")
        if (text := _plain(heard.text)) != WORDS:
            raise MachineUnfit(f"The canary says {WORDS!r}, and this machine heard {text!r} on {ready.device}.")
        timed = sum(word.start is not None for segment in heard.segments for word in segment.words)
        return Song(ready.device, text, timed, round(engine.load_seconds, 1), round(took, 2))


def _decoded() -> Audio:
    try:
        data = CLIP.read_bytes()
    except OSError as error:
        raise MachineUnfit(f"The canary {CLIP} cannot be read: {error.strerror}.") from error
    recording = Recording(0, 0, CLIP.name.encode(), len(data), hashlib.sha256(data).digest())
    with DecoderPool(children=1, limits=LIMITS) as pool:
        [audio] = pool.decode(iter([Member(recording, data)]))
    if not isinstance(audio, Audio):
        raise MachineUnfit(f"The canary {CLIP} cannot be decoded here.")
    return audio


def _plain(text: str) -> str:
    return " ".join("".join(c for c in text.lower() if c.isalpha() or c == " ").split())
