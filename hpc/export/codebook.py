"""What explains a snapshot to its reader: the meaning of every column, and how to cite it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from hpc.export.about import missing
from hpc.export.columns import COLUMNS, LASTING, NESTED, VERSION, Field

_INTRODUCTION = """\
# Codebook of the snapshot {name}

One row a recording, under `data/SITE/DATE`, in the order of `id`; columns version {version}. Every recording that was
chosen is a row, also one without speech and one that could not be transcribed: a count is a count. What was chosen, out
of how many, and what was missing is told for every day in `manifest.json`.

All columns are frozen: a later transcript, flag or failure of the same recording changes nothing here.
"""
_FLAT = """
## In CSV

UTF-8, a line of names first, without {nested}. Empty is null or an empty text: `state` tells which. Lists are separated
by spaces, a quality flag is written `flag=value`. A cell that begins with `=`, `+`, `-`, `@`, a tab, a line end or an
apostrophe has an apostrophe in front, so that no spreadsheet runs it: drop one leading apostrophe to have the text.
JSON lines have all columns, and nothing in front of anything.
"""
_REST = """
## What is not here

What the platform says of a recording comes later than the transcript, and changes: {outside}. `dayscribe export` has it
as it is now; join it by `site`, `date` and `meta_id`. Who ran the pipeline, and why, is not in `receipts.json`.
"""


def codebook(name: str) -> str:
    """Markdown, made of the columns themselves."""
    outside = ", ".join(f"`{column.name}`" for column in COLUMNS if not column.lasting)
    nested = " and ".join(f"`{column}`" for column in NESTED)
    return "".join(
        (
            _INTRODUCTION.format(name=name, version=VERSION),
            *_table("Columns", LASTING),
            _FLAT.format(nested=nested),
            _REST.format(outside=outside),
        )
    )


def _table(title: str, columns: Sequence[Field]) -> Iterator[str]:
    """The table of these columns, and then one for each that has fields of its own."""
    yield f"\n## {title}\n\n| name | type | unit | meaning |\n| --- | --- | --- | --- |\n"
    for column in columns:
        kind = "list, see below" if column.parts else column.kind
        yield f"| `{column.name}` | {kind} | {column.unit} | {column.meaning} |\n"
    for column in columns:
        if column.parts:
            yield from _table(f"Each of `{column.name}`", column.parts)


def citation(name: str, frozen: date, facts: Mapping[str, Any], manifest: str) -> str:
    """How to cite the snapshot; names of people are for its readers to add."""
    days, totals = facts["days"], facts["totals"]
    kept, counts = totals["kept"], totals["denominator"]
    sites = ", ".join(sorted({about["site"] for about in days})) or "no site"
    dates = sorted(about["date"] for about in days)
    span = f"{dates[0]} to {dates[-1]}" if len(set(dates)) > 1 else "".join(dates[:1])
    size = f"{_count(totals['days'], 'day')}, {_count(kept['recordings'], 'recording')}"
    unfinished = sum(about["partial"] for about in days)
    return (
        f"{name}\n\n"
        f"Machine transcripts of {sites}, {span}: {size}.\n"
        f"Kept: {kept['recordings']} of {counts['recordings']} recordings; {kept['transcribed']} transcribed,"
        f" {kept['no_speech']} without speech, {kept['quarantined']} quarantined.\n"
        f"Missing on these days: {missing(counts)}; {unfinished} of them unfinished when it was frozen.\n"
        f"Frozen on {frozen.isoformat()} (UTC) by {facts['tool']}.\n\n"
        "Cite as (with the names of those who collected it in front):\n\n"
        f"    {name} [data set]. Machine transcripts of {sites}, {span} ({size}).\n"
        f"    Frozen on {frozen.isoformat()}, {facts['tool']}.\n"
        f"    sha256 of manifest.json: {manifest}\n"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
