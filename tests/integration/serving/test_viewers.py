"""Forty people look at a day while a worker fills it: all are answered, and PostgreSQL hardly notices."""

from __future__ import annotations

import re
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from db import shards
from db.roles import MONITOR_CONNECTIONS
from hpc.stages.ingest import ingest

VIEWERS = 40
POLLS = 5
DAY, STILL = "/days/zurich/2025-01-31", "/days/zurich/2025-01-30"


class Viewer:
    """Somebody with a browser: goes where the links lead, then leaves the pages of two days open."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.statuses: Counter[int] = Counter()

    def look(self) -> Counter[int]:
        calendar = self.open("/")
        day = self.open(self.link(calendar, DAY))
        self.open(self.link(day, r"/recordings/\d+"))
        assert "hello" in self.open("/search?q=hello")
        etags = {DAY: "", STILL: ""}
        for _ in range(POLLS):
            for path, etag in etags.items():
                said = self.server.get(path, **{"If-None-Match": etag})
                self.statuses[said.status] += 1
                etags[path] = said.headers["ETag"]
            self.open(f"/api/v1{DAY}")
        return self.statuses

    def open(self, path: str) -> str:
        said = self.server.get(path)
        self.statuses[said.status] += 1
        return str(said.text)

    @staticmethod
    def link(page: str, path: str) -> str:
        found = re.search(f'href="({path})"', page)
        assert found, page
        return found[1]


def work(a_day: Any, enough: threading.Event) -> int:
    """A worker settles one new shard after another, each with a recording; returns how many."""
    done = 0
    while not enough.is_set():
        name = f"more_{done}.tar.xz"
        new = [shards.NewShard(name, (name.encode(),), 1000)]
        shards.add(a_day.connection, a_day.open.id, new, revision=0, max_attempts=3)
        [shard] = a_day.lease(a_day.connection, a_day.open.id, 1)
        result = a_day.said(shard.id, 0, f"{done}.mp3".encode(), f"hello number {done}")
        assert ingest(a_day.connection, a_day.publish(shard, [result], sealed=True), actor="worker-1").settled
        done += 1
    return done


def test_forty_viewers_of_a_day_that_is_being_filled_are_all_answered(a_day: Any, server: Any) -> None:
    enough, most = threading.Event(), 0
    with ThreadPoolExecutor(VIEWERS + 1) as pool:
        worker = pool.submit(work, a_day, enough)
        viewers = [pool.submit(Viewer(server).look) for _ in range(VIEWERS)]
        try:
            while not all(viewer.done() for viewer in viewers):
                most = max(most, server.connections())
        finally:
            enough.set()
    statuses = sum((viewer.result() for viewer in viewers), Counter[int]())

    assert set(statuses) == {200, 304}
    assert statuses.total() == VIEWERS * (4 + 3 * POLLS)
    assert statuses[304] >= VIEWERS * (POLLS - 1), "what stood still was sent once"
    assert 1 < most <= MONITOR_CONNECTIONS
    assert worker.result() > 1, "the day moved meanwhile"
    while server.connections():  # PostgreSQL sees a connection's end a moment later
        pass
