"""One worker, from leases to settled shards. READ THIS FIRST: it is the whole flow on a page.

    claim ──► read ──► decode ──► transcribe ──► record
    leases    members   audio      results        parts, then rows; the last part of a shard seals and settles it

Every arrow is a bounded stream, so memory does not grow with the day. Batches form across recordings and shards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hpc.ports import Feed, Lease
from hpc.stages.decode import DecoderPool
from hpc.stages.read import read
from hpc.stages.record import Recorder, Tally
from hpc.stages.transcribe import EngineProcess, transcribe
from hpc.stages.unpack import ArchiveLimits


@dataclass(frozen=True, slots=True)
class Tools:
    """What a worker works with; hpc/wiring/ makes them from the settings."""

    feed: Feed
    decoders: DecoderPool
    engine: EngineProcess
    recorder: Recorder
    limits: ArchiveLimits
    leases: int  # shards held at once, so that batches are full across them
    batch_recordings: int
    batch_seconds: float


def work(tools: Tools, *, stop: Callable[[], bool], notice: Callable[[Tally], None] = lambda _: None) -> Tally:
    """Work until the feed has nothing more to give, or until `stop`: then the batch in hand is finished, what is
    done of each shard is published, and the shards are given back."""
    recorder = tools.recorder
    members = read(
        _leases(tools, stop), limits=tools.limits, stop=stop, lost=lambda shard_id: shard_id in tools.feed.lost()
    )
    audio = tools.decoders.decode(members)
    results = transcribe(
        audio, tools.engine, batch_recordings=tools.batch_recordings, batch_seconds=tools.batch_seconds
    )
    for item in results:
        recorder.take(item)
        tools.feed.progress()
        notice(recorder.tally)
    recorder.finish()
    return recorder.tally


def _leases(tools: Tools, stop: Callable[[], bool]) -> Iterator[Lease]:
    """Leases one after the other, a few held at once. Work is looked for before the engine is loaded (law 5)."""
    while not stop():
        leases = tools.feed.claim(tools.leases)
        if not leases:
            return
        fresh = [lease for lease in leases if tools.recorder.expect(lease)]
        tools.engine.start()
        yield from fresh
