"""What the pages share: their blueprint, how one is rendered, and the filters that templates write numbers with."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from flask import Blueprint, Flask, Response, current_app, render_template, url_for

from monitor.documents import banner
from monitor.limits import limits
from monitor.pages import filters
from monitor.store import ledger

pages = Blueprint("pages", __name__)
LIVE_SECONDS = 5  # between two looks of a page that moves


def install(app: Flask) -> None:
    """Give the templates their filters; static files have a digest in their addresses, so that upgrades are seen."""
    app.jinja_env.filters |= filters.FILTERS
    app.jinja_env.globals |= {"static": static, "STATES": filters.STATES}
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True


def show(template: str, /, *, live: bool = False, **values: Any) -> Response:
    """The page; `live` ones look again by themselves."""
    text = render_template(
        template, warnings=banner.warnings(ledger(), limits()), live_seconds=LIVE_SECONDS if live else None, **values
    )
    return Response(text, mimetype="text/html")


def static(name: str) -> str:
    """The address of one of our static files."""
    return url_for("static", filename=name, v=_digest(str(Path(current_app.static_folder or "") / name)))


@cache
def _digest(file: str) -> str:
    return sha256(Path(file).read_bytes()).hexdigest()[:12]
