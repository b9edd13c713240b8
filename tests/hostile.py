"""The inputs that the world sends besides good ones, made on the spot, each with the outcome we want of it."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import struct
import subprocess
import tarfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

import av
import numpy as np
from av.audio.frame import AudioFrame

from db.states import FailureClass
from db.states import FailureClass as No

SECONDS = 6.0


@dataclass(frozen=True)
class Case:
    """One recording's bytes and what must become of them: a failure's class, or seconds of audio and flags."""

    name: str
    make: Callable[[], bytes]
    wanted: FailureClass | float
    flags: frozenset[str] = frozenset()
    reason: str = ""  # what the failure's reason says, at least

    def __str__(self) -> str:
        return self.name


# --- sounds -----------------------------------------------------------------------------------------------------------


def tone(seconds: float = SECONDS, *, rate: int = 44_100, channels: int = 2) -> np.ndarray:
    """A sweep with a little noise, as 16-bit samples of shape (channels, samples): no two stretches are alike."""
    at = np.arange(int(seconds * rate)) / rate
    sweep = 9000 * np.sin(2 * np.pi * (200 + 300 * at) * at) + np.random.default_rng(7).normal(0, 300, len(at))
    return np.tile(sweep.astype(np.int16), (channels, 1))


def encode(samples: np.ndarray, *, container: str, codec: str, rate: int, **options: str) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format=container, options=options) as muxer:
        stream = muxer.add_stream(codec, rate=rate, layout="mono" if len(samples) == 1 else "stereo")
        if codec not in ("flac", "alac"):
            stream.bit_rate = 64_000
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples), "s16p", stream.layout.name)
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            muxer.mux(packet)
    return out.getvalue()


@cache
def mp3() -> bytes:
    return encode(tone(), container="mp3", codec="libmp3lame", rate=44_100)


@cache
def bare_mp3() -> bytes:
    """As recorders write it: constant bit rate, no Xing header, no tag."""
    return encode(tone(), container="mp3", codec="libmp3lame", rate=44_100, write_xing="0", id3v2_version="0")


@cache
def flac() -> bytes:
    return encode(tone(), container="flac", codec="flac", rate=44_100)


@cache
def opus() -> bytes:
    return encode(tone(rate=48_000), container="ogg", codec="libopus", rate=48_000)


@cache
def m4a() -> bytes:
    return encode(tone(), container="ipod", codec="aac", rate=44_100)


@cache
def mka() -> bytes:
    return encode(tone(rate=48_000), container="matroska", codec="libopus", rate=48_000)


@cache
def adts() -> bytes:
    return encode(tone(), container="adts", codec="aac", rate=44_100)


@cache
def vorbis() -> bytes:
    return ffmpeg("-f", "lavfi", "-i", f"sine=frequency=440:duration={SECONDS}", "-f", "ogg", "-c:a", "libvorbis", "-")


def wav(
    samples: np.ndarray | None = None, *, rate: int = 16_000, kind: int = 1, stated: int | None = None,
    channels: int | None = None,
) -> bytes:  # fmt: skip
    """A WAV by hand, so that its header may lie. `kind`: 1 integers, 3 floats, 7 µ-law."""
    samples = tone(rate=16_000, channels=1) if samples is None else samples
    data = np.ascontiguousarray(samples.T).tobytes()
    width, count = samples.itemsize, len(samples) if channels is None else channels
    align = count * width
    form = struct.pack("<HHIIHH", kind, count, rate, rate * align & 0xFFFFFFFF, align & 0xFFFF, width * 8)
    size = len(data) if stated is None else stated
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", size)
    return b"RIFF" + struct.pack("<I", min(4 + len(body) + size, 0xFFFFFFFF)) + body + data


def aiff() -> bytes:
    data = tone(rate=16_000, channels=1).astype(">i2").tobytes()
    comm = struct.pack(">hIh", 1, len(data) // 2, 16) + b"\x40\x0c\xfa\x00" + bytes(6)  # 16000 as an 80-bit float
    body = b"AIFFCOMM" + struct.pack(">I", 18) + comm + b"SSND" + struct.pack(">III", len(data) + 8, 0, 0) + data
    return b"FORM" + struct.pack(">I", len(body)) + body


def floats(*strange: float) -> bytes:
    samples = tone(rate=16_000, channels=1).astype(np.float32) / 32_768
    samples[0, 1000 : 1000 + len(strange)] = strange
    return wav(samples, kind=3)


def ffmpeg(*arguments: str, data: bytes = b"") -> bytes:
    command = ["ffmpeg", "-nostdin", "-v", "error", *arguments] if not data else ["ffmpeg", "-v", "error", *arguments]
    return subprocess.run(command, input=data or None, capture_output=True, check=True).stdout


def film(*, sound: bool) -> bytes:
    arguments = ["-f", "lavfi", "-i", "testsrc=duration=2:size=64x64:rate=5"]
    if sound:
        arguments += ["-f", "lavfi", "-i", "sine=duration=2", "-c:a", "aac"]
    return ffmpeg(*arguments, "-f", "mp4", "-movflags", "frag_keyframe+empty_moov", "-")


def two_streams() -> bytes:
    second = ["-f", "lavfi", "-i", "sine=frequency=880:duration=2", "-map", "0:a", "-map", "1:a"]
    return ffmpeg("-i", "-", *second, "-f", "matroska", "-", data=wav())


# --- damage -----------------------------------------------------------------------------------------------------------


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes, *, count: int, seed: int) -> bytes:
    damaged, dice = bytearray(data), random.Random(seed)
    for _ in range(count):
        damaged[dice.randrange(len(data) // 10, len(data))] ^= 0xFF
    return bytes(damaged)


def headless(data: bytes) -> bytes:
    """One frame in the middle loses its header."""
    at = data.index(b"\xff\xfb", len(data) // 2)
    return data[:at] + bytes(4) + data[at + 4 :]


def hole(data: bytes, size: int) -> bytes:
    at = len(data) // 3
    return data[:at] + bytes(size) + data[at + size :]


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def png() -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(72))) + chunk(b"IEND", b"")
    )


# --- texts that a careless demuxer would follow -----------------------------------------------------------------------


def hls(target: str) -> bytes:
    return f"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:10.0,\n{target}\n#EXT-X-ENDLIST\n".encode()


def ffconcat(target: str) -> bytes:
    return f"ffconcat version 1.0\nfile '{target}'\n".encode()


def sdp(port: int) -> bytes:
    return f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio {port} RTP/AVP 0\n".encode()


def dash(url: str) -> bytes:
    return (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT10S"><Period><AdaptationSet mimeType="audio/mp4"><Representation id="1" '
        f'bandwidth="1"><BaseURL>{url}</BaseURL><SegmentBase/></Representation></AdaptationSet></Period></MPD>'
    ).encode()


HTML = b"<!DOCTYPE html><html><body><h1>403 Forbidden</h1></body></html>"
_WARNED, _NAMED = frozenset({"decode_warnings"}), frozenset({"ext_mismatch"})
_OPEN = frozenset({"length_unknown"})

AUDIO = [
    Case("good.mp3", mp3, SECONDS),
    Case("bare.mp3", bare_mp3, SECONDS),
    Case("good.flac", flac, SECONDS),
    Case("good.opus", opus, SECONDS),
    Case("good.ogg", vorbis, SECONDS),
    Case("good.m4a", m4a, SECONDS),
    Case("good.mka", mka, SECONDS),
    Case("good.aac", adts, SECONDS, _OPEN),
    Case("good.aiff", aiff, SECONDS),
    Case("good.wav", wav, SECONDS),
    Case("zero.mp3", bytes, No.EMPTY),
    Case("one_byte.mp3", lambda: b"\xff", No.UNDECODABLE),
    Case("half.mp3", lambda: half(mp3()), No.TRUNCATED, reason="headers speak of"),
    Case("half.wav", lambda: half(wav()), No.TRUNCATED, reason="its header states"),
    Case("half.flac", lambda: half(flac()), No.TRUNCATED),
    Case("half.ogg", lambda: half(vorbis()), No.TRUNCATED),
    Case("half.opus", lambda: half(opus()), No.TRUNCATED),
    Case("cut between pages.opus", lambda: opus()[: opus().rindex(b"OggS")], No.TRUNCATED, reason="last page"),
    Case("half.m4a", lambda: half(m4a()), No.TRUNCATED),
    Case("half.mka", lambda: half(mka()), No.TRUNCATED),
    Case("half.aiff", lambda: half(aiff()), No.TRUNCATED),
    Case("half fragmented.mp4", lambda: half(film(sound=True)), No.TRUNCATED),
    Case("header_only.wav", lambda: wav()[:44], No.EMPTY),
    Case("no_samples.wav", lambda: wav(tone(0, channels=1)), No.EMPTY),
    Case("no_data.wav", lambda: wav()[:36], No.EMPTY),
    Case("garbage.mp3", lambda: noise(200_000), No.UNDECODABLE),
    Case("nulls.mp3", lambda: bytes(200_000), No.UNDECODABLE),
    Case("all_ones.mp3", lambda: b"\xff" * 200_000, No.UNDECODABLE),
    Case("headless_frame.mp3", lambda: headless(mp3()), SECONDS, _WARNED),
    Case("hole.mp3", lambda: hole(mp3(), 8_000), No.TRUNCATED),
    Case("hole_bare.mp3", lambda: hole(bare_mp3(), 8_000), No.TRUNCATED),
    Case("flip.flac", lambda: flipped(flac(), count=1, seed=3), SECONDS, _WARNED),
    Case("page.mp3", lambda: HTML, No.NOT_AUDIO, reason="an HTML page"),
    Case("late page.mp3", lambda: b"\xef\xbb\xbf\n <!-- x -->\n<HTML>", No.NOT_AUDIO, reason="an HTML page"),
    Case("error.mp3", lambda: b'{"error": "token expired"}', No.NOT_AUDIO, reason="a JSON document"),
    Case("text.mp3", lambda: "schöne Grüsse\n".encode() * 100, No.NOT_AUDIO, reason="a text file"),
    Case("program.mp3", lambda: b"\x7fELF\x02\x01\x01" + noise(500), No.NOT_AUDIO, reason="a program"),
    Case("script.mp3", lambda: b"#!/bin/sh\nrm -rf /\n", No.NOT_AUDIO, reason="a script"),
    Case("image.mp3", png, No.NOT_AUDIO, reason="a PNG image"),
    Case("silent film.mp3", lambda: film(sound=False), No.NO_AUDIO_STREAM),
    Case("film.mp4", lambda: film(sound=True), 2.04, _OPEN),
    Case("wav.mp3", wav, SECONDS, _NAMED),
    Case("no suffix", wav, SECONDS),
    Case("50_ms.wav", lambda: wav(tone(0.05, rate=16_000, channels=1)), 0.05),
    Case("one_sample.wav", lambda: wav(tone(1 / 16_000, rate=16_000, channels=1)), 1 / 16_000),
    Case("nan.wav", lambda: floats(np.nan, np.inf, -np.inf), SECONDS, frozenset({"non_finite_samples"})),
    Case("all_nan.wav", lambda: floats(*[np.nan] * 80_000), SECONDS, frozenset({"non_finite_samples"})),
    Case("float.wav", floats, SECONDS),
    Case("1_hz.wav", lambda: wav(rate=1), No.RESOURCE_LIMIT, reason="1 Hz"),
    Case("4_ghz.wav", lambda: wav(rate=4_000_000_000), No.UNDECODABLE),
    Case("1_mhz.wav", lambda: wav(rate=1_000_000), No.RESOURCE_LIMIT),
    Case("streamed.wav", lambda: wav(stated=0xFFFFFFFF), SECONDS, _OPEN),
    Case("unknown_codec.wav", lambda: wav(kind=0x7ABC), No.UNDECODABLE, reason="codec"),
    Case("65535_channels.wav", lambda: wav(channels=65_535), No.UNDECODABLE),
    Case("8_channels.wav", lambda: wav(tone(rate=16_000, channels=8)), SECONDS, frozenset({"multichannel"})),
    Case("mulaw.wav", lambda: wav(tone(rate=8_000, channels=1).astype(np.uint8), rate=8_000, kind=7), SECONDS),
    Case("two_streams.mka", two_streams, SECONDS, _OPEN | {"several_streams"}),
    Case("junk_before.mp3", lambda: bytes(100_000) + mp3(), SECONDS, _WARNED),
    Case("junk_after.mp3", lambda: mp3() + noise(100_000, 3), SECONDS, _WARNED),
    Case("huge_tag.mp3", lambda: b"ID3\x03\x00\x00\x7f\x7f\x7f\x7f" + mp3(), No.UNDECODABLE),
    Case("twice.mp3", lambda: mp3() + mp3(), 2 * SECONDS, _WARNED),
    Case("hls_file.mp3", lambda: hls("file:///etc/passwd"), No.NOT_AUDIO, reason="an HLS playlist"),
    Case("ffconcat.mp3", lambda: ffconcat("good.wav"), No.NOT_AUDIO, reason="an ffconcat playlist"),
    Case("sdp.mp3", lambda: sdp(27_555), No.NOT_AUDIO, reason="an SDP session"),
    Case("dash.mp3", lambda: dash("http://127.0.0.1:1/a.mp4"), No.NOT_AUDIO, reason="a DASH playlist"),
]  # fmt: skip

NAMES = [
    *(text.encode() for text in (
        "-i.mp3", "--help.mp3", "$(touch PWNED).mp3", "`touch PWNED`.mp3", "semi;touch PWNED;.mp3", "|pipe.mp3",
        "new\nline.mp3", "cr\r.mp3", "tab\t.mp3", "\x1b[31mred.mp3", "\x7fdel.mp3", "<script>alert(1)<∕script>.mp3",
        '"><img onerror=x>.mp3', "&amp;.mp3", "'; DROP TABLE files;--.mp3", "%s%n%x.mp3", "%2e%2e%2f.mp3",
        "concat:a.mp3|b.mp3", "pipe:0", "data:x.mp3", "http:x.mp3", "file:x.mp3", "12:30:00.mp3", "\u202egnp.3pm",
        "emoji😀.mp3", "é.mp3", "e\u0301.mp3", "...", ".hidden.mp3", "..mp3", "*.mp3", "?.mp3", "[a].mp3", "{a,b}.mp3",
        "~.mp3", "trailing .mp3 ", "=cmd|calc!A1.mp3", "NUL.mp3", "A.mp3", "a.mp3", "\\back.mp3", "#!script.mp3",
        "#EXTM3U.mp3", "d/" * 60 + "deep.mp3", "../evil.mp3", "/abs/evil.mp3", "../../../../etc/cron.d/evil",
        "x" * 251 + ".mp3", "y" * 255, "z" * 1000 + ".mp3", "a b.mp3", "日本語.mp3",
    )),
    b"latin\xe9.mp3", b"bad\xff\xfe.mp3", b"\x80.mp3",
]  # fmt: skip


# --- archives ---------------------------------------------------------------------------------------------------------

COMPRESSIONS = {"xz": lzma.compress, "gzip": gzip.compress, "bzip2": bz2.compress, "plain": bytes}
END = bytes(1024)


def block(name: bytes, data: bytes = b"", **fields: object) -> bytes:
    """One member with its header, data and padding."""
    info = tarfile.TarInfo()
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[:100] = name[:100].ljust(100, b"\0")
    return signed(header) + data + bytes(-len(data) % 512)


def signed(header: bytearray) -> bytes:
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def tar(members: Iterable[tuple[bytes, bytes]], format: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name.decode("utf-8", "surrogateescape"))
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def clips(count: int, size: int = 5_000, seed: int = 1) -> list[tuple[bytes, bytes]]:
    dice = random.Random(seed)
    return [(f"{number:04d}.mp3".encode(), dice.randbytes(size)) for number in range(count)]


def bomb(claimed: int, held: int) -> bytes:
    """A tar.xz of one member of zeros, of which the beginning is enough."""
    return lzma.compress(block(b"b.mp3", size=claimed) + bytes(held), preset=0)


REFUSED = {
    "a link that leads out": block(b"l", type=tarfile.SYMTYPE, linkname="/etc"),
    "a link to a file": block(b"l.mp3", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "a hard link": block(b"h.mp3", type=tarfile.LNKTYPE, linkname="../../etc/hostname"),
    "a fifo": block(b"f.mp3", type=tarfile.FIFOTYPE),
    "a character device": block(b"z.mp3", type=tarfile.CHRTYPE),
    "a block device": block(b"y.mp3", type=tarfile.BLKTYPE),
    "a piece of another volume": block(b"m.mp3", b"x" * 700, type=b"M"),
    "an unknown type": block(b"q.mp3", b"x" * 700, type=b"q"),
    "a sparse file": block(b"s.mp3", b"x" * 700, type=tarfile.GNUTYPE_SPARSE),
}
