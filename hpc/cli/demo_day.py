"""`dayscribe demo-day`: a synthetic day of audio with known words, for trying things out and for tests."""

from __future__ import annotations

from collections import Counter
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpc.cli.display import clock
from hpc.cli.options import DAY, App, answering

if TYPE_CHECKING:
    from hpc.demo.truth import DayTruth


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--site", default="demo", show_default=True, metavar="NAME", help="The site's name.")
@click.option("--date", "on", type=DAY, default="2025-01-31", show_default=True, help="The day to make.")
@click.option("--slots", type=int, default=6, show_default=True, help="Archives of the day.")
@click.option("--clips", type=int, default=30, show_default=True, help="Clips in an archive.")
@click.option("--seed", type=int, default=7, show_default=True, help="Another seed says other words.")
@click.option("--trouble", default="default", show_default=True, metavar="NAMES", help="What to plant; see above.")
@answering
def command(app: App, /, *, folder: Path, site: str, on: date, slots: int, clips: int, seed: int, trouble: str) -> None:
    """Make a synthetic day of audio in FOLDER.

    Archives of spoken clips, their Parquet companions, and beside them, in FOLDER/truth, what is said in each. The same
    options give the same bytes; a command that was killed goes on where it stopped.

    --trouble is default, none, all, or names with commas between them:

    \b
      missing-slot     one more slot, of which there is nothing
      zero-bytes html truncated one-hertz playlist garbage
                       one clip each is none
      duplicate        a member stands in its archive twice
      hostile-names    good clips under ../, / and bytes that are no text
      plain-tar        an archive is not compressed, whatever its name says
      late-parquet     the companions of one archive wait in FOLDER/late
      flipped-bit      an archive has one wrong bit
      cut-archive      an archive ends between two members

    The truth is written beside the day, in FOLDER/truth.
    """
    from hpc.demo.day import make_day
    from hpc.demo.trouble import Trouble

    wanted = Trouble.named(trouble)
    with app.display.progress("speaking the day", total=slots * clips, unit="clips") as bar:
        day = make_day(
            folder,
            site=site,
            date=on,
            slots=slots,
            clips=clips,
            seed=seed,
            trouble=wanted,
            progress=bar.advance,
        )
    app.display.record(_report(day) if app.as_json else _spoken(day))


def _report(day: DayTruth) -> dict[str, object]:
    return {
        "day": f"{day.site} {day.date}",
        "audio": day.audio,
        "location": day.location,
        "truth": day.truth,
        "archives": len(day.archives),
        "clips": len(day.clips),
        "seconds": round(sum(clip.seconds for clip in day.clips), 1),
        "missing": day.missing,
        "misnamed": day.misnamed,
        "damaged": day.damaged,
        "late": day.late,
        "broken": [f"{clip.shard}: {clip.member} ({clip.failure})" for clip in day.clips if clip.failure],
    }


def _spoken(day: DayTruth) -> dict[str, object]:
    """The report for a person: no empty lists, and broken clips only counted."""
    broken = Counter(clip.failure for clip in day.clips if clip.failure)
    told = _report(day) | {
        "seconds": clock(sum(clip.seconds for clip in day.clips)),
        "broken": [f"{count} {failure}" for failure, count in sorted(broken.items())],
    }
    return {name.replace("seconds", "length"): value for name, value in told.items() if value not in ((), [])}
