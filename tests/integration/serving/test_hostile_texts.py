"""Whatever the world writes, in whichever column of the ledger: pages get no element of it, answers tell it whole."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from flask.testing import FlaskClient
from psycopg import sql
from psycopg.types.json import Jsonb

from db import formats
from db.connect import Connection
from db.metadata import COLUMNS

pytestmark = pytest.mark.usefixtures("no_server_settings")
HOSTILE = [
    "<script>alert(1)</script>", "</title><script>x</script>", "\"><img src=x onerror=alert(1)>", "'><svg onload=a()>",
    "</textarea><iframe src=//x>", "<!--", "-->", "]]>", "<![CDATA[<b>]]>", "</pre></code><b>", "</bdi><h1>",
    "{{7*7}}", "{% include 'x' %}", "{{ config }}", "${7*7}", "#{7*7}", "%(id)s", "%s", "{0.__class__}",
    "javascript:alert(1)", "data:text/html,<b>", "\u202egpj.exe", "\u2066hidden\u2069", "\u200e\u200f", "\ufeff",
    "\\0", "\\x00", "\\u0000", "&#60;script&#62;", "&lt;script&gt;", "&amp;lt;", "<\u2028b>", "\x1b[31mred",
    "\x1b]0;t\x07", "a\r\nSet-Cookie: x=1", "../../etc/passwd", "'; DROP TABLE days; --", "=cmd|' /C calc'!A0",
    "<<b>>", "<< <script> >>", "x" * 200, "\u0301" * 50, "<base href=//x>", "<style>*{display:none}</style>",
]  # fmt: skip
# Words of our own and of whoever sets dayscribe up, which no name, text or message from outside becomes.
OURS = {
    ("sites", "source"), ("sites", "time_zone"), ("jobs", "kind"), ("shards", "failure_class"),
    ("recordings", "failure_class"), ("plan_recordings", "failure_class"), ("meta", "value"),
}  # fmt: skip
# Besides the columns of the metadata. A column that is not written any more, or refuses these texts, is missed.
FROM_OUTSIDE = {
    *(("recordings", name) for name in ("meta_id", "failure_reason")),
    *(("shards", name) for name in ("name", "failure_reason", "owner")),
    *(("captions", name) for name in ("meta_id", "language", "kind", "text")),
    *(("jobs", name) for name in ("message", "scheduler_says", "scheduler_id", "owner", "token", "exit_record")),
    *(("job_tasks", name) for name in ("node", "scheduler_says", "record")),
    *(("transfers", name) for name in ("message", "owner")),
    *(("events", name) for name in ("actor", "what", "detail")),
    *(("ticks", name) for name in ("owner", "host", "report")),
    *(("pauses", name) for name in ("who", "why")),
    *(("troubles", name) for name in ("owner", "message")),
    *(("plans", name) for name in ("who", "why", "selection")),
    ("days", "message"), ("slots", "name"), ("parts", "name"), ("flags", "detail"), ("runs", "receipt"),
}  # fmt: skip
CONTROLS = set("\u202e\u2066\x1b\0")


ROWS = """
    UPDATE plans SET why = 'so', selection = '{"only": ["me"]}';
    INSERT INTO jobs (token, day_id, kind, state, scheduler_id, scheduler_says, exit_record, message, owner)
        SELECT 't' || id, id, 'process', 'blocked', '12', 'Priority',
            '{"scheduler": "gone", "exit_records": {"done": 1}, "ledger": {"open_shards": 1}}',
            'it waits', 'me' FROM days;
    INSERT INTO job_tasks (job_id, task, restart, node, scheduler_says, record)
        SELECT id, 0, 0, 'n1', 'RUNNING', '{"reason": "so"}' FROM jobs;
    UPDATE days SET message = 'so';
    INSERT INTO transfers (day_id, submission_id, message, owner)
        SELECT id, gen_random_uuid(), 'queued', 'me' FROM days;
    INSERT INTO events (day_id, actor, what, detail) SELECT id, 'me', 'told', '{"message": "so"}' FROM days;
    INSERT INTO ticks (owner, host, began, took_ms, report) VALUES ('me', 'here', '2020-01-01', 1,
        '{"room": {"staged": null, "budget_bytes": null, "budget_files": null, "disks": [
            {"folder": "/data", "bytes": 1, "free_bytes": 1, "files": 1, "free_files": 1}]}}');
    INSERT INTO pauses (what, who, why) VALUES ('scheduling', 'me', 'upgrade');
    INSERT INTO troubles (site_id, owner, kind, message, retry_at) SELECT id, 'me', 'login', 'log in', now() FROM sites;
    INSERT INTO captions (day_id, meta_id, language, kind, text)
        SELECT day_id, meta_id, 'en', 'asr', 'so' FROM recordings;
    INSERT INTO flags (transcript_id, flag, day_id, value, detail)
        SELECT current_id, 'gap', day_id, 9, 'so' FROM recordings WHERE state = 'transcribed';
    ALTER TABLE captions DROP CONSTRAINT captions_pkey; -- an index keeps no three such texts in a row
    SET session_replication_role = replica; -- events may be changed, and what refers to a text follows it one by one
