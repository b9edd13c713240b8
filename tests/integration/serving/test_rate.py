"""Who asks too often is told when to ask again, before anything else; others, and /healthz, notice nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from db.errors import NeedsConfiguration
from hpc.sections import ServeSettings
from monitor import create_app, rate
from monitor.rate import Buckets

pytestmark = pytest.mark.usefixtures("no_server_settings")


def test_a_bucket_is_emptied_by_questions_and_filled_by_time_up_to_its_brim() -> None:
    now = [0.0]
    buckets = Buckets(60, clock=lambda: now[0])

    assert [buckets.wait("a") for _ in range(60)] == [0.0] * 60
    assert (buckets.wait("a"), buckets.wait("b")) == (1.0, 0.0)
    now[0] = 0.25
    assert buckets.wait("a") == 0.75, "who asks in vain loses nothing"
    now[0] = 2.0
    assert [buckets.wait("a"), buckets.wait("a"), buckets.wait("a")] == [0.0, 0.0, 1.0]
    now[0] = 10_000.0
    assert [buckets.wait("a") for _ in range(61)] == [0.0] * 60 + [1.0], "never more than a minute's"


def test_only_so_many_clients_are_remembered_and_the_latest_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate, "CLIENTS", 2)
    buckets = Buckets(1, clock=lambda: 0.0)
    for client in ("a", "b", "c"):
        assert buckets.wait(client) == 0.0

    assert buckets.wait("c") == 60.0
    assert list(buckets._held) == ["b", "c"]


@pytest.fixture
def strict(a_day: Any, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    """Three questions a minute."""
    monkeypatch.setenv("DAYSCRIBE_SERVE__PER_MINUTE", "3")
    return create_app(a_day.dsn).test_client()


def test_who_asks_too_often_is_told_when_to_ask_again(strict: FlaskClient) -> None:
    assert [strict.get(path).status_code for path in ("/", "/api/v1/days", "/nowhere")] == [200, 200, 404]

    refused = strict.get("/api/v1/days")
    assert (refused.status_code, refused.mimetype) == (429, "application/problem+json")
    assert json.loads(refused.text)["title"] == "Too Many Requests"
    assert 1 <= int(refused.headers["Retry-After"]) <= 20
    assert refused.headers["X-Content-Type-Options"] == "nosniff"
    page = strict.get("/")
    assert (page.status_code, page.mimetype) == (429, "text/html")
    assert "More than 3 questions a minute" in page.text
    assert [strict.get("/healthz").status_code for _ in range(9)] == [200] * 9
    assert strict.get("/api/v1/days", environ_base={"REMOTE_ADDR": "127.0.0.2"}).status_code == 200


def test_whoever_guesses_the_token_is_slowed_down_too(
    a_day: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text("0123456789abcdef")
    file.chmod(0o600)
    monkeypatch.setenv("DAYSCRIBE_API_TOKEN_FILE", str(file))
    monkeypatch.setenv("DAYSCRIBE_SERVE__PER_MINUTE", "3")
    client = create_app(a_day.dsn).test_client()

    guesses = [client.get("/readyz", headers={"Authorization": f"Bearer {n}"}).status_code for n in range(5)]
    assert guesses == [401, 401, 401, 429, 429]


@pytest.mark.parametrize(
    ("one", "another", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False), ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False), ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
    ],
)  # fmt: skip
def test_a_client_is_an_address_or_a_network_of_ipv6(one: str, another: str, same: bool) -> None:
    assert (rate._client(one) == rate._client(another)) is same


def test_nobody_is_refused_where_the_setting_is_0(a_day: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAYSCRIBE_SERVE__PER_MINUTE", "0")
    client = create_app(a_day.dsn).test_client()
    assert [client.get("/nowhere").status_code for _ in range(5)] == [404] * 5


def test_what_is_usual_is_the_settings_default_and_what_is_no_number_is_refused(
    a_day: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ServeSettings().per_minute == rate.USUAL
    for wrong in ("many", "-1", "1e3", "9" * 10):
        monkeypatch.setenv("DAYSCRIBE_SERVE__PER_MINUTE", wrong)
        with pytest.raises(NeedsConfiguration, match="whole number"):
            create_app(a_day.dsn)
