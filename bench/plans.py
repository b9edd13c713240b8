"""Measures how long it takes to choose what is made again, and to store it, in a ledger of millions of recordings.

    python bench/plans.py [--json] [--recordings 10000000] [--explain]

Three years of one site, 144 archives a day, a flag on every fiftieth transcript, two models. Each selection is drawn
as `dayscribe reprocess --dry-run` draws it, the recordings written down and all. Exit 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from db import plans, sites
from db.connect import Connection, connect
from db.embedded import EmbeddedPostgres
from db.migrate import initialise
from db.plans import Criterion, Selection, Wish
from db.roles import Roles
from db.sql import parse

FIRST, DAYS = date(2023, 1, 1), 1095
FLAG = Criterion("suspect", ["repetition"])
ALL, FAILED, OLDER = Criterion("all"), Criterion("quarantined"), Criterion("not_model", "new")
SELECTIONS = (  # what, why, days from the first of March, target in seconds
    ("one day, everything", ALL, 1, 1.0),
    ("one day, by flag", FLAG, 1, 1.0),
    ("one day, by failure", FAILED, 1, 1.0),
    ("one day, by older model", OLDER, 1, 1.0),
    ("a month, by flag", FLAG, 31, None),
    ("a month, by older model", OLDER, 31, None),
    ("a year, by flag", FLAG, 366, 10.0),
    ("a year, by failure", FAILED, 366, None),
)
START = date(2024, 3, 1)
LOAD = parse((Path(__file__).parent / "plans.sql").read_text(encoding="utf-8"), "plans.sql")


def main() -> None:
    """Fill a ledger, draw each selection three times, and print the best."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--recordings", type=int, default=10_000_000)
    parser.add_argument("--explain", action="store_true", help="show how the server finds a year's flags")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedPostgres(Path(folder))
        try:
            with connect(server.start()) as connection:
                rows = list(_measure(connection, wanted))
        finally:
            server.stop()
    print(json.dumps(rows, indent=2) if wanted.json else "\n".join(map(_line, rows)))
    sys.exit(any(row["target"] is not None and row["seconds"] > row["target"] for row in rows))


def _measure(connection: Connection, wanted: argparse.Namespace) -> Iterator[dict[str, Any]]:
    initialise(connection, Roles.single(connection.info.user))
    each = max(1, round(wanted.recordings / DAYS / 144))
    site = sites.put(connection, "bench", location="/nowhere")
    began = time.perf_counter()
    connection.execute("SET session_replication_role = replica")  # no checks of what is right by its making
    connection.execute("DROP INDEX transcripts_search")
    for statement in LOAD.values():
        connection.execute(statement, {"site": site.id, "first": FIRST, "days": DAYS, "each": each})
    connection.execute("SET session_replication_role = DEFAULT")
    print(f"{each * 144 * DAYS:,} recordings, made in {time.perf_counter() - began:.0f} s", file=sys.stderr)
    wish = Wish("bench", "", b"n" * 16, {})
    for what, why, length, target in SELECTIONS:
        selection = Selection((why,), start=START, stop=START + timedelta(length - 1))
        took, drawn = [], None
        for _ in range(3):
            began = time.perf_counter()
            drawn = plans.draw(connection, selection, wish)
            took.append(time.perf_counter() - began)
        assert drawn is not None
        yield {"what": what, "recordings": drawn.recordings, "seconds": round(min(took), 3), "target": target}
    if wanted.explain:
        _explain(connection)


def _explain(connection: Connection) -> None:
    with connection.transaction(force_rollback=True):
        connection.execute(plans.SQL["begin_choice"])
        year = {"site": None, "start": START, "stop": START + timedelta(365)}
        connection.execute(plans.SQL["scope"], year)
        for step in ("index_scope", "measure_scope"):
            connection.execute(plans.SQL[step])
        asked = connection.execute("EXPLAIN (ANALYZE, BUFFERS) " + plans.SQL["pick_suspect"], {"flags": ["repetition"]})
        print("\n".join(row["QUERY PLAN"] for row in asked), file=sys.stderr)


def _line(row: dict[str, Any]) -> str:
    target = "" if row["target"] is None else f"   target {row['target']:g} s"
    return f"{row['what']:<26} {row['recordings']:>9,} recordings {row['seconds']:>8.3f} s{target}"


if __name__ == "__main__":
    main()
