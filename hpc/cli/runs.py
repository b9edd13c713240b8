"""`dayscribe runs`: the receipts, what is of each, and what two of them say differently."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING, Any

import click

from hpc.cli.display import Column, plain_text
from hpc.cli.options import App, answering, days_options, site_filter

if TYPE_CHECKING:
    from db.session import Session

SHORT = 12  # hexadecimal digits of a key or a digest


@click.group()
def command() -> None:
    """Look at runs: with what transcripts were made."""


@command.command("list")
@days_options(required=False)
@site_filter
@answering
def list_runs(app: App, /, *, days: tuple[date, ...] | None, site: str | None) -> None:
    """List runs, the newest first, with their transcripts.

    DAYS is one day, or FIRST..LAST; without days, and without --site, every transcript of the ledger is counted.
    """
    from db import runs
    from hpc import wiring

    with wiring.session(app.settings) as session:
        rows = session(runs.used, scope_of(session, days, site))
    shown = [_row(row) for row in rows]
    columns = [Column("id", right=True), Column("key", write=_short), Column("first_used"), Column("engine")]
    columns += [Column("model"), Column("who"), Column("why"), Column("image", write=_short)]
    columns += [Column("code", write=_short), Column("current", right=True), Column("transcripts", "of", right=True)]
    app.display.table(shown, [*columns, Column("first", "from"), Column("last", "to")], empty="There are no such runs.")


@command.command()
@click.argument("run")
@click.option("--against", metavar="RUN", help="Only what this other run says differently.")
@answering
def show(app: App, /, run: str, *, against: str | None) -> None:
    """Show a receipt: options, models, digests, libraries.

    RUN is a run's id, or at least 6 digits of its key. Several receipts may share a key: then they are listed.
    """
    from db import runs
    from hpc import wiring
    from hpc.receipt import differing, flat

    with wiring.session(app.settings) as session:
        if against is not None:
            one, other = (_only(session, which) for which in (run, against))
        else:
            found = session(runs.find, run)
    if against is not None:
        rows = differing(_whole(one), _whole(other))
        columns = [Column("name"), Column("one", str(one["id"])), Column("other", str(other["id"]))]
        app.display.table(rows, columns, empty="They say the same.")
    elif app.as_json:
        app.display.record({"key": found[0]["key"], "receipts": found})
    elif len(found) > 1:
        app.display.say(f"{_several(found)}:")
        columns = [Column("id", right=True), Column("key"), Column("first_used"), Column("who"), Column("why")]
        app.display.table([_row(row) for row in found], [*columns, Column("image", write=_short)])
    else:
        [row] = found
        about = {"run": row["id"], "key": row["key"], "first used": row["created"]}
        told = about | {name: _plain(value) for name, value in flat(_ordered(row["receipt"])).items()}
        app.display.record(told, [Column(name, name) for name in told])


def scope_of(session: Session, days: tuple[date, ...] | None, site: str | None) -> Any:
    """Where to look; a site that the ledger does not know is refused."""
    from db import sites
    from db.transcripts import Scope

    if site is not None:
        session(sites.get, site)
    return Scope(site, *((days[0], days[-1]) if days else (None, None)))


def briefly(rows: list[dict[str, Any]]) -> str:
    """A run in a line, by its receipts: ids, key, engine, model."""
    row = _row(rows[0])
    ids = ", ".join(str(one["id"]) for one in rows)
    parts = [f"run {ids}", f"key {_short(row['key'])}", row["engine"], row["model"]]
    return ", ".join(plain_text(part) for part in parts if part is not None)


def _only(session: Session, which: str) -> dict[str, Any]:
    from db import runs
    from db.errors import BadData

    found = session(runs.find, which)
    if len(found) > 1:
        raise BadData(f"{_several(found)}; say which by its id.")
    return found[0]


def _several(found: list[dict[str, Any]]) -> str:
    ids = ", ".join(str(row["id"]) for row in found)
    return f"{len(found)} receipts have the key {found[0]['key'].hex()[:SHORT]}, so they make the same words: {ids}"


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A receipt's row as a list has it; receipts come from outside, and may lack anything."""
    receipt = row["receipt"]
    code = receipt.get("code")
    told = {name: row[name] for name in ("id", "key")} | {"first_used": row["created"]}
    told |= {name: receipt.get(name) for name in ("engine", "who", "why", "image")}
    told |= {"model": _model(receipt), "code": code.get("digest") if isinstance(code, Mapping) else code}
    return told | {name: row[name] for name in ("current", "transcripts", "first", "last") if name in row}


def _model(receipt: Mapping[str, Any]) -> Any:
    """The names of the models that hear; what the receipt says plainly where it has none."""
    models = receipt.get("models")
    named = [one for one in models if isinstance(one, Mapping)] if isinstance(models, list) else []
    heard = [str(one.get("name")) for one in named if one.get("kind") == "asr"]
    options = receipt.get("options")
    chosen = options.get("model") if isinstance(options, Mapping) else None
    return ", ".join(heard) or receipt.get("model") or chosen


def _ordered(receipt: Mapping[str, Any]) -> dict[str, Any]:
    """Who and what first, then what is long; PostgreSQL keeps the names of an object in an order of its own."""
    order = ("engine", "who", "why", "image", "code", "options", "models", "aligners", "libraries")
    first = {name: receipt[name] for name in order if name in receipt}
    return {
        name: dict(sorted(value.items())) if isinstance(value, dict) else value
        for name, value in (first | dict(receipt)).items()
    }


def _whole(row: Mapping[str, Any]) -> dict[str, Any]:
    """A receipt to be held against another, its key with it."""
    return {"key": row["key"].hex(), **_ordered(row["receipt"])}


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, dict) else value


def _short(value: Any) -> str:
    said = plain_text(value).removeprefix("sha256:")
    return said[:SHORT]
