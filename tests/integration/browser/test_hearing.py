"""Recordings heard in a browser: played, sought in by clicks on words and by links to a second, without scripts too."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from flask import Flask
from playwright.sync_api import Page, expect

from monitor import create_app


@pytest.fixture
def app(a_day: Any, sounds: Any, heard: None) -> Flask:
    sounds.keep()
    return create_app(a_day.dsn)


@pytest.fixture
def path(a_day: Any) -> str:
    return f"/recordings/{a_day.ids['hello']}"


def when_it_plays(page: Page, second: float, player: str = "audio") -> float:
    """How long it is, once it plays and has come to that second."""
    plays = "it.readyState && !it.paused && it.currentTime >= second"
    page.wait_for_function(f"([which, second]) => {{ const it = document.querySelector(which); return {plays}; }}",
                           arg=[player, second])  # fmt: skip
    return float(page.evaluate("player => document.querySelector(player).duration", player))


def test_the_recording_plays_and_a_click_on_a_word_plays_from_there(visiting: Any, path: str) -> None:
    with visiting() as visit:
        page = visit.page
        page.goto(path)
        assert page.evaluate("document.querySelector('audio').readyState") == 0, "nothing is read unless it is wanted"
        page.locator(".word", has_text="world").click()
        assert when_it_plays(page, 2.0) == pytest.approx(8.0)
        page.get_by_role("link", name="Hear it from").first.press("Enter")
        page.wait_for_function("document.querySelector('audio').currentTime < 2")
        expect(page).to_have_url(f"{page.url.partition('/recordings')[0]}{path}")
        assert visit.troubles == []
        assert visit.abroad == []


def test_what_has_no_words_is_heard_too(visiting: Any, sounds: Any, path: str) -> None:
    sounds.bytes["quarantined"] = sounds.bytes["hello"][:-2]
    sounds.keep()
    with visiting() as visit:
        visit.page.goto(f"/recordings/{sounds.day.ids['quarantined']}")
        visit.page.evaluate("document.querySelector('audio').play()")
        assert when_it_plays(visit.page, 0.1) == pytest.approx(8.0, abs=0.01)
        assert visit.troubles == []


def test_a_link_that_cites_a_second_plays_from_that_second(visiting: Any, path: str) -> None:
    with visiting() as visit:
        visit.page.goto(f"{path}?t=5.25")
        visit.page.evaluate("document.querySelector('audio').play()")
        when_it_plays(visit.page, 5.25)
        assert visit.troubles == []


def test_the_audio_by_itself_plays_from_the_second_that_a_link_without_scripts_names(visiting: Any, path: str) -> None:
    with visiting(java_script_enabled=False) as visit:
        visit.page.goto(path)
        link = visit.page.get_by_role("link", name="Hear it from").first.get_attribute("href")
    assert link == f"{path}/audio#t=0.00"
    with visiting() as visit:
        visit.page.goto(f"{path}/audio#t=4")
        assert when_it_plays(visit.page, 4.0, "video, audio") == pytest.approx(8.0)
        assert visit.troubles == []


def test_what_a_browser_cannot_play_is_told(visiting: Any, sounds: Any, path: str) -> None:
    sounds.bytes["hello"] = b"#!AMR\n" + bytes(500)
    sounds.keep()
    with visiting() as visit:
        visit.page.goto(path)
        expect(visit.page.locator("#unheard")).to_be_hidden()
        visit.page.locator(".word", has_text="world").click()
        expect(visit.page.locator("#unheard")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_with_its_player_is_for_everybody_and_for_a_phone(visiting: Any, path: str, scheme: str) -> None:
    options = {"color_scheme": scheme, "bypass_csp": True, "viewport": {"width": 360, "height": 740}}
    with visiting(**options) as visit:  # axe itself is a script that our policy would stop
        visit.page.goto(f"{path}?t=1.50#t0.00")
        faults = Axe().run(visit.page).response["violations"]
        assert [fault["id"] for fault in faults if fault["impact"] in ("serious", "critical")] == []
        assert visit.page.evaluate("document.scrollingElement.scrollWidth <= document.scrollingElement.clientWidth")
        expect(visit.page.locator(".segment.cited")).to_be_in_viewport()
