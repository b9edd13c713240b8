"""The API over a real ledger: every route, every error, and what hostile names and texts become."""

from __future__ import annotations

import base64
import json
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from db import sites
from db.connect import connect
from db.embedded import EmbeddedPostgres
from db.errors import NeedsConfiguration
from db.migrate import initialise
from db.roles import Roles
from monitor import create_app, store

DAY = "/api/v1/days/zurich/2025-01-31"
pytestmark = pytest.mark.usefixtures("no_server_settings")
TOKEN = "0123456789abcdef0123456789abcdef"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}
INJECTIONS = [
    "' OR '1'='1", "'; DROP TABLE recordings; --", "\\'; SELECT pg_sleep(5); --", "1) UNION SELECT 1 --", "%", "_",
    "$$; DROP TABLE days; $$", "' || pg_sleep(5) || '", "\"'`", "E'\\x27'", "%s %(id)s {0}", "\u202e\u0000x", "\\",
    "\ufffd", ":*", "a & | !", "((((", "-- ", "/* */", "\n;\n",
]  # fmt: skip


def is_a_problem(response: TestResponse, status: int) -> bool:
    body = json.loads(response.text)
    return (
        response.status_code == status == body["status"]
        and response.mimetype == "application/problem+json"
        and set(body) == {"type", "title", "status", "detail"}
        and all(response.headers[name] == value for name, value in HEADERS.items())
    )


def every_path(app: Flask, a_day: Any) -> list[str]:
    """One path for each route."""
    adapter = app.create_url_adapter(None) or app.url_map.bind("localhost")
    plan = a_day.connection.execute(
        "INSERT INTO plans (selection, who, run_key, receipt, recordings, seconds)"
        " VALUES ('{}', 'somebody', decode(repeat('00', 16), 'hex'), '{}', 0, 0) RETURNING id"
    ).fetchone()
    values = {
        "site": "zurich", "date": "2025-01-31", "recording_id": a_day.ids["hello"], "kind": "srt", "shard_id": 2,
        "plan_id": plan["id"],
    }  # fmt: skip
    asked = {"v1.search": "?q=hello", "v1.search_csv": "?q=hello", "v1.search_parquet": "?q=hello"}
    return [
        adapter.build(rule.endpoint, {name: values[name] for name in rule.arguments}) + asked.get(rule.endpoint, "")
        for rule in app.url_map.iter_rules()
        if rule.endpoint.startswith(("root.", "v1."))
    ]


# --- what is told ----------------------------------------------------------------------------------------------------


def test_the_reference_pipelines_status_has_its_shape_and_nothing_more(client: FlaskClient) -> None:
    said = client.get("/pipeline/status").get_json()

    assert set(said) == {"status_summary", "recent_completions", "timestamp"}
    assert said["status_summary"] == {
        "completed": {"count": 1, "oldest": "2025-01-30", "newest": "2025-01-30"},
        "processing": {"count": 1, "oldest": "2025-01-31", "newest": "2025-01-31"},
    }
    [done] = said["recent_completions"]
    assert (set(done), done["date"], done["files"]) == ({"date", "duration", "files"}, "2025-01-30", 1)


@pytest.mark.parametrize(
    ("query", "dates"),
    [
        ("", ["2025-01-30", "2025-01-31"]),
        ("?limit=1", ["2025-01-30"]),
        ("?state=processing", ["2025-01-31"]),
        ("?site=zurich&from=2025-01-31", ["2025-01-31"]),
        ("?to=2025-01-30", ["2025-01-30"]),
        ("?state=held", []),
    ],
)
def test_days_are_listed_by_state_and_range(client: FlaskClient, query: str, dates: list[str]) -> None:
    assert [day["date"] for day in client.get(f"/api/v1/days{query}").get_json()["days"]] == dates


def test_a_day_tells_its_tally_its_slots_and_its_failed_shards(client: FlaskClient) -> None:
    day = client.get(DAY).get_json()

    counts = {key: day["tally"][key] for key in ("recordings", "transcribed", "no_speech", "quarantined", "unsealed")}
    assert counts == {"recordings": 5, "transcribed": 3, "no_speech": 1, "quarantined": 1, "unsealed": 1}
    assert [shard["failure_class"] for shard in day["failed_shards"]] == ["archive_damaged"]
    slots = {slot["slot"]: slot for slot in day["slots"]}
    assert {name: slot["shard"] for name, slot in slots.items()} == {
        "00_00": "done", "00_10": "failed", "00_20": "leased", "12_00": None, "23_50": "ready",
    }  # fmt: skip
    assert slots["00_00"]["metadata"]["finding"] == "arrived"
    assert slots["12_00"]["archive"] == {"finding": "absent_at_source", "name": None, "size": None}


