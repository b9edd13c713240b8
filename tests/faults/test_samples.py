"""A sample that ends early, at each step of it: what is drawn, copied or judged is so once, and whole."""

from __future__ import annotations

import csv
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import product
from pathlib import Path
from typing import Any

from db.faults import KNOWN

DAY = "2025-01-01"
ENDS = {"kill": -signal.SIGKILL, "term": -signal.SIGTERM}
DRAW = ("sample.drawing", "sample.drawn", "sample.half", "sample.copied")
JUDGE = ("sample.judging", "sample.judged")


def test_a_sample_passes_every_point_that_is_its_own() -> None:
    assert {name for name in KNOWN if name.startswith("sample.")} == {*DRAW, *JUDGE}


def test_a_sample_that_ends_early_is_drawn_once_copied_whole_and_judged_whole(
    place: Callable[[], AbstractContextManager[Any]],
) -> None:
    with place() as here:
        here.finish(here.start())
        for point, action in product(DRAW, ENDS):
            name = f"{point.partition('.')[2]}-{action}"
            out = here.folder / name
            command = ("sample", "draw", name, DAY, "--strata", "", "--n", "3", "--audio", str(out))
            assert here.finish(here.start(f"{point}:{action}", *command)) == ENDS[action]
            assert here.finish(here.start("", *command)) == 0, here.said()
            assert _drawn(here, name) == (3, 1)
            assert [path.name for path in sorted(out.iterdir())] == [f"{name}-{n:05}.wav" for n in (1, 2, 3)]
            assert {path.read_bytes()[:4] for path in out.iterdir()} == {b"RIFF"}
        for point, action in product(JUDGE, ENDS):
            _judged_once(here, f"{DRAW[0].partition('.')[2]}-{action}", point, action)
        assert {*DRAW, *JUDGE} <= set(here.points())


def _drawn(here: Any, name: str) -> tuple[int, int]:
    """Recordings of the sample, and events that tell of it."""
    with here.ledger() as ledger:
        [row] = ledger.execute(
            "SELECT (SELECT count(*) FROM sample_recordings x JOIN samples m ON m.id = x.sample_id"
            " WHERE m.name = %(name)s) AS drawn, (SELECT count(*) FROM events WHERE what = 'sample.drawn'"
            " AND detail ->> 'sample' = %(name)s) AS told",
            {"name": name},
        ).fetchall()
    return row["drawn"], row["told"]


def _judged_once(here: Any, name: str, point: str, action: str) -> None:
    sheet: Path = here.folder / f"{name}-{point}.csv"
    assert here.finish(here.start("", "sample", "sheet", name, "--out", str(sheet))) == 0, here.said()
    with sheet.open(encoding="utf-8-sig", newline="") as file:
        rows = [row | {"reference": "some words"} for row in csv.DictReader(file)]
    with sheet.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with here.ledger() as ledger:
        ledger.execute("UPDATE sample_recordings SET reference = NULL, judged = NULL")
    read = ("sample", "read", name, str(sheet))
    assert here.finish(here.start(f"{point}:{action}", *read)) == ENDS[action]
    with here.ledger() as ledger:
        [half] = ledger.execute("SELECT count(reference) AS judged FROM sample_recordings").fetchall()
        assert half["judged"] == (3 if point == JUDGE[1] else 0)
        assert here.finish(here.start("", *read)) == 0, here.said()
        [whole] = ledger.execute("SELECT count(reference) AS judged FROM sample_recordings").fetchall()
    assert whole["judged"] == 3
