"""The dashboard as people meet it: by clicks and keys, in light and dark, on a phone, with scripts and without."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect
from psycopg.types.json import Jsonb

DAY = "/days/zurich/2025-01-31"


def every_page(a_day: Any) -> list[str]:
    """One address of each kind of page."""
    shard = a_day.connection.execute("SELECT min(shard_id) AS id FROM recordings").fetchone()["id"]
    recordings = [f"/recordings/{a_day.ids[name]}" for name in ("hello", "hostile", "quarantined")]
    return ["/", DAY, f"/shards/{shard}", *recordings, "/search?q=hello", "/cluster", "/plans", "/health"]


def at_work(a_day: Any) -> None:
    """The day has a transfer and a job whose task began, and a tick has told of room: pages with all their parts."""
    execute = a_day.connection.execute
    execute(
        "INSERT INTO transfers (day_id, submission_id, what, owner, message) VALUES (%s, gen_random_uuid(), 'archives',"
        " 'ada', 'queued')",
        [a_day.open.id],
    )
    job = execute(
        "INSERT INTO jobs (token, day_id, kind, state, array_size) VALUES ('t', %s, 'process', 'running', 1)"
        " RETURNING id",
        [a_day.open.id],
    ).fetchone()
    execute("INSERT INTO job_tasks (job_id, task, restart, node, began) VALUES (%s, 0, 0, 'n1', now())", [job["id"]])
    disk = {"folder": f"/{'data' * 30}", "bytes": 9, "free_bytes": 8, "files": 7, "free_files": 6}
    staged = {"bytes": 3, "files": 2, "coming_bytes": 1, "coming_files": 1}
    room = {"staged": staged, "budget_bytes": 5, "budget_files": 5, "disks": [disk]}
    execute(
        "INSERT INTO ticks (owner, host, began, took_ms, report) VALUES ('ada', 'login-1', now(), 5, %s)",
        [Jsonb({"room": room, "parts_left": {"zurich 2025-01-31": 2}, "parts_all": False})],
    )


@pytest.mark.parametrize("scripts", [True, False])
def test_from_the_calendar_to_a_days_recording_by_clicks(visiting: Any, a_day: Any, scripts: bool) -> None:
    with visiting(java_script_enabled=scripts) as visit:
        page = visit.page
        page.goto("/")
        page.locator(f'a[href="{DAY}"]').first.click()
        expect(page).to_have_url(f"{page.url.partition('/days')[0]}{DAY}")
        expect(page.locator("h1")).to_contain_text("2025-01-31")
        page.locator(f'a[href^="/recordings/{a_day.ids["hello"]}"]').first.click()
        expect(page.locator("main")).to_contain_text("hello")
        expect(page.locator("main")).to_contain_text("wide")
        assert visit.troubles == []
        assert visit.abroad == []


def test_a_search_leads_to_the_recording_and_says_what_it_looked_through(visiting: Any, a_day: Any) -> None:
    with visiting() as visit:
        page = visit.page
        page.goto("/search")
        page.get_by_role("searchbox").fill('"wide world"')
        page.keyboard.press("Enter")
        expect(page.locator("main mark").first).to_be_visible()
        expect(page.locator("main")).to_contain_text("quarantined")
        page.locator(f'a[href^="/recordings/{a_day.ids["hello"]}"]').first.click()
        expect(page.locator("main")).to_contain_text("hello")
        assert visit.troubles == []
        assert visit.abroad == []


def test_what_hostile_recordings_are_called_runs_nothing(visiting: Any, a_day: Any) -> None:
    with visiting() as visit:
        visit.page.on("dialog", lambda dialog: visit.troubles.append(f"a dialog: {dialog.message}"))
        for path in every_page(a_day):
            assert visit.page.goto(path).status == 200, path
            assert visit.page.locator("main script, main iframe, main object").count() == 0
        assert visit.troubles == []
        assert visit.abroad == []


def test_the_numbers_of_a_day_at_work_move_by_themselves(visiting: Any, a_day: Any) -> None:
    with visiting() as visit:
        page = visit.page
        page.goto(DAY)
        before = page.locator("main").inner_text()
        page.evaluate("window.sameDocument = true")
        waiting = a_day.lease(a_day.connection, a_day.open.id, 1)[0]
        from hpc.stages.ingest import ingest

        results = [a_day.said(waiting.id, n, f"new{n}.mp3".encode(), "brand new words") for n in range(7)]
        ingest(a_day.connection, a_day.publish(waiting, results, sealed=True), actor="worker-2")
        page.wait_for_function("before => document.querySelector('main').innerText !== before", arg=before)
        assert page.evaluate("window.sameDocument")
        assert visit.troubles == []


def test_what_a_day_had_not_when_it_was_opened_comes_by_itself_and_what_is_unfolded_stays_so(
    visiting: Any, a_day: Any
) -> None:
    from db import jobs
    from db.jobs import TaskStart
    from db.states import TaskEnd

    def begun(task: int, reason: str) -> TaskStart:
        return TaskStart(task, 0, "n1", ended_as=TaskEnd.CRASH, record={"reason": reason})

    with visiting() as visit:
        page = visit.page
        page.goto(DAY)
        expect(page.locator("#jobs table")).to_have_count(0)
        made = jobs.intend(
            a_day.connection, token=jobs.new_token(), kind="process", owner="ada", tasks=2, settings={}, code="c",
            day_id=a_day.open.id,
        )  # fmt: skip
        jobs.put_starts(a_day.connection, made, [begun(0, "the first reason")])
        page.locator("#jobs summary").click()
        expect(page.locator("#jobs")).to_contain_text("the first reason")
        page.locator("h1").click()
        jobs.put_starts(a_day.connection, made, [begun(1, "the second reason")])
        expect(page.get_by_text("the second reason")).to_be_visible(timeout=20_000)
        assert visit.troubles == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_who_cannot_see_well_is_shown_no_serious_fault(visiting: Any, a_day: Any, scheme: str) -> None:
    at_work(a_day)
    found = []
    with visiting(color_scheme=scheme, bypass_csp=True) as visit:  # axe itself is a script that our policy would stop
        for path in every_page(a_day):
            visit.page.goto(path)
            for fault in Axe().run(visit.page).response["violations"]:
                if fault["impact"] in ("serious", "critical"):
                    found.append(f"{path}: {fault['id']}: {fault['nodes'][0]['html'][:200]}")
    assert found == []


def test_a_phone_shows_every_page_without_scrolling_sideways(visiting: Any, a_day: Any) -> None:
    at_work(a_day)
    wide = []
    with visiting(viewport={"width": 360, "height": 740}) as visit:
        for path in every_page(a_day):
            visit.page.goto(path)
            if visit.page.evaluate("document.scrollingElement.scrollWidth > document.scrollingElement.clientWidth"):
                wide.append(path)
    assert wide == []


def test_the_first_key_offers_to_skip_to_the_page(visiting: Any) -> None:
    with visiting() as visit:
        visit.page.goto("/")
        visit.page.keyboard.press("Tab")
        focused = visit.page.locator(":focus")
        expect(focused).to_have_text("Skip to the page")
        expect(focused).to_be_in_viewport()
        visit.page.keyboard.press("Enter")
        expect(visit.page.locator("#main")).to_be_focused()
