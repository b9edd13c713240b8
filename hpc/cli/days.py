"""`dayscribe days`: which days there are, what is known of each, and a person's hand on them."""

from __future__ import annotations

import getpass
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from db.names import display
from hpc.cli.display import Column, clock
from hpc.cli.gap_map import gap_map
from hpc.cli.options import (
    App,
    answering,
    chosen_site,
    day_option,
    days_options,
    period_options,
    site_filter,
    site_option,
)

if TYPE_CHECKING:
    from db.days import Day
    from db.session import Session
    from db.sites import Site

STATES = (
    "pending", "transferring", "transfer_failed", "ready_to_process", "processing", "processing_failed", "completed",
    "completed_with_errors", "held",
)  # fmt: skip
MISSING = 100  # files that are named
Rows = Sequence[Mapping[str, Any]]


@click.group()
def command() -> None:
    """Add days, look at them, hold or retry them."""


@command.command()
@days_options(required=False)
@site_option
@click.option("--file", type=click.Path(path_type=Path), help="A queue file: year, month, day, location (the site).")
@click.option("--location", type=click.Path(path_type=Path), help="Make the site: where its audio lies.")
@click.option("--time-zone", metavar="TZ", help="The site's time zone, such as Europe/Zurich; else UTC.")
@click.option("--slot-minutes", type=click.IntRange(1, 1440), metavar="N", help="The site's slot grid; else 10.")
@click.option("--no-grid", is_flag=True, help="The site has no slots: its days are loose files.")
@answering
def add(app: App, /, days: tuple[date, ...] | None, **options: Any) -> None:
    """Put days into the ledger, to be worked.

    DAYS is one day, or FIRST..LAST. With --location the site is made on the way. Days that are there already stay as
    they are.
    """
    from db import days as ledger
    from hpc import wiring

    wanted = _wanted(days, options)
    _check_site_options(options)
    with wiring.session(app.settings) as session:
        made = _made_site(app, session, options) if options["location"] else None
        # Every site is known before the first day is added.
        sites = {name: made or chosen_site(session, name) for name in dict.fromkeys(name for name, _ in wanted)}
        rows = []
        for name, site in sites.items():
            dates = [on for wanted_name, on in wanted if wanted_name == name]
            new = session(ledger.add, site.id, dates)
            rows.append({"site": site.name, "first": min(dates), "last": max(dates), "days": len(dates), "new": new})
    app.display.table(rows, [Column("site"), Column("first"), Column("last"), *map(_count, ("days", "new"))])


@command.command("list")
@site_filter
@period_options
@click.option("--state", type=click.Choice(STATES), help="Only days in this state.")
@click.option("--limit", type=click.IntRange(1), default=500, show_default=True, help="How many at most.")
@answering
def list_days(
    app: App, /, *, site: str | None, state: str | None, first: date | None, last: date | None, limit: int
) -> None:
    """List days with their states, oldest first."""
    from db import days, sites
    from hpc import wiring

    with wiring.session(app.settings) as session:
        if site is not None:
            session(sites.get, site)
        found = session(days.find, site=site, state=state, start=first, stop=last, limit=limit)
    counts = ("recordings", "transcribed", "no_speech", "quarantined", "failed_shards")
    keys = ("site", "date", "state", "revision", "message", "started", "finished", "summary")
    rows = [{key: row[key] for key in keys} for row in found]
    if not app.as_json:
        rows = [row | {key: (row["summary"] or {}).get(key) for key in counts} for row in rows]
    columns = [Column("site"), Column("date"), Column("state"), *map(_count, counts), Column("message")]
    app.display.table(rows, columns, empty="There are no such days.")
    if len(rows) == limit:
        app.display.warn(f"Only the first {limit} days are listed; --from or --limit shows more.")


@command.command()
@day_option
@site_option
@answering
def show(app: App, /, day: date, *, site: str | None) -> None:
    """Show one day: its tally, its slots, what is missing.

    The map has a line an hour and four marks a slot. Every file that was listed and did not come is named.
    """
    from db import days, events, listings, transfers
    from hpc import wiring
    from hpc.wiring import movers

    with wiring.session(app.settings) as session:
        where = chosen_site(session, site)
        found = session(days.get, where.name, day)
        tally, slots = session(days.tally, found.id), session(days.slots, found.id)
        gaps, amiss = session(listings.gaps, found.id), session(listings.amiss, found.id, limit=MISSING)
        moved = session(transfers.latest, site=where.name, start=day, stop=day, limit=10)
        history = session(events.of_day, found.id, limit=10)
    clock = movers.origin(where).clock.says(day)
    about = {key: getattr(found, key) for key in ("site", "date", "state", "revision", "staged", "message")}
    missing = [row | {"name": display(row["path"])} for row in amiss]
    missing = [{key: value for key, value in row.items() if key != "path"} for row in missing]
    if app.as_json:
        about |= {"clock": clock, "tally": tally, "files": gaps, "missing": missing, "slots": slots}
        app.display.record(about | {"transfers": moved, "events": history})
        return
    app.display.record(about | {"clock": clock} | told(tally))
    _show_files(app, gaps, slots, missing)
    _show_failures(app, tally)
    _show_transfers(app, moved)
    happened = [row | {"detail": _briefly(row["detail"])} for row in reversed(history)]
    app.display.table(happened, [Column("at"), Column("what"), Column("actor"), Column("detail")], empty="No events.")


