"""`dayscribe globus`: who we are at Globus, and whether a transfer could begin."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from hpc.cli.display import Column
from hpc.cli.options import DAY, App, answering, site_option

if TYPE_CHECKING:
    from db.session import Session
    from db.sites import Site
    from hpc.doctor.globus import Stop


@click.group()
def command() -> None:
    """Log in at Globus, and look whether all is well there."""


@command.command()
@click.option("--force", is_flag=True, help="Log in anew, although we are.")
@answering
def login(app: App, /, *, force: bool) -> None:
    """Log in once; ticks renew it from then on.

    Works over ssh: an address is shown, to be opened in any browser, and a code is asked for. A collection that wants a
    consent of its own is asked for, too. A service account (globus.secret_file) is asked nothing.
    """
    from db import sites, transfers
    from hpc import wiring
    from hpc.sources.globus.access import who
    from hpc.sources.globus.login import Flow, log_in, look_at
    from hpc.wiring import movers

    access = movers.access(app.settings)
    flow = Flow.speaking(app.display.say, lambda words: str(click.prompt(words, err=True)))
    with wiring.session(app.settings) as session:
        every = [site for site in session(sites.every) if site.source == "globus"]
        learned = {one for site in every for one in site.route.get("data_access", ())}
        known = sorted(learned | set(app.settings.globus.data_access))
        asked = log_in(access, known, flow, force=force)
        mapped = [one.id for one in look_at(access, movers.collections(every), known) if one.mapped]
        wanted = sorted({*mapped, *app.settings.globus.data_access})
        if set(wanted) - set(known):
            app.display.say("A collection of your sites is a mapped one, and wants a consent of its own.")
            asked |= log_in(access, wanted, flow)
        for site in every:
            _remember(session, site, mapped)
        session(transfers.forget_troubles, "globus", access.owner)
        kept = "none: a service account has its secret" if access.secret else access.store
        told = {"identity": who(access), "owner": access.owner, "tokens": kept, "new": asked}
    app.display.record(told | {"consents": mapped})


@command.command()
@site_option
@click.option("--date", "day", type=DAY, help="The date to list at the source; else yesterday.")
@answering
def check(app: App, /, *, site: str | None, day: date | None) -> None:
    """Look whether a transfer could begin; change nothing.

    Tokens, consents, both collections, a listing of the source's folder, and a destination that can be written: what is
    wanting is said with the command that mends it, and ends in exit code 78.
    """
    from db import sites, transfers
    from hpc import wiring
    from hpc.doctor.finding import Verdict
    from hpc.doctor.globus import examine
    from hpc.errors import BadSetting
    from hpc.wiring import movers

    with wiring.session(app.settings) as session:
        every = [session(sites.get, site)] if site is not None else session(sites.every)
        every = [one for one in every if one.source == "globus"]
        when = day or datetime.now().astimezone().date() - timedelta(days=1)
        stops = [_stop(app, one, when) for one in every]
        access = movers.access(app.settings)
        found = list(examine(access, stops))
        wanting = sum(one.verdict is Verdict.WANTING for one in found)
        if not wanting:
            session(transfers.forget_troubles, "globus", access.owner)
    rows = [{"what": one.what, "verdict": one.verdict, "found": one.found, "mend": one.mend} for one in found]
    app.display.table(rows, [Column("verdict"), Column("what"), Column("found"), Column("mend")])
    if not every:
        app.display.say("No site comes by Globus yet: dayscribe sites add NAME --collection … --destination …")
    if wanting:
        raise BadSetting(f"Globus: {wanting} things are wanting.")


@command.command()
@answering
def logout(app: App) -> None:
    """Give the login back and forget it."""
    from hpc.sources.globus.login import log_out
    from hpc.wiring import movers

    access = movers.access(app.settings)
    there = log_out(access)
    app.display.record({"owner": access.owner, "tokens": access.store, "logged_out": there})


def _remember(session: Session, site: Site, mapped: list[str]) -> None:
    """Which of its collections want a consent: whoever lists the site asks for it from the start."""
    from db import sites
    from hpc.route import Route

    route = Route.of(site.route)
    wants = tuple(one for one in mapped if one in (route.collection, route.destination))
    if wants != route.data_access:
        said: dict[str, Any] = {name: getattr(site, name) for name in ("location", "source", "time_zone")}
        said |= {name: getattr(site, name) for name in ("slot_minutes", "slot_clock", "layout")}
        session(sites.put, site.name, **said, route=replace(route, data_access=wants).as_dict())


def _stop(app: App, site: Site, day: date) -> Stop:
    from hpc.doctor.globus import Stop
    from hpc.sources.globus import Spot
    from hpc.wiring import movers

    origin = movers.origin(site)
    usual = app.settings.staging_folder
    destination = Spot(origin.route.destination or "", origin.route.destination_path(usual))
    return Stop(origin, day, destination, origin.route.staging_folder(usual))
