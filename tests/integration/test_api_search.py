"""Search as the API tells it: pages, tables, what was looked through and what cannot be seen."""

from __future__ import annotations

import io
from typing import Any

import pyarrow.parquet as pq
import pytest
from flask.testing import FlaskClient

pytestmark = pytest.mark.usefixtures("no_server_settings")


def test_a_search_always_tells_what_it_looked_through(client: FlaskClient, a_day: Any) -> None:
    said = client.get("/api/v1/search?q=hello&from=2025-01-31").get_json()

    assert [hit["recording_id"] for hit in said["hits"]] == [a_day.ids["hello"], a_day.ids["hostile"]]
    assert said["denominator"] == {
        "transcribed": 3, "no_speech": 1, "quarantined": 1, "unsealed": 1,
        "expected_archives": 4, "missing_archives": 1,
    }  # fmt: skip
    assert [(day["date"], day["state"]) for day in said["unfinished_days"]] == [("2025-01-31", "processing")]
    only = client.get("/api/v1/search?q=hello&only_language=de&limit=1").get_json()
    assert [hit["recording_id"] for hit in only["hits"]] == [a_day.ids["hostile"]]


def test_the_case_of_a_language_does_not_matter(client: FlaskClient, a_day: Any) -> None:
    small = client.get("/api/v1/search?q=hello&language=de&only_language=de").get_json()

    assert [hit["recording_id"] for hit in small["hits"]] == [a_day.ids["hostile"]]
    assert client.get("/api/v1/search?q=hello&language=DE&only_language=De").get_json() == small
    assert '<option value="de" selected>' in client.get("/search?q=hello&language=DE").text


def test_a_search_goes_on_after_its_page_and_gives_all_its_hits_as_tables(client: FlaskClient, a_day: Any) -> None:
    first = client.get("/api/v1/search?q=hello&limit=1").get_json()
    second = client.get(f"/api/v1/search?q=hello&limit=1&after={first['next']}").get_json()

    wanted = [a_day.ids["hello"], a_day.ids["hostile"]]
    assert [hit["recording_id"] for hit in first["hits"] + second["hits"]] == wanted
    assert (first["total"], second["total"], second["next"]) == (2, 2, None)
    table = pq.read_table(io.BytesIO(client.get("/api/v1/search.parquet?q=hello").data))
    assert table["recording_id"].to_pylist() == wanted
    assert table.column_names == client.get("/api/v1/search.csv?q=hello").text.splitlines()[0].split(",")


def test_a_search_says_what_it_cannot_see(client: FlaskClient) -> None:
    [common] = client.get("/api/v1/search?q=the").get_json()["notes"]
    [unspaced] = client.get("/api/v1/search?q=x&only_language=ja").get_json()["notes"]

    assert "too common" in common
    assert "choose their language" in unspaced
    assert client.get("/api/v1/search?q=hello").get_json()["notes"] == []
