"""From a recording's bytes to 16 kHz mono samples through PyAV; runs inside a decoding child and nowhere else."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Any, NoReturn

import av
import av.logging
import numpy as np
from av.audio.fifo import AudioFifo
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer

from db.states import FailureClass
from hpc.model import SAMPLE_RATE
from hpc.stages.decoder_wire import DecodeLimits
from hpc.stages.lengths import Claim, claim
from hpc.stages.sniff import SUFFIXES, sniff

GULP = 8192  # samples handed to the resampler at a time: a third less CPU than frame by frame, the same samples
SLACK = 0.1  # seconds that codecs may add or take at the ends
CODECS = frozenset(
    {
        "mp1", "mp1float", "mp2", "mp2float", "mp3", "mp3float", "aac", "aac_latm", "flac", "vorbis", "libvorbis",
        "opus", "libopus", "speex", "libspeex", "alac", "amrnb", "amrwb", "libopencore_amrnb", "libopencore_amrwb",
        "adpcm_ms", "adpcm_ima_wav", "adpcm_ima_qt", "gsm", "gsm_ms", "ac3", "eac3",
    }
)  # fmt: skip


class Refused(Exception):
    """This recording cannot be decoded, and why."""

    def __init__(self, kind: FailureClass, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def decode(data: bytes, suffix: str, limits: DecodeLimits) -> tuple[bytearray, list[str]]:
    """The samples as 16-bit native-endian bytes, and the flags; raises Refused."""
    if not data:
        raise Refused(FailureClass.EMPTY, "it has no bytes")
    sniffed = sniff(data)
    if sniffed.stranger:
        raise Refused(FailureClass.NOT_AUDIO, f"it is {sniffed.stranger}")
    if sniffed.format is None:
        raise Refused(FailureClass.UNDECODABLE, "nothing in it looks like audio")
    says = claim(data, sniffed)
    if says.empty:
        raise Refused(FailureClass.EMPTY, "it holds no samples")
    if says.cut:
        raise Refused(FailureClass.TRUNCATED, says.cut)
    flags = {"ext_mismatch"} if suffix in _KNOWN and suffix not in SUFFIXES[sniffed.format] else set()
    with av.logging.Capture(local=True) as complaints:
        try:
            out, more = _decoded(data, sniffed.format, says, limits)
        except av.FFmpegError as error:
            raise Refused(FailureClass.UNDECODABLE, f"the decoder gives up: {error.strerror}") from None
    if complaints or sniffed.junk:
        flags.add("decode_warnings")
    return out, sorted(flags | more)


def _decoded(data: bytes, name: str, says: Claim, limits: DecodeLimits) -> tuple[bytearray, set[str]]:
    options = {"format_whitelist": name, "protocol_whitelist": "none", "enable_drefs": "0"}
    file = io.BytesIO(data)
    with av.open(file, "r", format=name, options=options, metadata_errors="replace", io_open=_no) as container:
        if not container.streams.audio:
            raise Refused(FailureClass.NO_AUDIO_STREAM, "it has no audio stream")
        stream = container.streams.audio[0]
        _prepare(stream)
        mixer = Mixer(limits)
        mixer.check(stream.sample_rate or limits.min_rate, stream.channels or 1)
        stated = _stated(says, name, container, stream)
        if stated is not None and stated > limits.seconds:
            raise Refused(FailureClass.OVER_DURATION, f"its headers speak of {stated / 3600:.1f} h")
        tally = _Tally()
        _run(container, stream, mixer, tally)
        flags = mixer.flags | ({"several_streams"} if len(container.streams.audio) > 1 else set())
    if stated is None and name == "mp3" and tally.first is not None:
        stated = mixer.seconds * (tally.end - tally.first) / tally.held  # as if the gaps between its frames held sound
    _judge(mixer, tally, stated, limits)
    if tally.bad:
        flags.add("decode_warnings")
    if says.open and stated is None:
        flags.add("length_unknown")
    return mixer.out, flags


def _prepare(stream: AudioStream) -> None:
    context = stream.codec_context
    if context is None:
        raise Refused(FailureClass.UNDECODABLE, "its codec is not known")
    if context.name not in CODECS and not context.name.startswith("pcm_"):
        raise Refused(FailureClass.UNDECODABLE, f"the codec {context.name} is not one we decode")
    context.thread_count = 1
    if context.name == "flac":
        context.options = {"err_detect": "crccheck"}  # the only sign of a flipped bit


def _stated(says: Claim, name: str, container: InputContainer, stream: AudioStream) -> float | None:
    """The length in seconds that a container states and that can be held against it."""
    if says.seconds is not None:
        return says.seconds
    if says.open or name not in ("mov", "ogg", "matroska"):
        return None  # elsewhere PyAV's figure is guessed from the size
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is not None and len(container.streams) == 1:
        return container.duration / av.time_base
    return None


@dataclass(slots=True)
class _Tally:
    """What became of the packets."""

    good: int = 0
    bad: int = 0
    held: int = 0  # bytes in good packets
    first: int | None = None  # where the first good packet begins in the file
    end: int = 0  # where the last good packet ends
    broken_off: str | None = None  # the container itself could not be read further


def _run(container: InputContainer, stream: AudioStream, mixer: Mixer, tally: _Tally) -> None:
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError as error:
            tally.broken_off = error.strerror
            packet = None
        if packet is None:
            break
        try:
            for frame in packet.decode():
                mixer.add(frame)
        except av.InvalidDataError:
            tally.bad += 1
            continue
        if packet.size:
            tally.good += 1
            tally.held += packet.size
            if packet.pos is not None and packet.pos >= 0:
                tally.first = packet.pos if tally.first is None else tally.first
                tally.end = packet.pos + packet.size
    mixer.finish()


def _judge(mixer: Mixer, tally: _Tally, stated: float | None, limits: DecodeLimits) -> None:
    heard = mixer.seconds
    if not mixer.out:
        if tally.bad or tally.broken_off:
            raise Refused(FailureClass.UNDECODABLE, f"none of its {tally.bad} packets decodes")
        raise Refused(FailureClass.EMPTY, "it holds no samples")
    if stated is not None and heard < stated * limits.min_ratio and heard < stated - SLACK:
        raise Refused(FailureClass.TRUNCATED, f"it decodes to {heard:.1f} s, its headers speak of {stated:.1f} s")
    if stated is None and tally.broken_off:
        raise Refused(FailureClass.TRUNCATED, f"it breaks off after {heard:.1f} s: {tally.broken_off}")


@dataclass(slots=True)
class Mixer:
    """Frames of any shape in, 16 kHz mono out."""

    limits: DecodeLimits
    out: bytearray = field(default_factory=bytearray)
    flags: set[str] = field(default_factory=set)
    seconds: float = 0.0  # of audio taken in
    _shape: tuple[str, str, int] | None = None  # format, layout and rate of what the fifo holds
    _fifo: AudioFifo | None = None
    _resampler: AudioResampler | None = None

    def check(self, rate: int, channels: int) -> None:
        """Refuse absurd headers before they cost memory."""
        limits = self.limits
        if not limits.min_rate <= rate <= limits.max_rate:
            reason = f"a sample rate of {rate} Hz, outside {limits.min_rate} to {limits.max_rate}"
            raise Refused(FailureClass.RESOURCE_LIMIT, reason)
        if channels > limits.max_channels:
            raise Refused(FailureClass.RESOURCE_LIMIT, f"{channels} channels, more than {limits.max_channels}")
        if channels > 2:
            self.flags.add("multichannel")

    def add(self, frame: AudioFrame) -> None:
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape != self._shape:
            self.finish()
            self.check(frame.sample_rate, frame.layout.nb_channels)
            self._shape, self._fifo = shape, AudioFifo()
            self._resampler = AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
        assert self._fifo is not None
        self.seconds += frame.samples / frame.sample_rate
        if self.seconds > self.limits.seconds:
            raise Refused(FailureClass.OVER_DURATION, f"it is longer than {self.limits.seconds / 3600:g} h")
        if shape[0][:3] in ("flt", "dbl"):
            frame = self._finite(frame)
        frame.pts = None
        self._fifo.write(frame)
        if self._fifo.samples >= GULP:
            self._resample(self._fifo.read())

    def finish(self) -> None:
        """Bring out what the fifo and the resampler still hold."""
        if self._fifo is None:
            return
        if self._fifo.samples:
            self._resample(self._fifo.read())
        self._resample(None)
        self._fifo = self._shape = None

    def _resample(self, frame: AudioFrame | None) -> None:
        assert self._resampler is not None
        for mono in self._resampler.resample(frame):
            self.out += memoryview(mono.planes[0])[: mono.samples * 2]

    def _finite(self, frame: AudioFrame) -> AudioFrame:
        samples = frame.to_ndarray()
        if np.isfinite(samples).all():
            return frame
        self.flags.add("non_finite_samples")
        silenced: Any = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
        clean = AudioFrame.from_ndarray(silenced, format=frame.format.name, layout=frame.layout.name)
        clean.sample_rate = frame.sample_rate
        return clean


def _no(*_: object) -> NoReturn:
    raise PermissionError("a recording may not open anything")


_KNOWN = frozenset().union(*SUFFIXES.values())
av.logging.set_level(av.logging.ERROR)
