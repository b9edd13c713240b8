"""`dayscribe reprocess --stage export`: what was delivered of days is made and sent again where it has changed."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Any

import click

from hpc.cli.options import App

if TYPE_CHECKING:
    from db.deliveries import Delivery
    from db.session import Session
    from hpc.deliver import Delivered, Wish

OF_RECORDINGS = (
    "only",
    "names",
    "limit",
    "force",
    "keep_current",
)  # options that choose recordings, or how each is made


def export_again(app: App, asked: dict[str, Any], *, dry_run: bool, here: bool) -> None:
    """Say which deliveries of these days are behind; then write down that they are wanted, or send them here. The
    ledger knows of each day and target what is there: nothing is left that a plan could choose."""
    from db import deliveries, sites
    from hpc import login_nodes, wiring
    from hpc.errors import BadSetting

    if said := [name for name in OF_RECORDINGS if asked[name]]:
        raise click.UsageError(f"--stage export makes the files of whole days: leave --{said[0].replace('_', '-')} out")
    if not (dry_run or here or app.settings.schedule.ledger_on_nodes):
        raise BadSetting("Jobs reach no ledger here (schedule.ledger_on_nodes), and what delivers has to: add --here.")
    if here and not dry_run:
        login_nodes.refuse(app.settings.login_nodes, "making a day's files")
    with wiring.session(app.settings, application="dayscribe-deliver") as session:
        if asked["site"]:
            session(sites.get, asked["site"])
        where = {"site": asked["site"], "start": asked["first"], "stop": asked["last"]}
        known = session(deliveries.of_days, **where)
        if asked["order"] == "newest":
            known.reverse()
        _tell_of_others(app, session(deliveries.never, **where), known)
        if here and not dry_run:
            _send(app, session, known)
        else:
            _show(app, [_look(session, one, write=not dry_run) for one in known])


def _tell_of_others(app: App, never: int, known: list[Delivery]) -> None:
    from db import plans
    from db.errors import BadData

    if never:
        app.display.say(f"{never} days were never delivered: dayscribe deliver. Files of dayscribe export are not known"
                        " to the ledger: the same command makes them again.")  # fmt: skip
    elif not known:
        raise BadData(plans.NO_DAY)


def _wish(one: Delivery) -> Wish:
    """All that was asked for, or is there."""
    from hpc.deliver import Wish
    from hpc.parcel import Target

    target = Target.parse(one.target, site=one.site)
    return Wish(target, one.parts or one.sent_parts, one.audio or one.sent_audio, one.partial)


def _look(session: Session, one: Delivery, *, write: bool) -> Delivered:
    """What would be sent; `write`: a job is to do it."""
    from db import days, deliveries
    from hpc.deliver import Delivered, already, refuse_unfinished
    from hpc.export import UnfinishedDay

    wish, day = _wish(one), session(days.by_id, one.day_id)
    try:
        day, stamp = refuse_unfinished(session, day, wish)
    except UnfinishedDay as error:
        return Delivered(day, one.target, "waits", message=str(error))
    if (there := already(one, stamp, wish, day)) is not None:
        return there
    if one.state == "sending" and one.stamp == stamp.digest:
        return Delivered(day, one.target, "on its way", message=f"{one.owner} is sending it")
    if write:
        session(
            deliveries.want, day.id, one.target, parts=wish.parts, audio=wish.audio, partial=wish.partial, again=False,
            owner=getpass.getuser(),
        )  # fmt: skip
    what = ", ".join(["the Parquet", *(["parts"] if wish.parts else []), *(["audio"] if wish.audio else [])])
    state, then = ("wanted", "; a job does it") if write else ("would send", "")
    return Delivered(day, one.target, state, message=f"{what}: the ledger has other versions or flags by now{then}")


def _send(app: App, session: Session, known: list[Delivery]) -> None:
    """One after the other; what fails is told of, in the exit code too, and the rest goes on."""
    from db import days
    from db.errors import DayscribeError, LedgerAway
    from hpc.cli.deliver import bars_of
    from hpc.cli.stopping import stop_on_signal
    from hpc.deliver import Delivered, deliver_day
    from hpc.errors import Interrupted
    from hpc.export import UnfinishedDay
    from hpc.wiring import deliveries as wired

    done: list[Delivered] = []
    failed: list[DayscribeError | OSError] = []
    with stop_on_signal(app.display.say) as stop:
        hands = wired.hands(app.settings, session, bars=bars_of(app), stop=stop)
        for one in known:
            day = session(days.by_id, one.day_id)
            try:
                done.append(deliver_day(hands, day, _wish(one)))
            except (Interrupted, LedgerAway):
                raise
            except UnfinishedDay as error:
                done.append(Delivered(day, one.target, "waits", message=str(error)))
            except (DayscribeError, OSError) as error:
                done.append(Delivered(day, one.target, "failed", message=str(error)))
                failed.append(error)
    _show(app, done)
    if failed:
        raise failed[0]


def _show(app: App, done: list[Delivered]) -> None:
    from hpc.cli.deliver import show

    show(app, done)
