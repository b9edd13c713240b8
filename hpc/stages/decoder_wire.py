"""What the pool and its decoding children say to each other, and the limits both hold to."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from struct import Struct

FLAGS = frozenset(
    {
        "decode_warnings",  # the decoder complained, yet the length is right
        "ext_mismatch",  # the content is of another format than the suffix says
        "length_unknown",  # the header leaves its length open, so a cut cannot be seen
        "multichannel",  # more than two channels, mixed down
        "non_finite_samples",  # NaN or infinity, replaced by silence
        "several_streams",  # the first audio stream was taken
    }
)
READY = b"R"
UNFIT = b"U"  # then a text to the end: why the child cannot work
REQUEST = Struct("<QB")  # bytes of data, bytes of suffix; then both, the suffix first
REPLY = Struct("<IQ")  # bytes of JSON, bytes of samples; then both
MAX_JSON = 1 << 16


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """How much one recording may cost."""

    seconds: float = 4 * 3600.0  # of audio
    timeout: float = 300.0  # wall seconds for one recording
    memory: int = 3 << 30  # bytes of address space of a child: input, output and libraries
    min_rate: int = 1_000  # Hz
    max_rate: int = 384_000
    max_channels: int = 64
    min_ratio: float = 0.98  # decoded length to stated length

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> DecodeLimits:
        return cls(**json.loads(text))
