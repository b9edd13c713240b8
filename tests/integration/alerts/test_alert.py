"""`dayscribe alert` over a real ledger, a mail server and a webhook: once on change, once when it is over."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from db import alerts, days, jobs, sites
from db.amiss import BY_THE_LEDGER, Limits, judge
from db.connect import Connection, connect
from db.session import Session
from db.states import DayState

Call = Callable[..., int]
ON = date(2025, 1, 31)
LIMITS = Limits()
FAIL = "UPDATE days SET state = 'transfer_failed', message = %s WHERE date = %s"
MEND = "UPDATE days SET state = 'pending', message = NULL WHERE date = %s"


@pytest.fixture(autouse=True)
def site(ledger: Connection) -> sites.Site:
    made = sites.put(ledger, "zurich", location="/far")
    days.add(ledger, made.id, [ON, ON + timedelta(days=1)])
    return made


def time_passes(ledger: Connection) -> None:
    """What somebody took on to say, and did not, is anybody's again."""
    ledger.execute("UPDATE alert_notices SET until = now()")


def open_kinds(ledger: Connection) -> list[tuple[str, str]]:
    return [(row["kind"], row["subject"]) for row in alerts.still_open(ledger)]


# --- once, and once more


def test_it_is_said_once_by_each_way_and_once_more_when_it_is_over(call: Call, ledger: Connection, both: Any) -> None:
    run = [*both.settings, "alert"]
    assert call(*run) == 0
    assert (both.post.mails, both.hook.got) == ([], [])

    ledger.execute(FAIL, ["the collection is gone", ON])
    for _ in range(3):
        assert call(*run) == 0
        time_passes(ledger)
    assert len(both.post.mails) == len(both.hook.got) == 1
    [first] = both.post.mails
    assert first["Subject"] == "dayscribe: a day has failed: zurich 2025-01-31"
    assert both.post.envelopes == [("dayscribe@lab.example", ["ada@lab.example", "grace@lab.example"])]
    text = first.get_content()
    assert "the collection is gone" in text
    assert "dayscribe days retry 2025-01-31 --site zurich" in text
    [told] = both.hook.got
    assert "the collection is gone" in told["text"]
    assert [(item["kind"], item["subject"], item["over"]) for item in told["items"]] == [
        ("failed_day", "zurich 2025-01-31", None)
    ]

    ledger.execute(MEND, [ON])
    for _ in range(3):
        assert call(*run) == 0
        time_passes(ledger)
    assert len(both.post.mails) == len(both.hook.got) == 2
    assert both.post.mails[1]["Subject"] == "dayscribe: over: a day has failed: zurich 2025-01-31"
    assert both.hook.got[1]["items"][0]["over"] is not None

    ledger.execute(FAIL, ["again", ON])
    assert call(*run) == 0
    assert len(both.post.mails) == len(both.hook.got) == 3


def test_a_second_trouble_is_news_and_the_first_is_not_said_again(
    call: Call, ledger: Connection, post: Any, mail: list[str]
) -> None:
    ledger.execute(FAIL, ["one", ON])
    assert call(*mail, "alert") == 0
    ledger.execute(FAIL, ["another", ON + timedelta(days=1)])
    ledger.execute(FAIL, ["another sentence for the same", ON])
    assert call(*mail, "alert") == 0
    assert [one["Subject"].rpartition(" ")[2] for one in post.mails] == ["2025-01-31", "2025-02-01"]


def test_many_at_once_are_one_mail(
    call: Call, ledger: Connection, site: sites.Site, post: Any, mail: list[str]
) -> None:
    days.add(ledger, site.id, [date(2024, 1, 1) + timedelta(days=n) for n in range(200)])
    ledger.execute("UPDATE days SET state = 'processing_failed', message = 'no'")
    assert call(*mail, "alert") == 0
    [one] = post.mails
    assert one["Subject"] == "dayscribe: 202 amiss"
    assert one.get_content().count("A day has failed") == 50
    assert "and 152 more" in one.get_content()
    assert call(*mail, "alert") == 0
    assert len(post.mails) == 1


