"""The docs are tested: generated pages are fresh, commands and settings that they name exist, links lead somewhere."""

from __future__ import annotations

import gzip
import importlib.util
import re
import shlex
import tomllib
from collections.abc import Iterator
from datetime import date
from functools import cache
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import click
import pytest

from db.states import FailureClass
from hpc.cli.main import cli
from hpc.cli.options import DAY, DAYS
from hpc.config import PREFIX, RESERVED, load, names
from hpc.model import Failure, Recording, Result, Seal, Segment, Transcript, Word
from hpc.stages.publish import Header, write_part

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
PICTURES = sorted(DOCS.rglob("*.svg"))
HOW_TOS = sorted((DOCS / "how-to").glob("*.md"))
ELLIPSIS = "…"
# Paths of somebody's machine, and hosts that packages and models come from: neither is anybody else's business.
FOREIGN = re.compile(
    r"(?<![\w.}-])/(?:work|root|tmp|srv|home/\w+)(?![\w-])|py[p]i\.org|python[h]osted|deb\.[d]ebian|docker\.io|ghcr\.io|quay\.io"
    r"|huggingface\.co|anaconda\.org|conda\.io|npmjs|proxy\.golang"
)
FAULTS = frozenset(PREFIX + name for name in ("FAULT", "FAULTS_ARMED", "FAULT_LOG", "JOB_FAULT"))
VARIABLES = {PREFIX + name.upper().replace(".", "__"): name for name in names()}


@cache
def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"script_{name}", ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(page: Path, *languages: str) -> Iterator[str]:
    for language, text in re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE):
        if language in languages:
            yield text


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def calls(page: Path) -> Iterator[str]:
    """Every call of dayscribe that the page shows: after a prompt, and between backticks."""
    for block in blocks(page, "console"):
        yield from (line[2:] for line in block.splitlines() if line.startswith("$ ") and "dayscribe" in line)
    for span in re.findall(r"`([^`\n]+)`", prose(page)):
        if re.match(r"(DAYSCRIBE_\w+=\S+ )*dayscribe( |$)", span) and ELLIPSIS not in span and "COMMAND" not in span:
            yield span


def words_of(call: str) -> list[str]:
    """The words after `dayscribe`; empty when the line does not call it (it only names the folder, say)."""
    words = shlex.split(call, comments=True)
    words = words[: words.index("|")] if "|" in words else words
    while words and (match := re.fullmatch(r"(\w+)=.*", words[0])):
        assert match[1] in VARIABLES or match[1] in RESERVED, f"{match[1]} is no setting"
        words = words[1:]
    return words[1:] if words[:1] == ["dayscribe"] else []


def check_call(words: list[str], command: click.Command = cli, parent: click.Context | None = None) -> None:
    """Fail unless commands and options exist, and choices and days are right. Nothing is run."""
    context = click.Context(command, parent=parent, info_name=command.name)
    values, rest, order = command.make_parser(context).parse_args(list(words))
    for parameter in order:
        given = values.get(parameter.name)
        for value in given if isinstance(given, list | tuple) else [given]:
            if isinstance(parameter.type, click.Choice) or parameter.type in (DAY, DAYS):
                if isinstance(value, str) and not value.isupper():  # DAY and such stand for themselves
                    parameter.type.convert(value, parameter, context)
            elif parameter.name == "assignments" and isinstance(value, str):
                load(assignments=[value])
    if isinstance(command, click.Group) and rest:
        below = command.get_command(context, rest[0])
        assert below is not None, f"there is no command {rest[0]}"
        check_call(rest[1:], below, context)
    else:
        assert not rest, f"{rest} is too much"


def test_every_generated_page_is_what_the_code_says() -> None:
    stale = [shown(path) for path, text in script("docs").pages().items() if path.read_text() != text]
    assert stale == [], "run: python scripts/docs.py"


def test_every_command_has_its_place_in_the_reference() -> None:
    page = (DOCS / "reference" / "cli.md").read_text()
    missing = [name for name, *_ in script("docs").commands() if f"\n## {name}\n" not in page]
    assert missing == []


