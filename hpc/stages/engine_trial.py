"""Who is to blame when the engine's process dies: a recording, or the machine."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from db.states import FailureClass
from hpc.errors import EngineLost
from hpc.model import Failure

ATTEMPTS = 3  # deaths in a row before something is concluded from them


@dataclass(slots=True)
class Trial:
    """Recordings go by their tickets. What was at work when the process died is suspect, and gets a process to itself.
    What ends that one too is guilty; but that is believed only once the next one, an innocent if there is any, lives.

    Halving the suspects would take fewer tries, but a try that fails costs a new process and its models: this way
    there is one such try for each that is guilty.
    """

    lived: bool = False  # the engine has answered something
    _suspects: list[int] = field(default_factory=list)
    _alone: int | None = None  # has the process to itself
    _deaths: int = 0  # since the last answer
    _row: list[int] = field(default_factory=list)  # of these, those of one that was alone
    _guilty: dict[int, Failure] = field(default_factory=dict)  # not believed yet

    @property
    def on(self) -> bool:
        """Whether who is sent is sent alone."""
        return bool(self._suspects or self._row)

    def may_be_sent(self, pending: Collection[int]) -> Collection[int]:
        """What of it the process may have now."""
        if not self.on:
            return pending
        if self._alone is None:
            known = {*self._suspects, *self._guilty}
            innocent = next((ticket for ticket in pending if ticket not in known), None)
            suspect = next(iter(self._suspects), None)
            first, second = (innocent, suspect) if self._row else (suspect, innocent)
            self._alone = second if first is None else first
        return () if self._alone is None else (self._alone,)

    def answered(self, ticket: int) -> None:
        """It survived."""
        self.lived, self._deaths, self._row = True, 0, []
        if ticket in self._suspects:
            self._suspects.remove(ticket)
        if ticket == self._alone:
            self._alone = None

    def died(self, sent: Sequence[int], begun: Collection[int], kind: FailureClass, how: str) -> None:
        """The process ended while it had `sent` and worked on `begun`. EngineLost: the machine is to blame."""
        self._deaths += 1
        if self._alone is None or self._alone not in sent:
            at_work = [ticket for ticket in sent if ticket in begun]
            self._suspects += at_work or (sent if self._deaths >= ATTEMPTS else [])
            return
        ticket, self._alone = self._alone, None
        self._row.append(ticket)
        if ticket in self._suspects:
            self._suspects.remove(ticket)
        self._guilty[ticket] = Failure(kind, f"The engine did not survive this recording: {how}")
        if len(self._row) >= ATTEMPTS:
            never = "" if self.lived else "never answered and "
            raise EngineLost(f"The engine {never}ended on {len(self._row)} recordings one after the other: {how}")

    def believed(self, pending: Collection[int]) -> list[tuple[int, Failure]]:
        """The guilty, once another has lived after them, or nobody else is left to try."""
        if self._row and len(pending) > len(self._guilty):
            return []
        guilty, self._guilty, self._row = list(self._guilty.items()), {}, []
        return guilty
