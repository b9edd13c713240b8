"""The log: one JSON object a line for machines, short lines on a terminal, and never what people said."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import datetime

import pytest

from hpc.log import configure


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
    root = logging.getLogger()
    before = list(root.handlers), root.level
    yield
    logging.captureWarnings(False)
    root.handlers, root.level = before


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_the_log_is_one_json_object_a_line() -> None:
    stream = io.StringIO()
    configure(stream=stream)

    logging.getLogger("hpc.pipeline").info("shard %s settled\n", "a\x1b[2J\u202e", extra={"shard": 3, "seconds": 1.5})
    logging.getLogger("somebody.else").info("chatter")

    assert stream.getvalue().count("\n") == 1
    assert all(32 <= ord(character) < 127 for character in stream.getvalue().rstrip("\n"))
    line = json.loads(stream.getvalue())
    assert datetime.fromisoformat(line.pop("time")).utcoffset() is not None
    assert line == {
        "level": "info",
        "logger": "hpc.pipeline",
        "message": "shard a\x1b[2J\u202e settled\n",
        "shard": 3,
        "seconds": 1.5,
    }


@pytest.mark.parametrize("terminal", [False, True])
def test_the_log_withholds_words_and_secrets_and_cuts_what_is_long(terminal: bool) -> None:
    stream = Terminal() if terminal else io.StringIO()
    configure(stream=stream)
    secret = {"text": "private words", "segments": ["private words"], "dsn": "private words", "token": "private words"}

    logging.getLogger("hpc").warning("x" * 10_000, extra=secret)

    assert "private" not in stream.getvalue()
    assert "(withheld)" in stream.getvalue()
    assert len(stream.getvalue()) < 1000


def test_on_a_terminal_the_log_is_short_lines_from_warnings_up_unless_more_is_asked_for() -> None:
    stream = Terminal()
    for verbosity in (0, 1):
        configure(stream=stream, verbosity=verbosity)
        logging.getLogger("hpc").info("settled", extra={"shard": verbosity})
        logging.getLogger("hpc").warning("late\x1b", extra={"shard": verbosity})

    lines = [line.partition(" ")[2] for line in stream.getvalue().splitlines()]
    assert lines == ["warning late\\x1b shard=0", "info settled shard=1", "warning late\\x1b shard=1"]


def test_an_exception_in_the_log_stays_on_its_line() -> None:
    stream = io.StringIO()
    configure(stream=stream)
    try:
        raise ValueError("bad\nline")
    except ValueError:
        logging.getLogger("hpc").exception("failed")

    assert stream.getvalue().count("\n") == 1
    line = json.loads(stream.getvalue())
    assert line["error"] == "ValueError: bad\nline"
    assert "Traceback" in line["traceback"]
