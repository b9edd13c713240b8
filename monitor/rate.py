"""How much one client may ask: a bucket of tokens for each, in this process alone; the setting serve.per_minute."""

from __future__ import annotations

import ipaddress
import math
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from flask import Flask, request
from werkzeug.exceptions import TooManyRequests

from db.errors import NeedsConfiguration

PER_MINUTE = "DAYSCRIBE_SERVE__PER_MINUTE"  # the setting of this name, as the command line knows it
USUAL = 3000  # a browser that looks at a busy day asks twelve times a minute
CLIENTS = 10_000  # remembered; who asked longest ago is forgotten first, with a full bucket again
LONGEST = 64  # characters of an address that is none, as proxies write of clients they do not know
FREE = "/healthz"


class Buckets:
    """Each client may ask as often as its bucket holds tokens; a minute fills it."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._size, self._a_second = float(per_minute), per_minute / 60
        self._clock, self._lock = clock, threading.Lock()
        self._held: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client: tokens, and when they were so many

    def wait(self, client: str) -> float:
        """Take a token; else how many seconds until there is one."""
        with self._lock:
            now = self._clock()
            tokens, then = self._held.pop(client, (self._size, now))
            tokens = min(self._size, tokens + (now - then) * self._a_second)
            enough = tokens >= 1
            self._held[client] = (tokens - 1 if enough else tokens, now)
            if len(self._held) > CLIENTS:
                self._held.popitem(last=False)
        return 0.0 if enough else (1 - tokens) / self._a_second


def install(app: Flask) -> None:
    """Refuse who asks too often, before anything is looked at: who guesses tokens too. 0 refuses nobody."""
    per_minute = _number(os.environ.get(PER_MINUTE) or str(USUAL))
    buckets = Buckets(per_minute) if per_minute else None

    @app.before_request
    def count() -> None:
        if buckets is None or request.path == FREE:
            return
        if wait := buckets.wait(_client(request.remote_addr)):
            seconds = math.ceil(wait)
            raise TooManyRequests(
                f"More than {per_minute} questions a minute; ask again in {seconds} s.", retry_after=seconds
            )


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise NeedsConfiguration(f"{PER_MINUTE} is a whole number of questions, 0 for any number.")
    return int(text)


def _client(address: str | None) -> str:
    """Whose bucket it is: an address; of IPv6 its network, since one machine has as many addresses as it likes."""
    try:
        found = ipaddress.ip_address(address or "")
    except ValueError:
        return (address or "")[:LONGEST]
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is None:
        return str(ipaddress.ip_network((int(found), 64), strict=False))
    return str(found)