def test_every_setting_and_every_variable_that_is_none_is_in_the_reference() -> None:
    page = (DOCS / "reference" / "configuration.md").read_text()
    wanted = [*names(), *(RESERVED - FAULTS)]
    assert [name for name in wanted if f"| `{name}` |" not in page] == []


def test_every_failure_class_says_what_to_do() -> None:
    page = (DOCS / "reference" / "failure-classes.md").read_text()
    assert [kind for kind in FailureClass if not re.search(rf"\| `{kind}` \| .{{8,}} \| .{{8,}} \|", page)] == []


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_call_that_a_page_shows_is_one_that_dayscribe_takes(
    page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # no settings file of whoever runs the tests
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for call in calls(page):
        try:
            check_call(words_of(call))
        except (click.UsageError, AssertionError, ValueError) as error:
            pytest.fail(f"{shown(page)}: {call}\n{error}")


def test_the_check_of_calls_refuses_what_does_not_exist() -> None:
    for wrong in (
        "day list",
        "days lst",
        "run 2025-01-31 --fodler x",
        "export 2025-02-30 --out x",
        "show 5 --format doc",
    ):
        with pytest.raises((click.UsageError, AssertionError)):
            check_call(wrong.split())


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_setting_and_variable_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    sections = "|".join(sorted({name.partition(".")[0] for name in names() if "." in name}))
    dotted = re.findall(rf"`((?:{sections})\.[a-z_]+)(?:=[^`]*)?`", text)
    variables = set(re.findall(rf"\b{PREFIX}[A-Z_]+\b", text)) - {f"{PREFIX}SECTION__NAME"}
    assert [name for name in dotted if name not in names()] == []
    assert [name for name in variables if name not in VARIABLES and name not in RESERVED] == []


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_link_leads_to_a_file_and_a_heading_that_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if not re.match(r"https?://", target):
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            assert file.exists(), f"{shown(page)} leads to {target}, which is not there"
            assert not anchor or anchor in anchors(file), (
                f"{shown(page)} leads to {target}, a heading that is not there"
            )


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", [*PAGES, *PICTURES], ids=shown)
def test_no_page_names_a_place_that_is_not_the_readers(path: Path) -> None:
    assert FOREIGN.findall(path.read_text()) == []


@pytest.mark.parametrize("path", PICTURES, ids=shown)
def test_a_picture_is_whole_and_fetches_nothing(path: Path) -> None:
    text = path.read_text()
    assert ElementTree.fromstring(text).tag.endswith("svg")
    assert re.findall(r"url\(\"?http|<image|<script|@import|href=\"http", text) == []


@pytest.mark.parametrize("page", HOW_TOS, ids=shown)
def test_a_how_to_is_short_and_says_its_goal_and_what_can_go_wrong(page: Path) -> None:
    text = page.read_text()
    assert len(text.splitlines()) <= 120
    assert "\n**Goal:** " in text
    assert "\n## What can go wrong\n" in text


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "README.md").read_text()
    others = [page.relative_to(DOCS).as_posix() for page in sorted(DOCS.rglob("*.md")) if page != DOCS / "README.md"]
    assert [page for page in others if f"({page})" not in index] == []


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_test_and_file_of_ours_that_a_page_names_exists(page: Path) -> None:
    for path, name in re.findall(
        r"`((?:tests|hpc|db|scripts|bench|models|monitor)/[\w./-]*\w)(?:::(\w+))?`", page.read_text()
    ):
        assert (ROOT / path).exists(), f"{shown(page)} names {path}, which is not there"
        assert not name or f"def {name}(" in (ROOT / path).read_text(), f"{path} has no {name}"


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_example_of_settings_or_python_is_right(page: Path, tmp_path: Path) -> None:
    for number, text in enumerate(blocks(page, "toml")):
        assert tomllib.loads(text)
        file = tmp_path / f"{number}.toml"
        file.write_text(text)
        load(file)
    for text in blocks(page, "python"):
        compile(text, shown(page), "exec")


