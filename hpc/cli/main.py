"""The `dayscribe` command: finds a command's module when it is used, and turns every error into one clear sentence."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.exceptions import NoArgsIsHelpError

from db.errors import DayscribeError
from db.printable import printable
from hpc.cli.options import App

# Name → module under hpc.cli, in the order in which people meet them. Each module has one click command, `command`.
COMMANDS = {
    "run": "run",
    "work": "work",
    "demo": "demo",
    "demo-day": "demo_day",
    "sites": "sites",
    "days": "days",
    "transfers": "transfers",
    "globus": "globus",
    "schedule": "schedule",
    "jobs": "jobs",
    "slurm": "slurm",
    "ingest": "ingest",
    "reprocess": "reprocess",
    "plans": "plans",
    "status": "status",
    "digest": "digest",
    "alert": "alert",
    "show": "show",
    "search": "search",
    "runs": "runs",
    "compare": "compare",
    "sample": "sample",
    "quality": "quality",
    "export": "export",
    "snapshots": "snapshots",
    "deliver": "deliver",
    "serve": "serve",
    "db": "db",
    "models": "models",
    "bench": "bench",
    "doctor": "doctor",
    "canary": "canary",
    "config": "config",
    "completion": "completion",
}
FAILED = 1
INTERRUPTED = 130  # 128 + SIGINT, as shells say it


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the name is the library's
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"hpc.cli.{COMMANDS[cmd_name]}").command
        return command


def _version(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"dayscribe {version('dayscribe')}")
        context.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="Read the settings from FILE.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Change one setting; may be repeated.")
@click.option("--debug", is_flag=True, help="Show where an error came from.")
@click.option("-v", "--verbose", count=True, help="Log more; twice for everything.")
@click.option("-q", "--quiet", is_flag=True, help="Say only what went wrong.")
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version."
)
@click.pass_context
def cli(context: click.Context, /, *, verbose: int, quiet: bool, **options: Any) -> None:
    """Turn days of audio into searchable, time-aligned transcripts.

    Begin with `dayscribe demo`; `dayscribe doctor` says what is missing on this machine.

    Exit codes: 0 done, 1 failed, 2 usage, 65 bad data, 75 try again, 78 settings.
    """
    from hpc.log import configure

    app = context.obj = App(**options, verbosity=-1 if quiet else verbose)
    configure(verbosity=app.verbosity)


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script; leaves the process with the command's exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal without UTF-8 is no reason to fail
    debug = "--debug" in (sys.argv[1:] if arguments is None else arguments)
    code = _run(arguments, debug=debug)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has gone; click answers 1, and the interpreter's last flush must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = FAILED
    sys.exit(code)


def _run(arguments: Sequence[str] | None, *, debug: bool) -> int:
    try:
        outcome: Any = cli.main(args=arguments, prog_name="dayscribe", standalone_mode=False)
        return outcome if isinstance(outcome, int) else 0
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the one door through which every error leaves
        if debug:
            print(printable(traceback.format_exc(), lines=True), file=sys.stderr)
        code, sentence = _translated(error)
        _say(sentence if isinstance(error, NoArgsIsHelpError) else f"dayscribe: {sentence}")
        return code


def _translated(error: BaseException) -> tuple[int, str]:  # noqa: PLR0911 - one line for each kind of error
    """The exit code and the sentence for whatever ended a command."""
    if isinstance(error, DayscribeError):
        return error.exit_code, str(error)
    if isinstance(error, NoArgsIsHelpError):
        return error.exit_code, error.format_message()
    if isinstance(error, click.UsageError) and error.ctx:
        return error.exit_code, f"{error.format_message()}\n{error.ctx.get_usage()}"
    if isinstance(error, click.ClickException):
        return error.exit_code, error.format_message()
    if isinstance(error, click.Abort | KeyboardInterrupt):
        return INTERRUPTED, "Interrupted."
    if isinstance(error, OSError) and error.filename is not None:
        return FAILED, f"{error.filename}: {error.strerror}."
    what = f"{type(error).__name__}: {error}".rstrip(": ")
    return FAILED, f"This is a bug in dayscribe, please report it: {what}. `dayscribe --debug …` shows where."


def _say(sentence: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        print(printable(sentence, lines=True), file=sys.stderr, flush=True)
