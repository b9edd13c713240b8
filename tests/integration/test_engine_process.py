"""The engine's child process may crash, hang or be killed: its batch is tried again, and nobody else pays."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from db.states import FailureClass
from hpc.engine_options import EngineOptions
from hpc.engines.echo import echo
from hpc.errors import EngineLost, ModelMissing, UnknownName
from hpc.model import SAMPLE_RATE, Audio, Failure, Recording, Result, Seal, Transcript, Unsealed
from hpc.stages.engine_process import EngineProcess
from hpc.stages.transcribe import Room, transcribe

ECHO = "hpc.engines.echo:EchoEngine"


def clip(ordinal: int, *, shard: int = 1, seconds: float = 2.0) -> Audio:
    name = f"{shard}-{ordinal}.mp3".encode()
    noise = np.random.default_rng(ordinal).integers(-9000, 9000, int(seconds * SAMPLE_RATE), dtype=np.int16)
    return Audio(Recording(shard, ordinal, name, 100, hashlib.sha256(name).digest()), noise, flags=("multichannel",))


def engine(*trouble: str, hang_seconds: float = 30.0, start_seconds: float = 60.0) -> EngineProcess:
    return EngineProcess(ECHO, EngineOptions(trouble=trouble), hang_seconds=hang_seconds, start_seconds=start_seconds)


def expected(batch: Sequence[Audio]) -> list[Result]:
    """What the echo engine says of each recording, asked here."""
    return [Result(audio.recording, echo(audio), audio.duration, audio.flags) for audio in batch]


def answers(process: EngineProcess, batch: Sequence[Audio]) -> list[Result]:
    """What becomes of each, in the order of the batch."""
    for audio in batch:
        process.submit(audio)
    process.lull()
    results: list[Result] = []
    while process.held:
        results += process.wait()
    order = [audio.recording for audio in batch]
    return sorted(results, key=lambda result: order.index(result.recording))


def kinds(results: Sequence[Result]) -> list[FailureClass | None]:
    return [result.outcome.kind if isinstance(result.outcome, Failure) else None for result in results]


@pytest.fixture(scope="module")
def sound() -> Iterator[EngineProcess]:
    """An engine without troubles, shared by the tests that leave it well."""
    with engine() as process:
        yield process


def test_recordings_come_back_whole_and_exact(sound: EngineProcess) -> None:
    batch = [clip(ordinal, shard=ordinal % 3, seconds=ordinal / 2) for ordinal in range(12)]
    assert answers(sound, batch) == expected(batch)


def test_an_hour_of_audio_arrives_sample_for_sample(sound: EngineProcess) -> None:
    batch = [clip(ordinal, seconds=600.0) for ordinal in range(6)]
    assert answers(sound, batch) == expected(batch)


def test_with_nothing_held_nothing_is_waited_for(sound: EngineProcess) -> None:
    assert (sound.wait(), sound.ready(), sound.held) == ([], [], 0)
    sound.lull()
    assert answers(sound, [clip(0)]) == expected([clip(0)])
    assert (sound.wait(), sound.held, sound.held_seconds) == ([], 0, 0.0)


def test_every_word_of_the_engine_is_a_sign_of_life(sound: EngineProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    words: list[int] = []
    monkeypatch.setattr(sound, "_alive", lambda: words.append(1))
    answers(sound, [clip(0), clip(1)])
    assert len(words) >= 2 * 2  # begun and done; what is said after an answer may come later


def test_an_answer_is_given_as_soon_as_it_is_there_while_others_are_at_work() -> None:
    with engine("hang:1-1.mp3") as process:
        process.submit(clip(0))
        process.submit(clip(1))
        assert process.wait() == expected([clip(0)])
        assert (process.held, process.held_seconds, process.wait(0.2)) == (1, 2.0, [])
        assert process.abandon() == 1
        assert answers(process, [clip(2)]) == expected([clip(2)])


@pytest.mark.parametrize("how", ["crash", "kill"])
def test_a_recording_that_ends_the_engine_is_quarantined_alone(how: str) -> None:
    batch = [clip(ordinal) for ordinal in range(5)]
    with engine(f"{how}:1-2.mp3") as process:
        results = answers(process, batch)
        assert kinds(results) == [None, None, FailureClass.ENGINE_CRASH, None, None]
        good = [0, 1, 3, 4]
        assert [results[at] for at in good] == expected([batch[at] for at in good])
        assert isinstance(results[2].outcome, Failure)
        assert ("SIGABRT" if how == "crash" else "SIGKILL") in results[2].outcome.reason
        assert answers(process, [clip(7)]) == expected([clip(7)])


def test_a_death_is_held_against_what_was_at_work_and_costs_two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    spawned = count_spawns(monkeypatch)
    with engine("crash:1-5.mp3") as process:
        assert kinds(answers(process, [clip(ordinal) for ordinal in range(12)])).count(FailureClass.ENGINE_CRASH) == 1
    assert len(spawned) == 1 + 2


def test_several_that_end_the_engine_are_all_found_and_only_they() -> None:
    batch = [clip(ordinal) for ordinal in range(9)]
    with engine("crash:1-1.mp3", "crash:1-2.mp3", "kill:1-7.mp3") as process:
        results = answers(process, batch)
    assert [at for at, kind in enumerate(kinds(results)) if kind] == [1, 2, 7]


def test_a_recording_that_hangs_the_engine_is_quarantined_alone() -> None:
    batch = [clip(ordinal) for ordinal in range(3)]
    with engine("hang:1-1.mp3", hang_seconds=1.5) as process:
        results = answers(process, batch)
    assert kinds(results) == [None, FailureClass.ENGINE_CRASH, None]
    assert isinstance(results[1].outcome, Failure)
    assert "no answer within 1.5 s" in results[1].outcome.reason


def test_too_many_at_once_for_the_engine_are_done_one_by_one_without_a_single_failure() -> None:
    batch = [clip(ordinal) for ordinal in range(4)]
    with engine("crowd:1") as process:
        assert answers(process, batch) == expected(batch)


@pytest.mark.parametrize("at", [0, 6, 11])
def test_an_engine_that_raises_costs_only_the_recording_to_blame_and_two_processes(
    monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    spawned = count_spawns(monkeypatch)
    with engine(f"error:1-{at}.mp3") as process:
        results = answers(process, [clip(ordinal) for ordinal in range(12)])
    assert kinds(results) == [FailureClass.ENGINE_ERROR if ordinal == at else None for ordinal in range(12)]
    assert len(spawned) == (2 if at == 11 else 1 + 2)  # after the last nobody needs another


def count_spawns(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    spawned: list[int] = []
    spawn = EngineProcess._spawn
    monkeypatch.setattr(EngineProcess, "_spawn", lambda self: (spawned.append(1), spawn(self)))
    return spawned


def test_a_child_killed_while_idle_or_at_work_is_replaced(sound: EngineProcess) -> None:
    assert sound.pid
    os.kill(sound.pid, signal.SIGKILL)
    assert answers(sound, [clip(1)]) == expected([clip(1)])
    sound.submit(clip(2, seconds=60.0))
    assert sound.pid
    os.kill(sound.pid, signal.SIGKILL)
    assert sound.wait() == expected([clip(2, seconds=60.0)])


def test_a_stopped_child_blocks_neither_handing_over_nor_waiting() -> None:
    batch = [clip(ordinal, seconds=300.0) for ordinal in range(4)] + [clip(ordinal) for ordinal in range(4, 400)]
    with engine(hang_seconds=2.0) as process:
        assert process.pid
        os.kill(process.pid, signal.SIGSTOP)
        assert answers(process, batch) == expected(batch)


def test_the_child_ignores_the_interrupts_and_warnings_that_are_meant_for_the_worker() -> None:
    with engine() as process:
        before = process.pid
        assert before
        os.kill(before, signal.SIGINT)
        os.kill(before, signal.SIGTERM)
        assert answers(process, [clip(3)]) == expected([clip(3)])
        assert process.pid == before


def test_a_missing_model_is_reported_as_itself() -> None:
    with pytest.raises(ModelMissing, match="told that its model is missing"):
        engine("start:missing").start()


def test_an_unknown_engine_is_named() -> None:
    for target in ("hpc.engines.nothing:Engine", "hpc.engines.echo:Nothing", "echo"):
        with pytest.raises(UnknownName, match=f"There is no engine '{target}'"):
            EngineProcess(target, EngineOptions(), hang_seconds=5).start()


@pytest.mark.parametrize(("trouble", "reason"), [("crash", "SIGABRT"), ("error", "RuntimeError"), ("hang", "within")])
def test_an_engine_that_never_starts_is_lost_and_asks_for_another_try(trouble: str, reason: str) -> None:
    with pytest.raises(EngineLost, match=f"ended 3 times before it took any work.*{reason}") as caught:
        engine(f"start:{trouble}", start_seconds=1.5 if trouble == "hang" else 60.0).start()
    assert caught.value.exit_code == 75


def test_an_engine_that_never_answered_blames_the_machine_and_quarantines_nobody() -> None:
    batch = [clip(ordinal) for ordinal in range(5)]
    with engine("crowd:0") as process, pytest.raises(EngineLost, match="never answered") as caught:
        answers(process, batch)
    assert caught.value.exit_code == 75


def test_the_child_dies_with_its_worker(tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(
        textwrap.dedent(
            f"""
            from hpc.engine_options import EngineOptions
            from hpc.stages.engine_process import EngineProcess
            if __name__ == "__main__":
                engine = EngineProcess("{ECHO}", EngineOptions(), hang_seconds=9)
                engine.start()
                print(engine.pid, flush=True)
                input()
            """
        )
    )
    with subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout
        child = int(worker.stdout.readline())
        worker.kill()
    deadline = time.monotonic() + 20
    while _runs(child):
        assert time.monotonic() < deadline, "the child outlived its worker"
        time.sleep(0.01)


def test_a_worker_that_forgets_to_close_its_engine_still_ends(tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(
        textwrap.dedent(
            f"""
            from hpc.engine_options import EngineOptions
            from hpc.stages.engine_process import EngineProcess
            if __name__ == "__main__":
                engine = EngineProcess("{ECHO}", EngineOptions(), hang_seconds=9)
                engine.start()
            """
        )
    )
    assert subprocess.run([sys.executable, script], timeout=60, check=False).returncode == 0


def _runs(pid: int) -> bool:
    """Whether it is more than a name waiting to be collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_starting_an_engine_loads_no_torch() -> None:
    code = (
        "import sys, hpc.stages.transcribe, hpc.stages.engine_child, hpc.engines.echo, hpc.models, hpc.receipt; "
        "print(sorted({'torch', 'whisperx', 'ctranslate2', 'faster_whisper', 'transformers'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def seal(shard: int, recordings: int) -> Seal:
    return Seal(shard, b"\1" * 32, 1000, recordings)


def test_a_stream_across_shards_gives_every_result_once_and_each_seal_after_its_own(sound: EngineProcess) -> None:
    quarantined = Result(Recording(1, 99, b"bad.mp3", 1, b"\2" * 32), Failure(FailureClass.NOT_AUDIO, "a web page"))
    first = [clip(ordinal, shard=1) for ordinal in range(5)]
    second = [clip(ordinal, shard=2) for ordinal in range(4)]
    stream = [*first[:2], quarantined, *first[2:], seal(1, 6), *second, seal(2, 4), seal(3, 0)]
    out = list(transcribe(iter(stream), sound, Room(3, 60.0)))
    results = [item for item in out if isinstance(item, Result)]
    assert sorted(results, key=lambda r: (r.recording.shard_id, r.recording.ordinal)) == [
        *expected(first), quarantined, *expected(second)
    ]  # fmt: skip
    for shard in (1, 2):
        sealed_at = out.index(next(s for s in out if isinstance(s, Seal) and s.shard_id == shard))
        assert all(r.recording.shard_id != shard for r in out[sealed_at:] if isinstance(r, Result))
    assert sorted(item.shard_id for item in out if isinstance(item, Seal)) == [1, 2, 3]


@pytest.mark.parametrize("room", [Room(4, 60.0), Room(100, 0.45)])
def test_the_engine_never_holds_more_than_it_has_room_for(sound: EngineProcess, room: Room) -> None:
    taken: list[int] = []

    def source() -> Iterator[Audio]:
        for ordinal in range(40):
            taken.append(ordinal)
            yield clip(ordinal, seconds=0.1)

    done = 0
    for _ in transcribe(source(), sound, room):
        done += 1
        assert len(taken) <= done + 4 + 1  # one is in hand, waiting for room
    assert done == 40


def test_a_recording_longer_than_all_the_room_is_held_alone(sound: EngineProcess) -> None:
    clips = [clip(ordinal, seconds=seconds) for ordinal, seconds in enumerate((1.0, 20.0, 1.0))]
    assert sorted(transcribe(clips, sound, Room(9, 2.0)), key=_ordinal) == expected(clips)


def _ordinal(item: Result | Seal | Unsealed) -> int:
    assert isinstance(item, Result)
    return item.recording.ordinal


def test_the_engine_works_while_the_next_recording_is_read() -> None:
    with engine("slow:0.1") as process:
        held_when_read: list[int] = []

        def source() -> Iterator[Audio]:
            for ordinal in range(8):
                held_when_read.append(process.held)
                yield clip(ordinal, seconds=0.1)

        assert len(list(transcribe(source(), process, Room(2, 60.0)))) == 8
        assert 8 * 0.1 <= process.busy_seconds < 60.0
        assert held_when_read[0] == 0
        assert set(held_when_read[2:]) <= {1, 2}


def test_after_a_stop_what_the_engine_has_not_done_in_time_is_left_to_others() -> None:
    items = [clip(0), clip(1), seal(1, 2), clip(0, shard=2), Unsealed(2, None), seal(3, 0)]
    read: list[bool] = []

    def source() -> Iterator[Audio | Seal | Unsealed]:
        yield from items
        read.append(True)

    with engine("hang:1-1.mp3") as process:
        out = list(transcribe(source(), process, Room(9, 60.0), stop=lambda: bool(read), patience=0.2))
        assert (process.held, process.pid) == (0, None)
    results, ends = [item for item in out if isinstance(item, Result)], [o for o in out if not isinstance(o, Result)]
    assert results == expected([clip(0)])
    assert sorted(ends, key=lambda end: end.shard_id) == [Unsealed(1, None), Unsealed(2, None), seal(3, 0)]


def test_after_a_stop_a_full_engine_is_given_nothing_more() -> None:
    asked = iter([False] * 3 + [True] * 1000)
    with engine("hang:1-1.mp3") as process:
        out = list(transcribe([*map(clip, range(9)), seal(1, 9)], process, Room(2, 60.0), stop=lambda: next(asked),
                              patience=0.2))  # fmt: skip
    assert [item for item in out if isinstance(item, Result)] == expected([clip(0)])
    assert out[-1] == Unsealed(1, None)


def test_more_recordings_than_the_usual_number_of_open_files(sound: EngineProcess) -> None:
    batch = [clip(ordinal, seconds=0.01) for ordinal in range(1500)]
    assert answers(sound, batch) == expected(batch)


def test_a_shard_whose_reading_ended_without_a_seal_ends_after_its_last_result(sound: EngineProcess) -> None:
    end = Unsealed(1, None)
    out = list(transcribe([clip(0), clip(1), end], sound, Room(8, 60.0)))
    assert out == [*expected([clip(0), clip(1)]), end]


def test_the_engine_outlives_the_thread_that_started_it() -> None:
    process = engine()
    starter = threading.Thread(target=process.start)
    starter.start()
    starter.join()
    before = process.pid
    assert answers(process, [clip(0)]) == expected([clip(0)])
    assert process.pid == before
    process.close()


def test_silence_is_a_transcript_without_a_language(sound: EngineProcess) -> None:
    quiet = Audio(clip(0).recording, np.zeros(SAMPLE_RATE, np.int16))
    assert [result.outcome for result in answers(sound, [quiet])] == [Transcript(language=None, segments=())]
