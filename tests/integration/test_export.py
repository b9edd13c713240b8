"""A day as files: every row with its words and its denominator, whole or not at all, and inert in a spreadsheet."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from db import days, faults, formats, metadata, reports
from db.days import SlotFinding
from db.reports import Choice
from db.states import Finding
from hpc import export
from hpc.export import UnfinishedDay, export_day, safe_cell, tables
from hpc.export import files as separate

EXPORTING = """
import sys
from datetime import date
from pathlib import Path
from db import days
from db.connect import connect
from hpc.export import export_day
with connect(sys.argv[1]) as connection:
    day = days.get(connection, "zurich", date.fromisoformat(sys.argv[2]))
    export_day(connection, day, Path(sys.argv[3]), kind=sys.argv[4], partial=True)
"""


def facts(path: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(pq.read_schema(path).metadata[b"dayscribe"])
    return told


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_an_unfinished_day_is_refused_and_nothing_is_written(a_day: Any, tmp_path: Path) -> None:
    with pytest.raises(UnfinishedDay, match="zurich 2025-01-31 is processing, not finished"):
        export_day(a_day.connection, a_day.open, tmp_path / "out")

    assert files_in(tmp_path / "out") == []


def test_a_partial_export_says_so_with_its_denominator_and_receipts(a_day: Any, tmp_path: Path) -> None:
    a_day.connection.execute("UPDATE shards SET judged = NULL")
    made = export_day(a_day.connection, a_day.open, tmp_path / "out", partial=True)

    assert (made.path, made.recordings, made.partial) == (tmp_path / "out" / "zurich" / "2025-01-31.parquet", 5, True)
    told = facts(made.path)
    assert (told["version"], told["partial"], told["state"]) == (4, True, "processing")
    assert told["denominator"] == {
        "recordings": 5, "transcribed": 3, "no_speech": 1, "quarantined": 1, "unsealed": 1, "unjudged": 4,
        "shards": 4, "open_shards": 2, "failed_shards": 1, "slots": 5, "slots_arrived": 3, "slots_to_come": 0,
        "slots_absent_at_source": 1, "slots_listed_but_missing": 0, "slots_empty": 1,
    }  # fmt: skip
    assert {name: told["missing"][name] for name in ("absent_at_source", "listed_but_missing", "empty")} == {
        "absent_at_source": ["12_00"], "listed_but_missing": [], "empty": ["23_50"],
    }  # fmt: skip
    [failed] = told["missing"]["shards"]
    assert failed == {"name": failed["name"], "failure_class": "archive_damaged"}, "a reason may name a folder of ours"
    [receipt] = told["receipts"]
    assert (receipt["recordings"], receipt["receipt"]["engine"]) == (4, "echo")


def test_every_sealed_recording_is_a_row_with_its_words_and_metadata(a_day: Any, tmp_path: Path) -> None:
    table = pq.read_table(export_day(a_day.connection, a_day.open, tmp_path, partial=True).path)

    assert table.schema.equals(export.SCHEMA)
    rows = {row["id"]: row for row in table.to_pylist()}
    hello = rows[a_day.ids["hello"]]
    assert (hello["text"], hello["state"], hello["seconds"]) == ("hello wide world", "transcribed", 10.0)
    assert [word["word"] for word in hello["segments"][0]["words"]] == ["hello", "wide", "world"]
    assert (hello["play_count"], hello["country"], hello["author_verified"]) == (2**40, "CH", True)
    assert hello["flags"] == ["multichannel", "unaligned"]
    quarantined = rows[a_day.ids["quarantined"]]
    assert (quarantined["text"], quarantined["segments"], quarantined["failure_class"]) == (None, None, "truncated")
    assert quarantined["name"].endswith("\\xff\\xfe.mp3")
    silence = rows[a_day.ids["silence"]]
    assert (silence["text"], silence["segments"], silence["state"]) == ("", [], "no_speech")
    assert a_day.ids["unsealed"] not in rows


def test_the_columns_are_the_ledgers_twenty_and_what_the_query_gives(a_day: Any) -> None:
    assert tuple(export.SCHEMA.names)[-len(metadata.COLUMNS) :] == metadata.COLUMNS
    [row] = reports.some(a_day.connection, [a_day.ids["hello"]])
    assert set(row) == set(export.SCHEMA.names)


def test_a_state_chooses_rows_and_never_shrinks_the_denominator(a_day: Any, tmp_path: Path) -> None:
    made = export_day(a_day.connection, a_day.open, tmp_path, choice=Choice("quarantined"), partial=True)

    assert pq.read_table(made.path)["id"].to_pylist() == [a_day.ids["quarantined"]]
    told = facts(made.path)
    assert told["selection"] == {"state": "quarantined", "languages": [], "flags": []}
    assert told["kept"] == {"recordings": 1, "transcribed": 0, "no_speech": 0, "quarantined": 1}
    assert (told["denominator"]["recordings"], told["denominator"]["transcribed"]) == (5, 3)


def test_the_same_day_exported_twice_is_the_same_file(a_day: Any, tmp_path: Path) -> None:
    first = export_day(a_day.connection, a_day.done, tmp_path / "one").path.read_bytes()
    again = [export_day(a_day.connection, a_day.done, tmp_path / "two").path.read_bytes() for _ in range(2)]

    assert again == [first, first]
    assert files_in(tmp_path / "two") == ["zurich/2025-01-30.parquet"]


def test_rows_are_read_and_written_a_little_at_a_time(
    a_day: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "PAGE", 2)
    monkeypatch.setattr(tables, "GROUP_ROWS", 2)
    told: list[int] = []

    made = export_day(a_day.connection, a_day.open, tmp_path, partial=True, advance=told.append)

    assert (told, pq.ParquetFile(made.path).metadata.num_row_groups) == ([2, 2, 1], 3)
    assert pq.read_table(made.path)["id"].to_pylist() == [
        a_day.ids[name] for name in ("hello", "hostile", "silence", "quarantined", "injection")
    ]


def test_an_export_is_of_one_moment_whatever_is_recorded_meanwhile(
    a_day: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "PAGE", 1)

    def meddle(_count: int) -> None:
        from db.connect import connect

        with connect(a_day.dsn) as other:
            other.execute("UPDATE recordings SET state = 'transcribed' WHERE state = 'provisional' AND current_id > 0")
            other.execute("UPDATE transcripts SET text = 'changed' WHERE text <> ''")

    made = export_day(a_day.connection, a_day.open, tmp_path, partial=True, advance=meddle)

    assert "changed" not in pq.read_table(made.path)["text"].to_pylist()


@pytest.mark.parametrize("kind", formats.KINDS)
def test_other_formats_are_a_file_a_recording_under_our_ids(a_day: Any, tmp_path: Path, kind: str) -> None:
    made = export_day(a_day.connection, a_day.open, tmp_path, kind=kind, partial=True)

    names = ("hello", "hostile", "silence", "injection")
    expected = ["about.json", "index.csv", *(f"000/{a_day.ids[name]}.{kind}" for name in names)]
    assert files_in(made.path) == sorted(expected)
    row = reports.recording(a_day.connection, a_day.ids["hello"])
    assert row is not None
    said = (made.path / f"000/{a_day.ids['hello']}.{kind}").read_text(encoding="utf-8")
    if kind == "json":
        assert json.loads(said)["receipt"] == {"key": row["run_key"].hex(), **row["receipt"]}
        assert json.loads(said)["recording"]["meta_id"] == "7000000000000000001"
    else:
        assert said == formats.render(reports.document(row), kind)
    assert json.loads((made.path / "about.json").read_text())["partial"] is True


def test_the_index_names_every_recording_and_no_cell_is_a_formula(a_day: Any, tmp_path: Path) -> None:
    made = export_day(a_day.connection, a_day.open, tmp_path, kind="txt", partial=True)

    with (made.path / "index.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["id"]) for row in rows] == [
        a_day.ids[name] for name in ("hello", "hostile", "silence", "quarantined", "injection")
    ]
    assert [row["file"] == "" for row in rows] == [False, False, False, True, False]
    cells = [cell for row in rows for cell in row.values()]
    assert [cell for cell in cells if cell[:1] in ("=", "+", "-", "@")] == []
    assert rows[3]["name"].startswith("'=cmd|")


def test_a_folder_holds_at_most_so_many_files(a_day: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(separate, "FILES_IN_FOLDER", 2)

    made = export_day(a_day.connection, a_day.open, tmp_path, kind="txt", partial=True)

    assert [len(list((made.path / number).iterdir())) for number in ("000", "001")] == [2, 2]


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1"])
def test_a_cell_that_a_spreadsheet_would_run_is_text(cell: str) -> None:
    assert safe_cell(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["", "a=1", "7000", -1, None])
def test_every_other_cell_stays_as_it_is(cell: object) -> None:
    assert safe_cell(cell) == cell


def test_a_second_export_of_files_replaces_the_first(a_day: Any, tmp_path: Path) -> None:
    for state in (None, "no_speech"):
        made = export_day(a_day.connection, a_day.open, tmp_path, kind="srt", choice=Choice(state), partial=True)

    names = (f"000/{a_day.ids['silence']}.srt", "about.json", "index.csv")
    assert files_in(tmp_path / "zurich") == [f"2025-01-31_srt/{name}" for name in names]
    assert made.recordings == 1


@pytest.mark.parametrize("kind", ["parquet", "srt"])
@pytest.mark.parametrize("point", ["export.half", "export.renamed"])
def test_killed_anywhere_and_run_again_there_is_one_whole_export(
    a_day: Any, tmp_path: Path, kind: str, point: str
) -> None:
    arguments = [sys.executable, "-c", EXPORTING, a_day.dsn, "2025-01-31", str(tmp_path), kind]
    armed = os.environ | {"DAYSCRIBE_FAULTS_ARMED": "yes", "DAYSCRIBE_FAULT": f"{point}:kill"}
    target = tmp_path / "zurich" / ("2025-01-31.parquet" if kind == "parquet" else "2025-01-31_srt")

    killed = subprocess.run(arguments, env=armed, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert target.exists() == (point == "export.renamed")
    subprocess.run(arguments, check=True)

    assert [path.name for path in target.parent.iterdir()] == [target.name]
    whole = export_day(a_day.connection, a_day.open, tmp_path / "other", kind=kind, partial=True).path
    if kind == "parquet":
        assert target.read_bytes() == whole.read_bytes()
    else:
        assert files_in(target) == files_in(whole)


def test_an_error_leaves_neither_a_file_nor_a_leftover(
    a_day: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_day(a_day.connection, a_day.done, tmp_path)
    before = (tmp_path / "zurich" / "2025-01-30.parquet").read_bytes()

    def full(_name: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(faults, "point", full)
    with pytest.raises(OSError, match="No space left"):
        export_day(a_day.connection, a_day.done, tmp_path)

    assert files_in(tmp_path / "zurich") == ["2025-01-30.parquet"]
    assert (tmp_path / "zurich" / "2025-01-30.parquet").read_bytes() == before


def test_companions_that_are_still_staged_are_merged_beside_the_day(a_day: Any, tmp_path: Path) -> None:
    staged = Path(a_day.done.staged)
    staged.mkdir(parents=True)
    for slot in ("00_00", "00_10"):
        pq.write_table(
            pa.table({"meta_id": [slot], "country": ["CH"]}), staged / f"0_2025-01-30_{slot}_metadata.parquet"
        )
    slots = [SlotFinding("00_00", "metadata", Finding.ARRIVED, "0_2025-01-30_00_00_metadata.parquet", 1)]
    slots += [SlotFinding("00_10", "metadata", Finding.ABSENT_AT_SOURCE)]
    days.put_slots(a_day.connection, a_day.done.id, revision=0, slots=slots)

    made = export_day(a_day.connection, a_day.done, tmp_path / "out")

    beside = tmp_path / "out" / "zurich" / "2025-01-30_metadata.parquet"
    assert (made.metadata_rows, pq.read_table(beside)["meta_id"].to_pylist()) == (1, ["00_00"])


def test_slot_time_collection_time_and_posting_time_are_three_columns(a_day: Any, tmp_path: Path) -> None:
    """The slot's instant by the site's clock, whatever its label says, and apart from what the platform says."""
    begins = datetime(2025, 1, 30, 23, 0, tzinfo=UTC)  # 00_00 in Zurich's winter, of a file that is dated the day after
    slots = [SlotFinding("00_00", "archive", Finding.ARRIVED, "a.tar.xz", 1, begins)]
    days.put_slots(a_day.connection, a_day.open.id, revision=0, slots=slots)

    table = pq.read_table(export_day(a_day.connection, a_day.open, tmp_path, partial=True).path).to_pylist()

    [told] = [row for row in table if row["posted"] is not None]
    assert told["slot"] == "00_00"
    assert told["slot_time"] == begins
    assert len({told["slot_time"], told["collected"], told["posted"]}) == 3
