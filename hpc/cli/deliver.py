"""`dayscribe deliver`: days to a folder, another host or a Globus collection, verified."""

from __future__ import annotations

import getpass
from collections import Counter
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import click

from hpc.cli.display import Column
from hpc.cli.options import App, answering, chosen_site, days_options, site_option

if TYPE_CHECKING:
    from db.days import Day
    from db.session import Session
    from hpc.deliver import Delivered, Wish
    from hpc.packing import Bars

NAMED = 5  # recordings without audio that are named; the JSON names all


@click.command()
@days_options()
@site_option
@click.option(
    "--target", "to", metavar="TARGET", help="ssh://USER@HOST[:PORT]/FOLDER, globus://COLLECTION/FOLDER or a folder."
)
@click.option("--parts/--no-parts", default=True, show_default=True, help="The workers' result files, too.")
@click.option("--audio", is_flag=True, help="The recordings as Opus, a tar a slot, too.")
@click.option("--partial", is_flag=True, help="Unfinished days too, as they are now.")
@click.option("--again", is_flag=True, help="Look at and send what is there already, too.")
@click.option("--slurm", is_flag=True, help="Write the wish down and leave: a job on a CPU node does it.")
@click.option("--dry-run", is_flag=True, help="Say what would be sent; change nothing.")
@answering
def command(
    app: App, /, days: tuple[date, ...], *, site: str | None, to: str | None, slurm: bool, dry_run: bool, **asked: bool
) -> None:
    """Send days to another place, verified.

    DAYS is one day, or FIRST..LAST; TARGET may hold {site}, and is the setting deliver.to when it is left out. At the
    target lie transcripts/, parts/ and audio/, and manifests/SITE/DATE.sha256, which is written last. A day that is
    there already is not sent again. A day that is not finished is refused with exit code 75.
    """
    from db.errors import DayscribeError
    from hpc import login_nodes, wiring
    from hpc.cli.stopping import stop_on_signal
    from hpc.deliver import Wish, deliver_day
    from hpc.errors import BadSetting
    from hpc.wiring import deliveries

    with wiring.session(app.settings, application="dayscribe-deliver") as session:
        name = chosen_site(session, site).name
        wish = Wish(deliveries.target(app.settings, to, name), **asked)
        wanted = _wanted(session, name, days, wish)
        if slurm and not app.settings.schedule.ledger_on_nodes:
            raise BadSetting(
                "Jobs reach no ledger here (schedule.ledger_on_nodes), and this one has to: leave --slurm out."
            )
        if dry_run or slurm:
            done = [_asked(session, day, wish, slurm=slurm and not dry_run) for day in wanted]
            show(app, done)
            return
        if wish.audio:
            login_nodes.refuse(app.settings.login_nodes, "making audio")
        done = []
        with stop_on_signal(app.display.say) as stop:
            hands = deliveries.hands(app.settings, session, bars=bars_of(app), stop=stop)
            try:
                done.extend(deliver_day(hands, day, wish) for day in wanted)
            except DayscribeError:
                show(app, done) if done and not app.as_json else None
                raise
        show(app, done)


def bars_of(app: App) -> Bars:
    """Progress as those who pack and send want it."""
    return lambda label, total, unit: app.display.progress(label, total=total, unit=unit)


def _wanted(session: Session, site: str, dates: Sequence[date], wish: Wish) -> list[Day]:
    """The days, all of them looked at before the first is sent."""
    from db import days
    from hpc.deliver import refuse_neighbours, refuse_unfinished

    found = [session(days.get, site, on) for on in dates]
    for day in found:
        refuse_unfinished(session, day, wish)
        refuse_neighbours(session, day, wish)
    return found


def _asked(session: Session, day: Day, wish: Wish, *, slurm: bool) -> Delivered:
    """What would be sent; with `slurm` the wish is written down for a job."""
    from db import deliveries
    from hpc.deliver import Delivered, already

    target = str(wish.target)
    stamp = session(deliveries.stamp, day.id)
    if (there := already(session(deliveries.get, day.id, target), stamp, wish, day)) is not None:
        return there
    rows = session(deliveries.parts_of, day.id) if wish.parts else []
    slots = {row["slot"] for row in session(deliveries.shards_of, day.id)} if wish.audio else set()
    what = f"the Parquet, {len(rows)} parts, {len(slots)} slots of audio"
    if slurm:
        session(
            deliveries.want, day.id, target, parts=wish.parts, audio=wish.audio, partial=wish.partial, again=wish.again,
            owner=getpass.getuser(),
        )  # fmt: skip
    state, then = ("wanted", "; a job does it") if slurm else ("would send", "")
    return Delivered(day, target, state, 2 + len(rows) + len(slots), sum(row["size"] for row in rows), what + then)


def show(app: App, done: Sequence[Delivered]) -> None:
    """A line a day and target."""
    rows = []
    for one in done:
        left = [
            {
                "shard": out.shard_id,
                "ordinal": out.ordinal,
                "meta_id": out.meta_id,
                "why": out.why,
                "expected": out.expected,
            }
            for out in one.left_out
        ]
        row = {"site": one.day.site, "date": one.day.date, "state": one.state, "files": one.files, "bytes": one.bytes}
        rows.append(row | {"target": one.target, "message": one.message, "without_audio": left})
        if left and not app.as_json:
            _name(app, one, left)
    counts = [Column(key, right=True) for key in ("files", "bytes")]
    app.display.table(rows, [Column("date"), Column("state"), *counts, Column("target"), Column("message")])


def _name(app: App, one: Delivered, left: Sequence[dict[str, Any]]) -> None:
    """Recordings without audio are named, those first of which nobody knew."""
    left = sorted(left, key=lambda out: bool(out["expected"]))
    for out in left[:NAMED]:
        known = "quarantined" if out["expected"] else "NOT DECODED NOW"
        app.display.warn(f"{one.day.site} {one.day.date}: no audio of {out['meta_id']} ({known}; {out['why']})")
    if len(left) > NAMED:
        counts = Counter(out["expected"] for out in left)
        say = f"{counts[True]} quarantined, {counts[False]} not decoded now; --json names all"
        app.display.warn(f"{len(left)} recordings have no audio: {say}")
