"""What a reader may not see, taken out of every row that is read: whichever question is asked, it never comes in."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from psycopg import Cursor
from psycopg.rows import DictRow, RowFactory, RowMaker, dict_row


class Hidden(StrEnum):
    """A kind of what is hidden."""

    TEXTS = "texts"  # whatever was said, or is quoted of it, by us or by the platform
    AUTHORS = "authors"  # who made it, and what may name them


# By the names that queries give them. A test looks for a planted text and a planted author in every answer.
_TEXTS = frozenset({"text", "words", "segments", "excerpt"})
# A platform calls a sound after its author, and people name each other in what they write.
_AUTHORS = ("author", "music", "description")


def rows(hidden: frozenset[Hidden]) -> RowFactory[DictRow]:
    """Rows as dicts, with nothing in the places of what is hidden, inside of JSON too."""

    def of(cursor: Cursor[Any]) -> RowMaker[DictRow]:
        make = dict_row(cursor)

        def row(values: Sequence[Any], /) -> DictRow:
            return _without(make(values), hidden)

        return row

    return of


def _without(row: dict[str, Any], hidden: frozenset[Hidden]) -> dict[str, Any]:
    quotes = "flag" in row  # the evidence for a flag quotes what was said
    return {
        key: None if _is_hidden(key, hidden, quotes=quotes) else _inside(value, hidden) for key, value in row.items()
    }


def _inside(value: Any, hidden: frozenset[Hidden]) -> Any:
    if isinstance(value, dict):
        return _without(value, hidden)
    return [_inside(item, hidden) for item in value] if isinstance(value, list) else value


def _is_hidden(name: str, hidden: frozenset[Hidden], *, quotes: bool) -> bool:
    if Hidden.TEXTS in hidden and (name in _TEXTS or (quotes and name == "detail")):
        return True
    return Hidden.AUTHORS in hidden and name.startswith(_AUTHORS)
