"""`dayscribe bench`: the engine against WhisperX or faster-whisper on one's own clips and one's own machine."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpc.cli.display import Column
from hpc.cli.options import App, answering

if TYPE_CHECKING:
    from hpc.bench.clips import Clips


@click.group()
def command() -> None:
    """Measure, on one's own machine."""


@command.command()
@click.option(
    "--against",
    type=click.Choice(("whisperx", "faster-whisper")),
    default="whisperx",
    show_default=True,
    help="Who hears the same clips.",
)
@click.option(
    "--clips",
    "paths",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    metavar="PATH",
    help="A folder, a file or an archive of audio; may be repeated.",
)
@click.option("--synthetic", type=click.IntRange(2, 100_000), metavar="N", help="N clips of made speech instead.")
@click.option(
    "--rounds",
    type=click.IntRange(1, 20),
    default=1,
    show_default=True,
    help="Each has so many turns; the median counts.",
)
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Write a chart: .html or .png; or .json.")
@click.option("--must-match", is_flag=True, help="Exit code 65 if they do not hear the same.")
@answering
def engine(
    app: App, /, *, against: str, paths: tuple[Path, ...], synthetic: int | None, rounds: int, out: Path | None,
    must_match: bool,
) -> None:  # fmt: skip
    """Hold the engine against another, on the same clips.

    Model and options are the settings' (--set engine.model=…), the same for both. Clips are decoded once, in nobody's
    time; then each hears them in a process of its own, after a clip to warm up. WhisperX runs unmodified, file after
    file, with its command line's batch size and threads, and every word and time is compared; faster-whisper with its
    own voice detector and defaults, without word times on either side.
    """
    from db.errors import BadData
    from hpc import login_nodes, registry, wiring
    from hpc.bench import report, words
    from hpc.bench.contest import Contest
    from hpc.errors import BadSetting

    if bool(paths) == (synthetic is not None):
        raise click.UsageError("Say what to hear: --clips PATH or --synthetic N.", click.get_current_context())
    if must_match and against != "whisperx":
        raise BadSetting(f"--must-match: {against} finds speech in another way, so nobody expects the same of it.")
    if out is not None:
        report.check(out)
    login_nodes.refuse(app.settings.login_nodes, "a measurement")
    options, _ = wiring.engine_options(app.settings)
    if not options.model_path:
        raise BadSetting(f"engine.name is {app.settings.engine.name!r}, which hears nothing; measure whisperx.")
    clips = _clips(app, paths, synthetic, options.chunk_size)
    room = wiring.room(app.settings)
    contest = Contest(
        registry.target("engines", app.settings.engine.name), options, against, (room.recordings, room.seconds), rounds
    )
    told = contest.run(clips, command=shlex.join(("dayscribe", *sys.argv[1:])), steps=_steps(app))
    if out is not None:
        report.write(told, out)
    show(app, told)
    if must_match and not told["identity"]["identical"]:
        raise BadData(words.verdict(told))


def show(app: App, told: dict[str, Any]) -> None:
    """The measures side by side, the stages, and the verdict."""
    from hpc.bench import words

    if app.as_json:
        app.display.record(told)
        return
    app.display.record(words.about(told))
    app.display.text("\n")
    peer = told["against"]
    columns = [Column("measure"), *(Column(name, name, right=True) for name in ("dayscribe", peer, "ratio"))]
    app.display.table(words.rows(told), columns)
    app.display.text("\n")
    app.display.text(words.verdict(told) + "\n")
    if told["identity"]["first"]:
        app.display.table(
            told["identity"]["first"],
            [Column("recording"), Column("differs_in"), Column("ours", "dayscribe"), Column("theirs", peer)],
        )


def _clips(app: App, paths: tuple[Path, ...], synthetic: int | None, chunk_size: int) -> Clips:
    from hpc.bench import clips

    if synthetic is not None:
        app.display.say(f"Making {synthetic} clips of speech …")
        return clips.synthetic(synthetic, chunk_size=chunk_size)
    app.display.say("Decoding the clips; this is in nobody's time …")
    found = clips.decoded(paths, children=len(os.sched_getaffinity(0)))
    for one in found.left_out:
        app.display.say(f"Left out: {one}")
    return found


def _steps(app: App) -> Any:
    @contextmanager
    def steps(name: str, count: int) -> Iterator[Callable[[], None]]:
        with app.display.progress(name, total=count, unit="clips") as bar:
            yield bar.advance

    return steps
