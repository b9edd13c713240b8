"""Measures how long the dashboard's pages and routes take in a ledger of millions, beside counting and sorting it all.

    python bench/dashboard.py [--json] [--recordings 100000 1000000 10000000] [--explain]

One site, 144 archives a day, 9,072 recordings a day, every tenth with 25 words of speech whose frequencies are those of
words: so 10^7 recordings are three years with 10^6 transcripts. Each size has a ledger of its own; each page is asked
for forty times through the application, a connection a request as in earnest. Beside them stand the same answers by
plain SQL: all hits sorted and counted, days by COUNT(*). The slope says what ten times as much costs. Exit 1 if a
target is missed in the largest ledger.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from psycopg.types.json import Jsonb

from db import days as day_rows
from db import formats, search, sites
from db.connect import Connection, connect
from db.embedded import EmbeddedPostgres
from db.migrate import initialise
from db.roles import Roles
from db.sql import parse
from monitor import create_app

FIRST, EACH = date(2023, 1, 1), 63  # recordings an archive
A_DAY = 144 * EACH
ASKED, PLAIN = 40, 3  # times
ONCE = 100.0  # ms at the 95th percentile, but for the commonest word's …
COMMONEST = 400.0
FAR = 3e8  # recordings: what the slope is followed to
WORDS = {"the commonest word": "w1", "a common word": "w30", "a word between": "w300", "a rare word": "w15000",
         "a phrase": '"w3 w7"', "two words": "w40 w50", "all but a word": "-w1", "no such word": "zebra"}  # fmt: skip
LOAD = parse((Path(__file__).parent / "dashboard.sql").read_text(encoding="utf-8"), "dashboard.sql")
STEPS = ("days", "runs", "shards", "slots", "parts", "recordings", "transcripts", "text_index")


class Asked(NamedTuple):
    """What is asked for, how, and how long it may take (ms at p95)."""

    what: str
    ask: Callable[[], None]
    target: float | None
    times: int = ASKED


@dataclass(frozen=True, slots=True)
class Ledger:
    """A ledger that is filled: how many days, and how to reach it."""

    connection: Connection
    dsn: str
    days: int

    def on(self, chance: random.Random) -> date:
        return FIRST + timedelta(chance.randrange(self.days))

    def recording(self, chance: random.Random) -> int:
        return 1 + chance.randrange(self.days * A_DAY)


def main() -> None:
    """Fill a ledger of each size, ask, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--recordings", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--explain", action="store_true", help="show how the server finds a common and a rare word")
    wanted = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for size in sorted(wanted.recordings):
        with tempfile.TemporaryDirectory() as folder:
            server = EmbeddedPostgres(Path(folder))
            try:
                dsn = server.start()
                with connect(dsn) as connection:
                    rows += _measure(_filled(connection, dsn, size), explain=wanted.explain)
            finally:
                server.stop()
    told = [_told(rows, what) for what in dict.fromkeys(row["what"] for row in rows)]
    print(json.dumps(told, indent=2) if wanted.json else "\n".join(_table(told)))
    sys.exit(any(row["missed"] for row in told))


def _filled(connection: Connection, dsn: str, size: int) -> Ledger:
    initialise(connection, Roles.single(connection.info.user))
    site = sites.put(connection, "bench", location="/nowhere")
    days = max(1, round(size / A_DAY))
    said: list[dict[str, Any]] = [
        {"word": f"w{n}", "start": n / 2, "end": n / 2 + 0.4, "score": 0.9} for n in range(25)
    ]
    text = " ".join(f"w{n}" for n in range(25))
    began = time.perf_counter()
    connection.execute("SET session_replication_role = replica")  # no checks of what is right by its making
    connection.execute("DROP INDEX transcripts_search")
    values: dict[str, Any] = {
        "site": site.id, "first": FIRST, "days": days, "each": EACH, "nothing": formats.pack([]),
        "words": formats.pack([{"start": 0.0, "end": 13.0, "text": text, "words": said}]),
    }  # fmt: skip
    for step in STEPS:
        connection.execute(LOAD[step], values)
    summary = Jsonb(day_rows.tally(connection, 1))
    connection.execute(LOAD["summaries"], {"summary": summary})
    connection.execute(LOAD["measure"])
    connection.execute("SET session_replication_role = DEFAULT")
    print(f"{days * A_DAY:,} recordings, made in {time.perf_counter() - began:.0f} s", file=sys.stderr)
    return Ledger(connection, dsn, days)


def _measure(ledger: Ledger, *, explain: bool) -> Iterator[dict[str, Any]]:
    for asked in (*_pages(ledger), *_plain(ledger)):
        took = []
        for _ in range(asked.times):
            began = time.perf_counter()
            asked.ask()
            took.append(1000 * (time.perf_counter() - began))
        yield {
            "what": asked.what, "recordings": ledger.days * A_DAY, "p50": statistics.median(took),
            "p95": statistics.quantiles(took, n=20, method="inclusive")[-1] if len(took) >= 20 else max(took),
            "target": asked.target,
        }  # fmt: skip
    if explain:
        _explain(ledger)


