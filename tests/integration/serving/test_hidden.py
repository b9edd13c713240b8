"""What serve.hide names is in no answer of any route, whichever routes there are; and it is said that it is hidden."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from psycopg.types.json import Jsonb

import monitor
from db import formats
from db.connect import Connection
from db.errors import NeedsConfiguration
from monitor import create_app

SAID, AUTHOR = "zorbulating", "quenchaford"
pytestmark = pytest.mark.usefixtures("no_server_settings")
# What each parameter of a query is asked with, one at a time; a new parameter needs a line here.
ASKED = {
    "q": SAID, "site": "zurich", "from": "2025-01-01", "to": "2025-12-31", "language": "en", "only_language": "en",
    "limit": "500", "after": "0", "state": "transcribed", "flag": "repetition", "error": "truncated", "year": "2025",
    "version": "1", "against": "1", "t": "0",
}  # fmt: skip


def plant(ledger: Connection) -> None:
    """The text stands wherever a transcript's words may, and the author wherever the platform names one."""
    words = [{"word": SAID, "start": 0.0, "end": 1.0, "score": 0.9}]
    packed = formats.pack([{"start": 0.0, "end": 1.0, "text": f" hello {SAID}", "words": words}])
    ledger.execute(
        "UPDATE transcripts SET text = %s, words = %s WHERE outcome = 'speech'", [f"hello {SAID} {SAID}", packed]
    )
    ledger.execute(
        "INSERT INTO flags (transcript_id, flag, day_id, value, detail)"
        " SELECT r.current_id, 'repetition', r.day_id, 9, %s FROM recordings r WHERE r.state = 'transcribed'",
        [f"'{SAID}' four times"],
    )
    ledger.execute(
        "INSERT INTO captions (day_id, meta_id, language, kind, text) SELECT day_id, meta_id, 'en', 'auto', %s"
        " FROM recordings",
        [SAID],
    )
    named = ("author_id", "author_name", "author_nickname", "music_id", "music_title", "music_author", "description")
    columns = ", ".join(f"{column} = %(author)s" for column in named)
    ledger.execute(f"UPDATE metadata SET {columns}", {"author": AUTHOR})  # type: ignore[arg-type]
    ledger.execute(
        "INSERT INTO plans (selection, who, run_key, receipt, recordings, seconds)"
        " VALUES (%s, 'somebody', decode(repeat('00', 16), 'hex'), '{}', 0, 0)",
        [Jsonb({"only": ["suspect"]})],
    )


@pytest.fixture
def hiding(a_day: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Flask]:
    plant(a_day.connection)

    def make(words: str) -> Flask:
        monkeypatch.setenv("DAYSCRIBE_SERVE__HIDE", words)
        return create_app(a_day.dsn)

    return make


def parameters() -> set[str]:
    """All that any route reads of a query."""
    house = Path(monitor.__file__).parent
    calls = (
        call
        for module in itertools.chain(house.glob("api/*.py"), house.glob("pages/*.py"))
        for call in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "asked.known"
    )
    return {ast.literal_eval(argument) for call in calls for argument in call.args}


def addresses(app: Flask, a_day: Any) -> Iterator[str]:
    """Each route with each value of its path, alone and with each parameter that any route has."""
    [plan] = a_day.connection.execute("SELECT id FROM plans").fetchall()
    shards = [row["id"] for row in a_day.connection.execute("SELECT id FROM shards")]
    values: dict[str, list[Any]] = {
        "site": ["zurich"], "date": ["2025-01-30", "2025-01-31"], "recording_id": list(a_day.ids.values()),
        "kind": list(formats.KINDS), "shard_id": shards, "plan_id": [plan["id"]], "filename": ["style.css"],
    }  # fmt: skip
    to = app.url_map.bind("localhost")
    for rule in app.url_map.iter_rules():
        for chosen in itertools.product(*(values[name] for name in sorted(rule.arguments))):
            path = to.build(rule.endpoint, dict(zip(sorted(rule.arguments), chosen, strict=True)))
            yield path
            yield f"{path}?q={SAID}&limit=500"
            for name in sorted(parameters()):
                yield f"{path}?{name}={ASKED[name]}"


