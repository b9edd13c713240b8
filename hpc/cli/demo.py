"""`dayscribe demo`: a synthetic day, transcribed for real on this machine, and held against what was said."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import click

from hpc.cli.display import clock
from hpc.cli.options import App, answering

SITE = "demo"
DATE = date(2025, 1, 31)
SEED = 7
# The demo's profile: our own small model, and leases that lapse soon, so that a killed demo need not wait long.
PROFILE = (
    "engine.language=en",
    "engine.chunk_size=8",
    "engine.device=cpu",
    "worker.lease_seconds=15",
    "worker.held_recordings=64",
    "worker.part_seconds=10",
    "serve.audio=yes",  # nobody's voice: it is synthetic
    "worker.max_attempts=100",  # it may be killed as often as anyone likes
)


@click.command()
@click.option("--slots", type=click.IntRange(1, 144), default=6, show_default=True, help="Archives of the day.")
@click.option("--clips", type=click.IntRange(1, 5000), default=30, show_default=True, help="Clips in an archive.")
@click.option("--serve/--no-serve", default=True, help="Leave the API running at the end, or not.")
@click.option("--stop", is_flag=True, help="Stop the demo's API and PostgreSQL.")
@answering
def command(app: App, /, *, slots: int, clips: int, serve: bool, stop: bool) -> None:
    """Make a synthetic day and transcribe it here.

    PostgreSQL is started, a day of speech is made (some of it broken on purpose), WhisperX transcribes it on the CPU
    with dayscribe's own small model, and a table says how well. A second time nothing is done twice. The exit code is 0
    when exactly the planted recordings are quarantined.
    """
    from hpc.cli.background import start_api, stop_api
    from hpc.errors import QuarantinedRecordings

    app = _profiled(app)
    if stop:
        from hpc import wiring

        stop_api(app)
        wiring.embedded(app.settings).stop()
        return
    folder = app.settings.home / "day"
    truth = _make_day(app, folder, slots, clips)
    tally, rows, seconds = _transcribe(app, truth.location)
    report = _report(app, truth, tally, rows, seconds)
    if serve:
        report["api"] = start_api(app)
    _show(app, report)
    if report["unexpected"]:
        raise QuarantinedRecordings(f"{report['unexpected']} recordings did not end as they were meant to")


def _profiled(app: App) -> App:
    """The same App with the demo's settings below whatever the command line says."""
    shipped = Path(__file__).resolve().parents[2] / "models" / "demo"
    profile = (*PROFILE, f"engine.model={shipped / 'asr.en'}", f"engine.aligner={shipped / 'aligner'}")
    return replace(app, assignments=(*profile, *app.assignments))


def _make_day(app: App, folder: Path, slots: int, clips: int) -> Any:
    from hpc.demo.day import make_day
    from hpc.demo.trouble import Trouble

    with app.display.progress("speaking the day", total=slots * clips, unit="clips") as bar:
        return make_day(
            folder,
            site=SITE,
            date=DATE,
            slots=slots,
            clips=clips,
            seed=SEED,
            trouble=Trouble.default(),
            progress=bar.advance,
        )


def _transcribe(app: App, location: str) -> tuple[dict[str, Any], list[dict[str, Any]], float | None]:
    """The day's tally and its recordings, and how long this run took if it did anything."""
    from db import days, sites, transcripts
    from hpc import wiring
    from hpc.cli.work_here import work_until_done

    app.display.say("starting PostgreSQL, then WhisperX (some seconds) …")
    with wiring.session(app.settings, application="dayscribe-demo") as session:
        site = session(sites.put, SITE, location=location)
        day = wiring.register(app.settings, session, site, DATE).day
        seconds = None
        if days.is_finished(day):
            app.display.say("the day is finished already: nothing is done twice")
        else:
            seconds = work_until_done(app, session, why="demo", day=day).seconds
        return session(days.tally, day.id), list(transcripts.of_day(session.connection(), day.id)), seconds


def _report(
    app: App, truth: Any, tally: dict[str, Any], rows: list[dict[str, Any]], seconds: float | None
) -> dict[str, Any]:
    from hpc.demo.score import score

    scored = score(truth, rows)
    audio = tally["audio_seconds"]
    return {
        "model": "dayscribe's demonstration model (65 words; not large-v3)",
        "day": f"{SITE} {DATE}",
        "shards": tally["shards"],
        "transcribed": tally["transcribed"],
        "no_speech": tally["no_speech"],
        "quarantined": tally["quarantined"],
        "failures": tally["failures"],
        "failed": tally["failed"],
        "unexpected": scored.unexpected,
        "word_error_rate": scored.word_error_rate,
        "words": scored.words,
        "exactly_right": scored.exactly_right,
        "median_word_start_error_ms": scored.median_start_error_ms,
        "audio_seconds": audio,
        "took_seconds": seconds,
        "engine_x_real_time": audio / tally["engine_seconds"] if tally["engine_seconds"] else None,
        "results": str(app.settings.results_folder / SITE / DATE.isoformat()),
    }


def _show(app: App, report: dict[str, Any]) -> None:
    if app.as_json:
        app.display.record(report)
        return
    lines = {
        "model": report["model"],
        "day": f"{report['day']}, {report['shards']} archives, {clock(report['audio_seconds'])} of audio",
        "transcribed": report["transcribed"],
        "no speech": f"{report['no_speech']} (silence, noise, music)",
        "quarantined": f"{report['quarantined']} ({_reasons(report['failures'])})",
        "not as planted": report["unexpected"],
        "word error rate": f"{report['word_error_rate']:.2%} of {report['words']} words",
        "exactly right": f"{report['exactly_right']:.1%} of the spoken clips",
        "word starts": f"median {report['median_word_start_error_ms']:.0f} ms off",
        "speed": _speed(report),
        "results": report["results"],
    }
    if "api" in report:
        lines["dashboard"] = f"{report['api']}/"
        lines["to end it"] = f"{sys.argv[0]} --set home={app.settings.home} demo --stop"
    app.display.record(lines)


def _reasons(failures: list[dict[str, Any]]) -> str:
    return ", ".join(f"{row['recordings']} {row['failure_class']}" for row in failures) or "none"


def _speed(report: dict[str, Any]) -> str:
    engine = f"engine {report['engine_x_real_time']:.1f} x real time" if report["engine_x_real_time"] else ""
    if report["took_seconds"] is None:
        return f"{engine} (nothing was left to do this time)"
    return f"{engine}; this run took {clock(report['took_seconds'])} in all"
