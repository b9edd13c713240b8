"""The one module that prints: tables, records and JSON to stdout; messages and progress to stderr."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from datetime import date, datetime, timedelta
from enum import Enum
from pathlib import PurePath
from typing import Any, Protocol, TextIO
from uuid import UUID

from db.printable import escaped_json, printable

GAP = "  "  # between plain columns
PLAIN_PROGRESS_SECONDS = 30.0  # where there is no terminal: a line at most so often


@dataclass(frozen=True, slots=True)
class Column:
    """A field to show: its key in the row, its heading, how its value is written, and to which side it leans."""

    key: str
    title: str = ""
    write: Callable[[Any], str] | None = None
    right: bool = False

    @property
    def heading(self) -> str:
        return self.title or self.key.replace("_", " ")

    def cell(self, row: Mapping[str, Any]) -> str:
        value = row.get(self.key)
        return printable(self.write(value) if self.write and value is not None else plain_text(value))


class Progress(Protocol):
    """What a running command tells of its way."""

    def advance(self, count: float = 1) -> None: ...
    def update(self, *, done: float | None = None, total: float | None = None, note: str | None = None) -> None: ...


class Display:
    """Prints what a command hands over, for a person or, with `as_json`, for a program."""

    def __init__(
        self, *, as_json: bool = False, quiet: bool = False, stdout: TextIO | None = None, stderr: TextIO | None = None
    ) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.stdout = stdout or sys.stdout
        self.stderr = stderr or sys.stderr

    def table(self, rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], *, empty: str = "Nothing.") -> None:
        """Rows under headings; as JSON a list of the rows with all their keys."""
        if self.as_json:
            self._json(rows)
        elif not rows:
            self.say(empty)
        elif self.stdout.isatty():
            self._rich_table(rows, columns)
        else:
            self._plain_table(rows, columns)

    def pages(
        self, pages: Iterable[Sequence[Mapping[str, Any]]], columns: Sequence[Column], *, empty: str = "Nothing."
    ) -> None:
        """A table that is too long to be held: shown page by page as it comes; as JSON one list all the same."""
        first = True
        for page in filter(None, pages):
            if self.as_json:
                for row in page:
                    self.stdout.write("[\n" if first else ",\n")
                    self.stdout.write(self._as_json(row))
                    first = False
            elif self.stdout.isatty():
                self._rich_table(page, columns)
            else:
                self._plain_table(page, columns, headed=first)
            first = False
        if self.as_json:
            self._line("[]" if first else "\n]")
        elif first:
            self.say(empty)

    def record(self, fields: Mapping[str, Any], columns: Sequence[Column] | None = None) -> None:
        """One thing, a line a field; as JSON an object with all its keys."""
        if self.as_json:
            self._json(fields)
            return
        shown = columns or [Column(key) for key in fields]
        width = max((len(column.heading) for column in shown), default=0)
        for column in shown:
            self._line(f"{printable(column.heading):<{width}}{GAP}{column.cell(fields)}".rstrip())

    def text(self, text: str) -> None:
        """Text as it is; on a terminal without what could move the cursor."""
        self.stdout.write(printable(text, lines=True) if self.stdout.isatty() else text)

    def passage(self, text: str, *, marks: tuple[str, str] | None = None) -> None:
        """A line of text; what stands between the marks is bold on a terminal, and keeps its marks elsewhere."""
        shown = printable(text)
        if marks and self.stdout.isatty():
            shown = shown.replace(marks[0], "\x1b[1m").replace(marks[1], "\x1b[22m") + "\x1b[0m"
        self._line(shown)

    def say(self, message: str) -> None:
        """A word to the person; never part of the answer."""
        if not self.quiet:
            self.warn(message)

    def warn(self, message: str) -> None:
        """A word that is said even to who asked for quiet."""
        print(printable(message, lines=True), file=self.stderr, flush=True)

    @contextmanager
    def progress(self, label: str, *, total: float | None = None, unit: str = "") -> Iterator[Progress]:
        """A bar on a terminal; elsewhere a line now and then and one at the end."""
        if self.quiet:
            yield _NoProgress()
        elif self.stderr.isatty():
            with _rich_progress(label, total=total, unit=unit, stderr=self.stderr) as bar:
                yield bar
        else:
            lines = PlainProgress(label, total=total, unit=unit, say=self.say)
            yield lines
            lines.close()

    def _json(self, data: object) -> None:
        self._line(self._as_json(data))

    @staticmethod
    def _as_json(data: object) -> str:
        return escaped_json(json.dumps(_jsonable(data), ensure_ascii=False, indent=2, allow_nan=False))

    def _line(self, line: str) -> None:
        print(line, file=self.stdout)

    def _plain_table(
        self, rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], *, headed: bool = True
    ) -> None:
        from rich.cells import cell_len

        lines = [[column.heading for column in columns], *([column.cell(row) for column in columns] for row in rows)]
        widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
        for line in lines if headed else lines[1:]:
            cells = zip(line, widths, columns, strict=True)
            padded = [
                " " * (width - cell_len(cell)) + cell if column.right else cell + " " * (width - cell_len(cell))
                for cell, width, column in cells
            ]
            self._line(GAP.join(padded).rstrip())

    def _rich_table(self, rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> None:
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for column in columns:
            table.add_column(Text(column.heading), justify="right" if column.right else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(column.cell(row)) for column in columns))  # Text: markup in data stays text
        Console(file=self.stdout, highlight=False).print(table)


class PlainProgress:
    """Progress as occasional lines, for log files."""

    def __init__(
        self,
        label: str,
        *,
        total: float | None,
        unit: str,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.label, self.total, self.unit, self.note = label, total, unit, ""
        self.done: float = 0
        self._say, self._clock = say, clock
        self._told_at, self._told = clock(), ""

    def advance(self, count: float = 1) -> None:
        self.update(done=self.done + count)

    def update(self, *, done: float | None = None, total: float | None = None, note: str | None = None) -> None:
        self.done = self.done if done is None else done
        self.total = self.total if total is None else total
        self.note = self.note if note is None else note
        if self._clock() - self._told_at >= PLAIN_PROGRESS_SECONDS:
            self._tell()

    def close(self) -> None:
        self._tell()

    def _tell(self) -> None:
        of = "" if self.total is None else f" of {self.total:g}"
        unit = f" {self.unit}" if self.unit else ""
        note = f", {self.note}" if self.note else ""
        line = f"{self.label}: {self.done:g}{of}{unit}{note}"
        self._told_at = self._clock()
        if line != self._told:
            self._told = line
            self._say(line)


class _NoProgress:
    def advance(self, count: float = 1) -> None: ...

    def update(self, *, done: float | None = None, total: float | None = None, note: str | None = None) -> None: ...


@contextmanager
def _rich_progress(label: str, *, total: float | None, unit: str, stderr: TextIO) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    bars = Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit, markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=Console(file=stderr),
    )
    task = bars.add_task(printable(label), total=total, note="")

    class Bar:
        def advance(self, count: float = 1) -> None:
            bars.advance(task, count)

        def update(self, *, done: float | None = None, total: float | None = None, note: str | None = None) -> None:
            fields: dict[str, Any] = {} if note is None else {"note": printable(note)}
            bars.update(task, completed=done, total=total, **fields)

    with bars:
        yield Bar()


def plain_text(value: Any) -> str:  # noqa: PLR0911 - one line for each kind of value
    """A value as a person reads it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Enum):
        return plain_text(value.value)
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(plain_text(item) for item in value) or "-"
    return str(value)


def clock(seconds: float) -> str:
    """A length of time as H:MM:SS."""
    return str(timedelta(seconds=round(seconds)))


def _jsonable(value: Any) -> Any:  # noqa: PLR0911 - one line for each kind of value
    if isinstance(value, Enum):
        return _jsonable(value.value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, date):  # datetime is one too
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if is_dataclass(value) and not isinstance(value, type):
        return _jsonable(asdict(value))
    if isinstance(value, Sequence):
        return [_jsonable(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(_jsonable(item) for item in value)
    if isinstance(value, PurePath | UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")
