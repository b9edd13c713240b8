"""The sockets other platforms plug into. Protocols only: no logic, no third-party imports beyond the values' own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from datetime import date
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

from hpc.jobs import JobSpec, Look
from hpc.message import Message
from hpc.model import Audio, Checksum, Failure, Move, Progress, RemoteFile, Shard, Transcript
from hpc.parcel import Packed, Slip


class Source(Protocol):
    """Where a site's audio comes from. A listing error raises; an empty day is an empty sequence."""

    def days(self) -> Iterable[date]: ...
    def listing(self, day: date) -> Iterable[RemoteFile]: ...


class Mover(Protocol):
    """Brings files from one place to another. Where `prompt`, a task goes on without us and every call returns soon;
    else `submit` itself does the work, for as long as that takes, and belongs into a job of its own.

    MoverTrouble and its leaves (needs login, needs consent, refused, …) say why it does nothing; NoAnswer: it may have
    taken the move or not, so the same Move is submitted again."""

    @property
    def prompt(self) -> bool: ...

    def new_submission(self) -> UUID:
        """The id of a submission to come, to be stored before it is submitted."""

    def submit(self, move: Move) -> UUID:
        """The task. The same submission again is the same task, whatever became of the first answer."""

    def look(self, task: UUID) -> Progress:
        """How it stands, in one question."""

    def checksums(self, task: UUID) -> Mapping[str, Checksum]:
        """Destination path → what the mover itself read of the files that it moved, where it says so."""

    def cancel(self, task: UUID) -> None:
        """It is to move nothing more."""


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

    @property
    def wanted(self) -> Set[int] | None:
        """Of a shard that is read again for a plan, which all of `known` is of: the ordinals to make. None: what is not
        known is made."""

    @property
    def said(self) -> Mapping[int, Mapping[str, Any]] | None:
        """Of a shard whose words are only to be timed anew: what was said in each of `wanted`, for hpc/stages/align.py.
        None: it is to be heard."""

    def fail(self, error: Exception) -> None:
        """The shard cannot be done, or not now: the error's branch of the tree decides."""

    def release(self) -> None:
        """Give it back in good order, after a stop on request."""

    def forget(self) -> None:
        """It is settled, or somebody else's: renew it no longer."""


class Feed(Protocol):
    """Where work comes from: the ledger, an array index, a queue. An empty answer means nothing to do now."""

    def waits(self) -> bool:
        """Whether `claim` may have something to do. Nothing is claimed by asking; in doubt yes."""

    def claim(self, count: int) -> Sequence[Lease]: ...
    def lost(self) -> Set[int]:
        """Ids of the shards that somebody else has taken over."""

    def progress(self) -> None:
        """Work is moving: leases go on being renewed only while this is said."""


AtWork = Callable[[Sequence[Audio]], AbstractContextManager[None]]


class Engine(Protocol):
    """Speech recognition over a stream of recordings of many shards; lives in a child process.

    It answers each recording once, when it is done, in any order. None in the stream says that nothing more comes for
    now: what waits for company goes on without, as it does after a while in any case. Around work that might end the
    process it enters `at_work` with the recordings at stake. A recording that fails is a Failure and costs its
    neighbours nothing; whatever one recording sets (language, prompt) never reaches another.
    """

    def transcribe(
        self, audios: Iterator[Audio | None], at_work: AtWork
    ) -> Iterator[tuple[Audio, Transcript | Failure]]: ...


class Aligner(Protocol):
    """An ability that an engine may have besides, named like it in the registry; lives in a child process like it.

    Each recording comes with what was `said` in it, and is answered with the same text and language, its words timed
    anew. Where that is not possible it is a Failure: what is there is worth more than text without times. All else is
    as for `Engine.transcribe`.
    """

    def align(
        self, audios: Iterator[Audio | None], at_work: AtWork
    ) -> Iterator[tuple[Audio, Transcript | Failure]]: ...


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


class Sender(Protocol):
    """Brings files of ours to a target outside, and says what is there. What is there and the same costs nothing.

    MoverTrouble and its leaves say why it does nothing; TryAgain that it may work later."""

    def withdraw(self, root: Path, manifest: Packed) -> bool:
        """Take away the manifest of an earlier delivery, if it says something else; False where that cannot be done."""

    def send(self, root: Path, files: Sequence[Packed], slip: Slip, advance: Callable[[int], None]) -> None:
        """Bring these files below `root` there. InFlight: a mover has them, and the same call goes on with it later."""

    def differing(self, root: Path, files: Sequence[Packed]) -> Sequence[str]:
        """Those that are not there, whole; looked at anew, whatever `send` thought."""

    def confirm(self, manifest: Packed) -> Sequence[str] | None:
        """Those that the target's own sha256sum finds amiss; None where it cannot be asked."""


class Channel(Protocol):
    """Tells people something. ChannelRefused says why it never will; NotSaid: it may be said or not."""

    @property
    def name(self) -> str: ...

    def send(self, message: Message) -> Sequence[str]:
        """What could not be done although it was said: one of several people it did not reach."""
