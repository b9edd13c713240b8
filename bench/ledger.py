"""Measures the ledger: rows registered, shards claimed and results recorded a second, by 1, 4 and 8 workers.

    python bench/ledger.py [--json] [--shards 2000] [--results 20000]

A durable server of its own (fsync on) on this machine; each worker is a process with one connection.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from psycopg.conninfo import make_conninfo

from db import days, formats, metadata, parts, shards, sites
from db.connect import Connection, connect
from db.embedded import EmbeddedPostgres
from db.migrate import initialise
from db.roles import Roles
from db.states import DayState

LEASE = timedelta(minutes=10)
WORDS: list[dict[str, Any]] = [
    {"word": f"word{i}", "start": i / 2, "end": i / 2 + 0.4, "score": 0.9} for i in range(60)
]
SEGMENT = {"start": 0.0, "end": 30.0, "text": " ".join(str(word["word"]) for word in WORDS), "avg_logprob": -0.3}
PACKED = formats.pack([SEGMENT | {"words": WORDS}])


def main() -> None:
    """Run all measures and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--shards", type=int, default=2000)
    parser.add_argument("--results", type=int, default=20_000)
    parser.add_argument("--rows", type=int, default=100_000)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedPostgres(Path(folder))
        try:
            rows = list(_measure(server.start(), wanted))
        finally:
            server.stop()
    if wanted.json:
        print(json.dumps(rows, indent=2))
    else:
        for row in rows:
            print(
                f"{row['what']:<28} {row['workers']:>2} workers {row['per_second']:>12,.0f} /s   floor {row['floor']:,}"
            )


def _measure(dsn: str, wanted: argparse.Namespace) -> Any:
    with connect(dsn) as connection:
        initialise(connection, Roles.prefixed("bench"))
        site = sites.put(connection, "bench", location="/nowhere")
        yield _register(connection, site.id, wanted.rows)
        for workers, floor in ((1, 370), (4, 914), (8, 1507)):
            day = _day(connection, site.id, wanted.shards)
            took = _together(_claim_all, workers, dsn, day)
            yield _row("shards claimed, one a time", workers, wanted.shards / took, floor)
        for workers, floor in ((1, 5300), (4, 5300), (8, 5300)):
            day = _day(connection, site.id, workers)
            took = _together(_record, workers, dsn, day, wanted.results // workers)
            yield _row("results recorded", workers, wanted.results / took, floor)


def _register(connection: Connection, site_id: int, count: int) -> dict[str, Any]:
    """Twenty typed columns a row, by COPY and merge: what a day's companions cost."""
    day = _day(connection, site_id, 1)
    rows = [(str(i), *[None] * 8, i, *[None] * 11) for i in range(count)]
    began = time.perf_counter()
    metadata.put(connection, day, rows)
    return _row("metadata rows registered", 1, count / (time.perf_counter() - began), 50_000)


def _day(connection: Connection, site_id: int, count: int) -> int:
    number = len(days.find(connection, limit=10_000))
    days.add(connection, site_id, [date(2025, 1, 1) + timedelta(days=number)])
    day = days.find(connection, limit=10_000)[number]["id"]
    new = [shards.NewShard(f"{i:06}.tar.xz", (b"x",), 1) for i in range(count)]
    shards.add(connection, day, new, revision=0, max_attempts=5)
    days.move(connection, day, DayState.READY_TO_PROCESS, actor="bench")
    return int(day)


def _together(work: Any, workers: int, *args: Any) -> float:
    """Seconds from the moment all are ready until the last is done."""
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(workers + 1)
    processes = [context.Process(target=work, args=(ready, *args)) for _ in range(workers)]
    for process in processes:
        process.start()
    ready.wait()
    began = time.perf_counter()
    for process in processes:
        process.join()
    return time.perf_counter() - began


def _claim_all(ready: Any, dsn: str, day: int) -> None:
    with connect(dsn) as connection:
        ready.wait()
        while shards.claim(connection, owner="bench", count=1, lease=LEASE, day_id=day):
            pass


def _record(ready: Any, dsn: str, day: int, count: int) -> None:
    with connect(make_conninfo(dsn)) as connection:
        [leased] = shards.claim(connection, owner="bench", count=1, lease=LEASE, day_id=day)
        batches = [[_result(i) for i in range(start, min(count, start + 256))] for start in range(0, count, 256)]
        ready.wait()
        for number, batch in enumerate(batches):
            name = f"{leased.id}-{number}"
            part = parts.Part(name, leased.id, leased.epoch, hashlib.sha256(name.encode()).digest(), 1, b"k" * 16, {})
            seal = parts.SealRow(b"s" * 32, 1, count) if number == len(batches) - 1 else None
            parts.record(connection, part, batch, seal, actor="bench")


def _result(ordinal: int) -> dict[str, Any]:
    return {
        "ordinal": ordinal, "meta_id": str(ordinal), "name": b"%d.mp3" % ordinal, "size": 1, "sha256": b"r" * 32,
        "seconds": 30.0, "flags": [], "failure_class": None, "failure_reason": None, "outcome": "speech",
        "language": "en", "language_probability": None, "text": SEGMENT["text"], "words": PACKED, "word_count": 60,
        "transcript_flags": [],
    }  # fmt: skip


def _row(what: str, workers: int, per_second: float, floor: int) -> dict[str, Any]:
    return {"what": what, "workers": workers, "per_second": round(per_second, 1), "floor": floor}


if __name__ == "__main__":
    main()
