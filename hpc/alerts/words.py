"""The words of an alert: notices in, one message out."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from datetime import datetime

from db.alerts import Notice
from db.amiss import TITLES, Kind
from db.printable import plain
from hpc.message import LONGEST_TITLE, Item, Message

SHOWN = 50  # in the text of one message
_ORDER = [kind.value for kind in Kind]


def alert(notices: Sequence[Notice]) -> Message:
    """One message of all that is news: what is amiss, the gravest first, then what is over."""
    ordered = sorted(notices, key=lambda one: (one.cleared is not None, _rank(one.kind), one.id))
    items = tuple(
        Item(one.kind, one.subject, one.message, one.fix if one.cleared is None else "", one.since, one.cleared)
        for one in ordered
    )
    return of_items(items)


def of_items(items: Sequence[Item]) -> Message:
    """The same of things in their order."""
    return Message("alert", _title(items), _text(items), tuple(items))


def test() -> Message:
    """What is sent to see that words arrive."""
    text = f"This is a test from dayscribe on {plain(socket.gethostname())}: alerts reach you this way.\n"
    return Message("test", "dayscribe: a test", text)


def title_of(kind: str) -> str:
    """A kind as a person reads it."""
    return TITLES[Kind(kind)] if kind in _ORDER else plain(kind.replace("_", " "))


def moment(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC"


def _rank(kind: str) -> int:
    return _ORDER.index(kind) if kind in _ORDER else len(_ORDER)


def _title(items: Sequence[Item]) -> str:
    if len(items) == 1:
        one = items[0]
        return plain(f"dayscribe: {'over: ' if one.over else ''}{title_of(one.kind)}: {one.subject}", LONGEST_TITLE)
    amiss = sum(one.over is None for one in items)
    counts = [f"{amiss} amiss"] if amiss else []
    counts += [f"{len(items) - amiss} over"] if len(items) > amiss else []
    return f"dayscribe: {', '.join(counts)}"


def _text(items: Sequence[Item]) -> str:
    paragraphs = ["\n".join(lines(one)) for one in items[:SHOWN]]
    if len(items) > SHOWN:
        paragraphs.append(f"and {len(items) - SHOWN} more; all of it: dayscribe digest")
    paragraphs.append("Each is said once, and once more when it is over.")
    return "\n\n".join(paragraphs) + "\n"


def lines(one: Item) -> list[str]:
    """A thing and what mends it, a line each."""
    head = f"{title_of(one.kind).capitalize()}: {plain(one.subject)}"
    if one.over is not None:
        since = f"since {moment(one.since)}, " if one.since else ""
        return [f"Over: {head}", f"  {since}until {moment(one.over)}"]
    told = [head, f"  {plain(one.message)}"]
    told += [f"  since {moment(one.since)}"] if one.since else []
    return told + ([f"  to mend it: {plain(one.fix)}"] if one.fix else [])
