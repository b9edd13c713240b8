"""Encodes synthetic speech in the formats that real clips come in, and decodes it for measuring."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Literal, NamedTuple, get_args

import av
import numpy as np
from numpy.typing import NDArray

from hpc.errors import BadSetting
from hpc.model import SAMPLE_RATE

Codec = Literal["mp3", "opus", "wav", "m4a", "flac", "ogg", "g711"]


class _Way(NamedTuple):
    container: str
    encoder: str
    format: str
    rate: int = SAMPLE_RATE  # Hz
    layout: str = "mono"
    options: dict[str, str] = {}  # noqa: RUF012 - read only


_WAYS: dict[str, _Way] = {
    "mp3": _Way("mp3", "libmp3lame", "s16p"),
    "opus": _Way("ogg", "libopus", "s16", 48_000),
    "wav": _Way("wav", "pcm_s16le", "s16"),
    "m4a": _Way("ipod", "aac", "fltp"),
    "flac": _Way("flac", "flac", "s16"),
    # FFmpeg's Vorbis encoder speaks stereo only
    "ogg": _Way("ogg", "vorbis", "fltp", layout="stereo", options={"strict": "experimental"}),
    "g711": _Way("wav", "pcm_mulaw", "s16", 8_000),  # a telephone's
}


def encode(pcm: NDArray[np.int16], *, codec: Codec, bitrate: int | None = None, rate: int | None = None) -> bytes:
    """A whole audio file: bitrate in bits a second, rate in Hz of the file; both have a default for speech."""
    if codec not in _WAYS:
        raise BadSetting(f"No codec {codec!r}; choose one of {', '.join(get_args(Codec))}.")
    way = _WAYS[codec]
    out = io.BytesIO()
    # bitexact: no program version, no random stream serial, so that the same samples give the same bytes
    with av.open(out, "w", format=way.container, options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(
            way.encoder, rate=rate or way.rate, layout=way.layout, format=way.format, options=way.options
        )
        assert isinstance(stream, av.AudioStream)
        stream.codec_context.flags |= av.codec.context.Flags.bitexact
        if bitrate is not None:
            stream.bit_rate = bitrate
        frame = av.AudioFrame.from_ndarray(pcm.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        frame.pts, frame.time_base = 0, Fraction(1, SAMPLE_RATE)  # or the encoder's lead-in is not marked as such
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out.getvalue()


def decode(data: bytes) -> NDArray[np.float32]:
    """16 kHz mono samples of a file that we encoded ourselves; anything from outside is hpc.stages' business."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
    with av.open(io.BytesIO(data), "r") as container:
        frames = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
    frames += resampler.resample(None)
    pcm = np.concatenate([part.to_ndarray()[0] for part in frames])
    return (pcm / 32768).astype(np.float32)
