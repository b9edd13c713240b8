"""Where a feed's leases are kept: at the shards themselves, for the days, or at a plan's own list of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from db import redo, shards
from db.shards import Leased


@dataclass(frozen=True, slots=True)
class Desk:
    """The verbs of leasing, as functions of a connection; their words are those of db.shards."""

    waits: Callable[..., bool]
    claim: Callable[..., list[Leased]]
    renew: Callable[..., set[int]]
    fail: Callable[..., None]
    put_back: Callable[..., None]
    release: Callable[..., None]
    owned: Callable[..., list[dict[str, Any]]]
    renew_owned: Callable[..., int]


def of_days(day_id: int | None = None) -> Desk:
    """The shards of all open days, or of one."""
    return Desk(
        waits=partial(shards.waits, day_id=day_id),
        claim=partial(shards.claim, day_id=day_id),
        renew=shards.renew,
        fail=shards.fail,
        put_back=shards.put_back,
        release=shards.release,
        owned=shards.owned,
        renew_owned=shards.renew_owned,
    )


def of_plan(plan_id: int, day_id: int | None = None) -> Desk:
    """The shards that a plan reads again, or those of one day of it."""
    return Desk(
        waits=partial(redo.waits, plan_id=plan_id, day_id=day_id),
        claim=partial(redo.claim, plan_id=plan_id, day_id=day_id),
        renew=partial(redo.renew, plan_id=plan_id),
        fail=partial(redo.fail, plan_id=plan_id),
        put_back=partial(redo.put_back, plan_id=plan_id),
        release=partial(redo.release, plan_id=plan_id),
        owned=partial(redo.owned, plan_id=plan_id),
        renew_owned=partial(redo.renew_owned, plan_id=plan_id),
    )


def of(plan_id: int | None, day_id: int | None) -> Desk:
    """The desk of an order: a day's, or that of a plan's share of it."""
    return of_days(day_id) if plan_id is None else of_plan(plan_id, day_id)
