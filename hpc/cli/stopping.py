"""A stop on request: the first SIGTERM, SIGINT or SIGUSR1 asks, the second insists."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


@contextmanager
def stop_on_signal(say: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether a stop was asked for. A second signal ends the process the usual way."""
    asked: list[int] = []

    def ask(number: int, _frame: FrameType | None) -> None:
        asked.append(number)
        say(f"{signal.Signals(number).name}: finishing what the engine holds; again to stop at once.")
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)

    before = {number: signal.signal(number, ask) for number in SIGNALS}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
