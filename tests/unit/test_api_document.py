"""The OpenAPI document and the reference page are kept by hand: they say what the routes say."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

import monitor
from db.states import DayState, Finding, RecordingState, ShardState
from monitor import create_app
from monitor.api import service

HOUSE = Path(monitor.__file__).parent
PAGE = HOUSE.parent / "docs" / "reference" / "api.md"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return service.document()


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Flask:
    monkeypatch.delenv("DAYSCRIBE_API_TOKEN_FILE", raising=False)
    return create_app("")


def routes(app: Flask) -> dict[str, str]:
    """path as OpenAPI writes it → the name of its function."""
    return {
        re.sub(r"<(?:[^<>]*:)?(\w+)>", r"{\1}", rule.rule): rule.endpoint
        for rule in app.url_map.iter_rules()
        if rule.endpoint.startswith(("root.", "v1."))
    }


def test_the_document_has_every_route_and_no_other(app: Flask, document: dict[str, Any]) -> None:
    named = {path: operation["get"]["operationId"] for path, operation in document["paths"].items()}

    assert named == {path: endpoint.rpartition(".")[2] for path, endpoint in routes(app).items()}
    assert {method for operations in document["paths"].values() for method in operations} == {"get"}


def test_each_route_takes_exactly_the_parameters_that_the_document_names(document: dict[str, Any]) -> None:
    taken: dict[str, list[str]] = {}
    modules = sorted((HOUSE / "api").glob("*.py"))
    for node in (node for module in modules for node in ast.parse(module.read_text(encoding="utf-8")).body):
        if isinstance(node, ast.FunctionDef):
            for call in ast.walk(node):
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "asked.known":
                    taken[node.name] = [ast.literal_eval(argument) for argument in call.args]

    said = {
        operation["get"]["operationId"]: [
            p["name"] for p in operation["get"].get("parameters", []) if p["in"] == "query"
        ]
        for operation in document["paths"].values()
    }
    assert taken == said


def test_every_path_parameter_is_described(document: dict[str, Any]) -> None:
    for path, operation in document["paths"].items():
        described = {p["name"] for p in operation["get"].get("parameters", []) if p["in"] == "path"}
        assert described == set(re.findall(r"{(\w+)}", path))


def test_every_parameter_of_a_query_says_what_it_may_be(document: dict[str, Any]) -> None:
    said = ({"$ref"}, {"enum"}, {"format"}, {"pattern"}, {"minimum", "maximum"})
    loose = [
        (path, parameter["name"])
        for path, operation in document["paths"].items()
        for parameter in operation["get"].get("parameters", [])
        if parameter["in"] == "query" and not any(one <= set(parameter["schema"]) for one in said)
    ]
    assert loose == []


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document)):
        place: Any = document
        for step in reference.split("/"):
            place = place[step]
        assert place


def test_the_states_are_those_of_the_ledger(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]

    assert schemas["Day"]["properties"]["state"]["enum"] == [state.value for state in DayState]
    assert set(schemas["Recording"]["properties"]["state"]["enum"]) == {state.value for state in RecordingState}
    assert schemas["File"]["properties"]["finding"]["enum"] == [finding.value for finding in Finding]
    assert schemas["Slot"]["properties"]["shard"]["enum"] == [*(state.value for state in ShardState), None]


def test_the_reference_page_tells_of_every_route(document: dict[str, Any]) -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert [path for path in document["paths"] if f"`{path}`" not in page] == []
    told = set(re.findall(r"^### `(/[^`]*)`", page, re.MULTILINE))
    assert told == set(document["paths"])