def test_a_finished_day_is_told_from_its_summary(client: FlaskClient, a_day: Any) -> None:
    a_day.connection.execute("UPDATE days SET summary = summary || '{\"transcribed\": 77}' WHERE state = 'completed'")

    assert client.get("/api/v1/days/zurich/2025-01-30").get_json()["tally"]["transcribed"] == 77


def test_a_days_recordings_come_page_by_page_each_once_and_without_the_unsealed(
    client: FlaskClient, a_day: Any
) -> None:
    found, place = [], f"{DAY}/recordings?limit=2"
    while place:
        page = client.get(place).get_json()
        found += [row["id"] for row in page["recordings"]]
        place = page["next"]

    names = ("hello", "hostile", "silence", "quarantined", "injection")
    assert found == [a_day.ids[name] for name in names]
    assert len(client.get(f"{DAY}/recordings?state=transcribed").get_json()["recordings"]) == 3


def test_a_recording_is_told_whole(client: FlaskClient, a_day: Any) -> None:
    said = client.get(f"/api/v1/recordings/{a_day.ids['hello']}").get_json()

    assert (said["text"], said["language"], said["state"]) == ("hello wide world", "en", "transcribed")
    assert [word["word"] for word in said["segments"][0]["words"]] == ["hello", "wide", "world"]
    assert said["flags"] == ["multichannel", "unaligned"]
    assert said["receipt"]["engine"] == "echo"
    assert (said["metadata"]["play_count"], said["metadata"]["country"]) == (2**40, "CH")
    assert [(version["version"], version["current"]) for version in said["versions"]] == [(1, True)]


def test_an_unsealed_recording_is_named_and_its_words_are_not_told(client: FlaskClient, a_day: Any) -> None:
    said = client.get(f"/api/v1/recordings/{a_day.ids['unsealed']}")

    assert (said.get_json()["state"], said.get_json()["segments"]) == ("provisional", None)
    assert "future" not in said.text
    assert "future" not in client.get("/api/v1/search?q=future").get_json()["hits"]
    assert is_a_problem(client.get(f"/api/v1/recordings/{a_day.ids['unsealed']}.txt"), 404)


@pytest.mark.parametrize(
    ("kind", "mimetype", "begins"),
    [
        ("txt", "text/plain", "hello wide world\n"),
        ("srt", "application/x-subrip", "1\n00:00:00,000 --> "),
        ("vtt", "text/vtt", "WEBVTT\n\n"),
        ("tsv", "text/tab-separated-values", "start\tend\ttext\n"),
        ("json", "application/json", '{"segments": ['),
    ],
)
def test_a_transcript_comes_in_every_format(
    client: FlaskClient, a_day: Any, kind: str, mimetype: str, begins: str
) -> None:
    said = client.get(f"/api/v1/recordings/{a_day.ids['hello']}.{kind}")

    assert (said.status_code, said.mimetype) == (200, mimetype)
    assert said.text.startswith(begins)


def test_silence_is_an_empty_transcript_and_a_quarantined_recording_is_none(client: FlaskClient, a_day: Any) -> None:
    assert client.get(f"/api/v1/recordings/{a_day.ids['silence']}.txt").text == ""
    refused = client.get(f"/api/v1/recordings/{a_day.ids['quarantined']}.txt")
    assert is_a_problem(refused, 404)
    assert "truncated: it ends early" in refused.get_json()["detail"]


# --- what is refused -------------------------------------------------------------------------------------------------


def test_what_does_not_exist_is_a_404(client: FlaskClient) -> None:
    paths = [
        "/api/v1", "/static/x", "/api/v1/days/nowhere/2025-01-31", "/api/v1/days/zurich/1999-01-01",
        "/api/v1/days/zurich/2025-02-30", "/api/v1/days/zurich/20250131", "/api/v1/days/Z%00/2025-01-31",
        "/api/v1/days?site=nowhere", "/api/v1/search?q=x&site=nowhere", "/api/v1/search?q=x&after=99999999",
        "/api/v1/recordings/99999999",
        "/api/v1/recordings/-1", "/api/v1/recordings/9223372036854775807", "/api/v1/recordings/9223372036854775808",
        "/api/v1/recordings/1.exe", "/api/v1/recordings/%2e%2e%2f1", "/api/v1/days/zurich/2025-01-31/recordings/x",
    ]  # fmt: skip
    assert [path for path in paths if not is_a_problem(client.get(path), 404)] == []


