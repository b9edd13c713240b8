"""Globus before the first transfer: the login, the consents, both collections, the source's folder, the destination."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from itertools import islice
from pathlib import Path

from db.errors import DayscribeError
from hpc.doctor.finding import Finding, Verdict, attempt, good_or_wanting
from hpc.errors import BadSetting, NeedsConsent
from hpc.origin import Origin
from hpc.sources.globus import GlobusSource, Spot, folders
from hpc.sources.globus.access import Access, who
from hpc.sources.globus.login import look_at
from hpc.sources.globus.words import LOGIN

SHOWN = 3  # names of a listing


@dataclass(frozen=True, slots=True)
class Stop:
    """One site's way: what is listed for a date, and where it goes."""

    origin: Origin
    day: date
    destination: Spot
    staging: Path  # the same folder, as this cluster sees it


def examine(access: Access, stops: Sequence[Stop]) -> Iterator[Finding]:
    """Everything that a transfer needs. One folder is made at each destination and taken away again."""
    yield _application(access)
    if access.client_id is None:
        return
    yield _store(access)
    login = attempt("globus login", lambda: who(access), wanted="somebody")
    yield login
    if login.verdict is not Verdict.OK:
        return
    for stop in stops:
        yield from _collections(access, stop)
        yield _listing(access, stop)
        yield _folder(access, stop)


def _application(access: Access) -> Finding:
    good = access.client_id is not None
    kind = "a service account" if access.secret else "a person logs in"
    found = f"{access.client_id}, {kind}" if good else "not registered"
    mend = "" if good else "Register one (docs/how-to/globus.md) and set globus.client_id."
    return Finding("globus application", good_or_wanting(good), found, "registered at Globus", mend)


def _store(access: Access) -> Finding:
    there = access.store.exists()
    found = f"{access.store}, of {access.owner}" if there else f"none of {access.owner} yet"
    good = there or access.secret is not None
    if access.secret is not None:
        found = "none kept: a service account has its secret"
    return Finding("globus tokens", good_or_wanting(good), found, "in a 0600 file", "" if good else f"Run: {LOGIN}")


def _collections(access: Access, stop: Stop) -> Iterator[Finding]:
    route = stop.origin.route
    ids = [name for name in (route.collection, route.destination) if name]
    try:
        found = {one.id: one for one in look_at(access, ids, route.data_access)}
    except NeedsConsent as error:
        yield Finding(
            f"{stop.origin.site}: consents", Verdict.WANTING, "not given", "for each mapped collection", str(error)
        )
        return
    except DayscribeError as error:
        yield Finding(f"{stop.origin.site}: collections", Verdict.WANTING, type(error).__name__, "known", str(error))
        return
    for role, name in (("source", route.collection), ("destination", route.destination)):
        if name is None:
            continue
        one = found.get(name)
        if one is None:
            mend = "Look its id up at app.globus.org, and name it: dayscribe sites add."
            yield Finding(f"{stop.origin.site}: {role}", Verdict.WANTING, f"{name} is not known", "a collection", mend)
            continue
        asked = not one.mapped or name in route.data_access
        what = f"{one.name or name}, {'mapped' if one.mapped else 'not mapped'}"
        mend = "" if asked else f"It wants a consent of its own; run: {LOGIN}"
        yield Finding(f"{stop.origin.site}: {role}", good_or_wanting(asked), what, "known, with its consent", mend)


def _listing(access: Access, stop: Stop) -> Finding:
    folder = stop.origin.folder(stop.day)

    def look() -> str:
        files = list(islice(GlobusSource(stop.origin, access).listing(stop.day), SHOWN + 1))
        if not files:
            raise BadSetting(
                f"{folder} shows nothing for {stop.day}. If there should be something, compare the site's layout with"
                " the names there: dayscribe sites show."
            )
        return f"{folder}: {_some(file.path for file in files)}"

    return attempt(f"{stop.origin.site}: listing of {stop.day}", look, wanted="files of the layout's names")


def _folder(access: Access, stop: Stop) -> Finding:
    """A folder made through Globus has to be seen here: else files would go where nobody looks for them."""
    name = f".dayscribe-check-{secrets.token_hex(6)}"
    here, there = stop.staging / name, stop.destination.path(name)

    def look() -> str:
        stop.staging.mkdir(parents=True, exist_ok=True)
        where = (access, stop.origin.route.data_access, stop.destination.collection, there)
        folders.make(*where)
        if not here.is_dir():
            folders.take_away(*where)
            raise BadSetting(
                f"Globus made {there}, and {here} does not show it: they are not one folder. Say which is which:"
                " dayscribe sites add --destination-folder … --staging …"
            )
        return f"{stop.destination.folder} is {stop.staging}, and Globus may write there"

    try:
        return attempt(f"{stop.origin.site}: staging", look, wanted="writable, and the staging folder")
    finally:
        with suppress(OSError):
            here.rmdir()


def _some(names: Iterable[str]) -> str:
    first = list(names)
    return ", ".join(first[:SHOWN]) + (", …" if len(first) > SHOWN else "")
