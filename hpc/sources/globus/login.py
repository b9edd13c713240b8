"""The first login: once, by a person, over ssh or anywhere; with the consent that each mapped collection wants."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import globus_sdk
from globus_sdk import AuthClient, GlobusAppConfig, TransferClient
from globus_sdk.login_flows import CommandLineLoginFlowManager

from hpc.sources.globus.access import WHO, Access, application, transfer_client
from hpc.sources.globus.words import CollectionUnknown, understood


@dataclass(frozen=True, slots=True)
class Collection:
    """What Globus says of a collection."""

    id: str
    name: str
    mapped: bool  # it wants a consent of its own, from whoever uses it


class Flow(CommandLineLoginFlowManager):
    """The SDK's flow, in our words: an address to open anywhere, and a code to bring back."""

    say: Callable[[str], None] = print
    ask: Callable[[str], str] = input

    @classmethod
    def speaking(cls, say: Callable[[str], None], ask: Callable[[str], str]) -> type[Flow]:
        return type("Flow", (cls,), {"say": staticmethod(say), "ask": staticmethod(ask)})

    @classmethod
    def for_globus_app(
        cls, app_name: str, login_client: globus_sdk.AuthLoginClient, config: GlobusAppConfig
    ) -> CommandLineLoginFlowManager:
        return cls(
            login_client,
            redirect_uri=config.login_redirect_uri,
            request_refresh_tokens=config.request_refresh_tokens,
            native_prefill_named_grant=app_name,
        )

    def print_authorize_url(self, authorize_url: str) -> None:
        self.say(f"Open this address in any browser, log in, and allow what is asked for:\n\n{authorize_url}\n")

    def prompt_for_code(self) -> str:
        return self.ask("The code that it shows then").strip()


def log_in(access: Access, data_access: Sequence[str], flow: type[Flow], *, force: bool = False) -> bool:
    """Log in unless we are; True when somebody was asked, or a service account got new tokens."""
    with understood("the login"):
        app = application(access, flow)
        client = TransferClient(app=app)
        AuthClient(app=app, app_scopes=list(WHO))  # so that the login can be told by its owner's name
        if data_access:
            client.add_app_data_access_scope(list(data_access))
        if not force and not app.login_required():
            return False
        app.login(force=True)
        return True


def look_at(access: Access, ids: Iterable[str], data_access: Sequence[str]) -> list[Collection]:
    """What Globus says of these collections; one that it does not know is left out."""
    client = transfer_client(access, data_access)
    found = []
    for one in ids:
        try:
            with understood(f"the collection {one}"):
                said = client.get_endpoint(one)
        except CollectionUnknown:
            continue
        mapped = said.get("entity_type") == "GCSv5_mapped_collection" and not said.get("high_assurance")
        found.append(Collection(one, str(said.get("display_name") or ""), mapped))
    return found


def log_out(access: Access) -> bool:
    """Give the tokens back to Globus and forget them; False when there were none."""
    if not access.store.exists():
        return False
    with understood("the end of the login"):
        application(access).logout()
    access.store.unlink(missing_ok=True)
    return True