def test_a_wrong_parameter_is_a_400_that_says_what_is_right(client: FlaskClient) -> None:
    paths = [
        "/healthz?x=1", "/api/v1/days?stat=held", "/api/v1/days?state=done", "/api/v1/days?limit=501",
        "/api/v1/days?limit=0", "/api/v1/days?limit=-1", "/api/v1/days?limit=1e2", "/api/v1/days?limit=\u0661",
        "/api/v1/days?from=yesterday", "/api/v1/days?from=2025-W01-1", "/api/v1/days?site=a&site=b",
        "/api/v1/days?site=%00", f"{DAY}/recordings?state=provisional", f"{DAY}/recordings?after=9223372036854775808",
        f"{DAY}/recordings?limit=999999", "/api/v1/search", "/api/v1/search?q=", "/api/v1/search?q=%20",
        f"/api/v1/search?q={'x' * 1001}", "/api/v1/search?q=a%00b", "/api/v1/search?q=%27%27", "/api/v1/search?q=%25",
        "/api/v1/search.csv?q=%25", "/api/v1/search.parquet?q=%25", "/api/v1/search?q=x&only_language=German",
        "/api/v1/search?q=x&from=2025-02-01&to=2025-01-31", "/api/v1/search.csv?q=x&from=2025-02-01&to=2025-01-31",
        "/api/v1/search.parquet?q=x&from=2025-02-01&to=2025-01-31", "/api/v1/days?from=2025-02-01&to=2025-01-31",
    ]  # fmt: skip
    assert [path for path in paths if not is_a_problem(client.get(path), 400)] == []
    assert "state, after, limit" in client.get(f"{DAY}/recordings?stat=held").get_json()["detail"]
    detail = client.get("/api/v1/days?from=2025-02-01&to=2025-01-31").get_json()["detail"]
    assert detail == "The range ends on 2025-01-31 before it begins on 2025-02-01."
    assert client.get("/api/v1/days?from=2025-01-31&to=2025-01-31").status_code == 200


def test_every_method_but_get_is_a_405_everywhere(app: Flask, client: FlaskClient, a_day: Any) -> None:
    for path in [*every_path(app, a_day), "/nowhere"]:
        for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"):
            refused = client.open(path, method=method)
            assert is_a_problem(refused, 405), (method, path)
            assert refused.headers["Allow"] == "GET, HEAD"


def test_every_answer_carries_the_headers(app: Flask, client: FlaskClient, a_day: Any) -> None:
    for path in every_path(app, a_day):
        said = client.get(path)
        assert (path, said.status_code) == (path, 404 if path.endswith("/audio") else 200)  # it is switched off
        assert {name: said.headers[name] for name in HEADERS} == HEADERS
        assert client.head(path).data == b""


def test_an_answer_that_has_not_changed_is_not_sent_again(app: Flask, client: FlaskClient, a_day: Any) -> None:
    clocked = ("/metrics", "/pipeline/status", "/api/v1/health")
    for path in (path for path in every_path(app, a_day) if not path.endswith("/audio")):  # it is switched off
        first = client.get(path)
        again = client.get(path, headers={"If-None-Match": first.headers["ETag"]})
        if path not in clocked:
            assert (path, again.status_code, again.data) == (path, 304, b"")
            assert again.headers["ETag"] == first.headers["ETag"]
        assert {name: again.headers[name] for name in HEADERS} == HEADERS
        assert client.get(path, headers={"If-None-Match": '"another"'}).status_code == 200
    before = client.get(f"{DAY}/recordings").headers["ETag"]
    a_day.connection.execute("UPDATE recordings SET seconds = 7 WHERE id = %s", [a_day.ids["hello"]])
    changed = client.get(f"{DAY}/recordings", headers={"If-None-Match": before})
    assert (changed.status_code, changed.get_json()["recordings"][0]["seconds"]) == (200, 7)
    refused = client.get("/api/v1/recordings/99999999", headers={"If-None-Match": "*"})
    assert is_a_problem(refused, 404)
    assert "ETag" not in refused.headers


# --- hostile content -------------------------------------------------------------------------------------------------


def test_no_json_answer_holds_a_tag_whatever_names_and_texts_say(
    app: Flask, client: FlaskClient, seen: Callable[[str], Any], a_day: Any
) -> None:
    paths = [f"/api/v1/recordings/{number}" for number in a_day.ids.values()]
    paths += [f"{path}.json" for path in paths] + [DAY, f"{DAY}/recordings", "/api/v1/search?q=hello+nul"]
    paths += ["/api/v1/days?site=<script>", "/<script>alert(1)</script>"]
    told = "".join(client.get(path).text for path in paths)

    assert not seen(told).elements
    assert "\\u003cscript\\u003e" in told
    assert told.isascii() or "\u202e" in told  # formats keep the text's own characters; nothing else does


