"""`dayscribe show`: one recording, readable or as a file."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING, Any

import click

from hpc.cli.display import Column, clock
from hpc.cli.options import DAY, App, answering, site_filter

if TYPE_CHECKING:
    from db.session import Session

FORMATS = ("json", "txt", "srt", "vtt", "tsv")  # db.formats.KINDS, without importing it for --help


@click.command()
@click.argument("recording")
@site_filter
@click.option("--date", "day", type=DAY, help="Only a recording of this day.")
@click.option("--format", "kind", type=click.Choice(FORMATS), help="Print the transcript in this format.")
@click.option("--versions", is_flag=True, help="List every transcript the recording ever had.")
@answering
def command(
    app: App, /, recording: str, *, site: str | None, day: date | None, kind: str | None, versions: bool
) -> None:
    """Show a recording: its words, or why it has none.

    RECORDING is an id of the ledger, or the recording's own (its file's name without the suffix).
    """
    from db import formats, reports
    from hpc import wiring

    with wiring.session(app.settings) as session:
        row = _whole(session, recording, site, day)
        every = session(reports.versions, row["id"]) if versions else []
    if kind:
        _refuse_without_words(row)
        app.display.text(formats.render(reports.document(row), kind) + ("\n" if kind == "json" else ""))
    elif versions:
        app.display.table(every, [Column(key) for key in every[0]] if every else [], empty="It has no transcript.")
    elif app.as_json:
        app.display.record(row)
    else:
        _show(app, row)


def _whole(session: Session, which: str, site: str | None, day: date | None) -> dict[str, Any]:
    """The one recording that is meant; an id of the ledger goes before a name that looks like one."""
    from db import reports, transcripts
    from db.errors import BadData

    found = session(transcripts.find, which, site=site, on=day)
    ids = [row["id"] for row in found]
    if len(ids) > 1 and which in map(str, ids):
        ids = [int(which)]
    if len(ids) > 1:
        places = "\n".join(f"  {row['id']}: {row['site']} {row['date']} {row['shard']}" for row in found)
        raise BadData(f"{len(ids)} recordings are called {which!r}; say which by its id:\n{places}")
    row = session(reports.recording, ids[0]) if ids else None
    if row is None:
        where = " ".join(str(part) for part in (site, day) if part) or "the ledger"
        raise BadData(f"{where} has no recording {which!r}; `dayscribe search` finds recordings by their words.")
    return row


def _refuse_without_words(row: Mapping[str, Any]) -> None:
    from db.errors import BadData

    if row["segments"] is None:
        raise BadData(f"Recording {row['id']} has no transcript: {_why(row)}.")


def _why(row: Mapping[str, Any]) -> str:
    if row["failure_class"]:
        return f"{row['state']}, {row['failure_class']}: {row['failure_reason']}"
    return "its shard is not sealed yet" if row["state"] == "provisional" else str(row["state"])


def _show(app: App, row: Mapping[str, Any]) -> None:
    about: dict[str, Any] = {
        "recording": row["id"],
        "own id": row["meta_id"],
        "file": row["name"],
        "of": f"{row['site']} {row['date']} {row['shard']}, number {row['ordinal']}",
        "state": row["state"],
    }
    if row["segments"] is None:
        about["why"] = _why(row)
    if row["seconds"] is not None:
        about["length"] = clock(row["seconds"])
    if row["language"]:
        sure = row["language_probability"]
        about["language"] = row["language"] if sure is None else f"{row['language']} ({100 * sure:.0f} %)"
    if row["chunks"]:
        about["chunks"] = _worst(row)
    if row["flags"]:
        about["flags"] = row["flags"]
    if row["receipt"]:
        about["made by"] = _briefly(row)
    about |= {key.replace("_", " "): value for key, value in (row["metadata"] or {}).items() if value is not None}
    app.display.record(about)
    for segment in row["segments"] or ():
        app.display.passage(f"  {_time(segment['start'])} – {_time(segment['end'])}  {segment['text'].strip()}")


def _briefly(row: Mapping[str, Any]) -> str:
    """The receipt in a line: what is plain in it, and its key."""
    plain = [f"{key} {value}" for key, value in row["receipt"].items() if isinstance(value, str | int | float)]
    return ", ".join([*plain[:6], f"key {row['run_key'].hex()[:12]}, version {row['version']}"])


def _worst(row: Mapping[str, Any]) -> str:
    """How many chunks the model saw, and how far the worst of them can be trusted."""
    told = {
        "log-probability {:.2f}": row["avg_logprob"],
        "no speech {:.2f}": row["no_speech_prob"],
        "compression {:.2f}": row["compression_ratio"],
    }
    known = ", ".join(words.format(value) for words, value in told.items() if value is not None)
    speech = None if row["coverage"] is None else f"speech in {100 * row['coverage']:.0f} % of the recording"
    return "; ".join(filter(None, [str(len(row["chunks"])), known and f"at worst {known}", speech]))


def _time(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02}:{rest:05.2f}" if hours else f"{minutes:2}:{rest:05.2f}"
