"""The log: one JSON object a line for machines, one short line on a terminal; never the words of a transcript."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

from db.printable import printable

OURS = ("hpc", "db", "monitor")
# What people said, or what opens a door: neither belongs in a log, whatever a caller hands over.
WITHHELD = frozenset(
    {"text", "segments", "words", "transcript", "hotwords", "initial_prompt", "password", "token", "dsn"}
)
LONGEST = 500  # characters of one field
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(*, verbosity: int = 0, stream: TextIO | None = None) -> None:
    """Send the log to `stream` (stderr): verbosity -1 warnings only, 0 the usual, 1 and more for details."""
    stream = stream or sys.stderr
    terminal = stream.isatty()
    usual = logging.WARNING if terminal else logging.INFO  # on a terminal the progress bar tells the rest
    level = logging.WARNING if verbosity < 0 else max(usual - 10 * verbosity, logging.DEBUG)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TerminalLines() if terminal else JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(True)
    for name in OURS:
        logging.getLogger(name).setLevel(level)


class JsonLines(logging.Formatter):
    """One JSON object a line; everything but printable ASCII is escaped."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": moment,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _short(record.getMessage()),
            **_fields(record),
        }
        if record.exc_info and record.exc_info[1]:
            line["error"] = _short(f"{type(record.exc_info[1]).__name__}: {record.exc_info[1]}")
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TerminalLines(logging.Formatter):
    """Time, level, message and fields, short enough to read."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        line = printable(f"{moment} {record.levelname.lower()} {_short(record.getMessage())}{fields}")
        if record.exc_info and record.exc_info[1]:
            line += "\n" + printable(self.formatException(record.exc_info), lines=True)
        return line


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {
        name: "(withheld)" if name in WITHHELD else _short(value)
        for name, value in vars(record).items()
        if name not in _STANDARD
    }


def _short(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text)} characters)"
