"""Members in, audio out, in order: decoding runs ahead in children, and what harms a child harms one recording."""

from __future__ import annotations

import json
import os
import queue
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from db import faults
from db.errors import NeedsConfiguration
from db.names import display
from db.states import FailureClass
from hpc.model import SAMPLE_RATE, Audio, Failure, Member, Result, Seal, Unsealed
from hpc.stages.decoder_wire import FLAGS, MAX_JSON, READY, REPLY, REQUEST, DecodeLimits

__all__ = ["DecodeLimits", "DecoderPool"]

PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "  # the child runs the parent's own code, whatever is installed
    "from hpc.stages.decoder_child import main; main(*sys.argv[1:])"
)
AHEAD = 2  # members in flight beyond one for each child, so that no child waits for the reader
HELD = 1 << 30  # encoded bytes in flight, at most, unless a single member is larger
STEP = 1.0  # seconds between looks at the clock
STARTS = 3  # attempts at starting a child
START_TIMEOUT = 120.0  # seconds; a cold shared file system is slow
_KEPT = ("LD_LIBRARY_PATH", "LANG", "LC_ALL")  # of the environment: a decoder needs no secrets
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class DecoderPool:
    """A few decoding children. Use it as a context manager; `decode` may be called again and again."""

    def __init__(self, *, children: int, limits: DecodeLimits) -> None:
        self._limits = limits
        self._children = children
        self._closing = False
        self._live: set[_Child] = set()
        self._idle: queue.SimpleQueue[_Child | None] = queue.SimpleQueue()  # None: a child yet to be started

    def __enter__(self) -> Self:
        # A child is killed when the thread that started it ends (PR_SET_PDEATHSIG), so these threads start them all.
        self._threads = ThreadPoolExecutor(self._children, thread_name_prefix="decode")
        for _ in range(self._children):
            self._idle.put(None)
            self._threads.submit(self._warm)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._closing = True
        for child in tuple(self._live):
            child.kill()
        self._threads.shutdown(cancel_futures=True)
        for child in tuple(self._live):
            self._end(child)

    def decode(self, items: Iterator[Member | Result | Seal | Unsealed]) -> Iterator[Audio | Result | Seal | Unsealed]:
        """Decode the members, a few ahead; everything comes out in the order it went in."""
        waiting: deque[tuple[Result | Seal | Unsealed | Future[Audio | Result], int]] = deque()
        held = 0
        try:
            for item in items:
                if isinstance(item, Member):
                    faults.point("decode.sent")
                    waiting.append((self._threads.submit(self._settled, item), len(item.data)))
                    held += len(item.data)
                else:
                    waiting.append((item, 0))
                while waiting and (len(waiting) > self._children + AHEAD or held > HELD or _ready(waiting[0][0])):
                    first, size = waiting.popleft()
                    held -= size
                    yield _received(first)
            while waiting:
                yield _received(waiting.popleft()[0])
        finally:
            for left, _ in waiting:
                if isinstance(left, Future):
                    left.cancel()

    def _settled(self, member: Member) -> Audio | Result:
        """The member's end, whatever happens to the child. A death is believed when a second child dies of it too:
        the first may have been killed from outside."""
        child = self._idle.get()
        try:
            for _ in range(2):
                child = self._fit(child)
                try:
                    return _outcome(member, *child.ask(member, self._limits))
                except _Hung:
                    return _failed(member, FailureClass.DECODE_TIMEOUT, f"not decoded in {self._limits.timeout:g} s")
                except _Died:
                    continue
            return _failed(member, FailureClass.DECODER_CRASH, "the decoder crashes on it")
        finally:
            self._idle.put(child)

    def _warm(self) -> None:
        child = self._idle.get()
        try:
            child = self._fit(child)
        finally:
            self._idle.put(child)

    def _fit(self, child: _Child | None) -> _Child:
        """This child if it can take work, else a new one."""
        failure = ""
        for _ in range(STARTS):
            if child is not None and child.fit:
                return child
            if child is not None:
                self._end(child)
            if self._closing:
                raise RuntimeError("the decoder pool is closing")
            child = _Child(self._limits)
            self._live.add(child)
            try:
                child.await_ready()
            except (_Died, _Hung) as error:
                failure = str(error)
        if child is not None and child.fit:
            return child
        raise NeedsConfiguration(f"The audio decoder does not start: {failure or 'no answer'}. Try: dayscribe doctor")

    def _end(self, child: _Child) -> None:
        child.end()
        self._live.discard(child)