"""


def fill(ledger: Connection) -> None:
    """A row and a value in each place that the world writes."""
    for statement in ROWS.split(";\n"):
        ledger.execute(statement)  # type: ignore[arg-type]
    columns = ledger.execute(
        "SELECT column_name AS name FROM information_schema.columns WHERE table_name = 'metadata'"
        " AND data_type = 'text' AND column_name <> 'meta_id'"
    ).fetchall()
    for column in columns:
        ledger.execute(sql.SQL("UPDATE metadata SET {} = 'de'").format(sql.Identifier(column["name"])))


def say(ledger: Connection, text: str) -> set[tuple[str, str]]:
    """Every text in the ledger goes on with this one, in whichever columns there are; which those are."""
    packed = formats.pack(
        [
            {
                "start": 0.0,
                "end": 1.0,
                "text": f"hello{text}",
                "words": [{"word": f"hello{text}", "start": 0.0, "end": 1.0}],
            }
        ]
    )
    ledger.execute("UPDATE transcripts SET words = %s WHERE outcome = 'speech'", [packed])
    ledger.execute("UPDATE recordings SET name = name || convert_to(%s, 'UTF8')", [text])
    columns = ledger.execute(
        "SELECT c.table_name AS table, c.column_name AS name, c.data_type AS type FROM information_schema.columns c"
        " JOIN information_schema.tables t USING (table_schema, table_name)"
        " WHERE c.table_schema = 'dayscribe' AND t.table_type = 'BASE TABLE' AND c.is_generated = 'NEVER'"
        " AND c.data_type IN ('text', 'jsonb')"
    ).fetchall()
    return {
        (one["table"], one["name"])
        for one in columns
        if (one["table"], one["name"]) not in OURS and _said(ledger, one["table"], one["name"], one["type"], text)
    }


def _said(ledger: Connection, table: str, column: str, kind: str, text: str) -> bool:
    """False where the table's own rules refuse such a text."""
    names = {"table": sql.Identifier(table), "column": sql.Identifier(column)}
    found = ledger.execute(
        sql.SQL("SELECT ctid::text AS row, {column} AS value FROM {table} WHERE {column} IS NOT NULL").format(**names)
    ).fetchall()
    changed = [(row["row"], longer(row["value"], text)) for row in found]
    update = sql.SQL("UPDATE {table} SET {column} = %s WHERE ctid = %s::tid").format(**names)
    try:
        with ledger.transaction():
            for row, value in changed:
                ledger.execute(update, [Jsonb(value) if kind == "jsonb" else value, row])
    except psycopg.errors.CheckViolation:
        return False
    return any(row["value"] != value for row, (_, value) in zip(found, changed, strict=True))


def longer(value: Any, text: str) -> Any:
    """The value with the text after each text in it."""
    if isinstance(value, str):
        return value + text
    if isinstance(value, dict):
        return {key: longer(item, text) for key, item in value.items()}
    return [longer(item, text) for item in value] if isinstance(value, list) else value


def answers(client: FlaskClient, addresses: list[str], mimetype: str) -> dict[str, str]:
    said = {path: client.get(path) for path in addresses}
    assert {path: one.status_code for path, one in said.items() if one.status_code != 200} == {}
    return {path: one.text for path, one in said.items() if one.mimetype == mimetype}


def test_no_text_adds_an_element_to_any_page_or_is_changed_on_its_way_to_a_program(
    client: FlaskClient, seen: Callable[[str], Any], a_day: Any, addresses: list[str]
) -> None:
    fill(a_day.connection)
    say(a_day.connection, " calm")
    paths = [path for path in addresses if not path.startswith("/static/") and not path.endswith("/audio")]
    paths += [f"/recordings/{a_day.ids[name]}" for name in ("hostile", "quarantined", "silence")]
    before = {path: seen(page).elements for path, page in answers(client, paths, "text/html").items()}

    text = " ".join(("", *HOSTILE))
    said = say(a_day.connection, text)
    assert FROM_OUTSIDE | {("metadata", name) for name in COLUMNS if name.startswith(("author_n", "music_t"))} <= said
    pages = answers(client, paths, "text/html")
    for path, page in pages.items():
        found = seen(page)
        assert (path, found.elements) == (path, before[path])
        assert (path, found.running, CONTROLS & set(page)) == (path, [], set())
        assert "49" not in found.words, f"{path}: a template of theirs was run"
    # Many places of a page show what they are given; the banner on every page does.
    hello, day = f"/recordings/{a_day.ids['hello']}", "/days/zurich/2025-01-31"
    shown = {path: page.count("{{7*7}}") for path, page in pages.items()}
    assert (min(shown.values()), shown[hello] > 20, shown[day] > 20, shown["/cluster"] > 5) == (1, True, True, True)

    told = {path: json.loads(document) for path, document in answers(client, paths, "application/json").items()}
    for path in told:
        assert (path, seen(client.get(path).text).elements) == (path, Counter())
    recording = told[f"/api/v1{hello}"]
    assert {recording["metadata"][name] for name in ("author_name", "music_title")} == {f"de calm{text}"}
    assert recording["meta_id"] == f"7000000000000000001 calm{text}"
    assert recording["quality_flags"][0]["detail"] == f"so calm{text}"
    assert {job["message"] for job in told["/api/v1/cluster"]["live"]} == {f"it waits calm{text}"}
    assert told[f"/api/v1{day}"]["message"] == f"so calm{text}"
