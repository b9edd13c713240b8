"""Sources and movers of a site, made of the ledger's word on it and of our settings; and the porter who uses them."""

from __future__ import annotations

import getpass
import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from db import days, sites, transfers
from db.errors import BadData, NeedsConfiguration
from db.session import Session
from hpc import registry
from hpc.config import Settings
from hpc.errors import BadSetting, NeedsLogin, NoAnswer
from hpc.layout import Layout
from hpc.origin import Origin
from hpc.ports import Mover, Source
from hpc.room import GB, Room, free
from hpc.route import Route
from hpc.slots import Clock
from hpc.sources.local import LocalMover
from hpc.tick.porter import Porter
from hpc.tick.report import Report
from hpc.tick.ways import Ways

if TYPE_CHECKING:
    from hpc.sources.globus.access import Access

DISCOVER = timedelta(hours=1)  # between two questions to a service which days it has
SECRET = "DAYSCRIBE_GLOBUS_SECRET"  # noqa: S105 - the name of the variable, for who has no file; jobs are not told it


def origin(site: sites.Site) -> Origin:
    """The site as sources see it; BadSetting when its data make no sense."""
    clock = Clock(site.time_zone, site.slot_minutes, "utc" if site.slot_clock == "utc" else "local")
    return Origin(site.name, site.location, Layout.of(site.layout), clock, Route.of(site.route))


def source(settings: Settings, site: sites.Site) -> Source:
    """The adapter that lists the site's files."""
    if site.source == "globus":
        needs_sdk()
        from hpc.sources.globus import GlobusSource

        return GlobusSource(origin(site), access(settings))
    made: Source = registry.load("sources", site.source)(origin(site))
    return made


def staged(settings: Settings, site: sites.Site, on: date) -> Path:
    """Where this cluster finds the day's files: where they lie, or where they are put."""
    route = Route.of(site.route)
    source = origin(site).folder(on)
    if not route.moves:
        return Path(source)
    here = route.staging_folder(settings.staging_folder) / site.name / on.isoformat()
    if route.how != "globus":
        one, other = here.resolve(), Path(source).resolve()
        if one.is_relative_to(other) or other.is_relative_to(one):
            raise BadSetting(
                f"The days of {site.name} cannot be staged in {here}: that is where their source is, {source}."
            )
    return here


def mover(settings: Settings, site: sites.Site, on: date) -> Mover:
    """What brings this day's files to staging."""
    here = origin(site)
    route, folder = here.route, here.folder(on)
    if route.how in ("link", "copy"):
        memory = route.staging_folder(settings.staging_folder)
        return LocalMover(Path(folder), staged(settings, site, on), memory, link=route.how == "link")
    if route.how != "globus" or route.collection is None or route.destination is None:
        raise BadSetting(f"The files of {site.name} are at hand; nothing moves them.")
    needs_sdk()
    from hpc.sources.globus import GlobusMover, Spot

    there = f"{route.destination_path(settings.staging_folder).rstrip('/')}/{site.name}/{on.isoformat()}"
    if route.collection == route.destination and f"{there}/".startswith(f"{folder.rstrip('/')}/"):
        raise BadSetting(
            f"The days of {site.name} cannot be staged in {there}: that is where their source is, {folder}."
        )
    return GlobusMover(
        Spot(route.collection, folder), Spot(route.destination, there), access(settings),
        data_access=route.data_access, encrypt=settings.transfer.encrypt,
    )  # fmt: skip


def porter(settings: Settings, session: Session, *, works: bool = False) -> Porter:
    """Who moves days here; `works`: in a job of its own, where long work is done."""
    told: list[Any] = []
    ways = Ways(
        site=lambda name: session(sites.get, name), origin=origin, source=partial(source, settings),
        mover=partial(mover, settings), staged=partial(staged, settings),
        room=lambda site, size, files: replace(room(settings, session, site), told=told).lacks(size, files),
    )  # fmt: skip
    attempts = settings.worker.max_attempts
    return Porter(session, getpass.getuser(), ways, settings.transfer, attempts, time.monotonic, works)


def room(settings: Settings, session: Session, site: sites.Site) -> Room:
    """Of the folder that the site's days are staged in."""
    return Room(settings.transfer, Route.of(site.route).staging_folder(settings.staging_folder), session)


def standing(settings: Settings, session: Session) -> dict[str, Any]:
    """What a tick tells of the room there is: what of the budget is used, and what each folder's disk has left."""
    rules, moving = settings.transfer, [site for site in session(sites.every) if site.route]
    folders = [settings.results_folder, *(room(settings, session, site).folder for site in moving)]
    return {
        "staged": session(transfers.space) if moving else None,
        "budget_bytes": int(rules.budget_gb * GB) or None,
        "budget_files": rules.budget_files or None,
        "disks": [{"folder": str(folder), **free(folder)} for folder in dict.fromkeys(folders)],
    }


def discover(settings: Settings, session: Session, report: Report) -> int:
    """Add the days that sources show by themselves; how many are new. One that asks a service is asked seldom, and one
    that does not answer is told of and holds up no other."""
    found = 0
    for site in session(sites.every):
        if site.route and not session(sites.discovering, site.id, every=DISCOVER):
            continue
        try:
            found += session(days.add, site.id, list(source(settings, site).days()))
        except (NeedsConfiguration, NoAnswer, BadData, OSError) as error:
            report.waiting("not discovered", site.name, str(error))
    return found


def access(settings: Settings) -> Access:
    """Who we are at Globus. Of a service account the secret is in a file of its own, or in our environment."""
    needs_sdk()
    from hpc.sources.globus.access import Access

    wanted, user = settings.globus, getpass.getuser()
    client, secret = wanted.client_id, os.environ.get(SECRET) or None
    if wanted.secret_file is not None:
        client, secret = _secret(wanted.secret_file, client)
    return Access(client, secret, (wanted.tokens or settings.home / "globus") / user, user, wanted.seconds)


def _secret(file: Path, client: str | None) -> tuple[str | None, str]:
    """The secret alone in a line, or JSON with client_id and client_secret."""
    from hpc.sources.globus.access import refuse_open

    refuse_open(file)
    try:
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise NeedsLogin(f"The secret in {file} cannot be read: {type(error).__name__}") from error
    if text.startswith("{"):
        try:
            said = json.loads(text)
            client, text = str(said.get("client_id") or client or "") or None, str(said["client_secret"])
        except (ValueError, KeyError):
            raise NeedsLogin(f"{file} is no JSON with client_id and client_secret") from None
    if not text or any(character.isspace() for character in text):
        raise NeedsLogin(f"{file} should hold one secret and nothing else, or JSON with client_id and client_secret")
    return client, text


def needs_sdk() -> None:
    """BadSetting where globus-sdk is not installed: an image that transcribes has no use for it."""
    from importlib.util import find_spec

    if find_spec("globus_sdk") is None:
        raise BadSetting(
            "globus-sdk is not installed here; `make install` has it, and so has the image pipeline_utils."
        )


def collections(every: Sequence[sites.Site]) -> list[str]:
    """The Globus collections that sites name, each once."""
    routes = [Route.of(site.route) for site in every if site.source == "globus"]
    found = [name for route in routes for name in (route.collection, route.destination) if name]
    return list(dict.fromkeys(found))
