"""`dayscribe sample`: recordings for people to judge, blind, and how good the transcripts are by what they heard."""

from __future__ import annotations

import getpass
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpc.cli.compare import percent
from hpc.cli.display import Column
from hpc.cli.options import App, answering, chosen_site, days_options, site_option
from hpc.cli.runs import scope_of

if TYPE_CHECKING:
    from db.samples import Sample
    from db.session import Session
    from hpc.sample import Urn
    from hpc.sample.audio import Missing

STRATA = ("language", "flag", "site", "state", "day")  # hpc.sample.STRATA, without importing it for --help
NAMED = 5  # recordings without audio that are named; the JSON names all
FOLDER = click.Path(path_type=Path, file_okay=False)


class Strata(click.ParamType[tuple[str, ...]]):
    """Names of strata with commas between them; none is one stratum of all."""

    name = "strata"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        wanted = [name.strip() for name in value.split(",") if name.strip()]
        if unknown := [name for name in wanted if name not in STRATA]:
            self.fail(f"{unknown[0]!r} is none of {', '.join(STRATA)}", param, ctx)
        return tuple(name for name in STRATA if name in wanted)


@click.group()
def command() -> None:
    """Draw recordings for people to judge, and report."""


@command.command()
@click.argument("name")
@days_options()
@site_option
@click.option("--strata", type=Strata(), default="language,flag", show_default=True, help="What is represented.")
@click.option("--n", "count", type=click.IntRange(1, 100_000), default=200, show_default=True, help="How many.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Another draws others.")
@click.option("--audio", type=FOLDER, metavar="DIR", help="Copy their audio to this folder.")
@answering
def draw(
    app: App,
    /,
    name: str,
    *,
    days: tuple[date, ...],
    site: str | None,
    strata: tuple[str, ...],
    count: int,
    seed: int,
    audio: Path | None,
) -> None:
    """Draw a sample of recordings that have a transcript.

    NAME is the sample's. DAYS is one day, or FIRST..LAST. STRATA are language, flag, site, state, day, with commas
    between them; each is drawn in proportion, at least once. The same seed draws the same recordings. Until the sample
    is released, the archives that hold its audio stay staged.
    """
    from db import runs, samples
    from hpc import login_nodes, wiring
    from hpc.sample import Urn

    _refuse_name(name)
    if audio is not None:
        login_nodes.refuse(app.settings.login_nodes, "reading archives")
    with wiring.session(app.settings, application="dayscribe-sample") as session:
        site = site if "site" in strata else chosen_site(session, site).name
        found = session(runs.days, scope_of(session, days, site))
        urn, seen = Urn(seed, count, strata), 0
        with app.display.progress("drawing", total=len(found), unit="days") as bar:
            for day in found:
                seen += _put(session, day["id"], urn)
                bar.advance()
        _refuse_nothing(urn, seen)
        places = urn.draw()
        asked = {"site": site, "start": days[0].isoformat(), "stop": days[-1].isoformat(), "n": count}
        selection = asked | {"recordings": seen, "with_transcript": urn.populations.total()}
        who = getpass.getuser()
        new = session(samples.put, name, places, who=who, seed=seed, strata=strata, selection=selection)
        told: dict[str, Any] = {"name": name, "seed": seed, "new": new, "drawn": len(places), **selection}
        told["strata"] = _strata(urn, [place.stratum for place in places])
        told |= _copied(app, session, session(samples.get, name), audio) if audio is not None else {}
    _show_drawn(app, told)


@command.command()
@click.argument("name")
@click.argument("folder", type=FOLDER)
@answering
def audio(app: App, /, name: str, *, folder: Path) -> None:
    """Copy a sample's audio to a folder; what is there stays."""
    from db import samples
    from hpc import login_nodes, wiring

    login_nodes.refuse(app.settings.login_nodes, "reading archives")
    with wiring.session(app.settings, application="dayscribe-sample") as session:
        told = {"name": name} | _copied(app, session, session(samples.get, name), folder)
    if app.as_json:
        app.display.record(told)
    else:
        _show_copied(app, told)


@command.command()
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The CSV to write.")
@answering
def sheet(app: App, /, name: str, *, out: Path) -> None:
    """Write a blank sheet for a coder.

    It says which recordings, and nothing of what the machine heard. The coder writes what is said into `reference`, or
    an x into `no_speech`.
    """
    from db import samples
    from hpc import wiring
    from hpc.sample.sheet import write_sheet

    with wiring.session(app.settings) as session:
        found = session(samples.get, name)
        rows = session(samples.audio, found)
    copied = write_sheet(rows, found, out)
    app.display.record({"sheet": out, "recordings": len(rows), "with_audio": copied})


@command.command()
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--coder", metavar="WHO", help="Who judged; left out it is you.")
@click.option("--replace", is_flag=True, help="Take these judgements instead of other ones that are there.")
@answering
def read(app: App, /, name: str, *, file: Path, coder: str | None, replace: bool) -> None:
    """Read a coder's sheet; one bad line, and nothing changes."""
    from db import samples
    from hpc import wiring
    from hpc.sample.sheet import read_sheet

    with wiring.session(app.settings) as session:
        found = session(samples.get, name)
        places = session(samples.places, found)
        codings = read_sheet(file, places, replace=replace)
        changed = session(samples.judge, found, codings, coder=coder or getpass.getuser(), replace=replace)
        judged = sum(row["reference"] is not None for row in session(samples.places, found).values())
    app.display.record({"judged_in_sheet": len(codings), "new": changed, "judged": judged, "of": len(places)})


