"""Which of a day's recordings are looked at, and the command that makes exactly these again."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask.testing import FlaskClient

from db import plans
from db.plans import Criterion, Selection, Wish
from hpc.reprocess import criterion
from monitor.pages import day as pages

DAY = "/days/zurich/2025-01-31"
NAMES = ("hello", "hostile", "silence", "quarantined", "injection")


@pytest.fixture
def flagged(a_day: Any) -> Any:
    """`hello` is flagged as gap and unsure, `injection` as gap, and an older version of `hostile` as unsure; two
    failed, each in another way."""
    a_day.connection.execute(
        "UPDATE recordings SET state = 'quarantined', current_id = NULL, failure_class = 'decode_timeout',"
        " failure_reason = 'too slow' WHERE id = %s",
        [a_day.ids["silence"]],
    )
    put = "INSERT INTO flags (transcript_id, flag, day_id) SELECT current_id, %s, day_id FROM recordings WHERE id = %s"
    for name, flag in (("hello", "gap"), ("hello", "unsure"), ("injection", "gap"), ("hostile", "unsure")):
        a_day.connection.execute(put, [flag, a_day.ids[name]])
    a_day.connection.execute(
        "WITH new AS (INSERT INTO transcripts (recording_id, run_id, run_key, version, outcome, language, text, words,"
        " word_count, part_id)"
        " SELECT recording_id, run_id, decode(repeat('11', 16), 'hex'), 2, outcome, language, text, words, word_count,"
        " part_id FROM transcripts WHERE recording_id = %(id)s RETURNING id)"
        " UPDATE recordings SET current_id = (SELECT id FROM new) WHERE id = %(id)s",
        {"id": a_day.ids["hostile"]},
    )
    return a_day


def listed(client: FlaskClient, a_day: Any, query: str) -> list[str]:
    """The names of the recordings on the page."""
    answer = client.get(f"{DAY}?{query}")
    assert (query, answer.status_code) == (query, 200)
    section = answer.text.partition('id="recordings"')[2]
    by_id = {number: name for name, number in a_day.ids.items()}
    return [by_id[int(number)] for number in re.findall(r'<td><a href="/recordings/(\d+)"', section)]


def chosen_by(a_day: Any, words: list[str]) -> list[int]:
    """The recordings that `dayscribe reprocess` would take for these --only."""
    criteria = tuple(criterion(word) for word in words) or (Criterion("all"),)
    one = a_day.open
    selection = Selection(criteria, site=one.site, start=one.date, stop=one.date)
    try:
        drawn = plans.draw(a_day.connection, selection, Wish("ada", "", b"\x22" * 16, {}))
    except plans.NothingChosen:
        return []
    rows = a_day.connection.execute("SELECT recording_id AS id FROM plan_recordings WHERE plan_id = %s", [drawn.id])
    return sorted(row["id"] for row in rows)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", NAMES), ("flag=gap", ("hello", "injection")), ("flag=unsure", ("hello",)),
        ("flag=any", ("hello", "injection")), ("flag=language", ()), ("error=truncated", ("quarantined",)),
        ("error=engine_error", ()), ("state=quarantined", ("silence", "quarantined")),
        ("state=transcribed", ("hello", "hostile", "injection")),
    ],
)  # fmt: skip
def test_a_days_recordings_are_chosen_by_flag_class_or_state(
    client: FlaskClient, flagged: Any, query: str, names: tuple[str, ...]
) -> None:
    assert listed(client, flagged, query) == list(names)


@pytest.mark.parametrize(
    "query", ["", "flag=gap", "flag=unsure", "flag=any", "flag=language", "error=truncated", "state=quarantined"]
)
def test_the_command_under_the_list_chooses_exactly_what_is_listed(
    client: FlaskClient, flagged: Any, query: str
) -> None:
    page = client.get(f"{DAY}?{query}").text.partition('id="recordings"')[2]
    [line] = re.findall(r"<code>(dayscribe reprocess [^<]*)</code>", page)
    words = line.split()
    assert words[2:6] == ["--date", "2025-01-31", "--site", "zurich"]
    assert words[-1] == "--dry-run"
    chosen = chosen_by(flagged, [words[place + 1] for place, word in enumerate(words) if word == "--only"])
    assert chosen == sorted(flagged.ids[name] for name in listed(client, flagged, query))


def test_where_no_command_has_such_a_reason_the_page_says_so(client: FlaskClient, flagged: Any) -> None:
    for state in ("transcribed", "no_speech"):
        page = client.get(f"{DAY}?state={state}").text.partition('id="recordings"')[2]
        assert "is no reason for <code>dayscribe reprocess</code>" in page
        assert "--dry-run" not in page


def test_each_number_of_what_failed_and_is_suspect_leads_to_the_recordings(client: FlaskClient, flagged: Any) -> None:
    page = client.get(DAY).text
    links = re.findall(r'href="\?((?:flag|error)=\w+)#recordings">([^<]*)</a>', page)
    assert dict(links) == {
        "error=decode_timeout": "1", "error=truncated": "1", "flag=any": "suspect", "flag=gap": "gap 2",
        "flag=unsure": "unsure 1",
    }  # fmt: skip


def test_a_choice_goes_on_over_pages(client: FlaskClient, flagged: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "ROWS", 1)
    first = client.get(f"{DAY}?flag=gap").text
    [following] = re.findall(r'href="\?([^"]*)" rel="next"', first)
    assert listed(client, flagged, "flag=gap") == ["hello"]
    assert listed(client, flagged, following.replace("&amp;", "&")) == ["injection"]


@pytest.mark.parametrize(
    "query",
    [
        "flag=gap&state=transcribed", "flag=gap%3Brm", "flag=GAP", "flag=bogus", "flag=truncated", "error=a-b",
        "error=bogus", "error=any", "error=gap", "error=truncated&flag=gap", "state=bogus",
    ],
)  # fmt: skip
def test_what_would_be_no_command_is_refused(client: FlaskClient, query: str) -> None:
    assert client.get(f"{DAY}?{query}").status_code == 400
