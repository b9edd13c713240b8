"""The pages over a real ledger: they show what it says, hostile names add nothing, wrong questions are refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from db.connect import connect
from db.embedded import EmbeddedPostgres
from db.migrate import initialise
from db.roles import Roles
from monitor import create_app, store
from monitor.documents import search

DAY = "/days/zurich/2025-01-31"
Seen = Callable[[str], Any]
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.fixture
def see(client: FlaskClient, seen: Seen) -> Seen:
    """What a browser sees at a path."""

    def ask(path: str) -> Any:
        answer = client.get(path)
        assert (path, answer.status_code, answer.mimetype) == (path, 200, "text/html")
        return seen(answer.text)

    return ask


def shard_of(a_day: Any, name: str) -> int:
    row = a_day.connection.execute("SELECT shard_id FROM recordings WHERE id = %s", [a_day.ids[name]]).fetchone()
    return int(row["shard_id"])


def every_page(a_day: Any) -> list[str]:
    recordings = [f"/recordings/{a_day.ids[name]}" for name in ("hello", "hostile", "silence", "quarantined")]
    return [
        "/", "/?site=zurich&year=2025", DAY, f"{DAY}?state=quarantined", "/days/zurich/2025-01-30",
        f"/shards/{shard_of(a_day, 'hello')}", *recordings, "/search", "/search?q=hello",
        "/cluster", "/plans", "/health",
    ]  # fmt: skip


def test_the_calendar_has_each_day_with_its_state_and_leads_to_it(client: FlaskClient, seen: Seen) -> None:
    page = client.get("/").text

    assert 'href="/days/zurich/2025-01-30"' in page
    assert "2025-01-30: completed;" in page
    assert "2025-01-31: processing" in page
    assert "2025-01-29" not in page
    assert "1 transcribed" in seen(page).text


def test_a_days_page_has_the_ledgers_numbers_and_the_command_that_makes_it_again(see: Seen) -> None:
    page = see(DAY)

    assert "3 of 5 recordings" in page.text.replace("transcribed ", "")
    assert "the archive is cut at byte 512" in page.text
    assert "dayscribe reprocess --date 2025-01-31 --site zurich --only quarantined --dry-run" in page.text
    assert "dayscribe days retry 2025-01-31 --site zurich" in page.text
    assert "from the future" not in page.text, "what is not sealed is not shown"


def test_what_is_empty_absent_and_failed_has_a_mark_of_its_own(client: FlaskClient) -> None:
    page = client.get(DAY).text

    for slot, mark in (
        ("00_00", "transcribed"),
        ("00_10", "failed"),
        ("23_50", "empty"),
        ("12_00", "absent at source"),
    ):
        assert f'title="{slot}: {mark}"' in page


def test_a_shards_page_has_its_recordings_and_parts(see: Seen, a_day: Any) -> None:
    page = see(f"/shards/{shard_of(a_day, 'hello')}")

    assert "hello wide world" in page.text
    assert a_day.parts[1].name.partition(".")[0] in page.text


def test_a_recordings_page_has_its_words_with_times_and_a_link_that_pins_version_and_second(
    client: FlaskClient, seen: Seen, a_day: Any
) -> None:
    path = f"/recordings/{a_day.ids['hello']}"
    page = client.get(path)

    assert "hello wide world" in seen(page.text).text
    assert f'href="{path}?version=1&amp;t=0.00#t0.00"' in page.text
    assert "score 0.90" in page.text
    assert "2\u202f" not in page.text
    assert 'class="segment cited"' in client.get(f"{path}?version=1&t=1.5").text
    assert client.get(f"{path}?version=2").status_code == 404
    assert client.get(f"{path}?t=later").status_code == 400
    assert client.get(f"/recordings/{a_day.ids['unsealed']}").text.count("future") == 0, (
        "what is not sealed is not shown"
    )


def test_a_quarantined_recording_says_why_and_how_it_is_made_again(see: Seen, a_day: Any) -> None:
    page = see(f"/recordings/{a_day.ids['quarantined']}")

    assert "truncated: it ends early <script>alert(1)</script>" in page.text
    assert "dayscribe reprocess --date 2025-01-31 --site zurich --only error=truncated --dry-run" in page.text


def test_each_page_of_a_days_recordings_leads_back_to_the_first(client: FlaskClient, a_day: Any) -> None:
    for chosen in ("", "state=transcribed&"):
        page = client.get(f"{DAY}?{chosen}after={a_day.ids['hello']}").text
        first = re.search(r'href="([^"#]*)#recordings">« first page', page)
        assert first is not None
        found = client.get(f"{DAY}{first[1]}")
        assert (first[1], found.status_code) == (first[1], 200)
        assert f'href="/recordings/{a_day.ids["hello"]}"' in found.text


def test_a_day_whose_parts_hold_nothing_has_a_page(client: FlaskClient, a_day: Any) -> None:
    a_day.connection.execute(
        "INSERT INTO parts (name, shard_id, epoch, run_id, sha256, size, recordings, state, recorded)"
        " SELECT p.name || n, p.shard_id, p.epoch, p.run_id, p.sha256, p.size, 0, p.state,"
        " p.recorded + n * interval '1 hour' FROM parts p, generate_series(1, 2) n"
    )
    a_day.connection.execute("UPDATE parts SET recordings = 0")
    assert client.get(DAY).status_code == 200


def test_pages_hold_no_element_that_names_and_texts_brought(client: FlaskClient, see: Seen, a_day: Any) -> None:
    for path in every_page(a_day):
        page = see(path)
        assert page.elements["script"] == 1, path  # ours, in the head
        assert page.running == [], path
        assert "\0" not in client.get(path).text
        assert "\u202e" not in client.get(path).text, "nothing turns what stands around it"


def test_a_page_that_has_not_changed_is_not_sent_again(client: FlaskClient, a_day: Any) -> None:
    first = client.get(DAY)
    again = client.get(DAY, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    a_day.connection.execute("UPDATE days SET message = 'something new' WHERE id = %s", [a_day.open.id])
    assert client.get(DAY, headers={"If-None-Match": first.headers["ETag"]}).status_code == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/days/zurich/1999-01-01", 404), ("/days/nowhere/2025-01-31", 404), ("/days/zurich/20250131", 404),
        ("/shards/99999999", 404), ("/recordings/99999999", 404), ("/plans/99999999", 404), ("/?year=x", 400),
        ("/?yaer=2025", 400), (f"{DAY}?state=provisional", 400), ("/search?q=a&q=b", 400), ("/?site=nowhere", 404),
    ],
)  # fmt: skip
def test_a_wrong_address_is_told_on_a_page(client: FlaskClient, path: str, status: int) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.mimetype) == (status, "text/html")
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_the_hits_of_a_search_as_a_table_hold_no_formula(client: FlaskClient) -> None:
    table = client.get("/api/v1/search.csv?q=1")

    assert (table.status_code, table.mimetype) == (200, "text/csv")
    assert "attachment" in table.headers["Content-Disposition"]
    [heads, row] = table.text.splitlines()
    assert heads.startswith("site,date,slot,shard,recording_id")
    assert row.endswith(",1")
    hit = dict.fromkeys(search.COLUMNS) | {"meta_id": "=cmd|' /C calc'!A0", "excerpt": '@SUM("a", 1)', "seconds": -1.5}
    assert search.as_csv([hit]).splitlines()[1] == """,,,,,'=cmd|' /C calc'!A0,,,-1.5,,"'@SUM(""a"", 1)\""""


def test_every_page_says_so_when_no_tick_was_made_for_long(client: FlaskClient, a_day: Any) -> None:
    assert "No tick" not in client.get("/search").text, "one machine works without"
    a_day.connection.execute(
        "INSERT INTO ticks (owner, host, began, took_ms, report)"
        " VALUES ('somebody', 'here', now() - interval '40 minutes', 1, '{}')"
    )
    for path in ("/", DAY, "/search", "/cluster", "/plans", "/health"):
        assert "No tick for more than 30 minutes" in client.get(path).text
    assert "nobody ticks: somebody: the last tick of somebody was 40 minutes ago" in client.get("/health").text
    a_day.connection.execute("UPDATE ticks SET began = now()")
    assert "No tick" not in client.get("/").text


def test_what_a_dictionary_cannot_tell_apart_is_said(client: FlaskClient) -> None:
    assert "parts of texts" in client.get("/search?q=x&language=ja").text
    assert "whole stretches" in client.get("/search?q=x&only_language=ja").text
    assert "written without spaces" not in client.get("/search?q=x&language=en").text
    assert client.get("/search?q=a+or+b&language=ja").status_code == 400


def test_a_search_for_nothing_is_told_so_and_not_that_it_is_too_common(client: FlaskClient) -> None:
    nothing = client.get("/search?q=%25")

    assert (nothing.status_code, "Say what to look for" in nothing.text) == (400, True)
    assert "too common" in client.get("/search?q=the").text


def test_a_search_in_a_range_that_ends_before_it_begins_is_refused(client: FlaskClient) -> None:
    refused = client.get("/search?q=hello&from=2025-02-01&to=2025-01-01")

    assert refused.status_code == 400
    assert "The range ends on 2025-01-01 before it begins on 2025-02-01." in refused.text


NOWHERE = (
    "/nowhere", "/days", "/<script>alert(1)</script>", "/days/zurich/2025-01-31/", "/recordings/abc", "/shards/-1",
    "/recordings/12/", "/plans/x",
)  # fmt: skip


@pytest.mark.parametrize("accept", [BROWSER["Accept"], "text/html", "text/html, */*", "text/html, application/*"])
@pytest.mark.parametrize("path", NOWHERE)
def test_an_address_where_nothing_is_is_told_on_a_page_to_a_browser(
    client: FlaskClient, seen: Seen, path: str, accept: str
) -> None:
    browser = client.get(path, headers={"Accept": accept})
    assert (browser.status_code, browser.mimetype) == (404, "text/html")
    assert seen(browser.text).elements["script"] == 0
    assert "default-src 'none'" in browser.headers["Content-Security-Policy"]


@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "text/html, application/json", "text/plain"])
def test_an_address_where_nothing_is_is_told_as_json_to_a_program(client: FlaskClient, accept: str | None) -> None:
    for path in NOWHERE:
        program = client.get(path, headers={"Accept": accept} if accept else {})
        assert (program.status_code, program.mimetype) == (404, "application/problem+json")


@pytest.mark.parametrize("path", ["/api/v1/nowhere", "/api", "/pipeline/x", "/static/nowhere.css", "/api/v1/days/x/y"])
def test_what_is_for_programs_answers_a_browser_as_it_answers_programs(client: FlaskClient, path: str) -> None:
    answer = client.get(path, headers=BROWSER)
    assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")


def test_another_name_of_this_machine_is_refused_on_pages_too(client: FlaskClient) -> None:
    for path in ("/", "/nowhere", "/static/style.css"):
        assert (path, client.get(path, headers=BROWSER | {"Host": "evil.example"}).status_code) == (path, 400)


def test_while_the_ledger_is_away_pages_say_so_and_they_come_back_without_a_restart(
    tmp_path: Path, roles: Roles
) -> None:
    server = EmbeddedPostgres(tmp_path / "postgres", durable=False)
    try:
        with connect(server.start()) as connection:
            initialise(connection, roles)
        app = create_app(f"embedded:{tmp_path / 'postgres'}")
        client, paths = app.test_client(), ("/", "/search?q=x", "/cluster", "/plans", "/health", "/recordings/1")
        server.stop()
        for path in paths:
            away = client.get(path)
            assert (path, away.status_code, away.mimetype) == (path, 503, "text/html")
            assert away.headers["Retry-After"] == "5"
            assert str(tmp_path) not in away.text
        server.start()
        assert client.get("/").status_code == 200
        assert app.extensions["ledger"]._turns._value == store.AT_ONCE, "no turn was kept by what failed"
    finally:
        server.stop()
