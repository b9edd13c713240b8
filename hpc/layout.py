"""How a site's folders and files are called, as data: templates that are filled in, and one strict parser of the same.

A template is literal text with fields in braces: {site}, {date} (YYYY-MM-DD), {year}, {month} (01), {monthname}
(january), {day} (01), {slot} (HH_MM), {hour}, {minute}, and {fold}, which is "b" in the second pass of a time that the
clock repeats and else nothing. A file's name says its date and its slot; the folder's may say less, down to nothing.
A mistake in a template raises BadSetting, which names it, when the layout is made.

No name has two readings. Within one template every field but {fold} has a fixed width or is the name of a month, and no
month's name begins another; {fold} changes the number of b's in one run of b's, which no other field can add to. Two
templates that can match one name are refused.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import date
from functools import lru_cache
from itertools import combinations

from db.errors import BadData
from hpc.dates import MONTHS, SITE, YEARS
from hpc.errors import BadSetting
from hpc.slots import LABEL

KINDS = ("archive", "metadata", "subtitles", "comments")
MAX_NAME = 255  # bytes, in any file system we know

_DIGITS = "0123456789"
# Each field as its possible spellings, and each spelling as the characters that each of its places may have.
_FIELDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "year": (("1", "9", _DIGITS, _DIGITS), ("2", "01", _DIGITS, _DIGITS)),  # within YEARS: looked at when it is read
    "month": (("0", "123456789"), ("1", "012")),
    "monthname": tuple(tuple(name) for name in MONTHS),
    "day": (("0", "123456789"), ("12", _DIGITS), ("3", "01")),
    "hour": (("01", _DIGITS), ("2", "0123")),
    "minute": (("012345", _DIGITS),),
    "fold": ((), ("b",)),
}
_SHORTHANDS = {"date": "{year}-{month}-{day}", "slot": "{hour}_{minute}"}
_OF_FOLDERS = frozenset({"site", "year", "month", "monthname", "day", "date"})
_OF_FILES = frozenset({*_FIELDS, *_SHORTHANDS})


@dataclass(frozen=True, slots=True)
class Named:
    """What a file's name says."""

    date: date
    slot: str  # a label as in hpc.slots: "02_10", "02_10b"
    kind: str  # one of KINDS


@dataclass(frozen=True, slots=True)
class _Token:
    """A piece of a template: literal text, or a field."""

    text: str
    field: bool = False

    def spellings(self) -> tuple[tuple[str, ...], ...]:
        return _FIELDS[self.text] if self.field else (tuple(self.text),)


_Tokens = tuple[_Token, ...]
_Place = tuple[int, tuple[str, ...]]  # the next token, and what is left of the spelling of the one before it


@dataclass(frozen=True, slots=True)
class _Reader:
    """One file template, ready to read names."""

    kind: str
    template: str
    tokens: _Tokens
    pattern: re.Pattern[str]

    def read(self, name: str) -> Named | None:
        if not (match := self.pattern.fullmatch(name)):
            return None
        says = match.groupdict()
        day = _day(says)
        return Named(day, f"{says['hour']}_{says['minute']}{says.get('fold', '')}", self.kind) if day else None


