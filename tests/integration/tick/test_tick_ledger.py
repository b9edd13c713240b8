"""In the ledger: a tick ends what no worker will, records what tasks could not, lists what is known by its date."""

from __future__ import annotations

import itertools
from datetime import date
from typing import Any

from db import days, sites
from db.states import DayState
from hpc.errors import SourceMissing

# Without any worker.


def test_exhausted_shards_are_given_up_and_their_day_closes_without_any_worker(lab: Any, did: Any) -> None:
    day = lab.day(2, max_attempts=1)
    lab.claim(day, 2)
    lab.later(61)
    report = lab.tick()
    assert did(report, "gave up") == ["2 shards: every worker that took them ended before it recorded anything"]
    assert [state for state, _ in lab.shards(day)] == ["failed", "failed"]
    assert lab.state(day) == DayState.COMPLETED_WITH_ERRORS
    assert lab.orders() == []


def test_a_day_whose_shards_have_all_settled_is_closed(lab: Any, did: Any) -> None:
    day = lab.day(2)
    lab.work(day, 2)
    lab.connection.execute("UPDATE days SET state = 'processing', finished = NULL WHERE id = %s", (day.id,))
    report = lab.tick()
    assert did(report, "closed") == ["1 days: their last shard had settled"]
    assert lab.state(day) == DayState.COMPLETED


def test_what_the_ledger_alone_decides_goes_on_in_silence(lab: Any) -> None:
    day = lab.day(1, max_attempts=1)
    lab.claim(day)
    lab.later(61)
    lab.cluster.silent = True
    lab.tick()
    assert lab.state(day) == DayState.COMPLETED_WITH_ERRORS


# Listing.


def test_a_pending_day_whose_source_has_nothing_is_told_of_and_stays_pending(lab: Any, waits: Any, did: Any) -> None:
    site = sites.put(lab.connection, "zurich", location="/audio")
    days.add(lab.connection, site.id, [date(2025, 1, 1), date(2025, 1, 2)])

    def register(name: str, on: date) -> int:
        if on.day == 1:
            raise SourceMissing(f"/audio has no folder for {on}")
        return 7

    lab.register = register
    report = lab.tick()
    assert waits(report, "not listed") == ["zurich 2025-01-01: /audio has no folder for 2025-01-01"]
    assert did(report, "listed") == ["zurich 2025-01-02: 7 shards"]
    assert days.get(lab.connection, "zurich", date(2025, 1, 1)).state == DayState.PENDING


def test_a_listing_that_takes_long_becomes_one_job(lab: Any) -> None:
    site = sites.put(lab.connection, "zurich", location="/audio")
    days.add(lab.connection, site.id, [date(2025, 1, 1), date(2025, 1, 2)])
    for _ in range(3):
        lab.tick(clock=itertools.count(0, 10).__next__)
    assert [(order["kind"], order["state"]) for order in lab.orders()] == [("stage", "submitted")]
    assert not lab.cluster.only.spec.gpu


def test_with_no_time_at_all_a_job_lists_every_day(lab: Any) -> None:
    site = sites.put(lab.connection, "zurich", location="/audio")
    days.add(lab.connection, site.id, [date(2025, 1, 1)])
    lab.tick(list_seconds=0, clock=lambda: 0.0)
    assert [order["kind"] for order in lab.orders()] == ["stage"]
    assert lab.value("SELECT state::text FROM days") == "pending"
