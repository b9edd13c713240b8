"""What this server shows to nobody (the setting serve.hide): taken out of all rows, and said where it is missed."""

from __future__ import annotations

import os

from flask import Flask, Response, current_app, request
from werkzeug.exceptions import Forbidden

from db.errors import NeedsConfiguration
from db.hiding import Hidden

HIDE = "DAYSCRIBE_SERVE__HIDE"  # the setting of this name, as the command line knows it
HEADER = "Dayscribe-Hidden"
NO_TEXTS = "This server shows no texts, so that nothing can be searched or downloaded here (serve.hide)."
_SEARCHES = "search"  # modules of this name find recordings by their words, which tells the words


def install(app: Flask) -> None:
    """Read what is hidden, tell it with every answer, and answer no question about words while they are hidden."""
    hidden = frozenset(_kind(word) for word in os.environ.get(HIDE, "").split())
    app.config["HIDDEN"] = hidden
    app.jinja_env.globals["hidden"] = sorted(hidden)

    @app.before_request
    def refuse_searches() -> None:
        view = app.view_functions.get(request.endpoint or "")
        if view is not None and view.__module__.rpartition(".")[2] == _SEARCHES:
            texts_needed()

    @app.after_request
    def tell(response: Response) -> Response:
        if hidden:
            response.headers[HEADER] = ", ".join(sorted(hidden))
        return response


def kinds() -> frozenset[Hidden]:
    """What is hidden."""
    found: frozenset[Hidden] = current_app.config["HIDDEN"]
    return found


def texts_needed() -> None:
    """Refuse what would tell words, or cannot be told without them."""
    if Hidden.TEXTS in kinds():
        raise Forbidden(NO_TEXTS)


def _kind(word: str) -> Hidden:
    try:
        return Hidden(word)
    except ValueError:
        known = ", ".join(Hidden)
        raise NeedsConfiguration(f"{HIDE} names {word!r}, which cannot be hidden; what can be: {known}.") from None
