"""The ledger over HTTP: a Flask application that only reads; `flask --app monitor run`, or `dayscribe serve`."""

from __future__ import annotations

from flask import Flask

from monitor import answers, api, clips, guard, hidden, limits, pages, rate, store


def create_app(dsn: str | None = None) -> Flask:
    """The application over the ledger at `dsn`, else at DAYSCRIBE_MONITOR_DSN; no state of its own."""
    app = Flask("monitor")
    app.url_map.merge_slashes = False  # a path is right or it is not: no redirects
    store.install(app, dsn)
    limits.install(app)
    rate.install(app)
    clips.install(app)
    guard.install(app)
    hidden.install(app)
    answers.install(app)
    pages.install(app)
    app.register_blueprint(pages.pages)
    app.register_blueprint(api.root)
    app.register_blueprint(api.v1, url_prefix="/api/v1")
    return app
