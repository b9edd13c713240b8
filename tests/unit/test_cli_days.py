"""Days and sites are said to every command in the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

import click
import pytest
from click.testing import CliRunner

from hpc.cli.main import cli as dayscribe
from hpc.cli.options import day_option, days_options, period_options

TWO = ["2025-01-30", "2025-01-31"]


def commands(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        one = group.get_command(context, name)
        assert one is not None
        if isinstance(one, click.Group):
            yield from commands(one, f"{path}{name} ")
        else:
            yield f"{path}{name}", one


def names(command: click.Command) -> set[str]:
    """Of the options, and [DAY] or [DAYS] for the argument."""
    options = {name for one in command.params if isinstance(one, click.Option) for name in one.opts}
    arguments = {one.metavar or "" for one in command.params if isinstance(one, click.Argument)}
    return options | (arguments & {"[DAY]", "[DAYS]"})


EVERY = {path: names(command) for path, command in commands(dayscribe)}


def test_a_day_is_named_alike_in_every_command() -> None:
    assert {path for path, said in EVERY.items() if "--day" in said} == set()
    assert {path for path, said in EVERY.items() if "[DAY]" in said and not said >= {"--date", "--site"}} == set()
    assert {path for path, said in EVERY.items() if "[DAYS]" in said and "--from" not in said} == set()
    span = {"--date", "--from", "--to", "--site"}
    assert {path for path, said in EVERY.items() if "--from" in said and not said >= span} == set()
    assert sum("[DAYS]" in said for said in EVERY.values()) == 8
    assert sum("[DAY]" in said for said in EVERY.values()) == 7


def heard(options: Callable[[Any], Any], arguments: list[str]) -> Any:
    """What a command is told, or with what it is refused."""
    told: dict[str, Any] = {}

    @click.command()
    @options
    def command(**said: Any) -> None:
        told.update(said)

    result = CliRunner().invoke(command, arguments)
    return told if result.exit_code == 0 else (result.exit_code, result.output)


@pytest.mark.parametrize(
    ("arguments", "days"),
    [
        (["2025-01-31"], ["2025-01-31"]),
        (["--date", "2025-01-31"], ["2025-01-31"]),
        (["--from", "2025-01-31", "--to", "2025-01-31"], ["2025-01-31"]),
        (["2025-01-30..2025-01-31"], TWO),
        (["--from", "2025-01-30", "--to", "2025-01-31"], TWO),
    ],
)
def test_days_are_said_by_themselves_or_by_options(arguments: list[str], days: list[str]) -> None:
    assert heard(days_options(), arguments) == {"days": tuple(map(date.fromisoformat, days))}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Say which days, in one way: DAYS, --date, or --from and --to."),
        (["2025-01-31", "--date", "2025-01-31"], "in one way"),
        (["2025-01-31", "--from", "2025-01-30", "--to", "2025-01-31"], "in one way"),
        (["--date", "2025-01-31", "--to", "2025-01-31"], "--date is one day"),
        (["--from", "2025-01-31"], "--from and --to go together"),
        (["--from", "2025-01-31", "--to", "2025-01-30"], "The range ends on 2025-01-30 before it begins"),
        (["--date", "2025-02-30"], "not in the calendar"),
    ],
)
def test_days_that_are_not_said_or_said_twice_are_refused(arguments: list[str], words: str) -> None:
    code, said = heard(days_options(), arguments)
    assert (code, words in said) == (2, True), said


def test_where_days_may_be_left_out_there_are_none() -> None:
    assert heard(days_options(required=False), []) == {"days": None}


def test_one_day_is_said_by_itself_or_by_its_option_and_never_left_out() -> None:
    day = {"day": date(2025, 1, 31)}
    assert heard(day_option, ["2025-01-31"]) == heard(day_option, ["--date", "2025-01-31"]) == day
    assert heard(day_option, [])[0] == heard(day_option, ["2025-01-31", "--date", "2025-01-31"])[0] == 2


def test_a_period_may_be_open_at_either_end() -> None:
    first, last = map(date.fromisoformat, TWO)
    assert heard(period_options, []) == {"first": None, "last": None}
    assert heard(period_options, ["--from", TWO[0]]) == {"first": first, "last": None}
    assert heard(period_options, ["--from", TWO[0], "--to", TWO[1]]) == {"first": first, "last": last}
    assert heard(period_options, ["--date", TWO[1]]) == {"first": last, "last": last}
    assert heard(period_options, ["--date", TWO[1], "--to", TWO[1]])[0] == 2
