"""Folders of a collection: made and taken away again, to find out whether Globus may; and listed with their sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

from globus_sdk import DeleteData, TransferClient

from db.errors import DayscribeError
from hpc.errors import SourceMissing
from hpc.sources.globus import PAGE, Spot
from hpc.sources.globus.access import Access, transfer_client
from hpc.sources.globus.words import understood


def make(access: Access, data_access: Sequence[str], collection: str, path: str) -> None:
    """Make this folder; one of our errors says why that cannot be."""
    with understood(f"making {path}"):
        transfer_client(access, data_access).operation_mkdir(collection, path=path)


def take_away(access: Access, data_access: Sequence[str], collection: str, path: str) -> None:
    """Remove it; if Globus will not, an empty folder is left."""
    data = DeleteData(endpoint=collection, recursive=True)
    data.add_item(path)
    with suppress(DayscribeError), understood(f"removing {path}"):
        transfer_client(access, data_access).submit_delete(data)


def sizes(access: Access, data_access: Sequence[str], spot: Spot, paths: Sequence[str]) -> dict[str, int]:
    """Of these files below the spot, those that are there, with their sizes: one question a folder."""
    wanted, found = set(paths), dict[str, int]()
    for folder in sorted({path.rpartition("/")[0] for path in paths}):
        with suppress(SourceMissing):
            for name, size in _listed(transfer_client(access, data_access), spot, folder):
                path = f"{folder}/{name}" if folder else name
                if path in wanted:
                    found[path] = size
    return found


def _listed(client: TransferClient, spot: Spot, folder: str) -> Iterator[tuple[str, int]]:
    offset = 0
    while True:
        path = spot.path(folder)
        with understood(f"listing {path}"):
            page = client.operation_ls(
                spot.collection, path=path, limit=PAGE, offset=offset, orderby="name", filter="type:file"
            )
        for entry in page["DATA"]:
            if entry["type"] == "file":
                yield str(entry["name"]), int(entry["size"])
        offset += len(page["DATA"])
        if not page["DATA"] or not page.get("has_next_page", len(page["DATA"]) == PAGE):
            return
