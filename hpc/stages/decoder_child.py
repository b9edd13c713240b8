"""A decoding child: takes recordings over a socket and answers with samples, shut in so that a bad one harms nobody."""

from __future__ import annotations

import ctypes
import io
import json
import os
import resource
import signal
import socket
import sys
import wave
from typing import BinaryIO

from db.states import FailureClass
from hpc.stages.decoder_wire import READY, REPLY, REQUEST, UNFIT, DecodeLimits

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_OURS = 3  # the socket's number; with it the child's table of open files is full


def main(descriptor: str, parent: str, limits: str) -> None:
    """Serve until the parent hangs up."""
    _die_with(int(parent))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # a stop is the parent's to handle; the child ends when the socket does
    if int(descriptor) != _OURS:
        os.dup2(int(descriptor), _OURS)
        os.close(int(descriptor))
    link = socket.socket(fileno=_OURS)
    told = DecodeLimits.from_json(limits)
    try:
        _warm_up(told)
        _shut_in(told)
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent must hear of it
        link.sendall(UNFIT + f"{type(error).__name__}: {error}".encode("utf-8", "replace"))
        return
    link.sendall(READY)
    requests = link.makefile("rb")
    while _serve(requests, link, told):
        pass


def _serve(requests: BinaryIO, link: socket.socket, limits: DecodeLimits) -> bool:
    """Answer one request; False when there will be no more."""
    from hpc.stages.samples import Refused, decode

    head = requests.read(REQUEST.size)
    if len(head) < REQUEST.size:
        return False
    size, suffix_size = REQUEST.unpack(head)
    samples = bytearray()
    answer: dict[str, object] = {"fit": True}
    try:
        suffix = requests.read(suffix_size).decode("utf-8", "replace")
        samples, answer["flags"] = decode(requests.read(size), suffix, limits)
    except Refused as refused:
        answer |= {"kind": refused.kind, "reason": str(refused)}
    except MemoryError:
        answer = {"kind": FailureClass.RESOURCE_LIMIT, "reason": "it needs more memory than a decoder may have"}
    except Exception as error:  # noqa: BLE001 - a decoder may raise anything; it concerns this recording only
        answer |= {"kind": FailureClass.UNDECODABLE, "reason": f"{type(error).__name__}: {error}"}
    text = json.dumps(answer).encode()
    link.sendall(REPLY.pack(len(text), len(samples)) + text)
    link.sendall(samples)
    return "fit" in answer


def _die_with(parent: int) -> None:
    """Be killed when the parent is, however it dies."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit()


def _warm_up(limits: DecodeLimits) -> None:
    """Decode a little silence, so that whatever is loaded late is loaded before the doors close."""
    from hpc.stages.samples import Refused, decode

    clip = io.BytesIO()
    with wave.open(clip, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes(bytes(1600))
    decode(clip.getvalue(), ".wav", limits)
    for rubbish in (b"", b"RIFF\0\0\0\0WAVEfmt ", b"OggS" + bytes(80), b"fLaC" + bytes(80)):
        try:
            decode(rubbish, ".mp3", limits)
        except Refused as expected:
            json.dumps({"kind": expected.kind, "reason": str(expected)})


def _shut_in(limits: DecodeLimits) -> None:
    for what, most in (
        (resource.RLIMIT_AS, limits.memory),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, _OURS + 1),
    ):
        resource.setrlimit(what, (most, most))
