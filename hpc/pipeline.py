"""One worker, from leases to settled shards. READ THIS FIRST: it is the whole flow on a page.

    preflight, once, when there is work: can this machine transcribe at all?
    claim ──► read ──► decode ──► transcribe ──► record
    leases    members   audio      results        parts, then rows; the last part of a shard seals and settles it

Every arrow is a bounded stream, so memory does not grow with the day. The engine fills its batches across recordings
and shards, and gives each recording back when it is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from db.errors import DayscribeError
from hpc.errors import EngineLost, MachineUnfit
from hpc.ports import Feed, Lease
from hpc.preflight import Preflight
from hpc.stages.align import Words
from hpc.stages.decode import DecoderPool
from hpc.stages.engine_process import EngineProcess
from hpc.stages.read import read
from hpc.stages.record import Recorder, Tally
from hpc.stages.transcribe import Room, transcribe
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
    room: Room  # of the engine
    patience: float  # seconds that the engine has, after a stop, for what it holds
    preflight: Preflight


def work(tools: Tools, *, stop: Callable[[], bool], notice: Callable[[Tally], None] = lambda _: None) -> Tally:
    """Work until the feed has nothing more to give, or until `stop`: then the engine has a moment for what it holds,
    what is done of each shard is published, and the shards are given back."""
    recorder = tools.recorder
    words = Words()
    members = read(
        _leases(tools, stop, words), limits=tools.limits, stop=stop, lost=lambda shard_id: shard_id in tools.feed.lost()
    )
    audio = words.beside(tools.decoders.decode(members))
    results = transcribe(audio, tools.engine, tools.room, stop=stop, patience=tools.patience)
    try:
        for item in results:
            recorder.take(item)
            tools.feed.progress()
            notice(recorder.tally)
    except DayscribeError as error:
        raise _left_in_order(tools, error) from error
    recorder.finish()
    return recorder.tally


def _leases(tools: Tools, stop: Callable[[], bool], words: Words) -> Iterator[Lease]:
    """Leases one after the other, a few held at once. Work is looked for before anything is loaded (law 5), and a
    machine that cannot do it takes none."""
    if stop() or not tools.feed.waits():
        return
    tools.preflight()
    while not stop():
        leases = tools.feed.claim(tools.leases)
        if not leases:
            return
        fresh = [lease for lease in leases if tools.recorder.expect(lease)]
        for lease in fresh:
            words.expect(lease)
        _load(tools)
        yield from fresh


def _load(tools: Tools) -> None:
    """That the engine does not load is no shard's doing: they go back as they came."""
    try:
        tools.engine.start()
    except DayscribeError as error:
        raise _left_in_order(tools, error) from error


def _left_in_order(tools: Tools, error: DayscribeError) -> DayscribeError:
    """What is done is published and the shards are given back. An engine that ends again and again is the machine's."""
    tools.recorder.finish()
    return MachineUnfit(str(error)) if isinstance(error, EngineLost) else error
