"""`dayscribe bench engine`: both hear the same clips in one go, what differs is found, what is written stands alone."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpc.bench import chart, clips, compare, contest, report, words
from hpc.cli import main
from hpc.demo.codecs import encode
from hpc.errors import BadSetting, EngineLost

DEMO = ("engine.model=demo/asr.en", "engine.aligner=demo/aligner", "engine.chunk_size=8", "engine.device=cpu")
Call = Callable[..., tuple[int, str, str]]

LIAR = '''
from hpc.engines.whisperx.peers import WhisperX
from dataclasses import replace


class Liar(WhisperX):
    """Says something else of the first recording with text, and moves a word of the second."""

    def hear(self, audios, done):
        said = super().hear(audios, done)
        speaking = [at for at, one in enumerate(said) if one.segments]
        if len(speaking) > 1:
            first, second = speaking[:2]
            segment = said[first].segments[0]
            segments = (replace(segment, text=" <b>lies</b>"), *said[first].segments[1:])
            said[first] = replace(said[first], segments=segments)
            segment = said[second].segments[0]
            moved = replace(segment.words[0], start=segment.words[0].start + 0.02)
            segment = replace(segment, words=(moved, *segment.words[1:]))
            said[second] = replace(said[second], segments=(segment, *said[second].segments[1:]))
        return said


class Dead(WhisperX):
    def __init__(self, options):
        import os
        os.abort()
'''


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Call]:
    """`dayscribe bench engine …` with the demo model: exit code, stdout, stderr."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("DAYSCRIBE_CONFIG", raising=False)
    monkeypatch.setattr("hpc.log.configure", lambda **_options: None)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "planted.py").write_text(LIAR)

    def run(*arguments: str, settings: tuple[str, ...] = DEMO) -> tuple[int, str, str]:
        given = [part for one in (f"home={tmp_path / 'home'}", *settings) for part in ("--set", one)]
        monkeypatch.setattr(sys, "argv", ["dayscribe", *given, "bench", "engine", *arguments])
        with pytest.raises(SystemExit) as left:
            main.main(sys.argv[1:])
        out, err = capsys.readouterr()
        assert isinstance(left.value.code, int)
        return left.value.code, out, err

    yield run


