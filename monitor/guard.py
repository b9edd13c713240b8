"""Who may ask, and how: GET only; this machine only without a token or a proxy; and the headers of every answer."""

from __future__ import annotations

import ipaddress
import os
from hmac import compare_digest
from pathlib import Path

from flask import Flask, Response, request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Forbidden, MethodNotAllowed, Unauthorized

from db import tokens
from db.proxies import Proxy
from monitor import proxied

TOKEN_FILE = "DAYSCRIBE_API_TOKEN_FILE"  # noqa: S105 - the name of a variable
HERE = ["localhost", "127.0.0.1", "[::1]"]
METHODS = ("GET", "HEAD")
_NOTHING = "default-src 'none'; base-uri 'none'; frame-ancestors 'none'"
DATA_POLICY = f"{_NOTHING}; form-action 'none'"
# A page may show and run what we serve ourselves, and nothing that stands in it.
PAGE_POLICY = (
    f"{_NOTHING}; form-action 'self'; style-src 'self'; script-src 'self'; img-src 'self'; media-src 'self'; "
    "connect-src 'self'"
)
# A browser that opens a recording by itself makes a page around it, under the recording's own policy.
AUDIO_POLICY = f"{DATA_POLICY}; media-src 'self'"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def install(app: Flask) -> None:
    """Put the guard at the door; the token is read once, when the application is made."""
    file = os.environ.get(TOKEN_FILE)
    token = tokens.read(Path(file)).encode() if file else None
    proxy = proxied.install(app, token=token is not None)
    if token is None and proxy is None:
        app.config["TRUSTED_HOSTS"] = HERE  # a page elsewhere whose name resolves to us (DNS rebinding) is not us

    @app.before_request
    def ask_who() -> None:
        if request.path != "/healthz":
            _let_in(token, proxy)
        if request.method not in METHODS:
            raise MethodNotAllowed(METHODS, "This API only answers questions: GET.")

    @app.after_request
    def add_headers(response: Response) -> Response:
        response.headers.update(HEADERS)
        response.headers["Content-Security-Policy"] = _policy(response.mimetype or "")
        return response


def _policy(mimetype: str) -> str:
    if mimetype == "text/html":
        return PAGE_POLICY
    return AUDIO_POLICY if mimetype.startswith("audio/") else DATA_POLICY


def _let_in(token: bytes | None, proxy: Proxy | None) -> None:
    if proxy is not None and proxied.asks_for_somebody(proxy):
        return
    if token is None:
        if proxy is not None:
            raise Forbidden(f"Only the declared reverse proxy may ask, and it says for whom ({proxy.user}).")
        if not _is_here(request.remote_addr):
            raise Forbidden(f"Only this machine may ask while the server has no token ({TOKEN_FILE}).")
        return
    if not compare_digest(_given(), token):
        # A browser asks its reader for a password where a page was asked for; programs are told of the bearer token.
        kind = "basic" if request.blueprint in ("pages", None) else "bearer"
        raise Unauthorized(
            "Send the token: 'Authorization: Bearer …', or in a browser as the password, with any name.",
            www_authenticate=WWWAuthenticate(kind, {"realm": "dayscribe"}),
        )


def _given() -> bytes:
    """The token as a bearer, or as the password that a browser sends; nothing when there is neither."""
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return bearer.strip().encode("utf-8", "replace")
    basic = request.authorization
    return ((basic.password if basic and basic.type == "basic" else None) or "").encode("utf-8", "replace")


def _is_here(address: str | None) -> bool:
    """Whether a request came from this machine; a Unix socket names no address."""
    try:
        return not address or ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