def test_the_readme_names_the_packages_that_the_installer_installs() -> None:
    script = (ROOT / "scripts" / "packages.sh").read_text()
    groups = dict(re.findall(r"^ +(\w+)\) packages\+=\((.*)\) ;;$", script, re.MULTILINE))
    assert set(groups) == {"demo", "slurm", "containers", "delivery", "browser"}
    readme = (ROOT / "README.md").read_text()
    assert [name for group in groups.values() for name in group.split() if f"`{name}`" not in readme] == []


LOG = """demo 2025-01-31: 1 of 1 shards, 3 recordings, 1 quarantined
model            a model
transcribed      2
word error rate  1.00% of 100 words
word starts      median 7 ms off
speed            engine 2.5 x real time; this run took 0:00:09 in all
results          /somebody/s/clone/.demo/results/demo/2025-01-31
API              http://127.0.0.1:8642/pipeline/status

real\t0m1.000s
"""


def test_what_the_demo_said_goes_into_its_picture_without_the_place_of_the_clone() -> None:
    drawn = re.sub(r"\s+", " ", re.sub(r"<[^>]*>|&#160;", " ", script("demo_docs").picture(LOG)))
    assert "1.00% of 100 words" in drawn
    assert "1 of 1 shards, 3 recordings" in drawn
    assert "~/dayscribe/.demo/results/demo/2025-01-31" in drawn
    assert "somebody" not in drawn
    assert "0m1.000s" not in drawn


def test_what_the_demo_said_goes_into_the_readme_and_the_tutorial() -> None:
    demo = script("demo_docs")
    table = demo.table_of(LOG)
    readme, tutorial = demo.with_rows(demo.README.read_text(), table), demo.with_table(demo.TUTORIAL.read_text(), table)
    assert "| 1.00% of 100 words, demonstration model |" in readme
    assert "| median 7 ms off |" in readme
    assert "| 2.5 x real time |" in readme
    assert "model            a model\ntranscribed      2\nword error rate  1.00% of 100 words\n" in tutorial


def test_readme_tutorial_and_picture_tell_of_one_run() -> None:
    demo = script("demo_docs")
    tutorial = demo.TUTORIAL.read_text()
    table = demo.table_of(next(block for block in blocks(demo.TUTORIAL, "text") if block.startswith("model ")))
    assert demo.with_rows(demo.README.read_text(), table) == demo.README.read_text()
    drawn = re.sub(r"\s+", " ", re.sub(r"<[^>]*>|&#160;", " ", demo.PICTURE.read_text()))
    assert [value for value in table.values() if value.replace("'", "&#x27;") not in drawn] == []
    quarantined = table["quarantined"].partition(" ")[0]
    assert f"of {table['transcribed']} transcripts" in tutorial
    assert f"hold no speech, {quarantined} are quarantined" in tutorial


def test_the_page_on_parts_names_every_field_that_a_part_has(tmp_path: Path) -> None:
    found = Recording(1, 0, b"a.mp3", 1, bytes(32))
    said = Transcript("en", (Segment("one", 0.0, 1.0, (Word("one", 0.0, 1.0, 0.9),), -0.1),), 0.9)
    results = [Result(found, said, 1.0), Result(found, Failure(FailureClass.EMPTY, "it has no bytes"))]
    header = Header("site", date(2025, 1, 31), 1, "shard", 1, "00", {}, 0.0)
    part = write_part(tmp_path, header, results, Seal(1, bytes(32), 1, 2))
    fields = set(re.findall(r'"([a-z_0-9]+)":', gzip.decompress(part.read_bytes()).decode()))
    page = (DOCS / "reference" / "parts.md").read_text()
    assert {name for name in fields if f"`{name}`" not in page and f'"{name}":' not in page} == set()
    assert fields >= {"header", "ordinal", "transcript", "segments", "words", "failure", "seal", "recordings"}
