"""Takes the pictures docs/images/dashboard-*.png: the demo's dashboard in a real browser, after `make demo`."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from playwright.sync_api import ViewportSize, sync_playwright

ROOT = Path(__file__).parents[1]
NOTE = ROOT / ".demo" / "api.json"  # where the demo's dashboard answers
DAY = "/days/demo/2025-01-31"
SIZE = ViewportSize(width=1200, height=820)


def main() -> int:
    """Look at the demo's dashboard."""
    program = shutil.which("chromium")
    if program is None or not NOTE.is_file():
        print("screenshots need `make demo`, and chromium: scripts/packages.sh browser", file=sys.stderr)
        return 78
    address = json.loads(NOTE.read_text(encoding="utf-8"))["address"]
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            context = browser.new_context(base_url=address, viewport=SIZE, color_scheme=scheme)
            page = context.new_page()
            page.goto("/search?q=seven+hundred")
            found = page.locator('main a[href^="/recordings/"]').first.get_attribute("href") or "/"
            shown = [("day", DAY)]
            if scheme == "light":
                # The second that is cited is marked; without the fragment the picture begins with the page.
                shown += [("calendar", "/"), ("search", page.url), ("recording", found.partition("#")[0])]
            for name, path in shown:
                page.goto(path)
                page.screenshot(path=ROOT / "docs" / "images" / f"dashboard-{name}-{scheme}.png")
        browser.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
