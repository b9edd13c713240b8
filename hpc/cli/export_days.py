"""Which days an export is of: looked at, all of them, before the first is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from db.days import Day
    from db.reports import Choice
    from db.session import Session
    from hpc.cli.options import App


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be exported, as the command line says it."""

    dates: tuple[date, ...]
    sites: tuple[str, ...] | None  # None: all there are
    choice: Choice
    partial: bool


def wanted(session: Session, asked: Asked) -> tuple[list[Day], list[str]]:
    """The days, all of them looked at before the first is written; and those that the ledger lacks, of all sites."""
    from db import sites
    from db.errors import BadData

    every = asked.sites is None
    names = [site.name for site in session(sites.every)] if asked.sites is None else asked.sites
    found: list[Day] = []
    absent: list[str] = []
    for name in names:
        there, lacking = _of_site(session, session(sites.get, name).name, asked.dates)
        found += there
        absent += [f"{name} {on}" for on in lacking]
    if not found or (absent and not every):
        raise BadData(_lacking(absent) or "the ledger has no site yet; `dayscribe days add` makes one")
    if not asked.partial:
        _refuse_unfinished(found)
    return found, absent


def _lacking(absent: Sequence[str]) -> str:
    """A sentence of what each site lacks, of the first five days in all."""
    by_site: dict[str, list[str]] = {}
    for site, on in (one.split(" ") for one in absent[:5]):
        by_site.setdefault(site, []).append(on)
    return "; ".join(f"{site} has no {', '.join(each)} in the ledger" for site, each in by_site.items()) + _more(absent)


def warn_absent(app: App, absent: Sequence[str]) -> None:
    """Days of all sites that are not in the ledger are in no denominator: they are named."""
    if absent:
        app.display.warn(f"Not in the ledger, so in no count: {', '.join(absent[:5])}{_more(absent)}.")


def _of_site(session: Session, site: str, dates: tuple[date, ...]) -> tuple[list[Day], list[date]]:
    from db import days

    known = {row["date"] for row in session(days.find, site=site, start=dates[0], stop=dates[-1], limit=len(dates))}
    return [session(days.get, site, on) for on in dates if on in known], [on for on in dates if on not in known]


def _refuse_unfinished(found: Sequence[Day]) -> None:
    from db import days
    from hpc.export import UnfinishedDay

    if open_ := [f"{day.site} {day.date} ({day.state})" for day in found if not days.is_finished(day)]:
        raise UnfinishedDay(
            f"Not finished: {', '.join(open_[:5])}{_more(open_)}; export later, or with --partial what there is now"
        )


def _more(names: Sequence[str]) -> str:
    return f" and {len(names) - 5} more" if len(names) > 5 else ""
