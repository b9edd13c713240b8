"""Writes the generated pages of docs/: `python scripts/docs.py`; --check only compares, and exits 1 if one is stale."""

from __future__ import annotations

import argparse
import ast
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import click

from db.states import FailureClass
from hpc.cli.demo import PROFILE
from hpc.cli.main import cli
from hpc.config import COMMAND_LINE, PREFIX, Settings
from hpc.sections import Section

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
HELP_WIDTH = 100
NOTE = "<!-- Written by scripts/docs.py from {source}; change those. -->"

# What a person does about each; a class without a line here is an error of this script.
REMEDIES = {
    FailureClass.EMPTY: "Fetch the file again; nothing of it arrived.",
    FailureClass.NOT_AUDIO: "Look at the reason. A web page in place of a clip means that the download failed.",
    FailureClass.UNDECODABLE: "Try it in a player. If it plays there, please report it with the file.",
    FailureClass.TRUNCATED: "Fetch the file again; its end is missing.",
    FailureClass.NO_AUDIO_STREAM: "Nothing: it is a film without sound, or a picture.",
    FailureClass.OVER_DURATION: "If such lengths are meant, raise `worker.max_hours`; the reason says how long it is.",
    FailureClass.RESOURCE_LIMIT: "Look at the reason: an absurd header, or a file that wants more than "
    "`worker.decode_memory_mb`.",
    FailureClass.DECODE_TIMEOUT: "On a busy machine raise `worker.decode_seconds`; else the file is at fault.",
    FailureClass.DECODER_CRASH: "Please report it with the file: it ended two decoders one after the other.",
    FailureClass.MEMBER_TOO_LARGE: "If such sizes are meant, raise `worker.max_member_mb`.",
    FailureClass.DUPLICATE_MEMBER: "Nothing: the first member of the name is transcribed. Ask who made the archive.",
    FailureClass.NOT_A_FILE: "Nothing: a link or a device in an archive is never followed.",
    FailureClass.ENGINE_ERROR: "Look at the reason. Out of memory: lower `engine.batch_size`.",
    FailureClass.ENGINE_CRASH: "Please report it with the file: the engine ends on it, and works without it.",
}
# For those whose name says it, and that have no comment beside it.
MEANINGS = {
    FailureClass.NO_AUDIO_STREAM: "a container without sound",
    FailureClass.OVER_DURATION: "longer than `worker.max_hours`",
    FailureClass.DECODE_TIMEOUT: "not decoded within `worker.decode_seconds`",
    FailureClass.DECODER_CRASH: "the decoder's process ends on it",
    FailureClass.MEMBER_TOO_LARGE: "a file of more than `worker.max_member_mb`",
    FailureClass.ENGINE_ERROR: "the engine raises an error on it",
    FailureClass.ENGINE_CRASH: "the engine's process ends on it, or says nothing for `worker.engine_hang_seconds`",
}
EXITS = (
    (0, "done", "Go on."),
    (1, "failed", "Read the sentence. It may be a bug: `dayscribe --debug …` shows where."),
    (2, "usage", "The command line is wrong; `--help` shows how it goes."),
    (65, "bad data", "The input will never work as it is, or some of a day's recordings are quarantined."),
    (75, "try again", "Run the same command again, later. A job scheduler may do so by itself."),
    (78, "settings", "A person has to change a setting or install something; the sentence says what."),
    (130, "interrupted", "Ctrl-C, before there was work in hand."),
)


class Error(NamedTuple):
    """One class of the error tree."""

    name: str
    base: str
    message: str
    exit_code: int | None  # None: as its base


def main() -> int:
    """Write the pages, or with --check only compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a page is not as it should be")
    asked = parser.parse_args()
    stale = [path for path, text in pages().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        print(f"{path.relative_to(ROOT)} {'is not up to date' if asked.check else 'written'}")
        if not asked.check:
            path.write_text(pages()[path], encoding="utf-8")
    return 1 if asked.check and stale else 0


def pages() -> dict[Path, str]:
    """Every generated page and its text."""
    reference = DOCS / "reference"
    made = {
        reference / "cli.md": cli_page(),
        reference / "configuration.md": configuration_page(),
        reference / "exit-codes.md": exit_codes_page(),
        reference / "failure-classes.md": failure_classes_page(),
    }
    if (script := DOCS / "states.py").exists():
        states: Callable[[], str] = _loaded(script).page
        made[reference / "states.md"] = states()
    return made


DAYS = """Days and sites are said to every command in the same way:

