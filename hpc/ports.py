"""The sockets other platforms plug into. Protocols only: no logic, no third-party imports beyond the values' own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Protocol

from hpc.model import Audio, Failure, RemoteFile, Shard, Transcript


class Source(Protocol):
    """Where a site's audio comes from. A listing error raises; an empty day is an empty sequence."""

    def days(self) -> Iterable[date]: ...
    def listing(self, day: date) -> Sequence[RemoteFile]: ...


class Lease(Protocol):
    """A shard held by this worker under a fencing epoch. Each closing verb may be called once and raises LeaseLost
    when another worker has taken the shard over."""

    shard: Shard
    epoch: int
    known: Mapping[int, bytes]  # ordinal → sha256 of recordings whose outcome is already recorded

    def settle(self) -> None: ...
    def fail(self, failure: Exception) -> None: ...
    def release(self) -> None: ...


class Feed(Protocol):
    """Where work comes from: the ledger, an array index, a queue. An empty answer means nothing to do now."""

    def claim(self, count: int) -> Sequence[Lease]: ...


class Engine(Protocol):
    """Speech recognition over a batch that may span many recordings and shards; lives in a child process.

    Answers come in the order of the batch. A recording that fails is a Failure and costs its neighbours nothing;
    whatever one recording sets (language, prompt) never reaches the next.
    """

    def transcribe(self, batch: Sequence[Audio]) -> Sequence[Transcript | Failure]: ...
