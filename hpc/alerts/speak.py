"""One round: look, and say what is news. The intent is written, then it is sent, then that is recorded: killed in
between it is said again, never lost; two at once say it once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from db import alerts, faults
from db.alerts import Facts, Found, Notice
from db.amiss import BY_THE_LEDGER, Kind, Limits, judge
from db.errors import DayscribeError, TryAgain
from db.session import Session
from hpc.alerts import words
from hpc.errors import ChannelRefused, NotSaid
from hpc.message import Message
from hpc.ports import Channel

ANSWERS = 6  # that one message may wait for, each as long as alert.seconds


@dataclass(frozen=True, slots=True)
class Room:
    """Whether what is to come fits: why not, or that it is not known on this machine."""

    known: bool
    lack: Found | None = None


@dataclass(frozen=True, slots=True)
class Speaker:
    """What a round works with."""

    session: Session
    channels: Sequence[Channel]
    limits: Limits
    seconds: float  # that a server may take to answer
    room: Callable[[], Room]

    def round(self) -> tuple[list[Found], dict[str, list[Notice]], list[str]]:
        """What is amiss, what was said of it by each way, and what of that did not reach everybody."""
        room = self.room()
        found = self.session(alerts.look, self._judge(room), judged=_judged(room), lapsed=self.limits.lapsed)
        told: dict[str, list[Notice]] = {}
        complaints: list[str] = []
        troubles: list[DayscribeError] = []
        for channel in self.channels:
            try:
                told[channel.name] = self._say(channel, complaints)
            except (NotSaid, ChannelRefused) as error:  # the other ways are not kept waiting
                troubles.append(error)
        complain(troubles)
        return found, told, complaints

    def preview(self) -> tuple[list[Found], dict[str, list[Notice]]]:
        """What `round` would find and say; nothing is kept, and nobody is told."""
        room, names = self.room(), [channel.name for channel in self.channels]
        return self.session(alerts.preview, self._judge(room), names, judged=_judged(room), lapsed=self.limits.lapsed)

    def _judge(self, room: Room) -> Callable[[Facts], list[Found]]:
        more = [room.lack] if room.lack else []
        return lambda facts: judge(facts, self.limits) + more

    def _say(self, channel: Channel, complaints: list[str]) -> list[Notice]:
        most = ANSWERS * self.seconds
        notices = self.session(alerts.claim, channel.name, lease=timedelta(seconds=2 * most))
        faults.point("alert.intended")
        if not notices:
            return []
        try:
            complaints += within(most, channel, words.alert(notices))
        except (NotSaid, ChannelRefused):
            self.session(alerts.put_back, channel.name, notices)
            raise
        faults.point("alert.sent")
        self.session(alerts.said, channel.name, notices)
        faults.point("alert.said")
        return notices


def _judged(room: Room) -> list[str]:
    return [*BY_THE_LEDGER, *([Kind.NO_ROOM.value] if room.known else [])]


def send_all(channels: Sequence[Channel], message: Message, seconds: float) -> list[str]:
    """Say it by every way at once, without remembering it; what did not reach everybody."""
    complaints: list[str] = []
    troubles: list[DayscribeError] = []
    for channel in channels:
        try:
            complaints += within(ANSWERS * seconds, channel, message)
        except (NotSaid, ChannelRefused) as error:
            troubles.append(error)
    complain(troubles)
    return complaints


def complain(troubles: Sequence[DayscribeError]) -> None:
    """One error of several: trying again helps, unless a person has to change something for each."""
    if troubles:
        again = any(isinstance(error, TryAgain) for error in troubles)
        raise (NotSaid if again else ChannelRefused)("\n".join(map(str, troubles)))


def within(seconds: float, channel: Channel, message: Message) -> list[str]:
    """Send it; NotSaid when that takes longer. A server that answers a letter at a time holds up nobody."""
    told: list[str] = []
    error: list[Exception] = []

    def send() -> None:
        try:
            told.extend(channel.send(message))
        except Exception as trouble:  # noqa: BLE001 - it is raised again where somebody hears of it
            error.append(trouble)

    sending = threading.Thread(target=send, daemon=True)
    sending.start()
    sending.join(seconds)
    if sending.is_alive():
        raise NotSaid(f"{channel.name}: the server did not come to an end within {seconds:.0f} s.")
    if error and isinstance(error[0], NotSaid | ChannelRefused):
        raise error[0]
    if error:  # its own words may hold what is secret
        raise NotSaid(f"{channel.name}: it could not be sent: {type(error[0]).__name__}.")
    return told
