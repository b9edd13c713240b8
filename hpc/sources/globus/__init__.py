"""A day's files in a Globus collection: listed by the layout's names, and moved by tasks that go on without us."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from uuid import UUID

from globus_sdk import TransferClient, TransferData

from db.states import TransferState
from hpc.errors import BadSetting, SourceMissing
from hpc.model import Checksum, Move, Progress, RemoteFile
from hpc.origin import Origin
from hpc.sources.globus.access import Access, transfer_client
from hpc.sources.globus.words import TaskUnknown, progress, understood

PAGE = 10_000  # entries of one answer
RECENT = 45  # days that discovery looks back for
_CHECKSUMS = {"MD5": "md5", "SHA1": "sha1", "SHA256": "sha256", "SHA512": "sha512"}


@dataclass(frozen=True, slots=True)
class Spot:
    """A folder of a collection, as that collection names it."""

    collection: str
    folder: str

    def path(self, below: str) -> str:
        return f"{self.folder.rstrip('/')}/{below}"


class GlobusSource:
    """What a collection shows of a site."""

    def __init__(self, origin: Origin, access: Access) -> None:
        if origin.route.collection is None:
            raise BadSetting(f"The site {origin.site} names no Globus collection: dayscribe sites add --collection …")
        self._origin, self._access, self._collection = origin, access, origin.route.collection

    @cached_property
    def client(self) -> TransferClient:
        return transfer_client(self._access, self._origin.route.data_access)

    def days(self) -> Iterable[date]:
        """The dates of which lately something lies there, in order."""
        found: set[date] = set()
        today = datetime.now(UTC).date()
        folders = {self._origin.folder(today - timedelta(days=back)) for back in range(RECENT)}
        for folder in sorted(folders):
            with suppress(SourceMissing):
                named = (self._origin.layout.parse(file.path) for file in self._walk(folder, ""))
                found.update(name.date for name in named if name and self._origin.folder(name.date) == folder)
        return sorted(found)

    def listing(self, day: date) -> Iterator[RemoteFile]:
        """The files of the day's folder whose names may be this day's, a page at a time, by name."""
        return self._walk(self._origin.folder(day), self._origin.prefix(day))

    def _walk(self, folder: str, prefix: str) -> Iterator[RemoteFile]:
        """A folder that grows meanwhile may show a name on two pages; it is the same file then."""
        offset = 0
        only = ["type:file", f"name:~{_glob(prefix)}*"] if prefix else ["type:file"]
        while True:
            with understood(f"listing {folder}"):
                page = self.client.operation_ls(
                    self._collection, path=folder, limit=PAGE, offset=offset, orderby="name", filter="/".join(only)
                )
                entries = page["DATA"]
                more = page.get("has_next_page", len(entries) == PAGE)
            for entry in entries:
                if entry["type"] == "file":
                    yield RemoteFile(entry["name"], int(entry["size"]), None, _time(entry.get("last_modified")))
            offset += len(entries)
            if not entries or not more:
                return


class GlobusMover:
    """Moves files between two collections. Its tasks name their owner, take no more than they are asked to, and say of
    what they leave out."""

    prompt = True

    def __init__(
        self, source: Spot, destination: Spot, access: Access, *, data_access: Sequence[str] = (), encrypt: bool = True
    ) -> None:
        self._source, self._destination, self._encrypt = source, destination, encrypt
        self._access, self._data_access = access, data_access

    @cached_property
    def client(self) -> TransferClient:
        return transfer_client(self._access, self._data_access)

    def new_submission(self) -> UUID:
        with understood("an id for a transfer"):
            return UUID(self.client.get_submission_id()["value"])

    def submit(self, move: Move) -> UUID:
        data = TransferData(
            self._source.collection, self._destination.collection,
            label=re.sub(r"[^A-Za-z0-9 _,.:-]", "_", f"{move.label} {self._access.owner}")[:128],
            submission_id=move.submission, deadline=move.deadline, encrypt_data=self._encrypt,
            sync_level="checksum",  # what is there and the same is not moved again
            verify_checksum=True,
            preserve_timestamp=True,
            skip_source_errors=True,  # one file that cannot be read holds up no other; our own look finds it missing
            fail_on_quota_errors=True,  # else it tries on until its deadline, and nobody hears of it
            notify_on_succeeded=False, notify_on_failed=False, notify_on_inactive=False,
        )  # fmt: skip
        for source, destination in move.files:
            data.add_item(self._source.path(source), self._destination.path(destination))
        with understood(f"the transfer {move.label}"):
            return UUID(self.client.submit_transfer(data)["task_id"])

    def look(self, task: UUID) -> Progress:
        try:
            with understood(f"task {task}"):
                document = self.client.get_task(task)
                said = progress(document.data)
                if said.state is not TransferState.SUCCEEDED:
                    return said
                # Only of one that says it is done, and once: what it left out it does not say by itself.
                left = tuple(str(one["source_path"]) for one in self.client.paginated.task_skipped_errors(task).items())
        except TaskUnknown as error:
            return Progress(TransferState.UNKNOWN, str(error))
        return Progress(said.state, said.message, said.bytes, said.files, left)

    def checksums(self, task: UUID) -> Mapping[str, Checksum]:
        found: dict[str, Checksum] = {}
        root = self._destination.path("")
        with understood(f"what task {task} moved"):
            for one in self.client.paginated.task_successful_transfers(task).items():
                path, value = str(one.get("destination_path") or ""), str(one.get("checksum") or "").lower()
                algorithm = _CHECKSUMS.get(str(one.get("checksum_algorithm") or "").upper().replace("-", ""))
                if algorithm and re.fullmatch("[0-9a-f]{32,128}", value) and path.startswith(root):
                    found[path.removeprefix(root)] = Checksum(algorithm, value)
        return found

    def cancel(self, task: UUID) -> None:
        with understood(f"cancelling task {task}"):
            self.client.cancel_task(task)


def _glob(text: str) -> str:
    """Text as a name filter takes it literally; what the filter has no way to quote matches any one character."""
    return re.sub(r"[*?\[\],/~!=\\]", "?", text)


def _time(text: str | None) -> datetime | None:
    try:
        when = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return when if when.tzinfo else when.replace(tzinfo=UTC)
