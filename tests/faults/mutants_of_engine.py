"""Small damages to the engine and what surrounds it, and the tests that must notice; tests/faults/test_mutants.py."""

from __future__ import annotations

STREAM, ALIGNMENT, EMISSIONS = (
    f"tests/integration/engine/test_{name}.py" for name in ("stream", "alignment", "emissions")
)
PROCESS, TRIAL = "tests/integration/test_engine_process.py", "tests/unit/test_engine_trial.py"
TRANSCRIBE, POOL = "tests/unit/test_transcribe.py", "tests/unit/test_pool.py"
WORK, WAY = "hpc/engines/whisperx/work.py", "hpc/engines/whisperx/stream.py"

# What is damaged → ((file, before, after), …), (tests, …)
MUTANTS: dict[str, tuple[tuple[tuple[str, str, str], ...], tuple[str, ...]]] = {
    "chunks are put together in the order they landed": (
        (
            (
                WORK,
                "        self._said[piece.at], self.language = said\n",
                "        self._said[len(self._said)], self.language = said\n",
            ),
        ),
        (f"{STREAM}::test_every_chunk_comes_back_once_to_its_own_recording_and_place",),
    ),
    "one that fails in a batch fails the batch": (
        (
            (
                WORK,
                "        if len(items) == 1 and (not hungry or isinstance(error, MemoryError)):\n"
                "            return [answers.failed(error)]\n",
                "        if not hungry:\n            return [answers.failed(error) for _ in items]\n",
            ),
        ),
        (f"{STREAM}::test_a_poison_chunk_is_found_by_halving_and_only_its_recording_fails",),
    ),
    "a lost GPU is a recording's failure": (
        ((WORK, "        if is_gpu_lost(error):\n", "        if False:\n"),),
        (f"{STREAM}::test_a_lost_gpu_ends_the_engine_rather_than_a_recording",),
    ),
    "what is at work is told when it is done": (
        (
            (
                "hpc/engines/whisperx/stream.py",
                "            with self._at_work(audios):\n                return each(work, items)\n",
                "            done = each(work, items)\n            with self._at_work(audios):\n"
                "                return done\n",
            ),
        ),
        (f"{STREAM}::test_what_is_at_work_is_told_before_it_is_done_and_taken_back_after",),
    ),
    "only full batches go to the model": (
        (
            (
                WAY,
                "elif len(self._pool) >= size or (self._pool and self._no_more_chunks):",
                "elif len(self._pool) >= size:",
            ),
        ),
        (f"{STREAM}::test_a_quiet_tail_never_waits_for_company",),
    ),
    "chunks go to the model as they come": (
        (
            (
                WAY,
                "        return self._no_more_speech and not coming\n",
                "        return True\n",
            ),
        ),
        (f"{STREAM}::test_a_batch_waits_for_company_while_more_is_on_its_way",),
    ),
    "a batch that was too large is tried as large again": (
        (
            (
                "hpc/engines/whisperx/generation.py",
                "                self.batch_size = min(self.batch_size, (len(batch) + 1) // 2)\n",
                "                items, self.batch_size = list(items), (len(batch) + 1) // 2\n"
                "                done += self._sparing_memory(work, batch)\n                self.batch_size = 8\n",
            ),
        ),
        (f"{STREAM}::test_when_memory_is_short_batches_are_halved_which_is_remembered_and_work_goes_on",),
    ),
    "the oldest chunk can wait for ever": (
        (
            (
                "hpc/engines/whisperx/pool.py",
                "        first = max(0, min(at - most // 2, len(self._sorted) - most))\n",
                "        first = 0\n",
            ),
        ),
        (f"{POOL}::test_everything_comes_out_once_the_oldest_always_with_the_next_batch",),
    ),
    "whoever was at work when the process died is guilty": (
        (
            (
                "hpc/stages/engine_trial.py",
                "        self._guilty[ticket] = ",
                "        self._row.pop()\n        self._guilty[ticket] = ",
            ),
        ),
        (f"{TRIAL}::test_a_machine_that_fails_is_to_blame_and_no_recording",),
    ),
    "nobody is told what the process worked on": (
        (
            ("hpc/stages/engine_process.py", "            self._begun[work] = tickets\n", "            pass\n"),
            ("hpc/stages/engine_process.py", "            del self._begun[value]\n", "            pass\n"),
        ),
        (f"{PROCESS}::test_a_death_is_held_against_what_was_at_work_and_costs_two_processes",),
    ),
    "the last answers are left behind": (
        (
            (
                "hpc/stages/transcribe.py",
                "    engine.lull()\n    yield from books.note(engine.ready())\n",
                "    engine.lull()\n",
            ),
        ),
        (TRANSCRIBE,),
    ),
    "a shard that is not done is sealed": (
        (
            (
                "hpc/stages/transcribe.py",
                "            yield Unsealed(end.shard_id, None)\n",
                "            yield end  # type: ignore[misc]\n",
            ),
        ),
        (f"{PROCESS}::test_after_a_stop_what_the_engine_has_not_done_in_time_is_left_to_others",),
    ),
}
