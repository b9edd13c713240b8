"""The command line around the commands: lazy imports, exit codes, one sentence for every error, and what is printed."""

from __future__ import annotations

import errno
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

import hpc.cli
from db.errors import BadData, LedgerAway, NeedsConfiguration
from hpc.cli import main

SHOWING_MODULES = """
import sys
from hpc.cli.main import main
try:
    main({})
finally:
    print(*sys.modules, file=sys.stderr)
"""
HEAVY = {"torch", "whisperx", "faster_whisper", "psycopg", "pyarrow", "flask", "numpy", "av", "pydantic", "rich"}


@pytest.fixture(autouse=True)
def undisturbed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings of this machine, and the log left alone."""
    for name in list(os.environ):
        if name.startswith("DAYSCRIBE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr("hpc.log.configure", lambda **_options: None)


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main.main(list(arguments))
    assert isinstance(left.value.code, int)
    return left.value.code


def planted(monkeypatch: pytest.MonkeyPatch, body: Any) -> None:
    """Adds a command `planted` that does what the test wants."""
    monkeypatch.setitem(main.COMMANDS, "planted", "planted")
    module = type(sys)("hpc.cli.planted")
    module.command = click.command()(body)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "hpc.cli.planted", module)


def every_command() -> Iterator[tuple[str, click.Command]]:
    def below(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
        yield name, command
        if isinstance(command, click.Group):
            for child, inner in command.commands.items():
                yield from below(f"{name} {child}", inner)

    for name, module in main.COMMANDS.items():
        yield from below(name, importlib.import_module(f"hpc.cli.{module}").command)


# --- the group -------------------------------------------------------------------------------------------------------


def test_help_imports_nothing_heavy_and_names_every_command() -> None:
    script = SHOWING_MODULES.format(["--help"])

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert {name.partition(".")[0] for name in done.stderr.split()} & HEAVY == set()
    assert [name for name in main.COMMANDS if f"\n  {name} " not in done.stdout] == []


def test_only_the_module_of_the_command_that_is_used_is_imported() -> None:
    script = (
        "import sys\nfrom hpc.cli.main import main\ntry: main(['completion', 'bash'])\nfinally: print(*sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert {"hpc.cli.config", "hpc.config"} & set(done.stderr.split()) == set()


@pytest.mark.parametrize(("name", "command"), list(every_command()))
def test_every_command_explains_itself_in_a_short_first_line_and_a_sentence(name: str, command: click.Command) -> None:
    first = (command.help or "").strip().splitlines()[0]

    assert first.endswith(".")
    assert len(first) <= 60
    assert (command.help or "").strip().endswith(".")
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert (parameter.help or "").endswith("."), parameter.name


@pytest.mark.parametrize(("name", "command"), list(every_command()))
def test_every_command_answers_in_json_except_those_that_print_a_script_or_a_file(
    name: str, command: click.Command
) -> None:
    if isinstance(command, click.Group) or name in {"completion"}:
        return
    assert any("--json" in parameter.opts for parameter in command.params)


def test_every_module_that_has_a_command_is_listed() -> None:
    files = Path(hpc.cli.__file__).parent.glob("*.py")

    assert {file.stem for file in files if "\ndef command(" in file.read_text()} == set(main.COMMANDS.values())


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (BadData("The archive is cut."), 65, "dayscribe: The archive is cut.\n"),
        (LedgerAway(), 75, f"dayscribe: {LedgerAway.__doc__}\n"),
        (NeedsConfiguration("a\x1b[31mb"), 78, "dayscribe: a\\x1b[31mb\n"),
        (KeyboardInterrupt(), 130, "\ndayscribe: Interrupted.\n"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), 1, "dayscribe: /x/y: Permission denied.\n"),
    ],
)
def test_an_error_is_one_sentence_and_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, said: str
) -> None:
    def body() -> None:
        raise error

    planted(monkeypatch, body)

    assert call("planted") == code
    assert capsys.readouterr() == ("", said)


def test_what_nobody_foresaw_is_called_a_bug_and_the_way_to_its_place_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def body() -> None:
        raise LookupError("where")

    planted(monkeypatch, body)

    assert call("planted") == 1
    said = capsys.readouterr().err
    assert "bug" in said and "LookupError: where" in said and "--debug" in said and "Traceback" not in said
    assert call("--debug", "planted") == 1
    assert "Traceback" in capsys.readouterr().err


def test_debug_shows_where_an_error_of_ours_came_from_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def body() -> None:
        raise BadData("no")

    planted(monkeypatch, body)

    assert call("--debug", "planted") == 65
    assert "in body" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["nonsense"], ["config", "show", "--nonsense"], ["completion", "tcsh"], []])
def test_a_wrong_call_exits_with_two_and_leaves_stdout_empty(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Usage: dayscribe" in err


def test_a_wrong_setting_exits_with_78_and_says_which(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--set", "engine.modle=x", "config", "show") == 78
    assert capsys.readouterr().err == "dayscribe: --set: engine.modle is not a setting; did you mean engine.model?\n"


def test_a_reader_that_leaves_early_is_no_error_to_talk_about() -> None:
    script = "from hpc.cli.main import main; main(['config', 'show', '--json'])"
    reader, writer = os.pipe()
    os.close(reader)

    done = subprocess.run([sys.executable, "-c", script], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)

    assert (done.returncode, done.stderr) == (1, "")


# --- commands of the shell itself ------------------------------------------------------------------------------------


def test_config_show_tells_value_and_origin(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DAYSCRIBE_SERVE__PORT", "7")

    assert call("--set", "engine.model=tiny", "config", "show", "--json") == 0

    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert (rows["engine.model"]["value"], rows["engine.model"]["origin"]) == ("tiny", "command line")
    assert (rows["serve.port"]["value"], rows["serve.port"]["origin"]) == (7, "environment DAYSCRIBE_SERVE__PORT")
    assert list(rows["home"]) == ["name", "value", "origin", "help"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_that_asks_us(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("completion", shell) == 0
    assert f"_DAYSCRIBE_COMPLETE={shell}_complete" in capsys.readouterr().out


def test_a_shell_that_asks_for_completions_gets_the_commands() -> None:
    environment = os.environ | {"_DAYSCRIBE_COMPLETE": "bash_complete", "COMP_WORDS": "dayscribe co", "COMP_CWORD": "1"}
    script = "from hpc.cli.main import main; main([])"

    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["plain,compare", "plain,config", "plain,completion"]
