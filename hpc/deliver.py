"""A day to a target outside: packed here, sent, looked at there by other means, and then its manifest, last of all.

Whoever sees the manifest sees all files whole. Every step may be the last one of its process: the same call goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from uuid import UUID

from db import days, deliveries, faults
from db.days import Day
from db.deliveries import Delivery, Stamp, Ticket
from db.errors import DayscribeError, LeaseLost, LedgerAway, TryAgain
from db.session import Session
from hpc.errors import BadSetting, InFlight, Interrupted, NoAnswer, NotVerified
from hpc.export import UnfinishedDay
from hpc.packing import Bars, Packing, alone
from hpc.parcel import Packed, Parcel, Slip, Target
from hpc.ports import Sender
from hpc.stages.slot_audio import LeftOut, Studio

PULSE_SECONDS = 60.0  # between the signs of life that others see in the ledger
NAMED = 5  # files in a sentence


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for."""

    target: Target
    parts: bool = True
    audio: bool = False
    partial: bool = False
    again: bool = False


@dataclass(frozen=True, slots=True)
class Hands:
    """What a delivery works with."""

    session: Session
    owner: str
    folder: Path  # home/deliveries
    results: Path
    kbit: int
    studio: Callable[[], AbstractContextManager[Studio]]
    sender: Callable[[Target, str, Callable[[], bool]], Sender]  # target, our folder below `folder`, whether to stop
    bars: Bars
    stop: Callable[[], bool]
    by_job: bool = False
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True)
class Delivered:
    """What became of one day."""

    day: Day
    target: str
    state: str  # verified, there already, would send, wanted, on its way
    files: int = 0
    bytes: int = 0
    message: str = ""
    left_out: tuple[LeftOut, ...] = field(default=())


def deliver_day(hands: Hands, day: Day, wish: Wish) -> Delivered:
    """Bring the day to the target, verified; nothing is done if it is there already."""
    day, stamp = refuse_unfinished(hands.session, day, wish)
    known = hands.session(deliveries.get, day.id, str(wish.target))
    if (there := already(known, stamp, wish, day)) is not None:
        return there
    refuse_neighbours(hands.session, day, wish)
    if known is not None and known.stamp == stamp.digest:  # the manifest goes on telling of what is there
        wish = replace(wish, parts=wish.parts or known.sent_parts, audio=wish.audio or known.sent_audio)
    with alone(hands.folder / day.site / day.date.isoformat()):
        ticket = hands.session(
            deliveries.begin, day.id, str(wish.target), stamp, parts=wish.parts, audio=wish.audio, partial=wish.partial,
            owner=hands.owner, by_job=hands.by_job,
        )  # fmt: skip
        faults.point("deliver.begun")
        try:
            return _Delivery(hands, day, wish, stamp, ticket).run()
        except (InFlight, LeaseLost, NoAnswer):  # a mover may have it: the same submission is asked about again
            raise
        except Interrupted:
            hands.session(deliveries.put_back, ticket)
            raise
        except (DayscribeError, OSError) as error:
            with suppress(LedgerAway):
                hands.session(deliveries.failed, ticket, str(error), actor=hands.owner, day_id=day.id)
            raise


def refuse_unfinished(session: Session, day: Day, wish: Wish) -> tuple[Day, Stamp]:
    """The day and its stamp as they are now; an unfinished day only goes when somebody said so."""
    now, stamp = session(days.by_id, day.id), session(deliveries.stamp, day.id)
    if not stamp.finished and not wish.partial:
        raise UnfinishedDay(
            f"{now.site} {now.date} is {now.state}, not finished; deliver it later, or with --partial what there is"
        )
    return now, stamp


def refuse_neighbours(session: Session, day: Day, wish: Wish) -> None:
    """Audio lies by date and slot alone: two sites need two folders."""
    if wish.audio and (others := session(deliveries.neighbours, day.id, str(wish.target))):
        raise BadSetting(
            f"The audio of {others[0]} for {day.date} lies in the same folders of {wish.target}: give each site its"
            " own, with {site} in the target."
        )


def already(known: Delivery | None, stamp: Stamp, wish: Wish, day: Day) -> Delivered | None:
    """What to say of a day that is there already, whole; None: it has to be sent."""
    if wish.again or known is None or not known.holds(stamp, parts=wish.parts, audio=wish.audio):
        return None
    when = "" if known.verified is None else f" since {known.verified:%Y-%m-%d %H:%M}"
    return Delivered(
        day, known.target, "there already", known.files or 0, known.bytes or 0, f"verified{when}; --again sends it anew"
    )


def deliver_wanted(hands: Hands, tell: Callable[[str], None]) -> dict[str, int]:
    """All that is wanted of this user, in a job. What fails is told of, in the ledger too, and the rest goes on."""
    counts = {"delivered": 0, "on_their_way": 0, "failed": 0}
    for wanted in hands.session(deliveries.due, hands.owner):
        about = f"{wanted.site} {wanted.date} to {wanted.target}"
        if hands.stop():
            raise Interrupted
        try:
            made = _twice(hands, wanted)
        except (InFlight, NoAnswer) as error:
            counts["on_their_way"] += 1
            tell(f"{about}: {error}")
        except (Interrupted, LedgerAway):
            raise
        except (DayscribeError, OSError) as error:
            counts["failed"] += 1
            hands.session(deliveries.refused, wanted.id, str(error))
            tell(f"{about}: {error}")
        else:
            counts["delivered"] += 1
            tell(f"{about}: {made.state}, {made.message}")
    return counts