def test_a_name_that_is_no_text_is_shown_with_escapes(client: FlaskClient, a_day: Any) -> None:
    said = client.get(f"/api/v1/recordings/{a_day.ids['quarantined']}").get_json()

    assert said["name"].endswith("\\xff\\xfe.mp3")
    assert said["state"] == "quarantined"


def test_an_injection_is_a_word_to_look_for_and_nothing_more(client: FlaskClient, a_day: Any) -> None:
    statuses = set()
    for payload in INJECTIONS:
        for name in ("q", "site", "language", "only_language", "from"):
            asked = {"q": "x", name: payload}
            statuses.add(client.get("/api/v1/search", query_string=asked).status_code)
        statuses.add(client.get(f"/api/v1/days/{quote(payload, safe='')}/2025-01-31").status_code)
        asked = {"after": payload, "state": payload}
        statuses.add(client.get(f"{DAY}/recordings", query_string=asked).status_code)

    assert statuses <= {200, 400, 404}
    row = a_day.connection.execute("SELECT count(*) AS n FROM recordings").fetchone()
    assert row["n"] == 7


def test_no_byte_in_a_path_is_a_500(client: FlaskClient) -> None:
    paths = [f"{before}%{byte:02x}" for byte in range(256) for before in ("/", "/api/v1/days/", "/api/v1/recordings/")]
    paths += [
        f"{before}%{byte:02x}"
        for byte in (0x00, 0x01, 0x0A, 0x1B, 0x25, 0x27, 0x5C, 0x7F, 0x80, 0xC0, 0xED, 0xFF)
        for before in ("/api/v1/search?q=a", "/api/v1/days?site=", "/api/v1/days/zurich/2025-01-3", DAY)
    ]
    assert {client.get(path).status_code for path in paths} <= {200, 400, 404}


def test_no_word_of_a_transcript_or_a_query_reaches_the_log(
    app: Flask, client: FlaskClient, a_day: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: object, **_more: object) -> None:
        raise ValueError("canary hello wide world")

    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr("monitor.api.recordings.formats.render", broken)
    client.get("/api/v1/search?q=hello+canary")
    failed = client.get(f"/api/v1/recordings/{a_day.ids['hello']}.txt")

    assert is_a_problem(failed, 500)
    assert "canary" not in failed.text + caplog.text
    assert "ValueError at " in caplog.text


# --- the ledger away -------------------------------------------------------------------------------------------------


def test_an_absent_ledger_is_a_503_and_its_return_needs_no_restart(tmp_path: Path, roles: Roles) -> None:
    server = EmbeddedPostgres(tmp_path / "postgres", durable=False)
    try:
        with connect(server.start()) as connection:
            initialise(connection, roles)
        client = create_app(f"embedded:{tmp_path / 'postgres'}").test_client()
        assert client.get("/readyz").get_json()["status"] == "ok"
        server.stop()
        away = client.get("/api/v1/days")
        assert is_a_problem(away, 503)
        assert away.headers["Retry-After"] == "5"
        assert str(tmp_path) not in away.text
        page = client.get("/")
        assert (page.status_code, page.mimetype, page.headers["Retry-After"]) == (503, "text/html", "5")
        assert "cannot be reached, or is too busy to answer" in page.text
        assert str(tmp_path) not in page.text
        assert client.get("/healthz").status_code == 200
        server.start()  # its socket is another one now
        assert client.get("/readyz").get_json()["status"] == "ok"
        assert client.get("/").status_code == 200
    finally:
        server.stop()


def test_a_connection_serves_one_request_and_is_closed_with_it(app: Flask, client: FlaskClient, a_day: Any) -> None:
    for path in (
        "/readyz",
        "/api/v1/days/nowhere/2025-01-31",
        "/api/v1/search?q=hello",
        "/",
        "/days/nowhere/2025-01-31",
    ) * 10:
        client.get(path)

    # The server sees a closed connection a moment later; it ends by itself, and the loop with it.
    while _connections(a_day):
        pass
    assert app.extensions["ledger"]._turns._value == store.AT_ONCE


def test_more_questions_than_turns_wait_for_theirs(app: Flask, client: FlaskClient) -> None:
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(app.test_client().get("/readyz").status_code))
        for _ in range(60)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert statuses == [200] * 60


