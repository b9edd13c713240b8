"""Words timed anew: what was said is laid beside its audio, and an answer that says anything else is refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from db.states import FailureClass
from hpc.model import Audio, Failure, Result, Seal, Transcript, Unsealed
from hpc.ports import Lease
from hpc.stages.publish import segment_from
from hpc.stages.quality import chunk_from


class Words:
    """What was said in the shards at hand, until it is laid beside its audio."""

    def __init__(self) -> None:
        self._said: dict[int, Mapping[int, Mapping[str, Any]]] = {}  # by shard and ordinal

    def expect(self, lease: Lease) -> None:
        """The shard's audio will come; without words if it is to be heard."""
        if lease.said is not None:
            self._said[lease.shard.id] = lease.said

    def beside(self, items: Iterable[Audio | Result | Seal | Unsealed]) -> Iterator[Audio | Result | Seal | Unsealed]:
        """The stream of decoded recordings, each with what was said in it."""
        for item in items:
            if isinstance(item, Audio) and (shard := self._said.get(item.recording.shard_id)) is not None:
                yield replace(item, said=transcript_from(shard[item.recording.ordinal]))
            else:
                if isinstance(item, Seal | Unsealed):
                    self._said.pop(item.shard_id, None)  # all its audio has gone by
                yield item


def transcript_from(said: Mapping[str, Any]) -> Transcript:
    """What the ledger's row says, its segments and chunks open."""
    return Transcript(
        said["language"],
        tuple(map(segment_from, said["segments"] or ())),
        said["language_probability"],
        tuple(said["flags"]),
        tuple(map(chunk_from, said["chunks"] or ())),
    )


def kept(audio: Audio, outcome: Transcript | Failure) -> Transcript | Failure:
    """The outcome; but nobody who was asked for times may change a text."""
    if audio.said is None or isinstance(outcome, Failure):
        return outcome
    if (outcome.text, outcome.language) != (audio.said.text, audio.said.language):
        return Failure(
            FailureClass.ENGINE_ERROR, "The aligner gave other text than it was given; the old version stays."
        )
    return outcome