def test_two_at_the_same_time_say_it_once(dsn: str, ledger: Connection) -> None:
    ledger.execute(FAIL, ["no", ON])

    def look_and_claim(number: int) -> list[alerts.Notice]:
        session = Session(dsn, application=f"test-{number}", require_tls=False)
        try:
            session(alerts.look, lambda facts: judge(facts, LIMITS), judged=BY_THE_LEDGER, lapsed=LIMITS.lapsed)
            return session(alerts.claim, "mail", lease=timedelta(minutes=5))
        finally:
            session.close()

    with ThreadPoolExecutor(8) as pool:
        claimed = [one for taken in pool.map(look_and_claim, range(16)) for one in taken]
    assert [one.subject for one in claimed] == ["zurich 2025-01-31"]


def test_who_looks_while_another_does_waits_and_sees_what_that_one_wrote(dsn: str, ledger: Connection) -> None:
    """Else the one who saw the older world might write last, and say what is over already."""
    order: list[str] = []
    waits = "SELECT count(*) AS n FROM pg_locks WHERE NOT granted AND relation = 'dayscribe.alerts'::regclass"

    def second() -> None:
        with connect(dsn) as connection:
            alerts.look(connection, lambda _: order.append("second") or [], judged=BY_THE_LEDGER, lapsed=LIMITS.lapsed)

    other = threading.Thread(target=second)

    def slowly(_facts: alerts.Facts) -> list[alerts.Found]:
        other.start()
        _until(lambda: ledger.execute(waits).fetchone() == {"n": 1} or "second" in order)
        order.append("first")
        return []

    with connect(dsn) as connection:
        alerts.look(connection, slowly, judged=BY_THE_LEDGER, lapsed=LIMITS.lapsed)
    other.join()
    assert order == ["first", "second"]


def test_what_is_found_anew_before_its_end_was_said_is_said_as_amiss_alone(
    call: Call, ledger: Connection, post: Any, mail: list[str]
) -> None:
    ledger.execute(FAIL, ["no", ON])
    assert call(*mail, "alert") == 0
    ledger.execute(MEND, [ON])
    post.closes_at = "EHLO"
    assert call(*mail, "alert") == 75
    ledger.execute(FAIL, ["no", ON])
    post.closes_at = ""
    assert call(*mail, "alert") == 0
    ledger.execute(MEND, [ON])
    assert call(*mail, "alert") == 0
    words = [one["Subject"].removeprefix("dayscribe: ")[:4] for one in post.mails]
    assert words == ["a da", "a da", "over"]


def test_who_asks_while_another_sends_says_nothing(
    call: Call, ledger: Connection, command: Any, post: Any, mail: list[str]
) -> None:
    ledger.execute(FAIL, ["no", ON])
    post.waits_at = "DATA"
    first = subprocess.Popen(command(*mail, "alert"), stderr=subprocess.PIPE, env=os.environ)
    _until(lambda: "DATA" in post.verbs)
    verbs = len(post.verbs)
    assert call(*mail, "alert") == 0
    assert len(post.verbs) == verbs
    post.waits_at = ""
    post.goes_on.set()  # the line breaks off: nobody knows whether it was sent
    assert first.wait(60) == 75
    assert first.stderr is not None
    first.stderr.close()
    assert call(*mail, "alert") == 0
    assert len(post.mails) == 1


# --- what cannot be sent