@pytest.fixture
def six(tmp_path: Path) -> Path:
    """A folder with six tiny recordings in several formats, one of them silent, and a page that is no audio."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for at, audio in enumerate(clips.synthetic(5, chunk_size=4).audios):
        codec = ("mp3", "wav", "flac")[at % 3]
        (folder / f"clip{at}.{codec}").write_bytes(encode(audio.pcm, codec=codec))
    (folder / "silent.wav").write_bytes(encode(np.zeros(40_000, np.int16), codec="wav"))
    (folder / "page.mp3").write_bytes(b"<!doctype html><html>404</html>" * 40)
    return folder


def test_both_hear_the_same_clips_and_what_each_needed_is_printed_and_written(
    call: Call, six: Path, tmp_path: Path
) -> None:
    page = tmp_path / "chart.html"

    code, out, err = call("--clips", str(six), "--out", str(page), "--must-match", "--json")

    assert code == 0, err
    told = json.loads(out)
    ours, theirs = told["contestants"]["dayscribe"], told["contestants"]["whisperx"]
    assert (told["clips"]["count"], told["identity"]["identical"], told["identity"]["same"]) == (6, True, 6)
    assert [one.partition(":")[0] for one in told["clips"]["left_out"]] == ["page.mp3"]
    assert ours["counts"]["chunks"] == theirs["counts"]["chunks"] >= 5
    assert ours["counts"]["generate_calls"] < theirs["counts"]["generate_calls"] == 5
    assert ours["counts"]["steps"] < theirs["counts"]["steps"]
    assert ours["mean_fill"] == pytest.approx(ours["counts"]["chunks"] / ours["counts"]["generate_calls"], abs=0.01)
    assert theirs["batch_size"] == 8
    assert told["ratios"]["speed_up"] == pytest.approx(theirs["wall_seconds"] / ours["wall_seconds"], abs=0.01)
    assert all(one["rtfx"] > 0 and one["peak_megabytes"] > 100 and one["load_seconds"] > 0 for one in (ours, theirs))
    assert {"speech", "text", "alignment"} <= set(ours["stage_cpu_seconds"]) & set(theirs["stage_cpu_seconds"])
    written = page.read_text()
    assert told["command"] == f"dayscribe {' '.join(sys.argv[1:])}"
    assert "bench engine --clips" in written
    _stands_alone(written)


def test_a_planted_difference_is_found_named_and_ends_with_65(
    call: Call, six: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(contest.PEERS, "whisperx", "planted:Liar")

    code, out, err = call("--clips", str(six), "--must-match")

    assert code == 65
    assert "Not identical: 4 of 6 recordings are the same; text in 1, word times in 1 differ" in err
    assert "<b>lies</b>" in out
    assert "clip0.mp3" in out


def test_a_contestant_that_dies_is_named_with_its_end(call: Call, six: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(contest.PEERS, "whisperx", "planted:Dead")

    code, _, err = call("--clips", str(six))

    assert (code, "whisperx ended before it had heard all clips (exit code -6)" in err) == (EngineLost.exit_code, True)


def test_against_faster_whisper_neither_side_times_words_and_only_texts_are_compared(call: Call) -> None:
    code, out, err = call("--synthetic", "4", "--against", "faster-whisper", "--json")

    assert code == 0, err
    told = json.loads(out)
    assert (told["options"]["align"], told["identity"]["identical"]) == (False, None)
    assert "alignment" not in told["contestants"]["dayscribe"]["stage_cpu_seconds"]
    assert told["identity"]["words"] > 10
    assert 0 <= told["identity"]["word_error_rate"] < 0.5


@pytest.mark.parametrize(
    ("arguments", "settings", "code", "says"),
    [
        ((), DEMO, 2, "--clips PATH or --synthetic N"),
        (("--clips", ".", "--synthetic", "4"), DEMO, 2, "--clips PATH or --synthetic N"),
        (("--clips", "not/there"), DEMO, 2, "not/there"),
        (("--synthetic", "1"), DEMO, 2, "1"),
        (("--synthetic", "4", "--out", "chart.pdf"), DEMO, 78, ".html, .png or .json"),
        (("--synthetic", "4", "--out", "not/there.html"), DEMO, 78, "no folder"),
        (("--synthetic", "4", "--against", "faster-whisper", "--must-match"), DEMO, 78, "another way"),
        (("--synthetic", "4"), ("engine.name=echo",), 78, "echo"),
        (("--synthetic", "4"), ("engine.model=nowhere",), 78, "nowhere"),
        (("--synthetic", "4"), (*DEMO, "login_nodes=*"), 78, "login node"),
    ],
)
def test_nonsense_is_refused_before_anything_is_measured(
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
    *,
    arguments: tuple[str, ...],
    settings: tuple[str, ...],
    code: int,
    says: str,
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setattr(contest.Contest, "run", _never)

    got, _, err = call(*arguments, settings=settings)

    assert (got, says in err) == (code, True), err


def test_a_folder_without_audio_is_refused(call: Call, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    code, _, err = call("--clips", str(tmp_path / "empty"))

    assert (code, "no audio" in err) == (65, True)


def test_a_picture_is_refused_where_nothing_can_draw_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)

    with pytest.raises(BadSetting, match="matplotlib"):
        report.check(tmp_path / "chart.png")


def test_a_picture_and_json_are_written_from_what_was_told(tmp_path: Path) -> None:
    told = _told()

    report.write(told, tmp_path / "chart.json")
    report.write(told, tmp_path / "chart.png")

    assert json.loads((tmp_path / "chart.json").read_text()) == told
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")


def test_names_and_texts_from_outside_are_text_on_the_page() -> None:
    told = _told()
    told["identity"]["first"] = [
        {"recording": "<img src=//x>\x1b.mp3", "differs_in": "text", "ours": "<script>", "theirs": "&"}
    ]

    page = chart.page(told)

    _stands_alone(page)
    assert "&lt;img src=//x&gt;\\x1b.mp3" in page


def test_every_kind_of_difference_is_told_apart() -> None:
    plain = _answer("en", "one two", [(0.0, 0.5), (0.5, 1.0)])
    others = {
        None: [_answer("en", "one two", [(0.0, 0.5), (0.5, 1.0)])],
        "language": [_answer("de", "one two", [(0.0, 0.5), (0.5, 1.0)])],
        "text": [_answer("en", "one too", [(0.0, 0.5), (0.5, 1.0)])],
        "word times": [
            _answer("en", "one two", [(0.0, 0.5), (0.5, 1.02)]),
            _answer("en", "one two", [(0.0, None), (0.5, 1.0)]),
        ],
        "outcome": [{"kind": "engine_error", "reason": "it broke"}],
    }

    for kind, answers in others.items():
        for answer in answers:
            found = compare.compare([plain], [answer], str, exact=True)
            assert (found["identical"], list(found["differing"])) == (kind is None, [kind] if kind else []), kind


def test_the_largest_difference_of_log_probabilities_is_told_and_is_no_difference_of_words() -> None:
    first, second = _answer("en", "one", [(0.0, 0.5)]), _answer("en", "one", [(0.0, 0.5)])
    second["chunks"][0]["avg_logprob"] = -0.5 + 1e-5

    found = compare.compare([first], [second], str, exact=True)

    assert (found["identical"], found["max_logprob_delta"]) == (True, pytest.approx(1e-5))


def test_synthetic_clips_are_the_same_each_time_short_for_the_most_and_some_without_speech() -> None:
    made, again = (clips.synthetic(60, chunk_size=8).audios for _ in range(2))
    lengths = sorted(audio.duration for audio in made)

    assert all(np.array_equal(one.pcm, two.pcm) for one, two in zip(made, again, strict=True))
    assert 4 < lengths[30] < 9
    assert lengths[-1] <= 12
    assert not made[19].pcm.any()


def _never(*_: object, **__: object) -> Any:
    raise AssertionError("it was measured")


def _stands_alone(page: str) -> None:
    """Nothing of it is fetched, and nothing of it runs."""
    assert not re.search(r"<(script|link|img|iframe|object|embed|base)\b|\bsrc=\s*[\"']|url\(|@import|\son\w+=", page)
    assert "http" not in page
    assert page.startswith("<!doctype html>")
    assert page.count("<svg") == page.count("</svg>") > 0


def _answer(language: str, text: str, times: list[tuple[float | None, float | None]]) -> dict[str, Any]:
    said = [{"start": start, "end": end} for start, end in times]
    return {
        "language": language,
        "segments": [{"text": text, "start": 0.0, "end": 1.0, "words": said}],
        "chunks": [{"start": 0.0, "end": 1.0, "avg_logprob": -0.5}],
    }


def _told() -> dict[str, Any]:
    """What a contest comes to, with made-up figures."""
    one = {
        "wall_seconds": 2.0, "wall_seconds_of_each_round": [2.0], "rtfx": 20.0, "cpu_seconds": 4.0,
        "others_cpu_seconds": 0.5, "stolen_cpu_seconds": 0.0,
        "windows_per_second": 3.0, "batch_size": 32, "mean_fill": 30.0, "fill_share": 0.94,
        "counts": {"generate_calls": 2, "steps": 40}, "stage_cpu_seconds": {"speech": 1.0, "text": 2.0},
        "gpu_busy": None, "peak_megabytes": 900.0, "load_seconds": 3.0, "warm_up_seconds": 1.0, "failed": 0,
    }  # fmt: skip
    ratios = dict.fromkeys(("speed_up", "less_cpu", "fewer_generate_calls", "fewer_steps", "fewer_language_calls"), 2.0)
    found = compare.compare([_answer("en", "one", [])], [_answer("en", "one", [])], str, exact=True)
    told = {
        "command": "dayscribe bench engine", "at": "2025-01-01", "against": "whisperx", "rounds": 1,
        "machine": {"cpu": "a CPU", "cores": 2, "load": 0.0, "gpu": [], "python": "3.11"},
        "clips": {"origin": "made", "count": 1, "seconds": 40.0, "median_seconds": 40.0, "longest_seconds": 40.0,
                  "prepare_seconds": 0.0, "left_out": []},
        "options": dict.fromkeys(contest.SHOWN, "x"),
        "contestants": {"dayscribe": one, "whisperx": json.loads(json.dumps(one))}, "ratios": ratios, "identity": found,
    }  # fmt: skip
    assert words.verdict(told).startswith("Identical")
    return told
