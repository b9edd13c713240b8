"""`dayscribe snapshots`: the frozen sets of recordings that the ledger keeps."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpc.cli.display import Column
from hpc.cli.options import App, answering

if TYPE_CHECKING:
    from db.session import Session
    from db.snapshots import Snapshot
    from hpc.cli.export_days import Asked


@click.group()
def command() -> None:
    """Look at frozen sets of recordings.

    `dayscribe export --snapshot NAME` makes one, and writes it.
    """


@command.command("list")
@answering
def list_snapshots(app: App, /) -> None:
    """List the snapshots, by name."""
    from db import snapshots
    from hpc import wiring

    with wiring.session(app.settings) as session:
        rows = session(snapshots.every)
    for row in rows:
        row |= {key: row["selection"][key] for key in ("sites", "first", "last")}
    columns = [Column(key) for key in ("name", "created", "sites", "first", "last")]
    app.display.table(rows, [*columns, Column("recordings", right=True), Column("who")])


@command.command()
@click.argument("name")
@answering
def show(app: App, /, name: str) -> None:
    """Show what a snapshot was made of, and what was missing then."""
    from hpc import wiring
    from hpc.export import freeze, missing

    with wiring.session(app.settings) as session:
        found = session(freeze.find, name, None)
    assert found is not None
    totals = found.facts["totals"]
    told = {"name": found.name, "created": found.created, "who": found.who, "tool": found.facts["tool"]}
    told |= found.selection | {"days": totals["days"]} | totals["kept"] | {"of": totals["denominator"]["recordings"]}
    told |= {"missing": missing(totals["denominator"]), "not_in_the_ledger": found.facts["absent"]}
    shown = [Column(key) for key in told]
    app.display.record(told | {"denominator": totals["denominator"], "by_day": found.facts["days"]}, shown)


def write(app: App, session: Session, name: str, asked: Asked | None, *, out: Path, kind: str | None) -> None:
    """Freeze the set if it is new, and write it."""
    from hpc.export.snapshot import write_snapshot

    snapshot = _found_or_frozen(app, session, name, asked, kind)
    with app.display.progress(f"snapshot {name}", unit="recordings") as bar:
        made = session(write_snapshot, snapshot, out, kind=kind, advance=bar.advance)
    if made.same is False:
        app.display.warn("What was there before had other bytes (another format, perhaps); it was replaced.")
    totals = snapshot.facts["totals"]
    told = {"snapshot": name, "path": made.path, "format": made.kind, "frozen": snapshot.created}
    told |= {"days": totals["days"], **totals["kept"], "of": totals["denominator"]["recordings"]}
    told |= {"bytes": made.bytes, "manifest_sha256": made.manifest}
    shown = [Column(key) for key in told]
    app.display.record(told | {"same_as_before": made.same, "denominator": totals["denominator"]}, shown)


def _found_or_frozen(app: App, session: Session, name: str, asked: Asked | None, kind: str | None) -> Snapshot:
    """One that is there is neither counted nor judged again: its days may be anything by now."""
    from hpc.cli.export_days import wanted, warn_absent
    from hpc.export import freeze

    wish = None
    if asked is not None:
        wish = freeze.Wish(asked.sites, asked.dates[0], asked.dates[-1], asked.choice, asked.partial)
    found = session(freeze.find, name, wish)
    if found is not None:
        return found
    assert wish is not None
    assert asked is not None
    days, absent = wanted(session, asked)
    warn_absent(app, absent)
    with app.display.progress(f"freezing {name}", unit="recordings") as bar:
        made: Snapshot = session(
            freeze.freeze, name, wish, days, kind=kind or "parquet", who=getpass.getuser(), absent=absent,
            advance=bar.advance,
        )  # fmt: skip
    return made