def test_the_api_cannot_write(app: Flask) -> None:
    from psycopg.errors import ReadOnlySqlTransaction

    with app.app_context(), pytest.raises(ReadOnlySqlTransaction):
        sites.put(store.ledger(), "mine", location="/x")


def _connections(a_day: Any) -> int:
    row = a_day.connection.execute(
        "SELECT count(*) AS n FROM pg_stat_activity WHERE application_name = 'dayscribe-monitor'"
        " AND datname = current_database()"
    ).fetchone()
    return int(row["n"])


def test_a_database_without_a_ledger_is_a_503(empty_dsn: str) -> None:
    client = create_app(empty_dsn).test_client()
    assert is_a_problem(client.get("/readyz"), 503)
    assert is_a_problem(client.get("/api/v1/days"), 503)


# --- who may ask -----------------------------------------------------------------------------------------------------


@pytest.fixture
def token_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o600)
    monkeypatch.setenv("DAYSCRIBE_API_TOKEN_FILE", str(file))
    return file


def basic(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"anybody:{password}".encode()).decode()}


def test_a_browser_sends_the_token_as_its_password(token_file: Path, a_day: Any) -> None:
    client = create_app(a_day.dsn).test_client()
    for path in ("/", "/days/zurich/2025-01-31", "/search", "/static/style.css"):
        refused = client.get(path, headers=basic("wrong"))
        assert (path, refused.status_code) == (path, 401)
        with client.get(path, headers=basic(TOKEN), environ_base={"REMOTE_ADDR": "192.0.2.1"}) as shown:
            assert shown.status_code == 200
    assert client.get("/").headers["WWW-Authenticate"] == "Basic realm=dayscribe"
    assert "zurich" not in client.get("/").text


def test_with_a_token_every_route_but_healthz_wants_it(token_file: Path, a_day: Any) -> None:
    app = create_app(a_day.dsn)
    client = app.test_client()

    for path in [*every_path(app, a_day), "/nowhere"]:
        for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}, basic("wrong")):
            said = client.get(path, headers=header)
            assert path == "/healthz" or is_a_problem(said, 401)
    assert client.get("/healthz").status_code == 200
    right = {"Authorization": f"Bearer {TOKEN}"}
    assert client.get(DAY, headers=right, environ_base={"REMOTE_ADDR": "192.0.2.1"}).status_code == 200
    assert client.get(DAY).headers["WWW-Authenticate"].lower().startswith("bearer")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_token_that_others_can_read_is_refused(token_file: Path, mode: int) -> None:
    token_file.chmod(mode)
    with pytest.raises(NeedsConfiguration, match="can be read by others"):
        create_app("")


@pytest.mark.parametrize("content", ["", "short", "two words in a token file", "é" * 20])
def test_a_token_that_is_none_is_refused(token_file: Path, content: str) -> None:
    token_file.write_text(content)
    with pytest.raises(NeedsConfiguration):
        create_app("")


def test_a_token_file_that_is_not_there_is_refused(token_file: Path) -> None:
    token_file.unlink()
    with pytest.raises(NeedsConfiguration, match="cannot be read"):
        create_app("")


def test_without_a_token_only_this_machine_may_ask(client: FlaskClient) -> None:
    assert is_a_problem(client.get(DAY, environ_base={"REMOTE_ADDR": "192.0.2.1"}), 403)
    assert client.get(DAY, environ_base={"REMOTE_ADDR": "::1"}).status_code == 200
    assert is_a_problem(client.get(DAY, headers={"Host": "evil.example"}), 400)


def test_without_any_address_of_the_ledger_there_is_no_application(monkeypatch: pytest.MonkeyPatch, a_day: Any) -> None:
    with pytest.raises(NeedsConfiguration, match="DAYSCRIBE_MONITOR_DSN"):
        create_app()
    monkeypatch.setenv("DAYSCRIBE_MONITOR_DSN", a_day.dsn)
    assert create_app().test_client().get("/readyz").status_code == 200


def test_a_version_of_a_recording_can_be_pinned_and_one_that_is_none_is_refused(
    client: FlaskClient, a_day: Any
) -> None:
    path = f"/api/v1/recordings/{a_day.ids['hello']}"
    said = client.get(path).get_json()
    assert client.get(f"{path}?version={said['version']}").get_json() == said, "the one readers see, by its number"
    assert is_a_problem(client.get(f"{path}?version={said['version'] + 1}"), 404)
    assert is_a_problem(client.get(f"/api/v1/recordings/{a_day.ids['unsealed']}?version=1"), 404), "never shown"
