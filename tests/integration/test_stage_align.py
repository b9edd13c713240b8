"""`reprocess --stage align`: new word times for texts that stay, in a version of its own; from real audio."""

from __future__ import annotations

import io
import json
import tarfile
import wave
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from db import formats
from db.connect import connect
from hpc import registry
from hpc.cli import main

DAY = "2025-01-01"
CLIPS = {"00_00": ("a.wav", "b.wav", "broken.wav", "silence.wav"), "00_10": ("c.wav", "d.wav")}
ALIGN = ("reprocess", "--date", DAY, "--stage", "align")


def clip(tone: float, seconds: float) -> bytes:
    samples = (8000 * np.sin(2 * np.pi * tone * np.arange(int(16_000 * seconds)) / 16_000)).astype("<i2")
    with io.BytesIO() as out:
        with wave.open(out, "wb") as file:
            file.setparams((1, 2, 16_000, len(samples), "NONE", ""))
            file.writeframes(samples.tobytes())
        return out.getvalue()


ELSEWHERE = """
from dataclasses import replace
from db.states import FailureClass
from hpc.model import Failure

class Other:
    def __init__(self, options):
        pass

    def align(self, audios, at_work):
        for audio in audios:
            if audio is not None:
                with at_work([audio]):
                    answer = {answer}
                yield audio, answer
"""


class Lab:
    """A day, transcribed by the echo engine."""

    def __init__(self, dsn: str, folder: Path) -> None:
        self.dsn, self.folder, self.audio = dsn, folder, folder / "audio"
        self.audio.mkdir()
        self.said = ("", "")
        for slot, names in CLIPS.items():
            with tarfile.open(self.audio / f"0_{DAY}_{slot}.tar.xz", "w:xz") as out:
                for at, name in enumerate(names):
                    data = b"" if name == "broken.wav" else clip(0.0 if name == "silence.wav" else 440.0, 2.0 + at)
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    out.addfile(member, io.BytesIO(data))

    def call(self, *words: str, capsys: pytest.CaptureFixture[str], **settings: str) -> int:
        wanted = {"ledger.dsn": self.dsn, "home": str(self.folder / "home"), "engine.name": "echo"} | settings
        given = [word for name, value in wanted.items() for word in ("--set", f"{name.replace('__', '.')}={value}")]
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main.main([*given, *words])
        self.said = tuple(capsys.readouterr())  # type: ignore[assignment]
        assert isinstance(left.value.code, int)
        return left.value.code

    def rows(self, question: str) -> list[dict[str, Any]]:
        with connect(self.dsn) as connection:
            return connection.execute(question).fetchall()  # type: ignore[arg-type]

    def now(self) -> dict[str, dict[str, Any]]:
        """What readers see of each recording that says something."""
        seen = self.rows(
            "SELECT r.meta_id, t.*, encode(u.key, 'hex') AS key FROM recordings r"
            " JOIN transcripts t ON t.id = r.current_id JOIN runs u ON u.id = t.run_id WHERE t.outcome = 'speech'"
        )
        return {row["meta_id"]: formats.opened(row) for row in seen}