@command.command()
@click.argument("name")
@answering
def report(app: App, /, name: str) -> None:
    """Report word error rates, with 95 % intervals.

    The rate is the words that are wrong by the words that were said; over all, each stratum counts by its population.
    """
    from db import samples
    from hpc import wiring
    from hpc.sample.report import rates

    with wiring.session(app.settings) as session:
        found = session(samples.get, name)
        rows = session(samples.judged, found)
    strata, overall = rates(rows, found.seed)
    if app.as_json:
        told = {"name": found.name, "seed": found.seed, "selection": found.selection}
        app.display.record(told | {"strata": strata, "overall": overall})
        return
    counts = [Column(key, right=True) for key in ("population", "drawn", "judged", "words", "errors")]
    columns = [Column("stratum"), *counts, Column("wer", "WER", percent, right=True), Column("interval", "95 %")]
    columns += [Column(key, right=True) for key in ("silent", "invented", "missed")]
    app.display.table([asdict(one) | {"interval": _interval(one)} for one in [*strata, overall]], columns)
    reached = sum(one.population for one in strata if one.judged)
    app.display.passage(
        f"{overall.judged} of {overall.drawn} drawn recordings are judged; they stand for {reached} of"
        f" {overall.population} recordings with a transcript. Silent: nobody speaks; invented: the machine wrote words"
        " there; missed: speech of which it wrote nothing."
    )


@command.command("list")
@answering
def list_samples(app: App) -> None:
    """List samples, the newest first."""
    from db import samples
    from hpc import wiring

    with wiring.session(app.settings) as session:
        rows = session(samples.every)
    columns = [Column("name"), Column("created"), Column("who"), Column("strata"), Column("seed", right=True)]
    columns += [Column("judged", right=True), Column("recordings", "of", right=True), Column("released")]
    app.display.table(rows, columns, empty="There are no samples yet: dayscribe sample draw.")


@command.command()
@click.argument("name")
@answering
def release(app: App, /, name: str) -> None:
    """Let its audio go: the archives need not stay staged."""
    from db import samples
    from hpc import wiring

    with wiring.session(app.settings) as session:
        found = session(samples.get, name)
        new = session(samples.release, found, actor=getpass.getuser())
    app.display.record({"name": name, "released": True, "new": new})


def _refuse_name(name: str) -> None:
    import re

    from db.errors import BadData

    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", name):
        raise BadData(f"A sample's name is lower-case letters, digits, '-' and '_', not {name!r}.")


def _refuse_nothing(urn: Urn, seen: int) -> None:
    from db.errors import BadData

    if not urn.populations:
        raise BadData(f"None of the {seen} recordings of these days has a transcript; see: dayscribe days list")


def _put(session: Session, day_id: int, urn: Urn) -> int:
    """Put a day's recordings into the urn, page by page; how many the day has."""
    from db import runs, samples

    ids = session(runs.recordings, day_id)
    for start in range(0, len(ids), samples.PAGE):
        urn.put(session(samples.frame, ids[start : start + samples.PAGE]))
    return len(ids)


def _strata(urn: Urn, drawn: list[str]) -> list[dict[str, Any]]:
    return [
        {"stratum": name, "population": size, "drawn": drawn.count(name)}
        for name, size in sorted(urn.populations.items())
    ]


def _copied(app: App, session: Session, sample: Sample, folder: Path) -> dict[str, Any]:
    """Copy what can be had; says what could not."""
    from db import samples
    from hpc.sample.audio import copy_audio
    from hpc.stages.unpack import ArchiveLimits

    rows = session(samples.audio, sample)
    wanted = app.settings.worker
    limits = ArchiveLimits(
        members=wanted.max_members, member_bytes=wanted.max_member_mb << 20, total_bytes=wanted.max_archive_gb << 30
    )
    with app.display.progress("copying", total=len(rows), unit="recordings") as bar:
        missing: list[Missing] = copy_audio(sample.name, rows, folder, limits, advance=bar.advance)
    session(samples.remember_audio, sample, str(folder.resolve()))
    return {"audio": str(folder), "copied": len(rows) - len(missing), "missing": [asdict(one) for one in missing]}


def _show_drawn(app: App, told: dict[str, Any]) -> None:
    if app.as_json:
        app.display.record(told)
        return
    counts = [Column("population", right=True), Column("drawn", right=True)]
    app.display.table(told["strata"], [Column("stratum"), *counts])
    without = told["recordings"] - told["with_transcript"]
    app.display.passage(
        f"{told['name']}: {told['drawn']} of {told['with_transcript']} recordings with a transcript, by seed"
        f" {told['seed']}; {without} of {told['recordings']} have none and cannot be drawn."
        + ("" if told["new"] else " This very sample was drawn before.")
    )
    if "audio" in told:
        _show_copied(app, told)


def _show_copied(app: App, told: dict[str, Any]) -> None:
    lost = told["missing"]
    for one in lost[:NAMED]:
        app.display.warn(f"no audio of place {one['place']}, recording {one['recording']}: {one['why']}")
    if len(lost) > NAMED:
        app.display.warn(f"and {len(lost) - NAMED} more; --json names all")
    app.display.passage(f"{told['copied']} of {told['copied'] + len(lost)} have their audio in {told['audio']}.")


def _interval(one: Any) -> str:
    if one.low is None and one.high is None:
        return "-"
    return f"{percent(one.low)} to {'?' if one.high is None else percent(one.high)}"
