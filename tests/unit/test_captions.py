"""Subtitle files as platforms write them: the words come out, and nothing else of whatever is in them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from db.errors import BadData
from hpc.stages import captions
from hpc.stages.captions import as_words, rows

VTT = """WEBVTT - a title
Kind: captions

NOTE a word to
whoever reads this

STYLE
::cue { color: red }

1
00:00:00.000 --> 00:00:02.500 align:start position:0%
<c.colorE5E5E5>Hello</c> &amp; <00:00:01.000>welcome

intro
00:02.500 --> 00:04.000
Hello &amp; welcome
- everyone!
"""
SRT = (
    "1\r\n00:00:00,000 --> 00:00:02,000\r\n<i>Hello</i> & welcome\r\n\r\n"
    "2\r\n00:00:02,000 --> 00:00:03,000\r\n- everyone!"
)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (VTT, "Hello & welcome - everyone!"),
        (SRT, "Hello & welcome - everyone!"),
        ("\ufeff" + VTT, "Hello & welcome - everyone!"),
        (VTT.encode(), "Hello & welcome - everyone!"),
        ('{"utterances": [{"text": "Hello", "start_time": 0}, {"text": "there"}]}', "Hello there"),
        ("Hello\nthere", "Hello there"),
        ("so, so\nso, so", "so, so so, so"),  # no times: nothing rolls
        ("{not json", "{not json"),
        ('{"text": "no utterances"}', '{"text": "no utterances"}'),
        ("NOTE to myself: 7 --> 8", "NOTE to myself: 7 --> 8"),
        (f"WEBVTT\n\n00:00.000 --> 00:01.000\n{'la ' * 100_000}", ("la " * 100_000)[: captions.LONGEST].strip()),
        ('[{"text": "\\ud800\\u0000"}]', "\ufffd\ufffd"),
        ("WEBVTT\n\n00:00.000 --> 00:01.000\n", None),
        ("", None), (None, None), ("[" * 100_000, "[" * captions.LONGEST), (float("nan"), None),
    ],
)  # fmt: skip
def test_the_words_of_a_subtitle_file_without_its_times(content: Any, words: str | None) -> None:
    assert as_words(content) == words


@given(st.text() | st.binary() | st.text('WEBVTT0:.->\n1<&{}[]"\ud800\0'))
@example("[" + "9" * 5000 + "]")
@example('[{"text": 1e400}]')
def test_no_content_raises_and_what_comes_out_fits_the_ledger(content: Any) -> None:
    words = as_words(content)
    assert words is None or (0 < len(words) <= captions.LONGEST and "\0" not in words and words.encode())


names = st.sampled_from(["utterances", "text", "x"])


@given(st.recursive(st.none() | st.floats() | st.text(), lambda one: st.lists(one) | st.dictionaries(names, one)))
def test_no_json_raises(data: Any) -> None:
    words = as_words(json.dumps(data))
    assert words is None or words.encode()


def test_a_file_of_seven_columns_gives_rows_of_words(tmp_path: Path) -> None:
    path = tmp_path / "0_2025-01-31_00_00_subtitles.parquet"
    columns = {
        "content": [VTT, "plain", "", "no id", "x"], "meta_id": [7, 8, 9, None, 10],
        "lang": ["eng-US", None, "deu-DE", "deu-DE", "l" * 1000], "type": ["ASR", None, "MT", "MT", ""],
        "rest": ["{}"] * 5, "collection_timestamp": [1_738_312_200, None, 0, 0, 0], "hash_unique_id": ["x"] * 5,
    }  # fmt: skip
    pq.write_table(pa.table(columns), path)
    assert list(rows(path)) == [
        ("7", "eng-US", "ASR", "Hello & welcome - everyone!", datetime(2025, 1, 31, 8, 30, tzinfo=UTC)),
        ("8", "und", "", "plain", None),
        ("10", "l" * captions.LONGEST_NAME, "", "x", None),
    ]


def test_a_file_of_bytes_numbers_and_lists_costs_only_what_makes_no_sense(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    columns = {
        "meta_id": ["a", "b"],
        "content": pa.array([b"caf\xe9", b"\xff\0"]),
        "lang": [["eng-US"], None],
        "type": [1, 2],
    }
    pq.write_table(pa.table(columns), path)
    assert [row[:4] for row in rows(path)] == [("a", '["eng-US"]', "1", "caf\ufffd"), ("b", "und", "2", "\ufffd\ufffd")]


def test_what_is_no_parquet_or_has_no_ids_is_bad_data(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(b"<html>")
    with pytest.raises(BadData, match=r"x\.parquet"):
        list(rows(path))
    pq.write_table(pa.table({"content": ["x"]}), path)
    with pytest.raises(BadData, match="no column meta_id"):
        list(rows(path))
