"""Search in the current transcripts: newest day first, a page after a key, always with what was looked through.

There are two ways to the same hits. By the text index all that match are found, counted and sorted: right for what is
rare. Newest first, recordings are walked through until a page is full: right for what is common, where the first page
is near and sorting a million hits to show twenty is not. Whichever should take less time is taken; a walk that finds
less than expected ends, and the index is asked after all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from db import formats, substrings
from db.connect import Connection, translated
from db.errors import BadData
from db.sql import load
from db.substrings import BadQuery
from db.transcripts import Scope, denominator, open_days

SQL = load("search.sql")

STEP_LEAST, STEP_MOST = 200, 5_000  # recordings that one question walks through
LOOKED_UP = 10  # recordings are walked past in the time that one that matches is looked up; bench/dashboard.py
COUNTED = 1_000  # hits are looked up anyhow: a reader would rather know how many there are
PATIENCE = 10  # a walk may take so many times what was expected of it …
AT_LEAST = 5_000  # … and so many recordings anyhow
THERE = ("transcribed", "no_speech", "quarantined", "unsealed")  # all that a walk comes by
SHOWN = 500  # hits a question
# Around what was found, and for "<"; db/queries/search.sql keeps the texts free of them.
BEGIN, END, LESS = "\x02", "\x03", "\x04"
_SPACE = re.compile(r"\s+")


class NoSuchHit(BadData):
    """There is no such recording to go on after."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is looked for (websearch syntax), where, and after which hit the page begins.

    `language` is the query's own; `only` is the texts'; `flag` one of db.states.QualityFlag's. In a language without
    spaces, parts of texts are looked for (db/substrings.py).
    """

    query: str
    scope: Scope = field(default_factory=Scope)
    language: str = "en"
    only: str | None = None
    flag: str | None = None
    limit: int = 20
    after: int | None = None  # a recording's id


@dataclass(frozen=True, slots=True)
class Found:
    """A page of hits, and what was looked through to find them."""

    hits: list[dict[str, Any]]  # `excerpt`, `marks` [[start, stop], …] in it, and when the first is said
    total: int | None  # None: more than this page, and nobody counted
    next: int | None  # the page after this one goes on `after` this
    terms: int  # of the query; 0: it is made of stop words alone, and nothing was looked for
    denominator: dict[str, int]  # transcribed, no_speech, quarantined, unsealed; expected_archives, missing_archives
    open_days: list[dict[str, Any]]  # days in the scope that are not finished (at most 50)


@dataclass(frozen=True, slots=True)
class _Page:
    """Which transcripts match, in order, one more than was asked for if there is one."""

    recordings: list[int]
    transcripts: list[int]
    total: int | None


@translated()
def search(connection: Connection, question: Question) -> Found:
    """Search the current transcripts; NoSuchHit when `after` names no recording, BadQuery when nothing is asked for."""
    values, recordings = asked(connection, question)
    counts = denominator(connection, question.scope)
    page = _Page([], [], 0)
    if values["terms"]:
        page = _found(connection, question, values, recordings, sum(counts[kind] for kind in THERE))
    more = len(page.recordings) > question.limit
    hits = list(_shown(connection, values, page.transcripts[: question.limit]))
    after = page.recordings[question.limit - 1] if more else None
    total = page.total
    if total is None and not more and question.after is None:
        total = len(page.recordings)
    return Found(hits, total, after, values["terms"], counts, open_days(connection, question.scope))


@translated()
def asked(connection: Connection, question: Question) -> tuple[dict[str, Any], int]:
    """The question as the statements name its parts, and how many recordings there are about."""
    values: dict[str, Any] = question.scope.values() | {
        "query": question.query.replace("\0", " "), "language": question.language, "only": question.only,
        "flag": question.flag, "limit": question.limit + 1, "key_date": None, "key_day": None, "key_recording": None,
        "key_inside": False, "pieces": None, "wanted": None, "without": None,
    }  # fmt: skip
    measured = connection.execute(SQL["measure"], values).fetchone()
    assert measured is not None
    values |= {name: measured[name] for name in ("terms", "words", "candidates")}
    worded = measured["worded"]
    if question.language in substrings.LANGUAGES:
        parts = substrings.parts(values["query"])
        values |= {"pieces": parts.pieces(), "wanted": parts.wanted, "without": parts.without}
        values |= {"terms": len(parts.wanted), "words": "", "candidates": ""}
        worded = bool(parts.wanted)
    if not worded:
        raise BadQuery("Say what to look for: there is no word and no number in the query.")
    if question.after is not None:
        key = connection.execute(SQL["key"], values | {"after": question.after}).fetchone()
        if key is None:
            raise NoSuchHit(f"There is no recording {question.after} to go on after")
        values |= key
    return values, measured["recordings"]


def _found(connection: Connection, question: Question, values: dict[str, Any], recordings: int, reach: int) -> _Page:
    """The page, by the way that should cost less; `reach`: the recordings in the scope."""
    expected = _expected(connection, values)
    far = min((question.limit + 1) * recordings / expected, reach)
    candidates = _expected(connection, values | {"words": values["candidates"]})
    instead = LOOKED_UP * candidates
    if recordings and candidates > COUNTED and far < instead:
        page = _walk(connection, values, question.limit + 1, far=far, instead=instead)
        if page is not None:
            return page
    rows = connection.execute(SQL["by_index"], values).fetchall()
    hits = [row for row in rows if row["recording_id"] is not None]
    return _Page([row["recording_id"] for row in hits], [row["transcript_id"] for row in hits], rows[0]["total"])


def _expected(connection: Connection, values: dict[str, Any]) -> int:
    plan = connection.execute(SQL["expect"], values).fetchone()
    assert plan is not None
    return max(int(plan["QUERY PLAN"][0]["Plan"]["Plan Rows"]), 1)


def _walk(connection: Connection, values: dict[str, Any], wanted: int, *, far: float, instead: float) -> _Page | None:
    """The page by walking, `far` as it seems; None when it is not full after what a walk, or the index, may cost."""
    room, step = max(PATIENCE * far + AT_LEAST, instead), round(min(max(far, STEP_LEAST), STEP_MOST))
    found = _Page([], [], None)
    for day_id, first in _days(connection, values):
        after, walked = first, step
        while walked == step:
            if room <= 0:
                return None
            here = {"day_id": day_id, "after": after, "room": step, "limit": wanted - len(found.recordings)}
            rows = connection.execute(SQL["walk"], values | here).fetchall()
            for row in rows:
                if row["recording_id"] is not None:
                    found.recordings.append(row["recording_id"])
                    found.transcripts.append(row["transcript_id"])
            if len(found.recordings) == wanted:
                return found
            walked, after = rows[0]["walked"], rows[0]["last"]
            room -= max(walked, STEP_LEAST)  # a question costs something, though its day be empty
    return found


def _days(connection: Connection, values: Mapping[str, Any]) -> Iterator[tuple[int, int]]:
    """The days to walk through, each with the id after which its recordings are of interest."""
    if values["key_inside"]:
        yield values["key_day"], values["key_recording"]
    key = dict(values)
    while days := connection.execute(SQL["days"], key).fetchall():
        yield from ((day["day_id"], 0) for day in days)
        key |= {"key_date": days[-1]["date"], "key_day": days[-1]["day_id"]}


def _shown(connection: Connection, values: dict[str, Any], transcripts: Sequence[int]) -> Iterator[dict[str, Any]]:
    """The hits as they are shown, some hundreds a question, so that none takes long."""
    for start in range(0, len(transcripts), SHOWN):
        some = {"transcripts": transcripts[start : start + SHOWN]}
        yield from (_hit(row, values["wanted"]) for row in connection.execute(SQL["show"], values | some))


def _hit(row: Mapping[str, Any], wanted: list[str] | None) -> dict[str, Any]:
    """What is shown of a hit: found by its words, or, with `wanted`, by parts of its text."""
    if wanted is None:
        excerpt, marks = marked(row["excerpt"])
        before, found, _ = row["whole"].partition(BEGIN)
        letters = len(_SPACE.sub("", before)) if found else -1
    else:
        excerpt, marks, letters = substrings.excerpt(row["text"], wanted)
    segment, second = said(letters, formats.unpack(row["words"]))
    rest = {key: value for key, value in row.items() if key not in ("words", "whole", "text")}
    return rest | {"excerpt": excerpt, "marks": marks, "segment": segment, "second": second}


def marked(text: str) -> tuple[str, list[list[int]]]:
    """The text without its marks, and where they were: [start, stop] in characters."""
    plain, marks = "", []
    for piece in text.replace(LESS, "<").split(BEGIN):
        inside, ended, rest = piece.partition(END)
        if ended:
            marks.append([len(plain), len(plain) + len(inside)])
        plain += inside + rest
    return plain, marks


def said(letters: int, segments: Sequence[Mapping[str, Any]]) -> tuple[float | None, float | None]:
    """When the segment and the word begin that come after so many letters (below 0: none do); a word without a time has
    its neighbour's. Text and words hold the same letters in the same order, apart from spaces."""
    for segment in segments if letters >= 0 else ():
        begins = second = segment.get("start")
        for word in segment.get("words") or ({"word": segment.get("text", "")},):
            second = word.get("start", second)
            letters -= len(_SPACE.sub("", word["word"]))
            if letters < 0:
                return begins, second
    return None, None
