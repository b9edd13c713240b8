"""The engine: chunks of many recordings share the model's batches, and every recording gets what it would get alone.

WhisperX fills its batches from one file at a time; of short clips that is two places of sixteen.
"""

from __future__ import annotations

from collections.abc import Iterator

from hpc.engine_options import EngineOptions
from hpc.engines.whisperx.lanes import Clock, Lane
from hpc.engines.whisperx.loading import load, threads_of
from hpc.model import Audio, Failure, Transcript
from hpc.ports import AtWork

GPU_GENERATIONS = 2  # batches in the model at once: one is encoded while another is decoded
WINDOWS = {"cpu": 32, "cuda": 512}  # of the voice detector in one batch
ALIGNED_AT_ONCE = {"cpu": 1, "cuda": 64}  # recordings; on a CPU many at once take longer than each alone


class BatchedEngine:
    """`whisperx.load_model(…).transcribe` and `whisperx.align` for a stream of recordings, exactly."""

    def __init__(self, options: EngineOptions) -> None:
        threads = threads_of(options)
        # One thread for a piece of work and many pieces at once: threads that share a piece wait for each other.
        self.loaded = load(options, threads=1, workers=options.generations or max(threads, GPU_GENERATIONS))
        from hpc.engines.whisperx.generation import Generation
        from hpc.engines.whisperx.placing import Placer
        from hpc.engines.whisperx.speech import SpeechFinder
        from hpc.engines.whisperx.stream import Means

        device, aligners = self.loaded.device, self.loaded.aligners
        self.generation = Generation(self.loaded)
        self.means = Means(
            finder=SpeechFinder(self.loaded.pipeline.vad_model, options, windows=WINDOWS[device]),
            generation=self.generation,
            placer=Placer(aligners, batched=device != "cpu") if aligners else None,
            language=self.loaded.language,
            detect_on_speech=options.detect_on == "speech",
            finders=threads if device == "cpu" else 1,
            generations=options.generations or (threads if device == "cpu" else GPU_GENERATIONS),
            windows=WINDOWS[device],
            aligned_at_once=ALIGNED_AT_ONCE[device],
        )
        self.clock = Clock()  # CPU seconds by stage
        self._threads = threads

    def transcribe(
        self, audios: Iterator[Audio | None], at_work: AtWork
    ) -> Iterator[tuple[Audio, Transcript | Failure]]:
        """Answers, each when its recording's last chunk has landed."""
        from hpc.engines.whisperx.stream import Stream

        lanes, well = self._lanes(), False
        try:
            yield from Stream(self.means, lanes, at_work).answers(audios)
            well = True
        finally:  # after an error nobody waits: what a lost GPU is asked may never return
            for lane in set(lanes):
                lane.close(wait=well)

    def _lanes(self) -> tuple[Lane, Lane, Lane]:
        """For alignment, the model, and the voice detector. On a CPU one set of threads does all of it."""
        if self.loaded.device == "cpu":
            lane = Lane(self._threads, self.clock)
            return lane, lane, lane
        return Lane(1, self.clock), Lane(self.means.generations, self.clock), Lane(1, self.clock)