@pytest.fixture
def lab(
    fresh_ledger: Callable[[], AbstractContextManager[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Lab]:
    with fresh_ledger() as dsn:
        made = Lab(dsn, tmp_path)
        assert made.call("run", DAY, "--folder", str(made.audio), capsys=capsys) == 65, made.said
        yield made


@pytest.fixture
def do(lab: Lab, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """A command's one document, and its exit code as expected."""

    def run(*words: str, code: int = 0, **settings: str) -> Any:
        assert lab.call(*words, "--json", capsys=capsys, **settings) == code, lab.said
        return json.loads(lab.said[0]) if lab.said[0].strip() else None

    return run


def words(row: dict[str, Any]) -> list[Any]:
    return [
        (word["word"], word["start"], word["end"], word["score"]) for one in row["segments"] for word in one["words"]
    ]


def test_words_get_new_times_in_a_new_version_and_nothing_else_of_a_text_changes(
    lab: Lab, do: Callable[..., Any]
) -> None:
    before = lab.now()
    shown = do(*ALIGN, "--dry-run")
    assert (shown["stage"], shown["recordings"]) == ("align", 4), "neither silence nor what failed has words"
    assert lab.now() == before
    told = do("reprocess", "--plan", str(shown["plan"]), "--here")
    assert (told["stage"], told["state"], told["remade"], told["failed"]) == ("align", "done", 4, 0)
    after = lab.now()
    same = ("text", "language", "language_probability", "outcome", "chunks", "avg_logprob", "coverage", "word_count")
    for name, row in after.items():
        assert row["version"] == 2
        assert row["key"] == shown["key"] != before[name]["key"]
        assert {column: row[column] for column in same} == {column: before[name][column] for column in same}
        assert {score for *_, score in words(row)} == {0.5}, "by the aligner"
        assert {score for *_, score in words(before[name])} == {1.0}
        assert [word for word, *_ in words(row)] == [word for word, *_ in words(before[name])]
    versions = lab.rows("SELECT count(*) AS n FROM transcripts WHERE version = 1")
    assert versions == [{"n": 5}], "the old versions stay"

    again = do("reprocess", "--plan", str(shown["plan"]), "--here")
    assert again["state"] == "done"
    nothing = do(*ALIGN)
    assert (nothing["plan"], nothing["known"]) == (None, 4)
    assert lab.now() == after
    [day] = lab.rows("SELECT state FROM days")
    assert day["state"] == "completed_with_errors"


def test_a_text_whose_words_never_had_times_gets_them(lab: Lab, do: Callable[..., Any]) -> None:
    """As WhisperX leaves a word that it cannot place; and a segment without any."""
    two = {"start": 0.0, "end": 1.0, "text": " two", "words": [{"word": "two"}]}
    bare = formats.pack([two, {"start": 1.0, "end": 2.0, "text": "more"}])
    with connect(lab.dsn) as connection:
        put = "UPDATE transcripts SET words = %s, text = 'two more', chunks = NULL WHERE outcome = 'speech'"
        connection.execute(put, [bare])
    assert do(*ALIGN, "--here")["remade"] == 4
    for row in lab.now().values():
        assert (row["text"], row["word_count"]) == ("two more", 2)
        assert [word for word, *_ in words(row)] == ["two", "more"]


def test_the_receipt_says_whose_text_it_is_and_what_heard_it(lab: Lab, do: Callable[..., Any]) -> None:
    [text] = {row["key"] for row in lab.now().values()}
    heard = [{"kind": "asr", "name": "some-model", "digest": "d", "locked": True}]
    with connect(lab.dsn) as connection:
        put = "UPDATE runs SET receipt = jsonb_set(receipt, '{models}', %s::jsonb)"
        connection.execute(put, [json.dumps(heard)])
    do(*ALIGN, "--here")
    [row] = lab.rows("SELECT receipt FROM runs WHERE receipt ->> 'stage' = 'align'")
    receipt = row["receipt"]
    assert (receipt["text"]["key"], receipt["text"]["forced_by"]) == (text, 0)
    assert receipt["models"] == heard
    other = do("reprocess", "--date", DAY, "--only", "model!=some-model")
    assert other["plan"] is None, "what heard the text is known of its aligned versions, too"


def test_a_text_of_a_newer_version_is_never_undone(lab: Lab, do: Callable[..., Any]) -> None:
    """The plan aligns what it was drawn of; readers go on seeing what somebody made since."""
    drawn = do(*ALIGN, "--dry-run")
    do("reprocess", "--date", DAY, "--here", code=65, engine__language="de")
    newer = lab.now()
    assert {row["language"] for row in newer.values()} == {"de"}
    told = do("reprocess", "--plan", str(drawn["plan"]), "--here")
    assert told["remade"] == 4
    assert lab.now() == newer
    aligned = lab.rows(f"SELECT language FROM transcripts WHERE plan_id = {drawn['plan']}")
    assert {row["language"] for row in aligned} == {"en"}


def test_texts_of_several_runs_are_named_and_one_is_chosen(lab: Lab, do: Callable[..., Any], tmp_path: Path) -> None:
    first = lab.now()["a"]["key"]
    (only := tmp_path / "only.txt").write_text("a\n")
    do("reprocess", "--recordings", str(only), "--here", engine__language="de")
    do(*ALIGN, "--dry-run", code=65)
    assert "The texts are of 2 runs" in lab.said[1]
    assert first[:12] in lab.said[1]
    told = do(*ALIGN, "--text-of", first[:8], "--here")
    assert told["remade"] == 3
    assert [row["language"] for row in lab.now().values()].count("de") == 1
    de = next(row["key"] for row in lab.now().values() if row["language"] == "de")
    assert do(*ALIGN, "--text-of", de, "--here")["remade"] == 1
    do(*ALIGN, "--dry-run", code=65)
    assert f"{first[:12]} (3 recordings)" in lab.said[1], "an aligned version is of the text's run, still"
    assert do(*ALIGN, "--text-of", first)["known"] == 3


@pytest.fixture
def another(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """An aligner of another package in place of ours; what it answers is an expression."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def put(answer: str) -> None:
        (tmp_path / "elsewhere.py").write_text(ELSEWHERE.format(answer=answer))
        monkeypatch.setitem(registry.BUILT_IN["aligners"], "echo", "elsewhere:Other")

    return put


def test_a_recording_that_cannot_be_aligned_keeps_its_version_and_costs_no_other(
    lab: Lab, do: Callable[..., Any], another: Callable[[str], None]
) -> None:
    another("Failure(FailureClass.ENGINE_ERROR, 'no place') if audio.recording.name == b'b.wav' else audio.said")
    told = do(*ALIGN, "--here", code=65)
    assert (told["remade"], told["failed"]) == (3, 1)
    versions = {name: row["version"] for name, row in lab.now().items()}
    assert versions == {"a": 2, "b": 1, "c": 2, "d": 2}
    another("audio.said")
    do("plans", "resume", str(told["plan"]))
    assert do("reprocess", "--plan", str(told["plan"]), "--here")["remade"] == 4
    assert {name: row["version"] for name, row in lab.now().items()} == versions | {"b": 2}


@pytest.mark.parametrize("answer", ["replace(audio.said, segments=())", "replace(audio.said, language='xx')"])
def test_an_aligner_that_changes_a_text_or_its_language_is_refused_whoever_it_is(
    lab: Lab, do: Callable[..., Any], another: Callable[[str], None], answer: str
) -> None:
    another(answer)
    before = lab.now()
    told = do(*ALIGN, "--here", code=65)
    assert (told["remade"], told["failed"]) == (0, 4)
    failed = {row["failure_reason"] for row in lab.rows("SELECT failure_reason FROM plan_recordings")}
    assert failed == {"The aligner gave other text than it was given; the old version stays."}
    assert lab.now() == before


def test_an_engine_without_this_ability_says_so_before_anything_is_drawn(
    lab: Lab, do: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(registry.BUILT_IN["aligners"], "echo")
    do(*ALIGN, "--dry-run", code=78)
    assert "no aligner is called 'echo'; known: whisperx" in lab.said[1]


@pytest.mark.parametrize(
    "refusal",
    [
        ({"engine__align": "false"}, (), 78, "engine.align is on"),
        ({"engine__task": "translate"}, (), 78, "engine.task is transcribe"),
        ({}, ("--text-of", "ffff"), 0, "no text that could be aligned"),
        ({}, ("--date", "1999-01-01"), 65, "no day in this selection"),
    ],
)
def test_what_cannot_be_aligned_is_refused_before_anything_is_drawn(
    lab: Lab, do: Callable[..., Any], refusal: tuple[dict[str, str], tuple[str, ...], int, str]
) -> None:
    settings, more, code, said = refusal
    do(*ALIGN, *more, "--dry-run", code=code, **settings)
    assert said in " ".join(lab.said[1].split())
    assert lab.rows("SELECT id FROM plans") == []
