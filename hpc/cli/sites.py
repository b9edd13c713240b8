"""`dayscribe sites`: the collections of audio, where each lies, how its files are called and how they come here."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

import click

from hpc.cli.display import Column
from hpc.cli.options import DAY, App, answering

KINDS = ("archive", "metadata", "subtitles", "comments")  # hpc.layout.KINDS, without importing it for --help


@click.group()
def command() -> None:
    """Say where audio comes from, and how it is called there."""


@command.command()
@click.argument("name")
@click.option(
    "--location", required=True, metavar="FOLDER", help="Its folder at the source; may hold {site}, {year}, …."
)
@click.option("--collection", metavar="UUID", help="It lies in this Globus collection.")
@click.option("--destination", metavar="UUID", help="The Globus collection that staging is in.")
@click.option("--destination-folder", metavar="FOLDER", help="Staging, as that collection names it, if otherwise.")
@click.option("--staging", metavar="FOLDER", help="Where its files are put; else the setting transfer.staging.")
@click.option("--copy", "how", flag_value="copy", help="Copy its files to staging.")
@click.option("--link", "how", flag_value="link", help="Link its files into staging: same file system, no space.")
@click.option("--time-zone", metavar="TZ", default="UTC", show_default=True, help="Such as Europe/Zurich.")
@click.option("--slot-clock", type=click.Choice(("local", "utc")), default="local", help="What names are read from.")
@click.option("--slot-minutes", type=click.IntRange(1, 1440), metavar="N", help="Its slot grid; else 10.")
@click.option("--no-grid", is_flag=True, help="It has no slots: its days are loose files.")
@click.option("--folder", metavar="TEMPLATE", help="A day's folder below, as {site}_{year}_{monthname}/prepped_data.")
@click.option("--archive", multiple=True, metavar="TEMPLATE", help="An archive's name, as 0_{date}_{slot}.tar.xz.")
@click.option("--metadata", multiple=True, metavar="TEMPLATE", help="The name of a companion with metadata.")
@click.option("--subtitles", multiple=True, metavar="TEMPLATE", help="The name of one with subtitles.")
@click.option("--comments", multiple=True, metavar="TEMPLATE", help="The name of one with comments.")
@click.option("--dry-run", is_flag=True, help="Show what it would be; change nothing.")
@answering
def add(app: App, /, *, name: str, dry_run: bool, **options: Any) -> None:
    """Make a site, or change all that is known of it.

    Without --collection, --copy or --link its files are worked where they lie. Names are templates of {date}, {year},
    {month}, {monthname}, {day}, {hour}, {minute}, {slot} and {fold}; --archive and the others may be repeated.
    """
    from db import sites
    from hpc import wiring
    from hpc.wiring import movers

    site = _site(name, options)
    movers.origin(site)  # says what makes no sense before anything is written
    if not dry_run:
        with wiring.session(app.settings) as session:
            said = {key: getattr(site, key) for key in _KEPT}
            known = {one.name: one for one in session(sites.every)}.get(name)
            if known is not None:  # what a login has learned of these collections
                said["route"] = _with_consents(said["route"], known.route)
            site = session(sites.put, name, **said)
    app.display.record(_told(app, site, datetime.now().astimezone().date()))


@command.command("list")
@answering
def list_sites(app: App, /) -> None:
    """List the sites."""
    from db import sites, transfers
    from hpc import wiring
    from hpc.route import Route

    with wiring.session(app.settings) as session:
        every = session(sites.every)
        troubles = {row["site"]: row["message"] for row in session(transfers.troubles)}
    rows = [
        {
            "site": site.name,
            "source": site.source,
            "files": Route.of(site.route).how or "at hand",
            "location": site.location,
            "time_zone": site.time_zone,
            "trouble": troubles.get(site.name),
        }
        for site in every
    ]
    columns = [Column(key) for key in ("site", "source", "files", "location", "time_zone", "trouble")]
    app.display.table(rows, columns, empty="There are no sites yet: dayscribe sites add NAME --location FOLDER")


@command.command()
@click.argument("name")
@click.option("--date", "day", type=DAY, help="For which date names are shown; else today.")
@answering
def show(app: App, /, *, name: str, day: date | None) -> None:
    """Show a site, and what its files of a date are called."""
    from db import sites
    from hpc import wiring

    with wiring.session(app.settings) as session:
        site = session(sites.get, name)
    app.display.record(_told(app, site, day or datetime.now().astimezone().date()))


_KEPT = ("location", "source", "time_zone", "slot_minutes", "slot_clock", "layout", "route")


def _site(name: str, options: Mapping[str, Any]) -> Any:
    """The options as a site, not written anywhere."""
    from pathlib import Path

    from db.sites import Site
    from hpc.route import Route

    how = "globus" if options["collection"] else options["how"] or ""
    if options["collection"] and options["how"]:
        raise click.UsageError("--collection says that Globus brings the files; --copy and --link do not go with it.")
    if not how and (options["destination"] or options["staging"]):
        raise click.UsageError("--destination and --staging are of files that come by --collection, --copy or --link.")
    if options["no_grid"] and options["slot_minutes"]:
        raise click.UsageError("--slot-minutes and --no-grid exclude each other.")
    names = ("collection", "destination", "destination_folder", "staging")
    route = Route.of({"how": how, **{key: options[key] for key in names if options[key]}} if how else {})
    location = options["location"] if how == "globus" else str(Path(options["location"]).expanduser().absolute())
    layout = {kind: list(options[kind]) for kind in KINDS if options[kind]}
    layout |= {"folder": options["folder"]} if options["folder"] else {}
    minutes = None if options["no_grid"] else options["slot_minutes"] or 10
    source_name = "globus" if how == "globus" else "local"
    return Site(
        0, name, source_name, location, options["time_zone"], minutes, options["slot_clock"], layout, route.as_dict()
    )


def _with_consents(route: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    named = (route.get("collection"), route.get("destination"))
    kept = [one for one in before.get("data_access", ()) if one in named]
    return dict(route) | ({"data_access": kept} if kept else {})


def _told(app: App, site: Any, day: date) -> dict[str, Any]:
    from hpc.wiring import movers

    origin = movers.origin(site)
    grid = origin.clock.grid(day)
    label = grid[len(grid) // 2].label if grid else "12_00"
    names = {
        f"{kind} of {label}": origin.layout.name(day, label, kind) for kind in KINDS if getattr(origin.layout, kind)
    }
    return {
        "site": site.name,
        "source": site.source,
        "files": origin.route.how or "at hand",
        "date": day,
        "folder at the source": origin.folder(day),
        "folder here": movers.staged(app.settings, site, day),
        **names,
        "slots": f"{len(grid)} by the {site.slot_clock} clock of {site.time_zone}" if grid else "none",
        "clock": origin.clock.says(day),
        "layout": dict(site.layout),
        "route": dict(site.route),
    }
