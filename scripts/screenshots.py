"""Takes the pictures docs/images/dashboard-*.png: pages of the demo's ledger in a real browser; after `make demo`."""

from __future__ import annotations

import shutil
import sys
import threading
from pathlib import Path

from playwright.sync_api import ViewportSize, sync_playwright
from werkzeug.serving import make_server

from monitor import create_app

ROOT = Path(__file__).parents[1]
HOME = ROOT / ".demo"
DAY = "/days/demo/2025-01-31"
SIZE = ViewportSize(width=1200, height=820)


def main() -> int:
    """Serve the demo's ledger on loopback, and look at it."""
    program = shutil.which("chromium")
    if program is None or not HOME.is_dir():
        print("screenshots need `make demo`, and chromium: scripts/packages.sh browser", file=sys.stderr)
        return 78
    server = make_server("127.0.0.1", 0, create_app(f"embedded:{HOME / 'postgres'}"), threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            context = browser.new_context(
                base_url=f"http://127.0.0.1:{server.server_port}", viewport=SIZE, color_scheme=scheme
            )
            page = context.new_page()
            page.goto("/search?q=seven+hundred")
            found = page.locator('main a[href^="/recordings/"]').first.get_attribute("href")
            shown = [("day", DAY)]
            if scheme == "light":
                shown += [("calendar", "/"), ("search", page.url), ("recording", found or "/")]
            for name, path in shown:
                page.goto(path)
                page.screenshot(path=ROOT / "docs" / "images" / f"dashboard-{name}-{scheme}.png")
        browser.close()
    server.shutdown()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
