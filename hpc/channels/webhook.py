"""A webhook: JSON with `text`, as Slack and Mattermost take it, and the same as fields; its address is a secret."""

from __future__ import annotations

import ipaddress
import json
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from hpc.errors import ChannelRefused, NotSaid
from hpc.message import Message

PASSING = frozenset({408, 425, 429, *range(500, 600)})
LONGEST_TEXT = 12_000  # characters; Slack cuts at 40,000, Mattermost refuses more than 16,383
# Nothing that was said somewhere else may call people together, make links, or end the block that it is in.
_HARMLESS = str.maketrans({"<": "‹", ">": "›", "`": "'", "@": "@\u200b"})


@dataclass(frozen=True, slots=True)
class Webhook:
    """The channel `webhook`."""

    address: str = field(repr=False)
    seconds: float
    name: str = "webhook"

    def __post_init__(self) -> None:
        """BadSetting's branch, before anything is sent; the address is not repeated."""
        try:
            parts = urlsplit(self.address)
            fine = bool(parts.hostname) and self.address.isascii() and self.address.isprintable()
            fine = fine and " " not in self.address and parts.port != 0
        except ValueError:
            fine = False
        if not fine or not (parts.scheme == "https" or (parts.scheme == "http" and _is_here(parts.hostname or ""))):
            raise ChannelRefused("webhook: the file alert.webhook_file does not hold one https:// address.")

    def send(self, message: Message) -> Sequence[str]:
        """Post it; the answer counts, what it says is not read."""
        body = json.dumps(payload(message)).encode()
        request = Request(self.address, data=body, method="POST")  # noqa: S310 - https, or http to this machine
        request.add_header("Content-Type", "application/json; charset=utf-8")
        request.add_header("User-Agent", "dayscribe")
        opener = build_opener(_NoRedirect, HTTPSHandler(context=ssl.create_default_context()))
        with self._translated(), opener.open(request, timeout=self.seconds) as answer:
            if not 200 <= answer.status < 300:
                raise NotSaid(f"webhook: {self._where} answers {answer.status}.")
        return []

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """The library's sentences may hold the address, so none of them is repeated."""
        try:
            yield
        except HTTPError as error:
            error.close()
            kind = NotSaid if error.code in PASSING else ChannelRefused
            raise kind(f"webhook: {self._where} answers {error.code}.") from None
        except URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise ChannelRefused(f"webhook: {self._where} does not prove who it is.") from None
            what = type(error.reason if isinstance(error.reason, Exception) else error).__name__
            raise NotSaid(f"webhook: {self._where} cannot be reached: {what}.") from None
        except (OSError, HTTPException) as error:
            raise NotSaid(f"webhook: {self._where} broke off: {type(error).__name__}.") from None

    @property
    def _where(self) -> str:
        return urlsplit(self.address).hostname or ""


class _NoRedirect(HTTPRedirectHandler):
    """A POST that is sent elsewhere would arrive as a GET without its words, or with them at a stranger's."""

    def redirect_request(self, *_args: Any, **_more: Any) -> None:
        return None


def payload(message: Message) -> dict[str, Any]:
    """`text` for people, the rest for programs."""
    text = message.text.strip().translate(_HARMLESS)
    text = text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"
    items = [{key: _said(value) for key, value in asdict(item).items()} for item in message.items]
    return {
        "text": f"{message.title.translate(_HARMLESS)}\n```\n{text}\n```",
        "source": "dayscribe",
        "about": message.about,
        "title": message.title,
        "items": items,
    }


def _said(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
