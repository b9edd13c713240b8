"""An engine asked in this process: a stream, a lull, and an outcome for each recording in the stream's order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

from hpc.model import Audio, Failure, Transcript
from hpc.ports import Engine


def hear(
    engine: Engine,
    audios: Iterable[Audio | None],
    at_work: Callable[[Sequence[Audio]], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> list[Transcript | Failure]:
    """For tests and measurements; work is done in a process of the engine's own. None in `audios` is a lull."""
    asked: list[Audio] = []

    def stream() -> Iterator[Audio | None]:
        for audio in audios:
            if audio is not None:
                asked.append(audio)
            yield audio
        yield None

    outcomes: dict[int, Transcript | Failure] = {}
    for audio, outcome in engine.transcribe(stream(), at_work):
        if id(audio) in outcomes:
            raise RuntimeError(f"The engine answered {audio.recording} twice.")
        outcomes[id(audio)] = outcome
    if missing := len(asked) - len(outcomes):
        raise RuntimeError(f"The engine left {missing} recordings without an answer.")
    return [outcomes[id(audio)] for audio in asked]