@command.command()
@day_option
@site_option
@answering
def relist(app: App, /, day: date, *, site: str | None) -> None:
    """List a day again: now, or by the next tick.

    What is new at its source is fetched; what is here stays. Days are listed again by themselves while they are young.
    """
    from datetime import timedelta

    from db import days, listings
    from db.errors import IllegalMove
    from hpc import wiring

    with wiring.session(app.settings) as session:
        where = chosen_site(session, site)
        found = session(days.get, where.name, day)
        if found.state == "transfer_failed":
            raise IllegalMove(
                f"the transfer of {where.name} {day} has failed; fetch it again: dayscribe days retry {day}"
            )
        if where.route:
            session(listings.look_again, found.id, timedelta(0))
        else:
            wiring.register(app.settings, session, where, day)  # its files are at hand: there is nothing to wait for
        _show_state(app, session, found)


@command.command()
@day_option
@site_option
@click.option("--reason", metavar="TEXT", required=True, help="Why; the ledger remembers it.")
@answering
def accept(app: App, /, day: date, *, site: str | None, reason: str) -> None:
    """Go on without the archives that did not come.

    Their slots stay marked as missing, with your reason; `days retry` fetches them after all.
    """
    from db import days, transfers
    from db.errors import IllegalMove
    from hpc import wiring

    with wiring.session(app.settings) as session:
        found = session(days.get, chosen_site(session, site).name, day)
        if not session(transfers.standing, found.id)["arrived"]:
            raise IllegalMove(f"nothing of {found.site} {day} has arrived; there is nothing to go on with")
        waived = session(transfers.waive, found, actor=getpass.getuser(), reason=reason)
        if not waived:
            app.display.say("No archive of the day is missing whose transfer is over.")
        else:
            wiring.go_on(app.settings, session, found)
        _show_state(app, session, found, waived=len(waived))


@command.command()
@day_option
@site_option
@click.option("--reason", metavar="TEXT", help="Why; the ledger remembers it.")
@answering
def hold(app: App, /, day: date, *, site: str | None, reason: str | None) -> None:
    """Pause a day: nothing of it is claimed until release."""
    from db import days
    from hpc import wiring

    with wiring.session(app.settings) as session:
        found = session(days.get, chosen_site(session, site).name, day)
        session(days.hold, found, actor=getpass.getuser(), message=reason or f"held by {getpass.getuser()}")
        _show_state(app, session, found)


@command.command()
@day_option
@site_option
@click.option("--reason", metavar="TEXT", help="Why; the ledger remembers it.")
@answering
def release(app: App, /, day: date, *, site: str | None, reason: str | None) -> None:
    """End a hold: the day goes on where it was held."""
    from db import days
    from hpc import wiring

    with wiring.session(app.settings) as session:
        found = session(days.get, chosen_site(session, site).name, day)
        session(days.release, found, actor=getpass.getuser())
        _remember(session, found, reason)
        _show_state(app, session, found)


@command.command()
@day_option
@site_option
@click.option("--reason", metavar="TEXT", help="Why; the ledger remembers it.")
@answering
def retry(app: App, /, day: date, *, site: str | None, reason: str | None) -> None:
    """Make a day's failed shards, or transfer, ready again.

    Quarantined recordings keep their outcome; what is done is never made again.
    """
    from db import days, shards
    from hpc import wiring

    with wiring.session(app.settings) as session:
        found = session(days.get, chosen_site(session, site).name, day)
        count = session(shards.retry, found, actor=getpass.getuser())
        if count or session(days.by_id, found.id).state != found.state:
            _remember(session, found, reason)
        else:
            app.display.say("No shard of the day had failed, and neither had its transfer.")
        _show_state(app, session, found, shards=count)


def told(tally: Mapping[str, Any]) -> dict[str, Any]:
    """A tally as a person reads it."""
    done = tally["shards"] - tally["open_shards"] - tally["failed_shards"]
    return {
        "shards": f"{done} of {tally['shards']} done, {tally['failed_shards']} failed",
        "recordings": tally["recordings"],
        "transcribed": tally["transcribed"],
        "no speech": tally["no_speech"],
        "quarantined": tally["quarantined"],
        "unsealed": tally["unsealed"],
        "audio": clock(tally["audio_seconds"]),
        "engine time": clock(tally["engine_seconds"]),
    }


