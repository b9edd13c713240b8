"""How answers look: JSON that nothing can run, text as text, and every error as problem+json (RFC 9457)."""

from __future__ import annotations

import json
import math
import traceback
from collections.abc import Mapping, Sequence
from datetime import date
from hashlib import sha256
from http import HTTPStatus
from types import TracebackType
from typing import Any

from flask import Flask, Response, render_template, request
from werkzeug.exceptions import HTTPException, NotFound

from db.days import NoSuchDay
from db.errors import DayscribeError, NeedsConfiguration, TryAgain
from db.plans import NoSuchPlan
from db.search import NoSuchHit
from db.sites import UnknownSite
from db.substrings import BadQuery

RETRY_AFTER = "5"  # seconds
PROGRAMS = ("/api", "/pipeline", "/healthz", "/readyz", "/static")  # what stands below these is never a page
MIMETYPES = {
    "json": "application/json",
    "txt": "text/plain",
    "srt": "application/x-subrip",
    "vtt": "text/vtt",
    "tsv": "text/tab-separated-values",
}
# Even a browser that takes JSON for a page finds no tag in it.
_INERT = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def answer(data: object, status: int = HTTPStatus.OK) -> Response:
    """The data as JSON, in plain ASCII."""
    return Response(inert(json.dumps(plain(data), allow_nan=False)) + "\n", status, mimetype="application/json")


def inert(document: str) -> str:
    """A JSON document that means the same and holds no tag: these characters stand in strings only."""
    return document.translate(_INERT)


def plain(value: Any) -> Any:
    """The value in JSON's own kinds; a number that is none becomes null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, date):  # datetime is one too
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def problem(status: int, detail: str) -> Response:
    """An error: as RFC 9457 says it to programs, as a page to whoever asked for one."""
    phrase = HTTPStatus(status).phrase
    if _wants_a_page():
        response = Response(render_template("error.html", title=phrase, detail=detail), status, mimetype="text/html")
    else:
        response = answer({"type": "about:blank", "title": phrase, "status": status, "detail": detail}, status)
        response.mimetype = "application/problem+json"
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = RETRY_AFTER
    return response


def _wants_a_page() -> bool:
    """Whether a page was asked for: by its address, or, where nothing is, by a browser that would rather read HTML."""
    if not isinstance(request.routing_exception, NotFound):  # under a wrong host's name no page can be made
        return request.blueprint == "pages"
    preferred = request.accept_mimetypes.best_match(["application/json", "text/html"])  # of two alike, what is named
    return f"/{request.path.split('/')[1]}" not in PROGRAMS and preferred == "text/html"


def install(app: Flask) -> None:
    """Answer every error in one form, log none of what was asked or found, and send nothing twice that stood still."""
    app.register_error_handler(HTTPException, _refused)
    app.register_error_handler(DayscribeError, _ours)
    app.register_error_handler(Exception, _unforeseen)
    app.after_request(_only_news)


def _only_news(response: Response) -> Response:
    """The ETag is the content's: whoever looks again is told when nothing moved. Files have tags of their own."""
    if response.status_code == HTTPStatus.OK and not response.is_streamed and not response.get_etag()[0]:
        response.set_etag(sha256(response.get_data()).hexdigest()[:32])
        response.make_conditional(request)
    return response


def _refused(error: HTTPException) -> Response:
    response = problem(error.code or HTTPStatus.INTERNAL_SERVER_ERROR, error.description or "")
    for name, value in error.get_headers():
        if name not in ("Content-Type", "Content-Length"):
            response.headers[name] = value
    return response


def _ours(error: DayscribeError) -> Response:
    if isinstance(error, NoSuchDay | NoSuchHit | NoSuchPlan | UnknownSite):
        return problem(HTTPStatus.NOT_FOUND, str(error))
    if isinstance(error, BadQuery):
        return problem(HTTPStatus.BAD_REQUEST, str(error))
    if isinstance(error, TryAgain | NeedsConfiguration):
        _log().warning("%s", error)
        kind = (type(error).__doc__ or "").strip()
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, kind)  # where the ledger is concerns the log alone
    return _unforeseen(error)


def _unforeseen(error: Exception) -> Response:
    """A bug of ours: its kind and place are logged, never its words, which may be somebody's."""
    _log().error("%s at %s", type(error).__name__, _place(error.__traceback__))
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "This is a bug in dayscribe; the server's log shows where.")


def _place(trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "?"


def _log() -> Any:
    from flask import current_app

    return current_app.logger
