"""How a site's files come here: by what, from which collection to which, and where that is on this cluster."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from hpc.errors import BadSetting

HOW = ("", "link", "copy", "globus")


@dataclass(frozen=True, slots=True)
class Route:
    """Data of the ledger; no secret is in it. An empty one: the files are worked where they lie."""

    how: str = ""
    collection: str | None = None  # where Globus finds the site
    destination: str | None = None  # the collection that staging is in
    destination_folder: str | None = None  # staging, as that collection names it; None: as this cluster does
    staging: str | None = None  # a folder of this cluster; None: the setting transfer.staging
    data_access: tuple[str, ...] = ()  # collections that want a consent of their own: the mapped ones

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Route:
        """Out of the ledger; BadSetting names what is wrong."""
        if strangers := sorted(set(data) - set(cls.__slots__)):
            raise BadSetting(f"A site's route has no {', '.join(strangers)}; the program may be older than the ledger.")
        texts = [value for name, value in data.items() if name not in ("how", "data_access")]
        consents = data.get("data_access") or []
        if not isinstance(consents, list | tuple) or not all(isinstance(one, str) for one in (*texts, *consents)):
            raise BadSetting("A site's route is made of texts, and data_access is a list of them.")
        route = cls(**{**data, "data_access": tuple(data.get("data_access") or ())})
        if route.how not in HOW:
            raise BadSetting(f"Files come by {', '.join(HOW[1:])} or not at all, not by {route.how!r}.")
        for name in (route.collection, route.destination, *route.data_access):
            if name is not None and not _is_uuid(name):
                raise BadSetting(f"{name!r} is no id of a Globus collection; those are 36 characters with four dashes.")
        if route.how == "globus" and not (route.collection and route.destination):
            raise BadSetting("Globus moves from a collection to a collection: name both.")
        for folder in (route.destination_folder, route.staging):
            if folder is not None and (not folder.startswith("/") or re.search(r"[\x00\n]|/\.\.(/|$)", folder)):
                raise BadSetting(f"{folder!r} is no absolute folder.")
        return route

    def as_dict(self) -> dict[str, Any]:
        """For the ledger, without what is not said."""
        said = asdict(self) | {"data_access": list(self.data_access)}
        return {name: value for name, value in said.items() if value}

    @property
    def moves(self) -> bool:
        """Whether files have to come here before they can be worked."""
        return bool(self.how)

    def staging_folder(self, usual: Path) -> Path:
        """Where this cluster sees what has come."""
        return Path(self.staging) if self.staging else usual

    def destination_path(self, usual: Path) -> str:
        """The same folder, as the collection names it."""
        return self.destination_folder or str(self.staging_folder(usual))


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False