def _show_files(
    app: App,
    gaps: Sequence[Mapping[str, Any]],
    slots: Sequence[Mapping[str, Any]],
    missing: Sequence[Mapping[str, Any]],
) -> None:
    """Expected, arrived, verified, transcribed; the map of the slots; and each file that should be here and is not."""
    transcribed = sum(row["shard_state"] == "done" for row in slots if row["kind"] == "archive")
    rows = [dict(row) | {"transcribed": transcribed if row["kind"] == "archive" else None} for row in gaps]
    counts = ("expected", "arrived", "verified", "transcribed", "missing", "bytes")
    if rows:
        app.display.text("\n")
        app.display.table(rows, [Column("kind", "files"), *map(_count, counts)])
    if slots:
        app.display.text("\n" + gap_map(slots) + "\n\n")
    if missing:
        columns = [Column("slot"), Column("name", "missing file"), Column("state"), _count("tries"), Column("reason")]
        app.display.table(missing, columns)


def _show_failures(app: App, tally: Mapping[str, Any]) -> None:
    if tally["failures"]:
        columns = [Column("failure_class", "quarantined as"), _count("recordings"), Column("example")]
        app.display.table(tally["failures"], columns)
    if tally["failed"]:
        columns = [Column("name", "failed shard"), Column("failure_class", "class"), Column("failure_reason", "reason")]
        app.display.table(tally["failed"], columns)


def _show_transfers(app: App, moved: Rows) -> None:
    if moved:
        columns = [
            Column("id", "transfer"),
            Column("what"),
            Column("state"),
            _count("files"),
            Column("expected_files", "of"),
        ]
        app.display.table(moved, [*columns, Column("owner"), Column("message")])


def _wanted(days: tuple[date, ...] | None, options: Mapping[str, Any]) -> list[tuple[str | None, date]]:
    """(site, date) of every day that is asked for, in whichever way."""
    from hpc.dates import read_queue

    file = options["file"]
    if (days is None) == (file is None):
        raise click.UsageError("Say which days, in one way: DAYS, --date, --from and --to, or --file.")
    if file is not None:
        if options["site"] or options["location"]:
            raise click.UsageError("A queue file names its sites itself; --site and --location do not go with it.")
        return [(queued.site, queued.date) for queued in read_queue(file)]
    return [(options["site"], on) for on in days or ()]


def _check_site_options(options: Mapping[str, Any]) -> None:
    if options["no_grid"] and options["slot_minutes"]:
        raise click.UsageError("--slot-minutes and --no-grid exclude each other.")
    given = [f"--{name.replace('_', '-')}" for name in ("time_zone", "slot_minutes", "no_grid") if options[name]]
    if given and not options["location"]:
        raise click.UsageError(f"{given[0]} is of a site that is made here: --location says where its audio lies.")
    if options["location"] and not options["site"]:
        raise click.UsageError("--location makes a site: say its name with --site.")


def _made_site(app: App, session: Session, options: Mapping[str, Any]) -> Site:
    from db import sites

    location = options["location"].expanduser().absolute()
    known = {site.name: site for site in session(sites.every)}.get(options["site"])
    if known is not None and known.route:
        raise click.UsageError(
            f"The files of {known.name} come from elsewhere; `dayscribe sites add {known.name} …` changes that."
        )
    if "{" not in str(location) and not location.is_dir():
        app.display.warn(f"{location} is no folder on this machine; the site is made all the same.")
    return session(
        sites.put,
        options["site"],
        location=str(location),
        time_zone=_time_zone(options["time_zone"] or "UTC"),
        slot_minutes=None if options["no_grid"] else options["slot_minutes"] or 10,
        layout=None if known is None else known.layout,
    )


def _time_zone(name: str) -> str:
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name).key
    except (ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        raise click.BadParameter(f"{name!r} is no time zone; write it as Europe/Zurich or UTC.") from None


def _remember(session: Session, day: Day, reason: str | None) -> None:
    from db import events

    if reason:
        session(events.add, "day.remark", actor=getpass.getuser(), day_id=day.id, message=reason)


def _show_state(app: App, session: Session, day: Day, **more: object) -> None:
    from db import days

    now = session(days.by_id, day.id)
    app.display.record({"site": now.site, "date": now.date, "state": now.state, "message": now.message} | more)


def _briefly(detail: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in detail.items() if value not in (None, ""))


def _count(key: str) -> Column:
    return Column(key, right=True)
