"""What pages ask of days: years of them by their summaries, and of one its speed, failures, shards and recordings."""

from __future__ import annotations

from datetime import date
from typing import Any

from db.connect import Connection, translated
from db.sql import load

SQL = load("calendar.sql")


@translated()
def years(connection: Connection, site: str | None = None) -> list[dict[str, Any]]:
    """The years that have days, newest first, with how many."""
    return connection.execute(SQL["years"], {"site": site}).fetchall()


@translated()
def days(connection: Connection, start: date, stop: date, site: str | None = None) -> list[dict[str, Any]]:
    """The days of a range, by site and date; counts are those of their summaries, None before they are finished."""
    return connection.execute(SQL["days"], {"site": site, "start": start, "stop": stop}).fetchall()


@translated()
def speed(connection: Connection, day_id: int) -> list[dict[str, Any]]:
    """Recordings, seconds of the engine and of audio (None: not known), by the minute in which they were recorded."""
    return connection.execute(SQL["speed"], {"day_id": day_id}).fetchall()


@translated()
def failures(connection: Connection, day_id: int) -> list[dict[str, Any]]:
    """A day's quarantined recordings by class, the most frequent first, each with an example's id and reason."""
    return connection.execute(SQL["examples"], {"day_id": day_id}).fetchall()


@translated()
def failed_shards(connection: Connection, day_id: int) -> list[dict[str, Any]]:
    """A day's shards that were given up, with their ids, at most 200."""
    return connection.execute(SQL["failed_shards"], {"day_id": day_id}).fetchall()


@translated()
def shard(connection: Connection, shard_id: int) -> dict[str, Any] | None:
    """A shard with its day."""
    return connection.execute(SQL["shard"], {"id": shard_id}).fetchone()


@translated()
def parts(connection: Connection, shard_id: int) -> list[dict[str, Any]]:
    """A shard's parts, newest first, at most 100."""
    return connection.execute(SQL["parts"], {"id": shard_id}).fetchall()


@translated()
def of_shard(connection: Connection, shard_id: int, *, after: int, limit: int) -> list[dict[str, Any]]:
    """A page of a shard's visible recordings, after an ordinal."""
    return connection.execute(SQL["of_shard"], {"id": shard_id, "after": after, "limit": limit}).fetchall()


@translated()
def of_day(
    connection: Connection, day_id: int, *, state: str | None, failure_class: str | None, after: int, limit: int
) -> list[dict[str, Any]]:
    """A page of a day's visible recordings in this state, or that failed so, after an id."""
    values = {"day_id": day_id, "state": state, "failure_class": failure_class, "after": after, "limit": limit}
    return connection.execute(SQL["of_day"], values).fetchall()


@translated()
def flagged_of_day(
    connection: Connection, day_id: int, *, flag: str | None, after: int, limit: int
) -> list[dict[str, Any]]:
    """A page of a day's recordings with this flag (None: any), after an id."""
    values = {"day_id": day_id, "flag": flag, "after": after, "limit": limit}
    return connection.execute(SQL["flagged_of_day"], values).fetchall()