def test_what_could_not_be_sent_is_said_the_next_time(
    call: Call, ledger: Connection, post: Any, mail: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    ledger.execute(FAIL, ["no", ON])
    post.answers["MAIL"] = "451 later"
    assert call(*mail, "alert") == 75
    assert "does not take it (451)" in capsys.readouterr().err
    post.answers.clear()
    assert call(*mail, "alert") == 0
    assert len(post.mails) == 1


def test_a_way_that_is_closed_holds_up_no_other_and_makes_it_repeat_nothing(
    call: Call, ledger: Connection, both: Any
) -> None:
    ledger.execute(FAIL, ["no", ON])
    both.post.closes_at = "EHLO"
    for _ in range(3):
        assert call(*both.settings, "alert") == 75
    assert both.counts == (0, 1)
    both.post.closes_at = ""
    assert call(*both.settings, "alert") == 0
    assert both.counts == (1, 1)


def test_what_was_over_before_it_could_be_said_is_said_to_be_over(
    call: Call, ledger: Connection, post: Any, mail: list[str]
) -> None:
    """It may have been sent: nobody who heard of it is left waiting for its end."""
    ledger.execute(FAIL, ["no", ON])
    post.closes_at = "DATA"
    assert call(*mail, "alert") == 75
    ledger.execute(MEND, [ON])
    post.closes_at = ""
    assert call(*mail, "alert") == 0
    assert [one["Subject"] for one in post.mails] == ["dayscribe: over: a day has failed: zurich 2025-01-31"]


def test_who_comes_back_late_takes_no_ones_work(ledger: Connection) -> None:
    """A sender whose time was up puts back only its own attempt."""
    ledger.execute(FAIL, ["no", ON])
    alerts.look(ledger, lambda facts: judge(facts, LIMITS), judged=BY_THE_LEDGER, lapsed=LIMITS.lapsed)
    late = alerts.claim(ledger, "mail", lease=timedelta(0))
    now = alerts.claim(ledger, "mail", lease=timedelta(minutes=5))
    assert [one.attempt for one in (*late, *now)] == [1, 2]
    alerts.put_back(ledger, "mail", late)
    assert alerts.claim(ledger, "mail", lease=timedelta(minutes=5)) == []
    alerts.said(ledger, "mail", late)  # it did say it
    alerts.put_back(ledger, "mail", now)
    assert alerts.claim(ledger, "mail", lease=timedelta(minutes=5)) == []


def test_without_a_way_to_tell_anybody_it_is_a_matter_of_settings(
    call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("alert") == 78
    assert "alert.smtp_host" in capsys.readouterr().err


# --- what is said


def test_each_trouble_is_found_and_named(ledger: Connection, site: sites.Site) -> None:
    ledger.execute("INSERT INTO ticks VALUES ('ada', 'login1', now() - interval '1 hour', 1, '{}')")
    ledger.execute(
        "INSERT INTO troubles (site_id, owner, kind, message, retry_at) VALUES (%s, 'ada', 'needs_login', 'x', now())",
        [site.id],
    )
    ledger.execute(FAIL, ["no", ON])
    [second] = days.find(ledger, start=ON + timedelta(days=1))
    ledger.execute(
        "UPDATE days SET state = 'processing', created = now() - interval '3 days' WHERE id = %s", [second["id"]]
    )
    ledger.execute(
        "INSERT INTO shards (day_id, name, paths, size, revision, state, owner, lease_until) VALUES"
        " (%s, 'a', '{a}', 1, 0, 'leased', 'w', now() - interval '2 hours')",
        [second["id"]],
    )
    made = jobs.intend(
        ledger, token="t", kind="process", owner="ada", tasks=1, settings={}, code="c", day_id=second["id"]
    )
    ledger.execute("UPDATE jobs SET state = 'blocked', message = 'Invalid account' WHERE id = %s", [made])
    facts = alerts.facts(ledger, lapsed=LIMITS.lapsed)
    found = judge(facts, LIMITS)
    assert [(one.kind, one.subject, one.fix) for one in found] == [
        ("stale_tick", "ada", "dayscribe schedule --once"),
        ("no_output", "open work", "dayscribe jobs list"),
        ("needs_a_person", "zurich of ada", "dayscribe globus login"),
        ("blocked", "ada: Invalid account", f"dayscribe jobs show {made}"),
        ("failed_day", "zurich 2025-01-31", "dayscribe days retry 2025-01-31 --site zurich"),
        ("lapsed_lease", "zurich 2025-02-01", "dayscribe schedule --once"),
    ]


def test_work_that_was_opened_a_moment_ago_is_not_silent_for_a_day(ledger: Connection) -> None:
    [day] = days.find(ledger, start=ON, stop=ON)
    ledger.execute("UPDATE days SET created = now() - interval '9 days' WHERE id = %s", [day["id"]])
    ledger.execute(
        "INSERT INTO shards (day_id, name, paths, size, revision) VALUES (%s, 'a', '{a}', 1, 0)", [day["id"]]
    )
    assert days.move(ledger, day["id"], DayState.READY_TO_PROCESS, actor="test")
    facts = alerts.facts(ledger, lapsed=LIMITS.lapsed)
    assert facts.open_work == 1
    assert judge(facts, LIMITS) == []


def test_a_full_budget_is_told_and_a_machine_that_does_not_see_the_folder_clears_nothing(
    call: Call, ledger: Connection, post: Any, mail: list[str], tmp_path: Path
) -> None:
    staging = tmp_path / "staging"
    site = sites.put(ledger, "basel", location="/far", source="globus", route={"how": "copy"})
    days.add(ledger, site.id, [ON])
    [day] = [row for row in days.find(ledger, start=ON, stop=ON) if row["site"] == "basel"]
    ledger.execute(
        "INSERT INTO files (day_id, path, kind, size, since, seen) VALUES (%s, 'a', 'archive', 5000000000, 1, 1)",
        [day["id"]],
    )
    small = ["--set", "transfer.budget_gb=2", "--set", f"transfer.staging={staging}"]
    assert call(*mail, *small, "alert") == 0
    assert "budget of 2 GB" in post.mails[0].get_content()
    wide = ["--set", "transfer.budget_gb=0", "--set", f"transfer.staging={staging}"]
    assert call(*mail, *wide, "alert") == 0  # here nobody knows
    assert len(post.mails) == 1
    staging.mkdir()
    roomy = [*wide, "--set", f"transfer.quota_command={sys.executable} -c 'print(10**12, 10**6)'"]
    assert call(*mail, *roomy, "--set", "transfer.reserve_gb=0", "alert") == 0
    assert post.mails[1]["Subject"].startswith("dayscribe: over: no room")


def test_a_dry_run_shows_all_and_neither_tells_nor_keeps_anything(
    answer: Callable[..., Any], ledger: Connection, post: Any, mail: list[str]
) -> None:
    ledger.execute(FAIL, ["no", ON])
    shown = answer(*mail, "alert", "--dry-run")
    assert [one["subject"] for one in shown["found"]] == ["zurich 2025-01-31"]
    assert [one["subject"] for one in shown["said"]["mail"]] == ["zurich 2025-01-31"]
    assert (post.verbs, open_kinds(ledger)) == ([], [])
    rows = ledger.execute("SELECT count(*) AS n FROM alert_notices").fetchone()
    assert rows == {"n": 0}


def test_a_test_goes_by_every_way_and_needs_no_ledger(call: Call, both: Any) -> None:
    assert call("--set", "ledger.dsn=host=/nowhere", *both.settings, "alert", "--test") == 0
    assert [one["Subject"] for one in both.post.mails] == ["dayscribe: a test"]
    assert [one["about"] for one in both.hook.got] == ["test"]


# --- the ledger itself


def test_a_ledger_that_is_away_is_said_once_and_once_when_it_is_back(call: Call, both: Any, tmp_path: Path) -> None:
    away = ["--set", "ledger.dsn=host=/nowhere dbname=x", "--set", "alert.ledger_minutes=0"]
    for _ in range(3):
        assert call(*both.settings, *away, "alert") == 75
    assert [one["Subject"] for one in both.post.mails] == ["dayscribe: the ledger is away: the ledger"]
    assert len(both.hook.got) == 1
    for _ in range(2):
        assert call(*both.settings, "alert") == 0
    assert [one["Subject"] for one in both.post.mails[1:]] == ["dayscribe: over: the ledger is away: the ledger"]
    assert len(both.hook.got) == 2
    assert not (tmp_path / "home" / "alerts" / "ledger-away.json").exists()


def test_a_short_absence_is_nobodys_business(call: Call, post: Any, mail: list[str]) -> None:
    assert call(*mail, "--set", "ledger.dsn=host=/nowhere dbname=x", "alert") == 75
    assert call(*mail, "alert") == 0
    assert post.mails == []


def test_the_absence_is_said_again_by_the_way_that_did_not_take_it(call: Call, both: Any) -> None:
    away = ["--set", "ledger.dsn=host=/nowhere dbname=x", "--set", "alert.ledger_minutes=0"]
    both.hook.status = 503
    assert call(*both.settings, *away, "alert") == 75
    both.hook.status = 200
    assert call(*both.settings, *away, "alert") == 75
    assert both.counts == (1, 1)


def test_the_absence_is_said_though_nothing_can_be_kept(call: Call, post: Any, mail: list[str], tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "alerts").write_text("a file where a folder should be")
    assert call(*mail, "--set", "ledger.dsn=host=/nowhere dbname=x", "alert") == 75
    assert len(post.mails) == 1


# --- secrets and strangers


def test_the_password_and_the_webhooks_address_are_seen_nowhere(
    ledger: Connection, command: Any, tmp_path: Path, both: Any, tls: Any
) -> None:
    """Not in what it prints, its log, the process list or the ledger, though all ends in trouble under --debug."""
    ledger.execute(FAIL, ["no", ON])
    both.post.context, both.post.wants_login = tls, True
    wrong, file = both.post.password + "-not", tmp_path / "password"
    file.write_text(wrong)
    file.chmod(0o600)
    both.hook.status = 404
    login = ["alert.smtp_tls=starttls", "alert.smtp_user=lab", f"alert.smtp_password_file={file}"]
    words = [*both.settings, *(word for one in login for word in ("--set", one))]
    ran = subprocess.Popen(
        command("--debug", "-vv", *words, "alert"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    command_line = Path(f"/proc/{ran.pid}/cmdline").read_bytes().decode()
    out, err = ran.communicate(timeout=60)
    assert ran.returncode == 78, err
    assert "refuses the login" in err
    assert "answers 404" in err
    rows = [
        repr(ledger.execute(f"SELECT * FROM {table}").fetchall()) for table in ("alerts", "alert_notices", "events")
    ]
    for place in (out, err, command_line, *rows):
        for word in (wrong, both.post.password, "sEcReT", both.hook.path):
            assert word not in place


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_secret_that_others_can_read_is_refused(
    call: Call, mode: int, tmp_path: Path, web: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "webhook").chmod(mode)
    assert call(*web, "alert") == 78
    said = capsys.readouterr().err
    assert "chmod 600" in said
    assert "sEcReT" not in said


HOSTILE = (
    "x\r\nBcc: eve@evil.example\r\n\r\n<!channel> @all ```[click](https://evil.example) \x1b[2J\u202e" + "y" * 3000
)


def test_a_hostile_sentence_adds_no_header_no_recipient_and_no_mention(
    call: Call, ledger: Connection, both: Any
) -> None:
    made = jobs.intend(ledger, token="t", kind="ingest", owner="ada", tasks=1, settings={}, code="c")
    ledger.execute("UPDATE jobs SET state = 'blocked', message = %s WHERE id = %s", [HOSTILE, made])
    assert call(*both.settings, "alert") == 0
    [one] = both.post.mails
    assert sorted(one.keys()) == [
        "Auto-Submitted", "Content-Transfer-Encoding", "Content-Type", "Date", "From", "MIME-Version", "Message-ID",
        "Subject", "To",
    ]  # fmt: skip
    assert both.post.envelopes[0][1] == ["ada@lab.example", "grace@lab.example"]
    assert len(one["Subject"]) <= 120
    text = one.get_content().replace("\r\n", "\n")
    assert len(text) < 2000
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)
    assert not re.search(r"^Bcc", text, re.MULTILINE)
    [told] = both.hook.got
    assert not re.search(r"[<>]|@(?!\u200b)", told["text"])
    assert told["text"].count("```") == 2


def _until(true: Callable[[], bool]) -> None:
    give_up, pause = time.monotonic() + 60, threading.Event()
    while not true():
        assert time.monotonic() < give_up
        pause.wait(0.02)
