"""What a request asks for, read strictly: an unknown, repeated or impossible parameter is a 400 that names it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date

from flask import request
from werkzeug.exceptions import BadRequest, NotFound

from db.states import RecordingState

LONGEST = 1000  # characters of a query
MOST = 500  # rows of a page
LAST_ID = 2**63 - 1
ID = f"int(max={LAST_ID})"  # of a number in a path
LAST_VERSION = 2**31 - 1
# Of a recording; what is provisional is shown to nobody.
VISIBLE = tuple(state for state in RecordingState if state is not RecordingState.PROVISIONAL)
_CODE = re.compile(r"[a-z]{2,3}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def known(*names: str) -> None:
    """Refuse parameters that this route does not have: a misspelt filter must not answer everything."""
    for name, values in request.args.lists():
        if name not in names:
            allowed = ", ".join(names) or "none"
            raise BadRequest(f"There is no parameter of that name here; those there are: {allowed}.")
        if len(values) > 1:
            raise BadRequest(f"{name} is given more than once.")
        if "\0" in values[0]:
            raise BadRequest(f"{name} holds a NUL character.")


def text(name: str, default: str | None = None) -> str | None:
    """A parameter's text; empty is as good as left out."""
    value = request.args.get(name) or default
    if value is not None and len(value) > LONGEST:
        raise BadRequest(f"{name} is longer than {LONGEST} characters.")
    return value


def needed(name: str) -> str:
    """A parameter's text, which must not be left out."""
    value = text(name)
    if value is None or not value.strip():
        raise BadRequest(f"Say what to look for: {name}=….")
    return value


def number(name: str, default: int, *, low: int, high: int) -> int:
    """A whole number between two bounds."""
    value = request.args.get(name)
    if value is None:
        return default
    if not re.fullmatch(r"[0-9]{1,19}", value) or not low <= int(value) <= high:
        raise BadRequest(f"{name} is a whole number from {low} to {high}.")
    return int(value)


def limit(default: int = 100) -> int:
    """How many rows at most."""
    return number("limit", default, low=1, high=MOST)


def language(name: str) -> str | None:
    """A parameter's language code in small letters, as the ledger has them."""
    value = (text(name) or "").lower() or None
    if value is not None and not _CODE.fullmatch(value):
        raise BadRequest(f"{name} is a language's code such as de.")
    return value


def day(name: str) -> date | None:
    """A parameter's date; empty, as a form sends it, is as good as left out."""
    value = request.args.get(name)
    if not value:
        return None
    found = a_date(value)
    if found is None:
        raise BadRequest(f"{name} is a date such as 2025-01-31.")
    return found


def period() -> tuple[date | None, date | None]:
    """The dates `from` and `to`, both in the range."""
    start, stop = day("from"), day("to")
    if start is not None and stop is not None and stop < start:
        raise BadRequest(f"The range ends on {stop} before it begins on {start}.")
    return start, stop


def one_of(name: str, states: Iterable[str]) -> str | None:
    """One of the states or other words, or None when the parameter is left out or, as a form sends it, empty."""
    value = request.args.get(name) or None
    names = [str(state) for state in states]
    if value is not None and value not in names:
        raise BadRequest(f"{name} is one of {', '.join(names)}.")
    return value


def date_in_path(value: str) -> date:
    """The date that a path names; there is nothing at a path that names none."""
    found = a_date(value)
    if found is None:
        raise NotFound("Days are written as 2025-01-31.")
    return found


def a_date(value: str) -> date | None:
    """The date, if the text is one in the one spelling we know."""
    try:
        return date.fromisoformat(value) if _DATE.fullmatch(value) else None
    except ValueError:
        return None
