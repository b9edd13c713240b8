"""What a declared reverse proxy says of its readers: believed when it is the proxy that asks, and of nobody else."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from flask import Flask, request
from werkzeug.middleware.proxy_fix import ProxyFix

from db import proxies
from db.errors import NeedsConfiguration
from db.proxies import Proxy

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

SERVE = "DAYSCRIBE_SERVE__"  # before the settings of this section, as the command line knows them
_BY_PROXY = "dayscribe.by_proxy"  # no header can be of this name
_LONGEST = 256  # characters of a user's name


class Proxied:
    """Believes the proxy what it says of client, scheme and host, and marks what comes from it."""

    def __init__(self, app: WSGIApplication, proxy: Proxy) -> None:
        self._app, self._proxy = app, proxy
        self._believing = ProxyFix(app, x_for=proxy.hops, x_proto=proxy.hops, x_host=proxy.hops)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        by_proxy = environ[_BY_PROXY] = self._proxy.is_peer(environ.get("REMOTE_ADDR"))
        return (self._believing if by_proxy else self._app)(environ, start_response)


def install(app: Flask, *, token: bool) -> Proxy | None:
    """The proxy that the settings declare, and an application that believes it."""
    proxy = proxies.declared(
        _said("PROXY").split(),
        hops=_hops(_said("PROXY_HOPS") or "1"),
        user=_said("PROXY_USER") or None,
        names=_said("NAMES").split(),
        token=token,
    )
    if proxy is not None:
        app.wsgi_app = Proxied(app.wsgi_app, proxy)  # type: ignore[method-assign]
        if proxy.names:
            app.config["TRUSTED_HOSTS"] = list(proxy.names)
    return proxy


def asks_for_somebody(proxy: Proxy) -> bool:
    """Whether it is the proxy that asks, and it names whom it let in: one name, not a list that a reader began."""
    if proxy.user is None or not request.environ[_BY_PROXY]:
        return False
    name = request.headers.get(proxy.user, "").strip()
    return 0 < len(name) <= _LONGEST and name.isprintable() and "," not in name


def _said(name: str) -> str:
    return os.environ.get(SERVE + name, "")


def _hops(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 2:
        raise NeedsConfiguration(f"{SERVE}PROXY_HOPS is a number of proxies in a row, from 1 to {proxies.MOST_HOPS}.")
    return int(text)
