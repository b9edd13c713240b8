"""The API keeps its own description's word: schemathesis asks every route what that allows, and what it does not."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest
import schemathesis
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi.checks import positive_data_acceptance

from db import formats
from monitor.api import service

OPERATIONS = {path: methods["get"] for path, methods in sorted(service.document()["paths"].items())}
ALLOWED, FORBIDDEN = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
# What has no parameters has none to be wrong.
QUESTIONS = [(path, ALLOWED) for path in OPERATIONS]
QUESTIONS += [(path, FORBIDDEN) for path, operation in OPERATIONS.items() if operation.get("parameters")]
# What no schema can say of a parameter, or of two: a 400 for this alone is allowed to what the description allows.
BEYOND = ("Say what to look for: there is no word and no number in the query.", "The range ends on ")
HEADERS = ("content-security-policy", "x-content-type-options", "cache-control", "referrer-policy")
pytestmark = pytest.mark.usefixtures("no_server_settings")


@pytest.fixture
def schema(app: Flask) -> Any:
    return schemathesis.openapi.from_wsgi("/api/v1/openapi.json", app)


@pytest.fixture
def there(a_day: Any) -> dict[str, list[Any]]:
    """What paths may name that the ledger has."""
    plan = a_day.connection.execute(
        "INSERT INTO plans (selection, who, run_key, receipt, recordings, seconds)"
        " VALUES ('{}', 'somebody', decode(repeat('00', 16), 'hex'), '{}', 0, 0) RETURNING id"
    ).fetchone()
    shards = [row["id"] for row in a_day.connection.execute("SELECT id FROM shards")]
    return {
        "site": ["zurich"], "date": ["2025-01-30", "2025-01-31"], "recording_id": list(a_day.ids.values()),
        "kind": list(formats.KINDS), "shard_id": shards, "plan_id": [plan["id"]],
    }  # fmt: skip


@pytest.mark.parametrize(("path", "mode"), QUESTIONS, ids=lambda value: getattr(value, "name", value))
def test_every_question_is_answered_or_refused_as_the_description_says(
    path: str, mode: GenerationMode, schema: Any, there: dict[str, list[Any]]
) -> None:
    """Most questions with a good path are about what the ledger has, which nobody finds by chance."""
    operation = schema[path]["GET"]
    names = [parameter.name for parameter in operation.path_parameters]
    known = st.fixed_dictionaries({name: st.sampled_from(there[name]) for name in names})

    @hypothesis.settings(max_examples=40, derandomize=True, database=None, deadline=None)
    @given(case=operation.as_strategy(generation_mode=mode), known=known, at_all=st.sampled_from([True, True, False]))
    def asked(case: Any, known: dict[str, Any], at_all: bool) -> None:
        place = case.meta.components.get(ParameterLocation.PATH)
        if known and at_all and place.mode is ALLOWED:
            case.path_parameters = known
        response = case.call()
        beyond = response.status_code == 400 and response.json()["detail"].startswith(BEYOND)
        case.validate_response(response, excluded_checks=[positive_data_acceptance] if beyond else [])
        assert [name for name in HEADERS if name not in response.headers] == []

    asked()
