"""Word times anew for what was said before: the aligners alone, without the speech model and the voice detector."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from db.states import FailureClass
from hpc.engine_options import EngineOptions
from hpc.engines.whisperx import answers
from hpc.engines.whisperx.loading import load_aligners, threads_of
from hpc.model import Audio, Chunk, Failure, Segment, Transcript
from hpc.ports import AtWork

AT_ONCE = {"cpu": 1, "cuda": 64}  # recordings; on a CPU many at once take longer than each alone
QUIET_SECONDS = 0.5  # what waits for company so long goes on without it


class Realigner:
    """`whisperx.align` for texts that stay as they are."""

    def __init__(self, options: EngineOptions) -> None:
        self._aligners, device = load_aligners(options, threads=threads_of(options))
        from hpc.engines.whisperx.placing import Placer

        self._placer, self._at_once = Placer(self._aligners, batched=device != "cpu"), AT_ONCE[device]

    def align(self, audios: Iterator[Audio | None], at_work: AtWork) -> Iterator[tuple[Audio, Transcript | Failure]]:
        """Answers in the order of the stream, some at once."""
        from hpc.engines.whisperx.work import each

        for group in _groups(audios, self._at_once):
            with at_work(group):
                answered = each(self._place, group)
            yield from zip(group, answered, strict=True)

    def _place(self, audios: Sequence[Audio]) -> Sequence[Transcript | Failure]:
        from hpc.engines.whisperx.placing import Heard
        from hpc.engines.whisperx.work import as_float

        spoken = [audio for audio in audios if len(audio.pcm) and audio.said and audio.said.language]
        items = [Heard(whole(audio.said), audio.said.language, as_float(audio.pcm)) for audio in spoken]  # type: ignore[union-attr,arg-type]
        placed = {id(audio): found for audio, found in zip(spoken, self._placer.place(items), strict=True)}
        return [self._answer(audio, placed.get(id(audio))) for audio in audios]

    def _answer(self, audio: Audio, placed: list[dict[str, Any]] | None) -> Transcript | Failure:
        said = audio.said
        if not len(audio.pcm):
            return answers.NO_SAMPLES
        if said is None or said.language is None:
            return said or Failure(FailureClass.ENGINE_ERROR, "It is not said whose words are wanted.")
        if placed is None:
            there = self._aligners.load(said.language) is not None
            why = "has no place for all that was said" if there else f"is not there for {said.language!r}"
            return Failure(FailureClass.ENGINE_ERROR, f"The aligner {why}; the version that is there stays.")
        segments = tuple(answers.segment_of(one, audio.duration) for one in placed)
        flags = tuple(flag for flag in said.flags if flag != answers.UNALIGNED)
        return replace(said, segments=segments, flags=flags)


def whole(said: Transcript) -> list[dict[str, Any]]:
    """What WhisperX had aligned: a segment a chunk, of which the aligner made sentences. As the segments are, where the
    chunks are not known."""
    groups: list[tuple[float, float, list[Segment]]] = []
    chunks = [chunk for chunk in said.chunks if chunk.start < chunk.end]  # False for what is not known
    at = 0
    for segment in said.segments:
        while at < len(chunks) and segment.start >= chunks[at].end:
            at += 1
        if at == len(chunks) or segment.start < chunks[at].start:
            groups = [(one.start, one.end, [one]) for one in said.segments]
            break
        if groups and groups[-1][:2] == _span(chunks[at]):
            groups[-1][2].append(segment)
        else:
            groups.append((*_span(chunks[at]), [segment]))
    return [
        {"text": _joined(inside), "start": start, "end": end, "avg_logprob": inside[0].avg_logprob}
        for start, end, inside in groups
    ]


def _joined(sentences: Sequence[Segment]) -> str:
    """As `Transcript.text` joins them; the space that the model begins a chunk with stays."""
    return " ".join([sentences[0].text.rstrip(), *(one.text.strip() for one in sentences[1:])])


def _span(chunk: Chunk) -> tuple[float, float]:
    return chunk.start, chunk.end


def _groups(audios: Iterator[Audio | None], most: int) -> Iterator[list[Audio]]:
    """What has come, as many as may go together; a thread reads, so that nothing waits for company for ever."""
    came: queue.SimpleQueue[Audio | BaseException | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(audios, came), daemon=True).start()
    waiting: list[Audio] = []
    while True:
        try:
            item = came.get(timeout=QUIET_SECONDS if waiting else None)
        except queue.Empty:
            item = None
        if isinstance(item, Audio):
            waiting.append(item)
        elif isinstance(item, BaseException) and not isinstance(item, StopIteration):
            raise item
        if waiting and (not isinstance(item, Audio) or len(waiting) >= most):
            yield waiting
            waiting = []
        if isinstance(item, StopIteration):
            return


def _read(audios: Iterator[Audio | None], came: queue.SimpleQueue[Audio | BaseException | None]) -> None:
    try:
        for audio in audios:
            came.put(audio)
        came.put(StopIteration())
    except BaseException as error:  # noqa: BLE001 - it is raised again where the groups are asked for
        came.put(error)
