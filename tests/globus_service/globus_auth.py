"""Globus Auth as the SDK sees it: a service account's and a person's tokens, their consents, and who they are."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
import uuid
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

LIFE = 172_800  # seconds of an access token, as Globus has it
TRANSFER = "transfer.api.globus.org"
DATA_ACCESS = "https://auth.globus.org/scopes/{}/data_access"


class ApiError(Exception):
    """What a call is answered with when it fails."""

    def __init__(
        self, status: int, code: str, message: str = "", *, retry_after: int | None = None, **more: Any
    ) -> None:
        super().__init__(message)
        self.status, self.retry_after = status, retry_after
        self.body = {"code": code, "message": message or code, "request_id": "loopback", **more}


@dataclass
class Token:
    """An access token: until when, whose, and for what."""

    identity: str
    scope: str  # with its dependencies
    expires: float


@dataclass
class Auth:
    """One application, one person, and one service account."""

    client_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    secret: str = "the-secret"
    identity: str = field(default_factory=lambda: str(uuid.uuid4()))
    username: str = "somebody@example.org"
    tokens: dict[str, Token] = field(default_factory=dict)
    refresh: dict[str, tuple[str, str]] = field(default_factory=dict)  # refresh token → identity, scope
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    consents: set[str] = field(default_factory=set)  # collections that the person gave data_access to
    url: str = ""
    _key: rsa.RSAPrivateKey | None = None

    # What a test does.

    def expire(self) -> None:
        """Every access token is over; refresh tokens are as good as before."""
        for token in self.tokens.values():
            token.expires = 0

    def revoke(self) -> None:
        """No token is worth anything any more, as after a password change or an administrator's word."""
        self.tokens.clear()
        self.refresh.clear()

    def code_for(self, address: str) -> str:
        """What a person brings back who opened this address and allowed everything."""
        asked = {name: values[0] for name, values in parse_qs(address.partition("?")[2]).items()}
        code = secrets.token_urlsafe(12)
        self.codes[code] = asked
        return code

    # What the service answers.

    def check(self, header: str | None) -> Token:
        token = self.tokens.get((header or "").removeprefix("Bearer "))
        if token is None or token.expires < time.time():
            raise ApiError(401, "AuthenticationFailed", "Token is not active")
        return token

    def grant(self, header: str | None, form: dict[str, str]) -> dict[str, Any]:
        """POST /v2/oauth2/token"""
        kind = form.get("grant_type")
        if kind == "client_credentials":
            given = base64.b64decode((header or "Basic Og==").split()[1]).decode()
            if given != f"{self.client_id}:{self.secret}":
                raise ApiError(401, "unauthorized", "the client's secret is wrong", error="invalid_client")
            return self._tokens(self.client_id, form["scope"], refreshable=False)
        if kind == "authorization_code":
            return self._by_code(form)
        if kind == "refresh_token":
            if form.get("refresh_token") not in self.refresh:
                raise ApiError(400, "invalid_grant", "the refresh token is over", error="invalid_grant")
            identity, scope = self.refresh[form["refresh_token"]]
            said = self._one(identity, scope, refreshable=False)
            return {**said, "refresh_token": form["refresh_token"], "other_tokens": []}
        raise ApiError(400, "unsupported_grant_type", str(kind), error="unsupported_grant_type")

    def _by_code(self, form: dict[str, str]) -> dict[str, Any]:
        asked = self.codes.pop(form.get("code", ""), None)
        if asked is None:
            raise ApiError(400, "invalid_grant", "no such code", error="invalid_grant")
        proof = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).decode().rstrip("=")
        if proof != asked.get("code_challenge"):
            raise ApiError(400, "invalid_grant", "the code was made for somebody else", error="invalid_grant")
        for collection in _collections(asked["scope"]):
            self.consents.add(collection)
        return self._tokens(self.identity, asked["scope"], refreshable=asked.get("access_type") == "offline")

    def _tokens(self, identity: str, scope: str, *, refreshable: bool) -> dict[str, Any]:
        by_server: dict[str, list[str]] = {}
        for one in _words(scope):
            server = TRANSFER if TRANSFER in one else "auth.globus.org"
            by_server.setdefault(server, []).append(one)
        first, *others = [self._one(identity, " ".join(words), refreshable) for words in by_server.values()]
        said: dict[str, Any] = {**first, "other_tokens": others}
        if "openid" in scope.split():
            said["id_token"] = jwt.encode(
                {"sub": identity, "aud": self.client_id, "iss": self.url, "exp": int(time.time()) + 600,
                 "preferred_username": self.username}, self._private(), algorithm="RS256",
            )  # fmt: skip
        return said

    def _one(self, identity: str, scope: str, refreshable: bool) -> dict[str, Any]:
        made, server = secrets.token_urlsafe(24), TRANSFER if TRANSFER in scope else "auth.globus.org"
        self.tokens[made] = Token(identity, scope, time.time() + LIFE)
        plain = " ".join(word.partition("[")[0].lstrip("*") for word in _words(scope))
        said = {
            "access_token": made, "scope": plain, "expires_in": LIFE, "resource_server": server, "token_type": "Bearer"
        }  # fmt: skip
        if refreshable:
            said["refresh_token"] = secrets.token_urlsafe(24)
            self.refresh[said["refresh_token"]] = (identity, scope)
        return said

    def has_consent(self, token: Token, collection: str) -> bool:
        """A service account consents by asking; a person has said so to the browser."""
        return collection in _collections(token.scope) or (
            token.identity == self.identity and collection in self.consents
        )

    def consents_of(self, identity: str) -> dict[str, Any]:
        """GET /v2/api/identities/ID/consents: a tree of scopes, as Globus keeps them."""
        names = ["openid", "profile", "email", f"urn:globus:auth:scope:{TRANSFER}:all"]
        rows = [_consent(number, name, [number], identity, self.client_id) for number, name in enumerate(names, 1)]
        for number, collection in enumerate(sorted(self.consents), len(names) + 1):
            rows.append(_consent(number, DATA_ACCESS.format(collection), [4, number], identity, self.client_id))
        return {"consents": rows}

    def userinfo(self, token: Token) -> dict[str, Any]:
        return {"sub": token.identity, "preferred_username": self.username, "name": "Somebody", "email": self.username}

    def configuration(self) -> dict[str, Any]:
        return {
            "issuer": self.url, "jwks_uri": f"{self.url}jwk.json", "id_token_signing_alg_values_supported": ["RS256"],
            "authorization_endpoint": f"{self.url}v2/oauth2/authorize", "token_endpoint": f"{self.url}v2/oauth2/token",
        }  # fmt: skip

    def keys(self) -> dict[str, Any]:
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self._private().public_key()))
        return {"keys": [public | {"alg": "RS256", "use": "sig", "kid": "loopback"}]}

    def page(self, address: str) -> str:
        """What the browser shows of the authorize address: here nobody has to click."""
        return f"Your code: {self.code_for(address)}\n"

    def _private(self) -> rsa.RSAPrivateKey:
        if self._key is None:
            self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        return self._key


def authorize_url(base: str, **asked: str) -> str:
    return f"{base}v2/oauth2/authorize?{urlencode(asked)}"


def _words(scope: str) -> list[str]:
    """Scopes apart, each with its dependencies in brackets."""
    words, depth, word = [], 0, ""
    for character in scope + " ":
        depth += (character == "[") - (character == "]")
        if character == " " and not depth:
            words += [word] if word else []
            word = ""
        else:
            word += character
    return words


def _collections(scope: str) -> set[str]:
    """The collections whose data_access is in it."""
    parts = scope.replace("[", " ").replace("]", " ").replace("*", "").split()
    return {part.split("/")[-2] for part in parts if part.endswith("/data_access")}


def _consent(number: int, name: str, path: list[int], identity: str, client: str) -> dict[str, Any]:
    when = "2025-01-01T00:00:00.000000+00:00"
    return {
        "id": number, "client": client, "scope": str(uuid.uuid5(uuid.NAMESPACE_URL, name)), "scope_name": name,
        "effective_identity": identity, "dependency_path": path, "created": when, "updated": when, "last_used": when,
        "status": "approved", "allows_refresh": True, "auto_approved": False, "atomically_revocable": False,
    }  # fmt: skip
