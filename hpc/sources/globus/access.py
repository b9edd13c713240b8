"""Who we are at Globus: a person, whose login is kept in a 0600 file that names its owner, or a service account."""

from __future__ import annotations

import os
import stat
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from globus_sdk import (
    AuthClient,
    ClientApp,
    ConfidentialAppAuthClient,
    GlobusApp,
    GlobusAppConfig,
    NativeAppAuthClient,
    TransferClient,
    UserApp,
)
from globus_sdk.login_flows import CommandLineLoginFlowManager
from globus_sdk.scopes import AuthScopes
from globus_sdk.token_storage import JSONTokenStorage, MemoryTokenStorage, TokenStorageData
from globus_sdk.transport import RequestsTransport, RetryConfig

from hpc.errors import NeedsLogin
from hpc.sources.globus.words import understood

APP = "dayscribe"
WHO = (AuthScopes.openid, AuthScopes.profile, AuthScopes.email)
TRIES = 2  # more than once in a tick, since an answer may be lost; not for ever, since the next tick comes
LONGEST_SLEEP = 5.0  # seconds, whatever Retry-After says: the next tick is the better place to wait


@dataclass(frozen=True, slots=True)
class Access:
    """What is needed to speak to Globus as somebody."""

    client_id: str | None
    secret: str | None = field(repr=False)  # of a service account; None: a person logs in
    folder: Path  # of the token stores
    owner: str  # the system's user
    seconds: float  # that an answer may take

    @property
    def store(self) -> Path:
        """The owner's login. A service account needs none: it has its secret, and its tokens are kept nowhere."""
        return self.folder / f"tokens-{self.owner}.json"  # the folder is 0700 and nobody else's


class Store(JSONTokenStorage):
    """The SDK's store, written whole or not at all: a login must survive whoever is killed while it is renewed."""

    def store_token_data_by_resource_server(
        self, token_data_by_resource_server: Mapping[str, TokenStorageData]
    ) -> None:
        with self._replacing():
            super().store_token_data_by_resource_server(token_data_by_resource_server)

    def remove_token_data(self, resource_server: str) -> bool:
        with self._replacing():
            return super().remove_token_data(resource_server)

    @contextmanager
    def _replacing(self) -> Iterator[None]:
        target = Path(self.filepath)
        making = target.with_name(f".new-{uuid.uuid4().hex}-{target.name}")
        try:
            if target.exists():
                with self.user_only_umask():
                    making.write_bytes(target.read_bytes())
            self.filepath = str(making)
            yield
            making.replace(target)
        finally:
            self.filepath = str(target)
            making.unlink(missing_ok=True)


def application(access: Access, flow: type[CommandLineLoginFlowManager] | None = None) -> GlobusApp:
    """The SDK's application; NeedsLogin when nobody has registered one, or its store is open to others. `flow` asks a
    person who is there; without one nobody is asked, and what is missing is an error."""
    if access.client_id is None:
        raise NeedsLogin(
            "Nobody has registered an application at Globus yet: docs/how-to/globus.md says how; then set"
            " globus.client_id."
        )
    # The SDK's own login client would try for a long time: nobody may wait for a token longer than for anything else.
    bounds: dict[str, Any] = {"transport": _transport(access), "retry_config": _retries()}
    if access.secret is not None:
        confidential = ConfidentialAppAuthClient(access.client_id, access.secret, **bounds)
        # In memory: the SDK would take a stored token for good that lacks a consent which was named since.
        return ClientApp(APP, login_client=confidential, config=GlobusAppConfig(token_storage=MemoryTokenStorage()))
    refuse_open(access.store)
    access.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    config = GlobusAppConfig(
        token_storage=Store(access.store), login_flow_manager=flow, request_refresh_tokens=True,
        token_validation_error_handler=None,
    )  # fmt: skip
    return UserApp(APP, login_client=NativeAppAuthClient(access.client_id, **bounds), config=config)


def transfer_client(access: Access, data_access: Sequence[str] = ()) -> TransferClient:
    """A client of the Transfer service; one for all who ask the same. `data_access`: the mapped collections, which want
    a consent each."""
    return _transfer_client(access, tuple(sorted(data_access)))


@lru_cache(maxsize=16)
def _transfer_client(access: Access, data_access: tuple[str, ...]) -> TransferClient:
    client = TransferClient(app=application(access), transport=_transport(access), retry_config=_retries())
    return client.add_app_data_access_scope(list(data_access)) if data_access else client


def auth_client(access: Access) -> AuthClient:
    """A client of the Auth service that may ask who we are."""
    return AuthClient(
        app=application(access), app_scopes=list(WHO), transport=_transport(access), retry_config=_retries()
    )


def who(access: Access) -> str:
    """The name under which Globus knows us."""
    if access.secret is not None:
        return f"{access.client_id}@clients.auth.globus.org"
    with understood("who we are"):
        said = auth_client(access).userinfo()
    return str(said.get("preferred_username") or said.get("sub") or "")


def refuse_open(path: Path) -> None:
    """A file with a secret is its owner's alone."""
    try:
        found = path.stat()
    except OSError:
        return
    if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise NeedsLogin(f"{path} holds a secret and is open to others: chmod 600 {path}")
    if found.st_uid not in (os.geteuid(), 0):
        raise NeedsLogin(f"{path} belongs to another user; a login is its owner's alone")


def _transport(access: Access) -> RequestsTransport:
    return RequestsTransport(http_timeout=access.seconds)


def _retries() -> RetryConfig:
    return RetryConfig(max_retries=TRIES, max_sleep=LONGEST_SLEEP)
