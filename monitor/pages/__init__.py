"""The pages: what the documents say, as HTML that is whole without scripts; a module a page."""

from __future__ import annotations

from monitor.pages import calendar, cluster, day, recording, search  # noqa: F401 - each puts its routes on the blueprint
from monitor.pages.base import install, pages

__all__ = ["install", "pages"]
