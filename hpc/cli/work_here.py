"""What the commands that work here share: a worker in this process, with a progress bar and a stop on signals."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from db import days, shards
from db.errors import BadData, LedgerAway
from db.session import Session, patiently
from hpc.cli.display import Progress
from hpc.cli.options import App
from hpc.cli.stopping import stop_on_signal
from hpc.errors import Interrupted
from hpc.feeds.ledger.desk import Desk, of_days
from hpc.stages.publish import folder_of
from hpc.stages.record import Recorder, Tally

WAIT_STEP = 0.5  # seconds between looks at somebody else's lease
SOON = 0.05  # seconds before another claim: a shard may be due, and its row in the hands of a frozen worker


@dataclass(frozen=True, slots=True)
class Worked:
    """What a worker did, and how long it took."""

    tally: Tally
    seconds: float


@dataclass(frozen=True, slots=True)
class Piece:
    """What is worked until none of it is open: a day, or a plan."""

    label: str
    shards: int  # open now
    desk: Desk
    folders: Sequence[Path]  # of its parts: what earlier workers could not record is there
    next_lapse: Callable[..., float | None]
    halted: Callable[[], str | None]  # why nothing of it is worked for now


def work_until_done(app: App, session: Session, *, why: str, day: days.Day | None) -> Worked:
    """Work shards (of one day, or of any) until none is open; Interrupted after a stop on request."""
    return work_piece(app, session, why=why, piece=None if day is None else _day(app, session, day))


def work_piece(
    app: App, session: Session, *, why: str, piece: Piece | None, text: Mapping[str, Any] | None = None
) -> Worked:
    """Work a piece, or whatever is open, until none is open; Interrupted after a stop on request. `text`: only words
    are timed anew, of that run's texts."""
    began = time.monotonic()
    label, total = ("working", None) if piece is None else (piece.label, piece.shards)
    with (
        stop_on_signal(app.display.say) as stop,
        app.display.progress(label, total=total, unit="shards") as bar,
    ):
        from hpc import wiring
        from hpc.pipeline import work

        if piece is not None:
            _take_what_waits(app, session, piece.folders)
        desk = of_days() if piece is None else piece.desk
        with wiring.worker(app.settings, session, why=why, stop=stop, desk=desk, text=text) as tools:
            while True:
                tally = work(tools, stop=stop, notice=lambda tally: _tell(bar, tally))
                if stop() or not _wait(app, session, bar, piece, stop):
                    break
            _record_the_rest(app, tools.recorder, stop)
        if stop():
            raise Interrupted
    return Worked(tally, time.monotonic() - began)


def judge_piece(app: App, session: Session, plan_id: int, piece: Piece) -> float:
    """Judge a plan's recordings anew until none is left; how many seconds that took. Interrupted after a stop."""
    from hpc.triage import enrich

    began, done = time.monotonic(), 0
    with (
        stop_on_signal(app.display.say) as stop,
        app.display.progress(piece.label, total=piece.shards, unit="shards") as bar,
    ):

        def advance() -> None:
            nonlocal done
            done += 1
            bar.update(done=done)

        while True:
            enrich(session, plan_id, stop=stop, advance=advance)
            if stop() or not _wait(app, session, bar, piece, stop):
                break
        if stop():
            raise Interrupted
    return time.monotonic() - began


def _day(app: App, session: Session, day: days.Day) -> Piece:
    def halted() -> str | None:
        if session(days.by_id, day.id).state != "held":
            return None
        return f"{day.site} {day.date} is held: nothing of it is worked until `dayscribe days release`"

    return Piece(
        label=f"{day.site} {day.date}",
        shards=session(days.tally, day.id)["open_shards"],
        desk=of_days(day.id),
        folders=[folder_of(app.settings.results_folder, day.site, day.date)],
        next_lapse=partial(shards.next_lapse, day_id=day.id),
        halted=halted,
    )


def _take_what_waits(app: App, session: Session, folders: Sequence[Path]) -> None:
    """Record what earlier workers published and could not record before they ended: it need not be made again."""
    from hpc.stages.ingest import ingest, waiting

    for path in session(lambda connection: list(waiting(connection, folders))):
        try:
            session(ingest, path, actor="run")
        except BadData as error:
            app.display.warn(f"{path}: {error}")


def _record_the_rest(app: App, recorder: Recorder, stop: Callable[[], bool]) -> None:
    try:
        patiently(recorder.flush, seconds=app.settings.worker.database_wait_seconds, stop=stop)
    except LedgerAway as error:
        raise LedgerAway(
            f"{error} {recorder.waiting} parts are safe under {app.settings.results_folder}; when it is back: "
            "dayscribe ingest"
        ) from error


def _wait(app: App, session: Session, bar: Progress, piece: Piece | None, stop: Callable[[], bool]) -> bool:
    """Wait for a shard that another worker holds, or that waits for its retry; False when none is open."""
    told = False
    while piece is not None and not stop():
        if why := piece.halted():
            app.display.say(why)
            return False
        seconds = session(piece.next_lapse)
        if seconds is None:
            return False
        if seconds <= 0:
            time.sleep(SOON)
            return True
        if not told:
            app.display.say(f"an open shard is another worker's, or waits for its retry: up to {seconds:.0f} s")
            told = True
        bar.update(note="waiting")
        time.sleep(min(seconds, WAIT_STEP))
    return False


def _tell(bar: Progress, tally: Tally) -> None:
    done = tally.transcribed + tally.no_speech + tally.quarantined
    bar.update(done=tally.shards + tally.failed_shards, note=f"{done} recordings, {tally.quarantined} quarantined")


def quarantined(tally: dict[str, object]) -> BadData | None:
    """The error that says, in the exit code, that a day ended with exceptions."""
    from hpc.errors import QuarantinedRecordings

    if tally["quarantined"] or tally["failed_shards"]:
        return QuarantinedRecordings(
            f"quarantined recordings: {tally['quarantined']}, failed shards: {tally['failed_shards']}; "
            "see `dayscribe days show`"
        )
    return None
