"""From leased shards to their members: what is known already is skipped, what cannot be read ends without a seal."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from db.errors import DayscribeError
from hpc.errors import ArchiveDamaged
from hpc.model import Member, Result, Seal, Unsealed
from hpc.ports import Lease
from hpc.stages.unpack import ArchiveLimits, unpack


def read(
    leases: Iterable[Lease], *, limits: ArchiveLimits, stop: Callable[[], bool], lost: Callable[[int], bool]
) -> Iterator[Member | Result | Seal | Unsealed]:
    """Stream the members of one shard after the other; each shard ends with a Seal or Unsealed, never with both."""
    for lease in leases:
        shard_id, contents, members = lease.shard.id, hashlib.sha256(), 0
        try:
            for item in unpack(lease.shard, limits=limits):
                if stop() or lost(shard_id):
                    yield Unsealed(shard_id, None)
                    break
                if isinstance(item, Seal):
                    if lease.wanted is not None and members != len(lease.known):
                        raise _changed(lease, f"it has {members} recordings, and had {len(lease.known)}")
                    yield replace(item, contents=contents.digest())
                    continue
                contents.update(item.recording.sha256)
                if not _known(lease, item):
                    yield item
                members += 1
        except (DayscribeError, OSError) as error:
            yield Unsealed(shard_id, error)


def _known(lease: Lease, item: Member | Result) -> bool:
    """Whether the recording need not be made; other bytes at its ordinal mean that the archive was changed."""
    recording = item.recording
    before = lease.known.get(recording.ordinal)
    other = before is not None and before != recording.sha256
    if other and lease.wanted is not None:
        raise _changed(lease, f"recording {recording.ordinal} has other bytes")
    if other:
        raise ArchiveDamaged(
            f"{lease.shard.name} was changed while it was being worked: recording {recording.ordinal} has other bytes"
            " than an earlier reading found. Put the right archive back, then: dayscribe days retry"
        )
    if lease.wanted is None:
        return before is not None
    if before is None:
        raise _changed(lease, f"recording {recording.ordinal} is new")
    return recording.ordinal not in lease.wanted


def _changed(lease: Lease, how: str) -> ArchiveDamaged:
    return ArchiveDamaged(
        f"{lease.shard.name} is not the archive that was transcribed first: {how}. Put the right one back, then:"
        " dayscribe plans resume"
    )
