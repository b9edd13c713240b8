"""A recording's versions as they are shown: each can be downloaded, by its number."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask.testing import FlaskClient

from db import formats


@pytest.fixture
def older(versions: Any) -> int:
    """The recording that readers see in version 2: the first one said something else."""
    versions.version(versions.run(b"\xaa\xbb"), "hello", "hello white world", current=True)
    said = [{"start": 0.0, "end": 1.0, "text": "hello white world"}]
    versions.connection.execute("UPDATE transcripts SET words = %s WHERE version = 2", [formats.pack(said)])
    return int(versions.ids["hello"])


@pytest.mark.parametrize("kind", formats.KINDS)
def test_every_format_of_a_version_that_is_not_current_can_be_had(client: FlaskClient, older: int, kind: str) -> None:
    path = f"/api/v1/recordings/{older}.{kind}"
    first, second = client.get(f"{path}?version=1"), client.get(f"{path}?version=2")
    assert (first.status_code, first.mimetype) == (200, second.mimetype)
    assert ("wide" in first.text, "white" in first.text) == (True, False)
    assert second.text == client.get(path).text == client.get(f"{path}?version=0").text
    assert "white" in second.text


def test_a_file_of_a_version_that_is_none_or_provisional_is_refused(
    client: FlaskClient, older: int, versions: Any
) -> None:
    assert "no version 3" in client.get(f"/api/v1/recordings/{older}.srt?version=3").get_json()["detail"]
    versions.version(versions.run(b"\xcc"), "hello", "never to be seen", state="provisional")
    assert client.get(f"/api/v1/recordings/{older}.srt?version=3").status_code == 404
    assert client.get(f"/api/v1/recordings/{older}.srt?version=x").status_code == 400
    unsealed = versions.ids["unsealed"]
    assert client.get(f"/api/v1/recordings/{unsealed}.srt?version=1").status_code == 404


def test_the_page_of_a_version_offers_its_own_files(client: FlaskClient, older: int) -> None:
    for version, word in ((1, "wide"), (2, "white")):
        page = client.get(f"/recordings/{older}?version={version}").text
        offered = re.findall(r'href="(/api/v1/recordings/[^"]+)" download="([^"]+)"', page)
        assert [name for _, name in offered] == [f"recording-{older}-version-{version}.{k}" for k in formats.KINDS]
        for path, _ in offered:
            assert word in client.get(path).text


def test_a_recordings_page_leads_to_its_shard(client: FlaskClient, a_day: Any) -> None:
    said = client.get(f"/api/v1/recordings/{a_day.ids['hello']}").get_json()
    path = f"/shards/{said['shard_id']}"
    assert f'<a href="{path}">' in client.get(f"/recordings/{a_day.ids['hello']}").text
    assert said["shard"] in client.get(path).text
