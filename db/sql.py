"""Named queries from queries/*.sql: Python asks for SQL["claim"] and never spells a statement."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import LiteralString

QUERIES = Path(__file__).parent / "queries"
_HEADING = re.compile(r"^-- name: *(.*?) *$", re.MULTILINE)
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@cache
def load(file: str) -> Mapping[str, LiteralString]:
    """The statements of queries/`file` by name: a `-- name: claim` line, comment lines, one statement."""
    return MappingProxyType(parse((QUERIES / file).read_text(encoding="utf-8"), file))


def parse(text: str, file: str) -> dict[str, LiteralString]:
    before, *rest = _HEADING.split(text)
    if _statement(before):
        raise ValueError(f"{file}: a statement stands before the first '-- name:' line")
    found: dict[str, LiteralString] = {}
    for name, body in zip(rest[::2], rest[1::2], strict=True):
        if not _NAME.fullmatch(name):
            raise ValueError(f"{file}: {name!r} is no name for a query")
        if name in found:
            raise ValueError(f"{file}: two queries are named {name}")
        if not (statement := _statement(body)):
            raise ValueError(f"{file}: {name} has no statement")
        found[name] = statement  # it ships with the program: as trusted as a literal in the source
    return found


def _statement(body: str) -> str:
    """`body` without its leading comment lines, blanks and the closing semicolon."""
    lines = body.strip().splitlines()
    while lines and (not lines[0].strip() or lines[0].lstrip().startswith("--")):
        lines.pop(0)
    return "\n".join(lines).rstrip().removesuffix(";").rstrip()