@dataclass(frozen=True)
class Answer:
    status: int
    text: str
    hidden: str | None  # what the header says


def answers(app: Flask, a_day: Any) -> dict[str, Answer]:
    client, found = app.test_client(), {}
    for path in addresses(app, a_day):
        with client.get(path) as said:
            found[path] = Answer(
                said.status_code, said.get_data().decode(errors="replace"), said.headers.get("Dayscribe-Hidden")
            )
    return found


def holding(found: dict[str, Answer], word: str) -> set[str]:
    return {path for path, said in found.items() if word in said.text}


@pytest.mark.parametrize(
    ("words", "hidden", "told"),
    [("texts authors", [SAID, AUTHOR], []), ("texts", [SAID], [AUTHOR]), ("authors", [AUTHOR], [SAID])],
)
def test_what_is_hidden_is_in_no_answer_of_any_route(
    hiding: Callable[[str], Flask], a_day: Any, words: str, hidden: list[str], told: list[str]
) -> None:
    found = answers(hiding(words), a_day)

    assert {word: holding(found, word) for word in hidden} == {word: set() for word in hidden}
    assert [word for word in told if len(holding(found, word)) < 2] == []
    assert {said.status for said in found.values()} <= {200, 400, 403, 404}
    assert {said.hidden for said in found.values()} == {", ".join(sorted(words.split()))}


def test_what_is_planted_is_told_by_many_routes_while_nothing_is_hidden(
    hiding: Callable[[str], Flask], a_day: Any
) -> None:
    found = answers(hiding(""), a_day)

    hello = a_day.ids["hello"]
    for path in (
        "/days/zurich/2025-01-31", f"/recordings/{hello}", f"/api/v1/recordings/{hello}",
        *(f"/api/v1/recordings/{hello}.{kind}" for kind in formats.KINDS),
        "/api/v1/days/zurich/2025-01-31/recordings", "/api/v1/days/zurich/2025-01-31/flags",
    ):  # fmt: skip
        assert path in holding(found, SAID), path
    assert SAID in found[f"/api/v1/search.csv?q={SAID}"].text
    assert {f"/recordings/{hello}", f"/api/v1/recordings/{hello}"} <= holding(found, AUTHOR)
    assert not any(said.hidden for said in found.values())


def test_it_is_said_that_something_is_hidden_where_it_would_stand(hiding: Callable[[str], Flask], a_day: Any) -> None:
    client = hiding("texts").test_client()
    hello = a_day.ids["hello"]
    page = client.get(f"/recordings/{hello}").text
    assert "This server shows no texts." in page
    assert "No speech was found" not in page
    assert "This server hides texts." in page
    assert 'href="/search"' not in page
    assert ">hidden<" in client.get("/days/zurich/2025-01-31").text

    for path in (f"/search?q={SAID}", "/search"):
        refused = client.get(path)
        assert (refused.status_code, refused.mimetype) == (403, "text/html")
        assert "This server shows no texts, so that nothing can be searched or downloaded here" in refused.text
    downloads = [f"/api/v1/recordings/{hello}.{kind}" for kind in formats.KINDS]
    for path in (f"/api/v1/search?q={SAID}", f"/api/v1/search.csv?q={SAID}", *downloads):
        refused = client.get(path)
        assert (path, refused.status_code, refused.mimetype) == (path, 403, "application/problem+json")
        assert "shows no texts" in refused.get_json()["detail"]


def test_a_word_that_names_nothing_is_refused_at_the_start(hiding: Callable[[str], Flask]) -> None:
    with pytest.raises(NeedsConfiguration, match="texts, authors"):
        hiding("text")
