"""From parts to rows: every outcome keeps its kind, and no text that an engine may give is too odd to store."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from db import search, shards, transcripts
from db.states import FailureClass
from hpc.model import Failure, Recording, Result, Run, Seal, Segment, Shard, Transcript, Word
from hpc.stages.ingest import PartOfAnotherLedger, ingest, waiting
from hpc.stages.publish import PartDamaged, header_of, write_part

RUN = Run(b"k" * 16, {"engine": "none"})


def published(folder: Path, leased: shards.Leased, *outcomes: Transcript | Failure, sealed: bool = True) -> Path:
    """A part on disk with these outcomes, as a worker publishes it."""
    shard = Shard(leased.id, leased.site, leased.date, leased.name, (Path("x"),))
    results = [Result(_recording(shard, ordinal), outcome, 2.0) for ordinal, outcome in enumerate(outcomes)]
    seal = Seal(shard.id, b"s" * 32, 1, len(outcomes)) if sealed else None
    return write_part(folder, header_of(RUN, shard, leased.epoch, 0.5), results, seal)


def _recording(shard: Shard, ordinal: int) -> Recording:
    return Recording(shard.id, ordinal, b"clip%d.mp3" % ordinal, 1, hashlib.sha256(b"%d" % ordinal).digest())


def speech(text: str, language: str | None = "en") -> Transcript:
    return Transcript(language, (Segment(text, 0.0, 2.0, (Word(text, 0.0, 2.0, 0.5),)),), 0.9)


def test_every_outcome_keeps_its_kind(books: Any, tmp_path: Path) -> None:
    books.day("a")
    failure = Failure(FailureClass.TRUNCATED, "cut off")
    path = published(tmp_path, books.one(), speech("hello world"), Transcript(None, ()), failure)
    assert ingest(books.connection, path, actor="test").settled
    rows = books.rows(
        "SELECT r.meta_id, r.state, r.failure_class, r.failure_reason, t.outcome, t.text, t.language FROM recordings r"
        " LEFT JOIN transcripts t ON t.recording_id = r.id ORDER BY r.ordinal"
    )
    assert rows == [
        ("clip0", "transcribed", None, None, "speech", "hello world", "en"),
        ("clip1", "no_speech", None, None, "no_speech", "", None),
        ("clip2", "quarantined", "truncated", "cut off", None, None, None),
    ]


def test_what_a_text_column_cannot_hold_is_left_out_and_its_neighbours_stay(books: Any, tmp_path: Path) -> None:
    books.day("a")
    outcomes = [
        speech("nul \0 inside"),
        speech("half \udc80 a pair"),
        Failure(FailureClass.UNDECODABLE, "it says \0 and \ud800"),
        speech("\0"),
        speech("plain"),
    ]
    assert ingest(books.connection, published(tmp_path, books.one(), *outcomes), actor="test").settled
    assert books.rows("SELECT text FROM transcripts ORDER BY recording_id") == [
        "nul  inside",
        "half ? a pair",
        "",
        "plain",
    ]
    assert books.value("SELECT failure_reason FROM recordings WHERE state = 'quarantined'") == "it says  and ?"
    found = search.search(books.connection, search.Question("pair")).hits
    assert [hit["meta_id"] for hit in found] == ["clip1"]
    [whole] = transcripts.find(books.connection, "clip1")
    assert [segment["start"] for segment in whole["segments"]] == [0.0]


def test_a_part_says_again_what_was_put_into_it(books: Any, tmp_path: Path) -> None:
    books.day("a", on=date(2025, 2, 3))
    path = published(tmp_path, books.one(), speech("hello"))
    assert path.parent == tmp_path / "zurich" / "2025-02-03" / "parts"
    assert ingest(books.connection, path, actor="test").new
    assert not ingest(books.connection, path, actor="test").new
    name, digest, size = books.rows("SELECT name, sha256, size FROM parts")[0]
    assert (path.name, digest) == (f"{name}.jsonl.gz", hashlib.sha256(path.read_bytes()).digest())
    assert size == path.stat().st_size


def test_only_parts_that_are_not_recorded_are_waiting(books: Any, tmp_path: Path) -> None:
    books.day("a")
    leased = books.one()
    first, second = (published(tmp_path, leased, speech("hello"), sealed=False) for _ in range(2))
    ingest(books.connection, first, actor="test")
    (first.parent / ".tmp-left-by-a-crash").write_bytes(b"half")
    assert list(waiting(books.connection, [first.parent])) == [second]


@pytest.mark.parametrize("elsewhere", [{"site": "geneva"}, {"on": date(2030, 1, 1)}])
def test_a_part_of_another_ledger_is_refused_though_its_number_is_known(
    books: Any, tmp_path: Path, elsewhere: dict[str, Any]
) -> None:
    """The results folder outlived its ledger, and a new one counts from 1 again."""
    books.day("a", **elsewhere)
    mine = books.one()
    other = replace(mine, site="zurich", date=date(2025, 1, 1))
    with pytest.raises(PartOfAnotherLedger, match=r"is of zurich 2025-01-01 a as shard \d+, and this ledger has"):
        ingest(books.connection, published(tmp_path, other, speech("hello")), actor="test")
    with pytest.raises(PartOfAnotherLedger, match="has no such shard"):
        ingest(books.connection, published(tmp_path, replace(mine, id=999), speech("hello")), actor="test")
    assert books.rows("SELECT id FROM parts") == []


@pytest.mark.parametrize("keep", [0, 20, -1])
def test_a_part_that_is_cut_is_refused_and_nothing_of_it_stored(books: Any, tmp_path: Path, keep: int) -> None:
    books.day("a")
    path = published(tmp_path, books.one(), speech("hello"))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(PartDamaged, match=r"is not a whole part .* move it away and run the day again"):
        ingest(books.connection, path, actor="test")
    assert books.rows("SELECT id FROM parts") == []
