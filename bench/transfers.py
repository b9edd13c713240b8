"""Measures what it takes to bring days here: calls of a tick, the look at what arrived, memory of a long listing.

    python bench/transfers.py [--json] [--days 30] [--mb 2] [--files 10000 100000 1000000]

The real globus-sdk against the loopback Globus of tests/globus_service, and a durable PostgreSQL of its own. The look
at a day of 144 archives and 432 companions is compared with `md5sum` over the same files, in the same run. A listing
is taken in by a process of its own: once of a source that costs nothing, once of the real one, at its own page size.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from psycopg.conninfo import make_conninfo

from db import days, listings, sites
from db.connect import connect
from db.embedded import EmbeddedPostgres
from db.migrate import initialise
from db.roles import Roles
from db.session import Session
from hpc.config import load
from hpc.layout import KINDS, Layout
from hpc.model import Checksum, RemoteFile
from hpc.origin import Origin
from hpc.ports import Source
from hpc.route import Route
from hpc.slots import Clock
from hpc.sources.globus import GlobusSource
from hpc.sources.globus.access import Access
from hpc.stages.arrival import examine
from hpc.stages.listing import take_listing
from hpc.tick.report import Report
from hpc.wiring import movers

ROOT = Path(__file__).resolve().parents[1]
ON = date(2025, 1, 31)
FAR = "BENCH_FAR"  # the variable that tells a child where the collection is; its secret is on no command line
sys.path.insert(0, str(ROOT / "tests" / "globus_service"))


def main() -> None:
    """Run all measures and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--mb", type=int, default=2, help="of an archive")
    parser.add_argument("--files", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--listing", nargs=3, metavar=("DSN", "FILES", "SOURCE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.listing:
        print(json.dumps(listed(given.listing[0], int(given.listing[1]), given.listing[2])))
        return
    with tempfile.TemporaryDirectory() as folder, ledger(Path(folder)) as fresh:
        told = {
            "calls": calls(Path(folder), fresh("calls"), given.days),
            "look": look(Path(folder), given.mb),
            "listings": listings_of(Path(folder), fresh, given.files),
        }
    print(json.dumps(told, indent=2) if given.json else words(told))


@contextmanager
def ledger(folder: Path) -> Iterator[Any]:
    """A server of its own; each call makes a ledger in it."""
    server = EmbeddedPostgres(folder / "postgres")
    dsn = server.start()

    def fresh(name: str) -> str:
        with connect(dsn) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        made = make_conninfo(dsn, dbname=name)
        with connect(made) as connection:
            initialise(connection, Roles.prefixed("dayscribe"))
        return made

    try:
        yield fresh
    finally:
        server.stop()


def calls(folder: Path, dsn: str, count: int) -> dict[str, Any]:
    """What ticks ask of Globus while so many days are under way."""
    from globus_loopback import Globus, serving  # type: ignore[import-not-found]  # of the tests

    with serving(Globus()) as globus, connect(dsn) as connection:
        os.environ.update(globus.environment)
        far, near = (globus.transfer.collection(folder / name, name) for name in ("far", "near"))
        dates = [ON - timedelta(days=back) for back in range(count)]
        for on in dates:
            (far.root / f"0_{on}_00_00.tar.xz").write_bytes(b"x" * 100)
        secret = folder / "secret"
        secret.write_text(globus.auth.secret)
        secret.chmod(0o600)
        route = {"how": "globus", "collection": far.id, "destination": near.id, "destination_folder": "/"}
        site = sites.put(connection, "zurich", location="/", source="globus", route=route)
        days.add(connection, site.id, dates)
        said = [f"home={folder / 'home'}", f"globus.client_id={globus.auth.client_id}", f"globus.secret_file={secret}"]
        settings = load(None, [*said, f"transfer.staging={near.root}", f"ledger.dsn={dsn}"])
        globus.transfer.hold()
        session = Session(dsn, application="bench")
        found = {"days": count, "submitting": 0, "following": 0, "seconds": 0.0}
        for what in ("submitting", "following"):
            globus.calls.clear()
            began = time.perf_counter()
            porter, report = movers.porter(settings, session), Report()
            porter.follow(report, seconds=600)
            porter.list_due(report, seconds=600)
            found[what] = sum("/oauth2/" not in path for _, path in globus.calls)
            found["seconds"] = time.perf_counter() - began
        globus.transfer.release()
        session.close()
        return found


def look(folder: Path, mb: int) -> dict[str, Any]:
    """The look at each file of a whole day that has arrived, by size alone, and with the md5 that Globus told."""
    staged, layout = folder / "staged", Layout()
    staged.mkdir()
    block, sums, sizes = os.urandom(1 << 20), dict[str, Checksum](), dict[str, int]()
    for slot in Clock("UTC").grid(ON):
        for kind in KINDS:
            name = layout.name(ON, slot.label, kind)
            data = name.encode() + block * (mb if kind == "archive" else 0)
            (staged / name).write_bytes(data)
            sizes[name] = len(data)
            sums[name] = Checksum("md5", hashlib.md5(data, usedforsecurity=False).hexdigest())
    times = dict[str, float]()
    for what in ("warm", "md5", "size"):
        began = time.perf_counter()
        found = [examine(staged, os.fsencode(n), sizes[n], None if what == "size" else sums[n]) for n in sizes]
        assert all(one.fault is None for one in found)
        times[what] = time.perf_counter() - began
    began = time.perf_counter()
    subprocess.run(["md5sum", "--", *sizes], cwd=staged, check=True, stdout=subprocess.DEVNULL)
    times["md5sum"] = time.perf_counter() - began
    total = sum(sizes.values())
    return {"files": len(sizes), "mb": round(total / 1e6), **times, "ratio": times["md5"] / times["md5sum"]}


def listings_of(folder: Path, fresh: Callable[[str], str], counts: Sequence[int]) -> list[dict[str, Any]]:
    """Each in a process of its own: its peak memory is the listing's."""
    from globus_loopback import Globus, serving

    def page(_: object, asked: Mapping[str, str]) -> dict[str, Any]:
        """A collection that is on no disk, and of which only what is asked for is made."""
        begin = int(asked["offset"])
        end = min(count, begin + int(asked["limit"]))
        rows = [{"name": name(at), "type": "file", "size": 1000 + at % 7} for at in range(begin, end)]
        return {"DATA": rows, "has_next_page": end < count}

    found = []
    with serving(Globus()) as globus:
        os.environ.update(globus.environment)
        far = globus.transfer.collection(folder / "long").id
        globus.transfer.ls = page
        os.environ[FAR] = json.dumps({"far": far, "client": globus.auth.client_id, "secret": globus.auth.secret})
        for kind in ("made", "globus"):
            for count in counts:
                command = [sys.executable, __file__, "--listing", fresh(f"{kind}{count}"), str(count), kind]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                found.append(json.loads(done.stdout))
    return found


def name(number: int) -> str:
    """It begins as names of the day do, and is none of the layout's: a loose file."""
    return f"0_{ON}_clip-{number:08}.mp3"


class Made:
    """A source of so many files that costs nothing."""

    def __init__(self, count: int) -> None:
        self._count = count

    def days(self) -> list[date]:
        return [ON]

    def listing(self, day: date) -> Iterator[RemoteFile]:
        assert day == ON
        return (RemoteFile(name(number), 1000 + number % 7) for number in range(self._count))


def listed(dsn: str, count: int, kind: str) -> dict[str, Any]:
    """A day of so many loose files, taken into the ledger."""
    said = json.loads(os.environ[FAR])
    route = Route("globus", said["far"], said["far"])
    origin = Origin("clips", "/far", Layout(), Clock("UTC", None), route)
    access = Access(said["client"], said["secret"], Path("/nowhere"), "bench", 60.0)
    source: Source = Made(count) if kind == "made" else GlobusSource(origin, access)
    session = Session(dsn, application="bench")
    site = session(sites.put, "clips", location="/far", slot_minutes=None, route=route.as_dict())
    session(days.add, site.id, [ON])
    day = session(days.get, "clips", ON)
    before, began = peak_mb(), time.perf_counter()
    taken = take_listing(session, day, origin, source, Path("/here"))
    seconds = time.perf_counter() - began
    assert taken.listed == count == session(listings.gaps, day.id)[0]["expected"]
    session.close()
    return {"source": kind, "files": count, "seconds": seconds, "before_mb": before, "peak_mb": peak_mb()}


def peak_mb() -> float:
    """Of this program alone: getrusage() goes on with the peak of the process that started it."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


def words(told: dict[str, Any]) -> str:
    calls, look = told["calls"], told["look"]
    lines = [
        f"calls of a tick for {calls['days']} days: {calls['submitting']} to list and submit,"
        f" {calls['following']} to follow",
        f"look at {look['files']} files, {look['mb']} MB: {look['md5']:.2f} s with md5 ({look['ratio']:.2f} x md5sum's"
        f" {look['md5sum']:.2f} s), {look['size'] * 1000:.0f} ms by size",
    ]
    for one in told["listings"]:
        rate, grew = one["files"] / one["seconds"], one["peak_mb"] - one["before_mb"]
        lines.append(
            f"listing of {one['files']:>9,} files ({one['source']}): {one['seconds']:5.1f} s ({rate:,.0f} a second),"
            f" {one['peak_mb']:.0f} MB at most, {grew:.0f} MB more than before"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