class _Died(Exception):
    """The child is gone, or does not speak as a child should."""


class _Hung(Exception):
    """The child does not answer in time."""


class _Child:
    """One child process and the socket to it. Once `fit` is false it is dead, or must be ended."""

    def __init__(self, limits: DecodeLimits) -> None:
        self.fit = True
        self._left = START_TIMEOUT  # seconds it may still take over what it is doing
        self._link, theirs = socket.socketpair()
        root = Path(__file__).resolve().parents[2]
        command = [sys.executable, "-I", "-c", PROGRAM, str(root), str(theirs.fileno()), str(os.getpid())]
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ} | _ONE_THREAD
        nothing = subprocess.DEVNULL
        with theirs:
            self._process = subprocess.Popen(
                [*command, limits.to_json()], pass_fds=(theirs.fileno(),), env=environment, cwd="/",
                stdin=nothing, stdout=nothing, stderr=nothing,
            )  # fmt: skip

    def await_ready(self) -> None:
        with self._ending_on_trouble():
            if self._receive(1) != READY:
                self._link.settimeout(self._left)
                with self._link.makefile("rb") as rest:
                    raise _Died(display(rest.read(MAX_JSON)))

    def ask(self, member: Member, limits: DecodeLimits) -> tuple[dict[str, object], NDArray[np.int16]]:
        """The child's answer and the samples."""
        self._left = limits.timeout
        suffix = os.path.splitext(member.recording.name)[1][:16].lower()  # noqa: PTH122 - bytes, not a path
        with self._ending_on_trouble():
            self._send(REQUEST.pack(len(member.data), len(suffix)) + suffix)
            self._send(member.data)
            text_size, size = REPLY.unpack(self._receive(REPLY.size))
            if text_size > MAX_JSON or size > (limits.seconds + 60) * SAMPLE_RATE * 2 or size % 2:
                raise _Died("an impossible answer")
            answer = _parsed(self._receive(text_size))
            samples = self._receive(size)
        self.fit = answer.get("fit") is True
        return answer, np.frombuffer(samples, np.int16)

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> None:
        self._link.close()
        self._process.kill()
        self._process.wait()

    @contextmanager
    def _ending_on_trouble(self) -> Iterator[None]:
        try:
            yield
        except (_Died, _Hung):
            self.fit = False
            self._process.kill()
            raise

    def _send(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            with self._timed():
                rest = rest[self._link.send(rest) :]

    def _receive(self, size: int) -> bytearray:
        data = bytearray(size)
        room = memoryview(data)
        while room:
            with self._timed():
                count = self._link.recv_into(room)
                if not count:
                    raise _Died("it ended without a word")
                room = room[count:]
        return data

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """One send or receive. A step that took far longer than it may means that we were suspended ourselves, and
        counts little: a job that the scheduler froze for an hour finds its recordings unharmed."""
        if self._left <= 0:
            raise _Hung
        self._link.settimeout(min(STEP, self._left))
        began = time.monotonic()
        try:
            yield
        except TimeoutError:
            pass
        except OSError as error:
            raise _Died(str(error)) from None
        finally:
            self._left -= min(time.monotonic() - began, 2 * STEP)


def _parsed(text: bytearray) -> dict[str, object]:
    try:
        answer = json.loads(text)
    except ValueError:
        raise _Died("an answer that is not JSON") from None
    if not isinstance(answer, dict):
        raise _Died("an answer of another shape")
    return answer


def _ready(item: object) -> bool:
    return not isinstance(item, Future) or item.done()


def _received(item: Result | Seal | Unsealed | Future[Audio | Result]) -> Audio | Result | Seal | Unsealed:
    if not isinstance(item, Future):
        return item
    outcome = item.result()
    faults.point("decode.received")
    return outcome


def _outcome(member: Member, answer: dict[str, object], pcm: NDArray[np.int16]) -> Audio | Result:
    """What a child said, believed only as far as it makes sense: the child has touched hostile bytes."""
    if "kind" in answer or not len(pcm):
        try:
            kind = FailureClass(str(answer.get("kind")))
        except ValueError:
            kind = FailureClass.UNDECODABLE
        return _failed(member, kind, display(str(answer.get("reason", "")).encode("utf-8", "replace")))
    flags = answer.get("flags")
    known = tuple(flag for flag in flags if flag in FLAGS) if isinstance(flags, list) else ()
    return Audio(member.recording, pcm, known)


def _failed(member: Member, kind: FailureClass, reason: str) -> Result:
    return Result(member.recording, Failure(kind, reason))
