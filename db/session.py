"""One connection to the ledger that is opened when it is needed and opened again when it broke."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from db.connect import Connection, connect
from db.errors import LedgerAway

P = ParamSpec("P")
T = TypeVar("T")


class Session:
    """Calls db's functions with a connection. Every such function may be called twice: a broken connection is replaced
    and the call made again, once; what a lost answer left behind is found by its key, or lapses with its lease.
    One call at a time: a worker claims in one thread and records in another, and a transaction is the connection's."""

    def __init__(self, dsn: str, *, application: str, require_tls: bool = True) -> None:
        self.dsn, self.application, self.require_tls = dsn, application, require_tls
        self._connection: Connection | None = None
        self._one = threading.RLock()

    def __call__(self, function: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """function(connection, …); LedgerAway when the ledger cannot be reached at all."""
        with self._one:
            fresh = self._connection is None
            try:
                return function(self.connection(), *args, **kwargs)
            except LedgerAway:
                self.close()
                if fresh:
                    raise
            return function(self.connection(), *args, **kwargs)

    def connection(self) -> Connection:
        """The open connection; a closed or broken one is replaced."""
        if self._connection is None or self._connection.closed:
            self._connection = connect(self.dsn, application=self.application, require_tls=self.require_tls)
        return self._connection

    def close(self) -> None:
        """Close it; the next call opens it again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def patiently(call: Callable[[], T], *, seconds: float, stop: Callable[[], bool]) -> T:
    """call(), waiting for an absent ledger up to `seconds`, with growing and random pauses, or until a stop."""
    deadline, pause = time.monotonic() + seconds, 0.2
    while True:
        try:
            return call()
        except LedgerAway:
            if stop() or time.monotonic() + pause > deadline:
                raise
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, no secret
            pause = min(pause * 2, 15.0)
