"""Named queries: the loader refuses what is ambiguous, and files and modules agree on every name."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import db
from db import sql

HOUSE = Path(db.__file__).parent
MODULES = sorted(HOUSE.glob("*.py"))


def test_a_query_is_its_statement_without_name_comment_and_semicolon() -> None:
    text = "-- About this file.\n\n-- name: one\n-- What it does,\n-- at length.\nSELECT 1\nFROM a; -- b\n"
    text += "\n-- name: two\nSELECT 2;\n"
    assert sql.parse(text, "x.sql") == {"one": "SELECT 1\nFROM a; -- b", "two": "SELECT 2"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("-- name: one\nSELECT 1;\n-- name: one\nSELECT 2;\n", "two queries are named one"),
        ("-- name: one\n-- name: two\nSELECT 2;\n", "one has no statement"),
        ("SELECT 1;\n-- name: two\nSELECT 2;\n", "a statement stands before"),
        ("-- name: One two\nSELECT 2;\n", "'One two' is no name"),
        ("-- name:\nSELECT 2;\n", "'' is no name"),
    ],
)
def test_an_ambiguous_file_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"^x.sql: {why}"):
        sql.parse(text, "x.sql")


def test_the_loaded_names_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        sql.load("connect.sql")["set_up"] = "SELECT 1"  # type: ignore[index]


def test_every_named_query_is_used_and_every_used_name_exists() -> None:
    named = {(path.name, name) for path in sql.QUERIES.glob("*.sql") for name in sql.load(path.name)}
    trees = {path.stem: ast.parse(path.read_text(encoding="utf-8")) for path in MODULES}
    others = {module: _loaded(tree) for module, tree in trees.items()}
    used = {pair for tree in trees.values() for pair in _used(tree, others)}
    assert named == used


def test_no_module_spells_a_statement() -> None:
    """A string that is executed comes from a file: nothing but names of queries and what they are loaded into."""
    spelled = [
        f"{path.name}:{node.lineno}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("execute", "executemany", "copy")
        and node.args
        and isinstance(node.args[0], ast.Constant | ast.JoinedStr)
    ]
    assert spelled == []


def _loaded(tree: ast.Module) -> dict[str, str]:
    """The file that each name of a module was loaded from: {"SQL": "days.sql"}."""
    files: dict[str, str] = {}
    for node in tree.body:
        match node:
            case ast.Assign(
                targets=[ast.Name(id=name)],
                value=ast.Call(func=ast.Name(id="load"), args=[ast.Constant(value=str(file))]),
            ):
                files[name] = file
    return files


def _used(tree: ast.Module, others: dict[str, dict[str, str]]) -> set[tuple[str, str]]:
    """(file, query) of each SQL["query"], each shards.SQL["query"], and each string handed to a helper's SQL[name]."""
    files = _loaded(tree)
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    found: set[tuple[str, str]] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=str(query))) if name in files:
                found.add((files[name], query))
            case ast.Subscript(value=ast.Name(id=name), slice=ast.Name()) if name in files:
                found |= {(files[name], text) for text in texts & set(sql.load(files[name]))}
            case ast.Subscript(
                value=ast.Attribute(value=ast.Name(id=module), attr=name), slice=ast.Constant(value=str(query))
            ) if name in others.get(module, {}):
                found.add((others[module][name], query))
    return found