def _pages(ledger: Ledger) -> Iterator[Asked]:
    """Each page and route, of another day, archive or recording each time."""
    client, chance = create_app(ledger.dsn).test_client(), random.Random(5)

    def get(path: Callable[[], str]) -> Callable[[], None]:
        def ask() -> None:
            answer = client.get(path())
            assert answer.status_code == 200, (path(), answer.status_code, answer.text[:300])

        return ask

    def page(what: str, path: Callable[[], str]) -> Asked:
        return Asked(what, get(path), ONCE)

    yield page("calendar", lambda: "/")
    yield page("calendar, another year", lambda: f"/?year={ledger.on(chance).year}")
    yield page("day", lambda: f"/days/bench/{ledger.on(chance)}")
    yield page("day, its transcribed ones", lambda: f"/days/bench/{ledger.on(chance)}?state=transcribed")
    yield page("shard", lambda: f"/shards/{1 + chance.randrange(ledger.days * 144)}")
    yield page("recording", lambda: f"/recordings/{ledger.recording(chance)}")
    yield page("cluster", lambda: "/cluster")
    yield page("plans", lambda: "/plans")
    yield page("health", lambda: "/health")
    yield page("API, status as the reference's", lambda: "/pipeline/status")
    yield page("API, day", lambda: f"/api/v1/days/bench/{ledger.on(chance)}")
    yield page("API, 100 recordings of a day", lambda: f"/api/v1/days/bench/{ledger.on(chance)}/recordings")
    yield page("API, metrics", lambda: "/metrics")
    client.get("/search?q=w1")  # the server reads its statistics once
    for what, query in WORDS.items():
        target = COMMONEST if query in ("w1", "-w1") else ONCE
        yield Asked(f"search, {what}", get(partial(str, f"/search?q={query}")), target)
    yield page("search, a common word, one month", lambda: f"/search?q=w30&{_month(ledger.on(chance))}")
    yield page("search, a common word, later page", lambda: f"/search?q=w30&after={ledger.recording(chance)}")
    yield Asked("search, all hits of a common word as CSV", get(lambda: "/api/v1/search.csv?q=w30"), None, PLAIN)


def _month(on: date) -> str:
    return f"from={on}&to={on + timedelta(30)}"


def _plain(ledger: Ledger) -> Iterator[Asked]:
    """The same answers as one writes them first."""
    chance = random.Random(5)

    def run(*names: str, **values: object) -> Callable[[], None]:
        def ask() -> None:
            of = {"first": FIRST, "day": 1 + chance.randrange(ledger.days)} | values
            for name in names:
                ledger.connection.execute(LOAD[name], of).fetchall()

        return ask

    yield Asked("plain SQL: calendar by COUNT(*)", run("plain_calendar"), None, PLAIN)
    yield Asked("plain SQL: day by COUNT(*)", run("plain_day"), None, ASKED)
    yield Asked("plain SQL: the reference's status", run("plain_status"), None, PLAIN)
    for what, query in WORDS.items():
        yield Asked(
            f"plain SQL: sorted and counted, {what}", run("plain_search", "plain_count", query=query), None, PLAIN
        )


def _explain(ledger: Ledger) -> None:
    """What each way asks the server, and what that did."""
    here = {"day_id": ledger.days, "after": 0, "room": 1000}
    for name, query, more in (("walk", "w30", here), ("by_index", "w15000", {})):
        print(f"\n{name}", file=sys.stderr)
        asked, _ = search.asked(ledger.connection, search.Question(query))
        for row in ledger.connection.execute("EXPLAIN (ANALYZE, BUFFERS) " + search.SQL[name], asked | more):
            print(row["QUERY PLAN"], file=sys.stderr)


def _told(rows: Sequence[dict[str, Any]], what: str) -> dict[str, Any]:
    """One thing in all ledgers: its times, the slope between the two largest, and what that says of FAR."""
    mine = [row for row in rows if row["what"] == what]
    last = mine[-1]
    told: dict[str, Any] = {
        "what": what, "p50": {row["recordings"]: round(row["p50"], 1) for row in mine},
        "p95": {row["recordings"]: round(row["p95"], 1) for row in mine}, "target": last["target"],
        "missed": last["target"] is not None and last["p95"] > last["target"], "slope": None, "far": None,
    }  # fmt: skip
    if len(mine) > 1:
        before = mine[-2]
        slope = math.log(last["p50"] / before["p50"]) / math.log(last["recordings"] / before["recordings"])
        told["slope"] = round(slope, 2)
        told["far"] = round(last["p50"] * (FAR / last["recordings"]) ** max(slope, 0))
    return told


def _table(told: Sequence[dict[str, Any]]) -> Iterator[str]:
    sizes = list(told[0]["p50"])
    heads = "".join(f"{f'p50, {size:,}':>17}" for size in sizes)
    yield f"{'ms':<52}{heads}{f'p95, {sizes[-1]:,}':>17}{'target':>9}{'slope':>7}{f'at {FAR:.0e}':>10}"
    for row in told:
        middle = "".join(f"{row['p50'][size]:>17,.1f}" for size in sizes)
        target = "" if row["target"] is None else f"{row['target']:.0f}{' !' if row['missed'] else ''}"
        rest = "" if row["slope"] is None else f"{row['slope']:>7.2f}{row['far']:>10,}"
        yield f"{row['what']:<52}{middle}{row['p95'][sizes[-1]]:>17,.1f}{target:>9}{rest}"


if __name__ == "__main__":
    main()
