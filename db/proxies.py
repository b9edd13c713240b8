"""A reverse proxy before the dashboard: from where it asks, what it is believed, and which declarations are unsafe."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

from db.errors import NeedsConfiguration

UNIX = "unix"  # for an address: whoever asks over a Unix socket has none
MOST_HOPS = 8
_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]{1,63}")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\]")
# What browsers send by themselves, or what the proxy says of something else: none of it says whom it let in.
_NO_USERS = frozenset(
    {
        "accept", "authorization", "cookie", "forwarded", "host", "origin", "referer", "user-agent", "via",
        "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Proxy:
    """What was declared."""

    peers: frozenset[str]  # addresses, or UNIX
    hops: int = 1  # proxies in a row, each of which adds to what the one before it says
    user: str | None = None  # the header in which it names whom it let in; None: it lets in all, and we want a token
    names: tuple[str, ...] = ()  # of the host, as its readers write it

    def is_peer(self, address: str | None) -> bool:
        """Whether a connection from this address is the proxy's."""
        return _canonical(address or UNIX) in self.peers


def declared(
    peers: Sequence[str], *, hops: int = 1, user: str | None = None, names: Sequence[str] = (), token: bool
) -> Proxy | None:
    """The proxy, None if there is none; NeedsConfiguration for what would let in whom nobody has asked who they are."""
    if not peers:
        if user or names or hops != 1:
            raise NeedsConfiguration(
                "serve.proxy does not say from which address the reverse proxy asks, so that what it says could be"
                ' anybody\'s; name its address, such as serve.proxy = ["127.0.0.1"], or unset the other settings of it.'
            )
        return None
    if not 1 <= hops <= MOST_HOPS:
        raise NeedsConfiguration(f"serve.proxy_hops is a number of proxies in a row, from 1 to {MOST_HOPS}.")
    if not user and not token:
        raise NeedsConfiguration(
            "serve.proxy is declared, but nobody would ask its readers who they are: name the header in which the proxy"
            " says whom it let in (serve.proxy_user), or give the server a token (DAYSCRIBE_API_TOKEN_FILE)."
        )
    if user and not names:
        raise NeedsConfiguration(
            "serve.names does not say under which name readers ask; without it a page elsewhere could make a reader's"
            ' browser ask on its behalf. Write it as in the address, such as serve.names = ["transcripts.example.org"].'
        )
    return Proxy(frozenset(map(_peer, peers)), hops, _user(user) if user else None, tuple(map(_name, names)))


def _peer(text: str) -> str:
    found = _canonical(text)
    if found != UNIX:
        try:
            address = ipaddress.ip_address(found)
        except ValueError:
            raise NeedsConfiguration(
                f"serve.proxy names {text!r}, which is no address; write each address of the proxy, such as 127.0.0.1"
                " (no name, no network: whoever has another address there would be believed too), or unix."
            ) from None
        if address.is_unspecified or address.is_multicast:
            raise NeedsConfiguration(f"serve.proxy names {text}, from which nobody asks; name the proxy's own address.")
    return found


def _canonical(text: str) -> str:
    """An address in one spelling; one of IPv4 is that too where it comes over IPv6."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return text
    return str(getattr(found, "ipv4_mapped", None) or found)


def _user(header: str) -> str:
    if not _HEADER.fullmatch(header) or header.lower() in _NO_USERS:
        raise NeedsConfiguration(
            f"serve.proxy_user is {header!r}; name a header that only the proxy sets, such as X-Remote-User."
        )
    return header


def _name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise NeedsConfiguration(
            f"serve.names has {name!r}, which is no host's name; write it without scheme and port."
        )
    return name
