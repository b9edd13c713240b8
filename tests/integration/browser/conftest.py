"""A real browser over a real server: Debian's chromium, driven by playwright, and the dashboard on loopback."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from flask import Flask
from playwright.sync_api import Browser, Page, sync_playwright
from werkzeug.serving import make_server


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """One browser for all; each test has contexts of its own."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("NOT TESTED: the pages in a browser. Debian's chromium is missing: scripts/packages.sh browser")
    with sync_playwright() as driver:
        # No sandbox: the suite runs as root too, and only our own pages are opened.
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def address(app: Flask) -> Iterator[str]:
    """Where the dashboard of a small ledger answers."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    server.daemon_threads = False  # closing waits for the answers that are under way
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass
class Visit:
    """A page in the browser, and what went wrong or elsewhere while it was looked at."""

    page: Page
    troubles: list[str] = field(default_factory=list)
    abroad: list[str] = field(default_factory=list)


Visiting = Callable[..., AbstractContextManager[Visit]]


@pytest.fixture
def visiting(chromium: Browser, address: str) -> Visiting:
    """`with visiting(dark…) as visit:` a context of its own; options are playwright's."""

    @contextmanager
    def visiting(**options: Any) -> Iterator[Visit]:
        context = chromium.new_context(base_url=address, **options)
        visit = Visit(context.new_page())
        # A page that is not there, and a policy that is broken, are told on the console.
        visit.page.on("console", lambda said: said.type == "error" and visit.troubles.append(said.text))
        visit.page.on("pageerror", lambda error: visit.troubles.append(str(error)))
        visit.page.on("request", lambda asked: asked.url.startswith(address) or visit.abroad.append(asked.url))
        yield visit
        context.close()

    return visiting