- `--date 2025-01-31`, or `--from 2025-01-01 --to 2025-01-31` with both ends in it; `yesterday` is a day, too. What is
  done to days takes them as an argument as well: `2025-01-31`, `2025-01-01..2025-01-31`. What is done to one day has
  no `--from` and `--to`.
- What only looks (`search`, and the lists of days, jobs and transfers) and `reprocess` may have one end left out:
  then there is none.
- `--site zurich` may be left out where there is only one site; of several, the command names them and does nothing.
  What looks at all sites, as its `--site` says, does so without it.
"""


def commands() -> Iterator[tuple[str, click.Command, click.Context]]:
    """Every command with its full name and a context to print its help in."""
    root = click.Context(cli, info_name="dayscribe", terminal_width=HELP_WIDTH, **cli.context_settings)
    yield from _below("dayscribe", cli, root)


def cli_page() -> str:
    """The help of every command."""
    lines = ["# Commands", "", NOTE.format(source="the commands' own help"), "", DAYS]
    lines += ["`dayscribe COMMAND --help` prints the same. Options of `dayscribe` itself stand before the command:"]
    lines += ["`dayscribe --set engine.language=de run …`. Every command that answers has `--json`: the answer goes to"]
    lines += ["stdout, talk and progress to stderr.", ""]
    for name, command, context in commands():
        lines += [f"## {name}", "", "```text", command.get_help(context), "```", ""]
    return "\n".join(lines)


def configuration_page() -> str:
    """Every setting with its default, its range and its name in the environment."""
    lines = ["# Settings", "", NOTE.format(source="hpc/config.py"), ""]
    lines += _how_settings_work()
    for title, rows in _settings().items():
        lines += [f"## {title}", "", "| setting | default | allowed | what it is for |", "| --- | --- | --- | --- |"]
        lines += [*rows, ""]
    changed = [f"`{one}`" for one in PROFILE]
    lines += ["## What the demo changes", ""]
    lines += ["`dayscribe demo` sets these below everything else, so that the command line still goes over them:", ""]
    lines += [*(f"- {one}" for one in changed)]
    lines += ["- `engine.model` and `engine.aligner`: the two small models in `models/demo`", ""]
    return "\n".join(lines)


def exit_codes_page() -> str:
    """Exit codes, and which error has which."""
    lines = ["# Exit codes", "", NOTE.format(source="the error tree (db/errors.py, hpc/errors.py)"), ""]
    lines += ["| code | means | what to do |", "| --- | --- | --- |"]
    lines += [f"| {code} | {means} | {act} |" for code, means, act in EXITS]
    lines += [
        "",
        "`dayscribe run` ends with 65 when the day is done and something of it is quarantined or failed: look at",
    ]
    lines += ["`dayscribe days show`. `dayscribe demo` ends with 0 when exactly the planted recordings are.", ""]
    lines += ["## Errors", "", "Each prints its own sentence, or one that says more about the case.", ""]
    lines += ["| error | exit code | sentence |", "| --- | --- | --- |"]
    tree = errors()
    for error in sorted(tree.values(), key=lambda one: (_code(one, tree), one.name)):
        if error.exit_code is None:
            lines.append(f"| `{error.name}` | {_code(error, tree)} | {error.message} |")
    return "\n".join([*lines, ""])


def failure_classes_page() -> str:
    """Why a recording or a shard has no transcript, and what to do."""
    lines = ["# Failure classes", "", NOTE.format(source="db/states.py and the remedies in this script"), ""]
    lines += [
        "A recording that cannot be transcribed is **quarantined**: a row with one of these classes and a reason."
    ]
    lines += [
        "Its neighbours never notice. `dayscribe days show` groups them, `dayscribe show NAME` says why one is.",
        "",
    ]
    lines += ["| class | what it is | what to do |", "| --- | --- | --- |"]
    told = _comments(ROOT / "db" / "states.py", "FailureClass")
    for kind in FailureClass:
        lines.append(f"| `{kind}` | {told[kind.name] or MEANINGS[kind]} | {REMEDIES[kind]} |")
    lines += [
        "",
        "A quarantined recording keeps its outcome: `dayscribe days retry` is for shards, and a changed setting",
    ]
    lines += [
        "counts for what is transcribed from then on. [Bad input](../how-to/bad-input.md) says how a mended file",
        "comes in.",
    ]
    lines.append("")
    lines += ["## Shards", "", "A **shard** (an archive, or a group of loose files) can fail as a whole:", ""]
    lines += ["| class | what it is | what to do |", "| --- | --- | --- |"]
    lines += [
        "| `archive_damaged` | the archive does not read to its end; nothing of it becomes visible "
        "| Fetch it again under the same name, then `dayscribe days retry` and `dayscribe run`. |",
        "| `source_missing` | a listed file is not there any more | Put it back, then the same two commands. |",
        "| `attempts_exhausted` | it was tried `worker.max_attempts` times and nothing of it was ever recorded "
        "| Look into the worker's log, then the same two commands. |",
        "| `job_ended` | its tasks had no ledger, and `worker.max_attempts` jobs in a row recorded nothing of it "
        "| `dayscribe jobs list` and the tasks' logs, then `dayscribe days retry`. |",
        "",
        "Any other class is the name of an error in [Exit codes](exit-codes.md).",
        "",
    ]
    return "\n".join(lines)


def errors() -> dict[str, Error]:
    """The error tree, read from the source: importing everything would load the engine."""
    found = {}
    for path in sorted(path for folder in ("db", "hpc", "monitor") for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and len(node.bases) == 1 and isinstance(node.bases[0], ast.Name):
                message = (ast.get_docstring(node) or "").partition("\n\n")[0].replace("\n", " ")
                found[node.name] = Error(node.name, node.bases[0].id, message, _own_code(node))
    return {name: error for name, error in found.items() if "DayscribeError" in _line(error, found)}


def _below(
    name: str, command: click.Command, context: click.Context
) -> Iterator[tuple[str, click.Command, click.Context]]:
    yield name, command, context
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            child = command.get_command(context, each)
            assert child is not None
            below = click.Context(child, info_name=each, parent=context, terminal_width=HELP_WIDTH)
            yield from _below(f"{name} {each}", child, below)


def _settings() -> dict[str, list[str]]:
    """Section → its rows; the settings without a section come first."""
    schema = Settings.model_json_schema()
    general: list[str] = []
    sections: dict[str, list[str]] = {"General": general}
    for name, field in Settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            properties = schema["$defs"][kind.__name__]["properties"]
            title = f"{name}: {(kind.__doc__ or '').rstrip('.')}"
            sections[title] = [
                _row(f"{name}.{key}", inner.get_default(call_default_factory=True), properties[key], inner.description)
                for key, inner in kind.model_fields.items()
            ]
        else:
            general.append(_row(name, _general_default(name, field), schema["properties"][name], field.description))
    return sections


def _general_default(name: str, field: Any) -> Any:
    return "~/.local/share/dayscribe" if name == "home" else field.get_default(call_default_factory=True)


def _row(name: str, default: Any, rules: Mapping[str, Any], help_text: str | None) -> str:
    shown = (
        str(default).lower() if isinstance(default, bool) else f"{default:g}" if isinstance(default, float) else default
    )
    told = "(empty)" if shown in (None, "", []) else f"`{shown}`"
    return f"| `{name}` | {told} | {_allowed(rules)} | {help_text} |"


def _allowed(rules: Mapping[str, Any]) -> str:
    """What values a setting takes, from its JSON schema."""
    for one in rules.get("anyOf", ()):
        if one.get("type") != "null":
            return _allowed(one)
    if "enum" in rules:
        return ", ".join(f"`{value}`" for value in rules["enum"])
    if rules.get("type") in ("integer", "number"):
        kind = "whole number" if rules["type"] == "integer" else "number"
        words = {"exclusiveMinimum": "above", "minimum": "from", "maximum": "to"}
        limits = " ".join(f"{word} {rules[key]:g}" for key, word in words.items() if key in rules)
        return f"{kind} {limits}".strip()
    if rules.get("type") == "array":
        paths = rules.get("items", {}).get("format") == "path"
        return f"{'folders (`:`' if paths else 'words (a space'} between them in the environment)"
    if rules.get("format") == "path":
        return "a folder"
    return "`true`, `false`" if rules.get("type") == "boolean" else "text"


def _how_settings_work() -> list[str]:
    return [
        f"A setting is looked for in this order: the {COMMAND_LINE} (`--set engine.language=de`), the environment",
        f"(`{PREFIX}ENGINE__LANGUAGE=de`: the prefix, capitals, two underscores for the dot), the file",
        "`dayscribe.toml` (`--config FILE`, else `$DAYSCRIBE_CONFIG`, else the one in this folder, else",
        "`~/.config/dayscribe/dayscribe.toml`), the default. A misspelt name is an error that names the nearest right",
        "one. `dayscribe config show` lists every value and where it comes from.",
        "",
        "```toml",
        'home = "/data/dayscribe"',
        "",
        "[engine]",
        'language = "de"',
        "batch_size = 32",
        "```",
        "",
        "A folder in the file counts from that file's own folder, so the file may move together with what it names.",
        "",
        "Names in the environment that look like settings and are none:",
        "",
        "| variable | what it says |",
        "| --- | --- |",
        "| `DAYSCRIBE_CONFIG` | where `dayscribe.toml` is |",
        "| `DAYSCRIBE_PG_BINDIR` | the folder of PostgreSQL's programs, for a server of one's own |",
        "| `DAYSCRIBE_MONITOR_DSN` | how the API finds the ledger ([API](api.md)) |",
        "| `DAYSCRIBE_API_TOKEN_FILE` | the file with the API's token ([API](api.md)) |",
        "| `DAYSCRIBE_GLOBUS_SECRET` | a service account's secret, for who has no file; jobs are not told it "
        "([Globus](../how-to/globus.md)) |",
        "| `DAYSCRIBE_ALERT_PASSWORD` | the password of `alert.smtp_user`, for who has no file; jobs are not told it "
        "([alerts](../how-to/alerts.md)) |",
        "| `DAYSCRIBE_SITE` | the cluster's settings that the master script reads; else `slurm/sites/site.env` |",
        "| `DAYSCRIBE_EXCHANGE` | `yes`: the master script runs SLURM's commands, a tick asks for them in files |",
        "| `DAYSCRIBE_PYTHON` | the Python that jobs run; else the one that ticks |",
        "| `DAYSCRIBE_SCRIPTS` | the folder of the job scripts; the master script sets it |",
        "| `DAYSCRIBE_CODE` | the copy of the code that a job runs; its order sets it |",
        "| `DAYSCRIBE_IMAGE_SHA256` | the digest of the image that a job runs in; its order sets it |",
        "| `DAYSCRIBE_STAGED` | the folders of audio that a job's image is shown; its order sets it |",
        "| `DAYSCRIBE_INSIDE` | which of our images we run in, `audio` or `utils`; the job script sets it |",
        "| `DAYSCRIBE_JOB` | a job's folder, with its order; its order sets it |",
        "",
    ]


def _code(error: Error, tree: Mapping[str, Error]) -> int:
    return next(one.exit_code for name in _line(error, tree) if (one := tree[name]).exit_code is not None)


def _line(error: Error, tree: Mapping[str, Error]) -> list[str]:
    """The error and what it descends from, as far as it is ours."""
    line = [error.name]
    while (base := tree[line[-1]].base) in tree and base not in line:
        line.append(base)
    return line


def _own_code(node: ast.ClassDef) -> int | None:
    for one in node.body:
        target = (
            one.target if isinstance(one, ast.AnnAssign) else one.targets[0] if isinstance(one, ast.Assign) else None
        )
        value = one.value if isinstance(one, ast.AnnAssign | ast.Assign) else None
        if isinstance(target, ast.Name) and target.id == "exit_code" and isinstance(value, ast.Constant):
            return int(str(value.value))
    return None


def _comments(path: Path, name: str) -> dict[str, str]:
    """Member → the comment behind it."""
    lines = path.read_text(encoding="utf-8").splitlines()
    body = next(n for n in ast.parse("\n".join(lines)).body if isinstance(n, ast.ClassDef) and n.name == name).body
    found = {}
    for one in body:
        if isinstance(one, ast.Assign) and isinstance(one.targets[0], ast.Name):
            found[one.targets[0].id] = lines[one.lineno - 1].partition("  # ")[2]
    return found


def _loaded(script: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"docs_{script.stem}", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.exit(main())
