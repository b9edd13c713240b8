"""The sockets other platforms plug into. Protocols only: no logic, no third-party imports beyond the values' own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from datetime import date
from typing import Protocol

from hpc.jobs import JobSpec, Look
from hpc.model import Audio, Failure, RemoteFile, Shard, Transcript


class Source(Protocol):
    """Where a site's audio comes from. A listing error raises; an empty day is an empty sequence."""

    def days(self) -> Iterable[date]: ...
    def listing(self, day: date) -> Sequence[RemoteFile]: ...


class Lease(Protocol):
    """A shard held by this worker under a fencing epoch. A closing verb may be called once; it raises LeaseLost when
    another worker has taken the shard over. A shard that is read to its end is settled by its last part, not here."""

    @property
    def shard(self) -> Shard: ...
    @property
    def epoch(self) -> int: ...
    @property
    def known(self) -> Mapping[int, bytes]:
        """Ordinal → sha256 of the recordings whose outcome is already recorded."""

    def fail(self, error: Exception) -> None:
        """The shard cannot be done, or not now: the error's branch of the tree decides."""

    def release(self) -> None:
        """Give it back in good order, after a stop on request."""

    def forget(self) -> None:
        """It is settled, or somebody else's: renew it no longer."""


class Feed(Protocol):
    """Where work comes from: the ledger, an array index, a queue. An empty answer means nothing to do now."""

    def claim(self, count: int) -> Sequence[Lease]: ...
    def lost(self) -> Set[int]:
        """Ids of the shards that somebody else has taken over."""

    def progress(self) -> None:
        """Work is moving: leases go on being renewed only while this is said."""


class Engine(Protocol):
    """Speech recognition over a batch that may span many recordings and shards; lives in a child process.

    Answers come in the order of the batch. A recording that fails is a Failure and costs its neighbours nothing;
    whatever one recording sets (language, prompt) never reaches the next.
    """

    def transcribe(self, batch: Sequence[Audio]) -> Sequence[Transcript | Failure]: ...


class Launcher(Protocol):
    """Who starts our jobs on other machines. What it does not know it says so: silence is never an answer."""

    def look(self, ids: Sequence[str]) -> Look:
        """All our jobs in one question, and what became of `ids` that are no longer in the queue in a second one."""

    def render(self, spec: JobSpec) -> str:
        """What `submit` would ask, for a person to read."""

    def submit(self, spec: JobSpec) -> str:
        """The scheduler's id of the job. SubmitRefused: it is not taken. NoAnswer: it may be there or not."""

    def cancel(self, job: str, *, only_pending: bool) -> None:
        """Take it back, or what of it still waits. NoAnswer: that may have worked or not."""
