"""The ledger is away: that cannot be remembered there, so a small file under home says since when and who was told."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

from db import faults
from db.amiss import Kind
from db.errors import DayscribeError
from db.printable import plain
from hpc.alerts import words
from hpc.alerts.speak import ANSWERS, complain, within
from hpc.errors import ChannelRefused, NotSaid
from hpc.message import Item
from hpc.ports import Channel

FILE = "ledger-away.json"
FIX = "dayscribe db status"


@dataclass(slots=True)
class _State:
    since: datetime
    told: list[str] = field(default_factory=list)  # channels
    over: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Away:
    """What is known of it on this machine."""

    folder: Path
    channels: Sequence[Channel]
    seconds: float  # that a server may take to answer
    patience: timedelta  # before it is spoken of: a restart is none of anybody's business

    def lost(self, why: DayscribeError, *, now: datetime | None = None) -> list[str]:
        """It could not be asked; which channels were told of that now. If that cannot be kept it is said each time."""
        now = now or datetime.now(UTC)
        with self._alone() as ours:
            if not ours:
                return []
            state = self._read()
            if state is None or state.over:  # it was back meanwhile, and somebody heard of that
                state = _State(now)
            if self._keep(state) and now - state.since < self.patience:
                return []
            item = Item(Kind.LEDGER_AWAY.value, "the ledger", plain(str(why)), FIX, state.since)
            return self._say(item, state, state.told, self.channels)

    def back(self, *, now: datetime | None = None) -> list[str]:
        """It answers; which channels were told of that now: those that had heard of the trouble."""
        if not (self.folder / FILE).exists():
            return []
        with self._alone() as ours:
            state = self._read() if ours else None
            if state is None:
                return []
            item = Item(
                Kind.LEDGER_AWAY.value, "the ledger", "it answers again", "", state.since, now or datetime.now(UTC)
            )
            owed = [channel for channel in self.channels if channel.name in state.told]
            told = self._say(item, state, state.over, owed)
            (self.folder / FILE).unlink(missing_ok=True)
            return told

    def _say(self, item: Item, state: _State, heard: list[str], channels: Sequence[Channel]) -> list[str]:
        message = words.of_items([item])
        told: list[str] = []
        troubles: list[DayscribeError] = []
        for channel in channels:
            if channel.name in heard:
                continue
            try:
                within(ANSWERS * self.seconds, channel, message)
            except (NotSaid, ChannelRefused) as error:
                troubles.append(error)
                continue
            faults.point("alert.sent")
            heard.append(channel.name)
            self._keep(state)
            told.append(channel.name)
        complain(troubles)
        return told

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Two at once on one machine say it once; who was killed holds nothing up."""
        lock = self._lock()
        if lock is None:
            yield True
            return
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
            else:
                yield True

    def _lock(self) -> IO[str] | None:
        with suppress(OSError):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return (self.folder / f"{FILE}.lock").open("w")
        return None

    def _read(self) -> _State | None:
        try:
            said: Any = json.loads((self.folder / FILE).read_text(encoding="utf-8"))
            since = datetime.fromisoformat(said["since"])
            return _State(since, [str(name) for name in said["told"]], [str(name) for name in said["over"]])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _keep(self, state: _State) -> bool:
        text = json.dumps({"since": state.since.isoformat(), "told": state.told, "over": state.over})
        with suppress(OSError):
            making = self.folder / f".new-{FILE}"
            making.write_text(text, encoding="utf-8")
            making.replace(self.folder / FILE)
            return True
        return False