@dataclass(frozen=True, slots=True)
class Layout:
    """A site's names. Of each kind the first template is the one that is written; all of them are read."""

    folder: str = ""  # of one day's files, below the source's root; "": they lie in the root
    archive: tuple[str, ...] = tuple(
        f"0_{{date}}_{{hour}}_{{minute}}{suffix}" for suffix in (".tar.xz", ".tar", ".tar.gz", ".tar.bz2", ".tgz")
    )
    metadata: tuple[str, ...] = ("0_{date}_{hour}_{minute}_metadata.parquet",)
    subtitles: tuple[str, ...] = ("0_{date}_{hour}_{minute}_subtitles.parquet",)
    comments: tuple[str, ...] = ("0_{date}_{hour}_{minute}_comments.parquet",)
    _readers: tuple[_Reader, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _folder(self.folder)
        if not self.archive:
            raise BadSetting("A layout needs at least one template for archive.")
        readers = tuple(_reader(kind, template) for kind in KINDS for template in self._of(kind))
        for one, other in combinations(readers, 2):
            if (name := _both_match(one.tokens, other.tokens)) is not None:
                raise BadSetting(
                    f"The templates {one.template!r} ({one.kind}) and {other.template!r} ({other.kind}) "
                    f"can both match a name such as {name!r}; each name must have one reading."
                )
        object.__setattr__(self, "_readers", readers)

    @classmethod
    def of(cls, data: Mapping[str, object]) -> Layout:
        """The layout of this data, as `as_dict` gives it; what it leaves out is as in the default."""
        known = [entry.name for entry in fields(cls) if entry.init]
        if unknown := sorted(map(repr, data.keys() - set(known))):
            raise BadSetting(f"A layout has no {unknown[0]}; it has {', '.join(known)}.")
        folder = data.get("folder", "")
        if not isinstance(folder, str):
            raise BadSetting(f"A layout's folder is one template, not {folder!r}.")
        return cls(folder, **{kind: _templates(kind, data[kind]) for kind in KINDS if kind in data})

    def as_dict(self) -> dict[str, str | list[str]]:
        """The data of this layout, for JSON; `Layout.of` reads it back."""
        return {"folder": self.folder} | {kind: list(self._of(kind)) for kind in KINDS}

    def folder_of(self, site: str, day: date) -> str:
        """Where the day's files lie, below the source's root."""
        if not SITE.fullmatch(site):
            raise BadData(f"{site!r} is not a site's name.")
        return _filled(_folder(self.folder), _values(day) | {"site": site})

    def parse(self, path: str) -> Named | None:
        """What the last component of this path says; None: it is not a file of this layout. Never raises."""
        name = path.rpartition("/")[2]
        return next((named for reader in self._readers if (named := reader.read(name))), None)

    def name(self, day: date, slot: str, kind: str) -> str:
        """The name of this file; a template without {fold} gives both passes of a repeated time the same one."""
        if day.year not in YEARS or not (label := LABEL.fullmatch(slot)):
            raise BadData(f"{day} {slot!r} is not a slot that a file can be named after.")
        if reader := next((reader for reader in self._readers if reader.kind == kind), None):
            return _filled(reader.tokens, _values(day) | {"hour": label[1], "minute": label[2], "fold": label[3]})
        raise BadSetting(f"The layout has no name for {kind!r}.")

    def _of(self, kind: str) -> tuple[str, ...]:
        found: tuple[str, ...] = getattr(self, kind)
        return found


def _templates(kind: str, value: object) -> tuple[str, ...]:
    several = value if isinstance(value, (list, tuple)) else (value,)
    if not all(isinstance(template, str) for template in several):
        raise BadSetting(f"A layout's {kind} is a list of templates, not {value!r}.")
    return tuple(several)


def _tokens(template: str, allowed: frozenset[str]) -> _Tokens:
    """The template in pieces, its shorthands spelt out."""
    if not template.isprintable():
        raise BadSetting(f"The template {template!r} holds a character that cannot be printed.")
    tokens: list[_Token] = []
    for number, text in enumerate(re.split(r"\{([^{}]*)\}", template)):
        if not number % 2:  # between two fields
            if "{" in text or "}" in text:
                raise BadSetting(f"The template {template!r} has a brace without its partner.")
            tokens += [_Token(text)] if text else []
        elif text not in allowed:
            raise BadSetting(f"The template {template!r} has no use for {{{text}}}; it may have {_listed(allowed)}.")
        elif text in _SHORTHANDS:
            tokens += _tokens(_SHORTHANDS[text], allowed)
        else:
            tokens.append(_Token(text, field=True))
    return tuple(tokens)


@lru_cache(maxsize=64)
def _folder(template: str) -> _Tokens:
    """The pieces of a folder's template, which cannot lead out of the source's root."""
    if template.startswith("/"):
        raise BadSetting(f"The folder {template!r} begins with '/'; write it as seen from the source's root.")
    if template and any(part in ("", ".", "..") for part in template.split("/")):
        raise BadSetting(f"The folder {template!r} has a part that is empty, '.' or '..'.")
    tokens = _tokens(template, _OF_FOLDERS)
    has = {token.text for token in tokens if token.field}
    if ("day" in has and not has & {"month", "monthname"}) or (
        has & {"day", "month", "monthname"} and "year" not in has
    ):
        raise BadSetting(f"The folder {template!r} names a month without its year, or a day without its month.")
    return tokens


def _reader(kind: str, template: str) -> _Reader:
    """A file's template, which must say the date and the slot."""
    if "/" in template or template in ("", ".", ".."):
        raise BadSetting(f"The {kind} template {template!r} is not a file's name; folders belong into folder.")
    tokens = _tokens(template, _OF_FILES)
    has = {token.text for token in tokens if token.field}
    if not {"year", "day"} <= has or not has & {"month", "monthname"}:
        raise BadSetting(f"The {kind} template {template!r} does not say the date; it needs {{date}}, or its parts.")
    if not {"hour", "minute"} <= has:
        raise BadSetting(f"The {kind} template {template!r} does not say the slot; it needs {{slot}}, or its parts.")
    longest = sum(
        max(len("".join(place[0] for place in way).encode()) for way in token.spellings()) for token in tokens
    )
    if longest > MAX_NAME:
        raise BadSetting(f"The {kind} template {template!r} makes names longer than {MAX_NAME} bytes.")
    return _Reader(kind, template, tokens, _pattern(tokens))


def _pattern(tokens: _Tokens) -> re.Pattern[str]:
    """What matches the same as the tokens; a field that comes again must be spelt as it was the first time."""
    made, seen = "", set[str]()
    for token in tokens:
        if not token.field:
            made += re.escape(token.text)
        elif token.text in seen:
            made += f"(?P={token.text})"
        else:
            seen.add(token.text)
            ways = ("".join(f"[{place}]" for place in way) for way in token.spellings())
            made += f"(?P<{token.text}>{'|'.join(ways)})"
    return re.compile(made)


@lru_cache(maxsize=64)
def _values(day: date) -> dict[str, str]:
    month = {"month": f"{day.month:02}", "monthname": MONTHS[day.month - 1]}
    return {"year": f"{day.year:04}", "day": f"{day.day:02}"} | month


def _filled(tokens: _Tokens, values: Mapping[str, str]) -> str:
    return "".join(values[token.text] if token.field else token.text for token in tokens)


def _month(says: Mapping[str, str]) -> int | None:
    """The month, if its number and its name agree."""
    told = {int(says["month"])} if "month" in says else set[int]()
    if "monthname" in says:
        told.add(MONTHS.index(says["monthname"]) + 1)
    return told.pop() if len(told) == 1 else None


def _day(says: Mapping[str, str]) -> date | None:
    """The date, if the calendar has it."""
    year, month, day = int(says["year"]), _month(says), int(says["day"])
    if year not in YEARS or month is None or day > monthrange(year, month)[1]:
        return None
    return date(year, month, day)


def _both_match(one: _Tokens, other: _Tokens) -> str | None:
    """A name that both match, field by field and not looking at the calendar; None if there is none."""
    ways = deque[tuple[_Place, _Place, str]]([((0, ()), (0, ()), "")])
    seen: set[tuple[_Place, _Place]] = set()
    while ways:
        here, there, text = ways.popleft()
        if _ends(one, here) and _ends(other, there):
            return text
        for characters, here_next in _steps(one, here):
            for others, there_next in _steps(other, there):
                common = sorted(set(characters) & set(others))
                if common and (here_next, there_next) not in seen:
                    seen.add((here_next, there_next))
                    ways.append((here_next, there_next, text + common[0]))
    return None


def _steps(tokens: _Tokens, place: _Place) -> Iterator[tuple[str, _Place]]:
    """The characters that may come next, each with where they lead."""
    index, left = place
    if left:
        yield left[0], (index, left[1:])
    elif index < len(tokens):
        for way in tokens[index].spellings():
            yield from _steps(tokens, (index + 1, way))


def _ends(tokens: _Tokens, place: _Place) -> bool:
    """Whether nothing more needs to come."""
    index, left = place
    return not left and all(() in token.spellings() for token in tokens[index:])


def _listed(names: frozenset[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in sorted(names))