def _twice(hands: Hands, wanted: Delivery) -> Delivered:
    """A connection that breaks off once is no reason to leave a day to a person."""
    wish = Wish(Target.parse(wanted.target, site=wanted.site), wanted.parts, wanted.audio, wanted.partial, wanted.again)
    day = hands.session(days.by_id, wanted.day_id)
    try:
        return deliver_day(hands, day, wish)
    except (InFlight, Interrupted, LedgerAway, UnfinishedDay):
        raise
    except TryAgain:
        return deliver_day(hands, day, wish)


@dataclass(slots=True)
class _Delivery:
    """One attempt."""

    hands: Hands
    day: Day
    wish: Wish
    stamp: Stamp
    ticket: Ticket
    _told: float = float("-inf")

    def run(self) -> Delivered:
        hands, day = self.hands, self.day
        folder = hands.folder / day.site / day.date.isoformat()
        packing = Packing(
            hands.session, day, self.stamp, folder, hands.results, hands.studio, hands.bars, self._stop, hands.kbit
        )
        packing.tree.mkdir(parents=True, exist_ok=True)
        sender = hands.sender(self.wish.target, str(packing.tree.relative_to(hands.folder)), self._stop)
        sender.differing(packing.tree, ())  # a target that lets nobody in says so before hours of work
        parcel = packing.pack(parts=self.wish.parts, audio=self.wish.audio, partial=self.wish.partial)
        message = self._send(sender, parcel)
        count = len(parcel.files) + 1
        hands.session(
            deliveries.verified, self.ticket, files=count, size=parcel.bytes, message=message, actor=hands.owner,
            day_id=day.id,
        )  # fmt: skip
        faults.point("deliver.closed")
        left = tuple(packing.left_out)
        return Delivered(day, str(self.wish.target), "verified", count, parcel.bytes, message, left)

    def _send(self, sender: Sender, parcel: Parcel) -> str:
        """All files, looked at; then the manifest. Says how it was verified."""
        amiss: Sequence[str] = sender.differing(parcel.root, parcel.files) if self.wish.again else ()
        sender.withdraw(parcel.root, parcel.manifest)
        faults.point("deliver.withdrawn")
        slip = self._slip()
        label = f"{self.day.site} {self.day.date} → {self.wish.target}"
        with self.hands.bars(label, parcel.bytes, "bytes") as bar:
            sender.send(parcel.root, parcel.files, slip, bar.advance)
            faults.point("deliver.files_sent")
            self._insist(sender, parcel.root, parcel.files, slip)
            faults.point("deliver.files_verified")
            slip.step = "manifest"
            sender.send(parcel.root, [parcel.manifest], slip, bar.advance)
            faults.point("deliver.manifest_sent")
            self._insist(sender, parcel.root, [parcel.manifest], slip)
        there = sender.confirm(parcel.manifest)
        if there:
            raise NotVerified(f"The target's own sha256sum finds amiss at {self.wish.target}: {_some(there)}")
        found = (
            f"{len(amiss)} of {len(parcel.files)} files were missing or amiss there: {_some(amiss)}; " if amiss else ""
        )
        return found + ("verified there, by sha256sum too" if there is not None else "verified there")

    def _insist(self, sender: Sender, root: Path, files: Sequence[Packed], slip: Slip) -> None:
        """Look at what is there; what is not whole is sent once more, and then named."""
        left = set(sender.differing(root, files))
        if left:
            sender.send(root, [file for file in files if file.path in left], slip, lambda _count: None)
            left = set(sender.differing(root, files))
        if left:
            raise NotVerified(
                f"{len(left)} of {len(files)} files are not whole at {self.wish.target}, though they were sent twice:"
                f" {_some(sorted(left))}; run the same command again."
            )

    def _slip(self) -> Slip:
        """With what a mover was asked for by an earlier attempt, if it is still the same day."""
        session, ticket = self.hands.session, self.ticket
        known = session(deliveries.get, self.day.id, str(self.wish.target))
        going = known if known is not None and known.step == "files" and known.attempt == ticket.attempt else None
        return Slip(
            "files", f"dayscribe {self.day.site} {self.day.date}",
            None if going is None else going.submission_id, None if going is None else going.task_id,
            self._note, partial(session, deliveries.polled, ticket),
        )  # fmt: skip

    def _note(self, step: str, submission: UUID | None, task: UUID | None) -> None:
        self.hands.session(deliveries.noted, self.ticket, step, submission, task)

    def _stop(self) -> bool:
        """Asked often, and from where long work is done: a good place to show that we live."""
        now = self.hands.clock()
        if now - self._told >= PULSE_SECONDS:
            self._told = now
            with suppress(DayscribeError):
                self.hands.session(deliveries.polled, self.ticket)
        return self.hands.stop()


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
