"""Transfers: what is to be moved, the tasks that move it, how each ended, and what stands in a site's way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from db import days, events
from db.connect import Connection, translated
from db.errors import BadData
from db.listings import COMPANIONS, GATING
from db.sql import load
from db.states import DayState, TransferState

SQL = load("transfers.sql")
KINDS = {"archives": GATING, "companions": COMPANIONS}


class NoSuchTransfer(BadData):
    """The ledger has no such transfer."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """One that is not over."""

    id: int
    day_id: int
    what: str  # archives, companions
    owner: str  # the system's user whose login moves it
    submission: UUID  # stored before the mover was asked
    task: UUID | None  # None: it has not answered yet
    state: TransferState
    bytes: int | None
    files: int | None
    message: str | None
    expected_files: int
    expected_bytes: int
    deadline: datetime | None
    created: datetime
    polled: datetime | None
    finished: datetime | None
    site: str
    date: date
    day_state: str
    overdue: bool | None  # its mover should have ended it long ago
    unwanted: bool  # nobody was asked for it yet, and it fetches again what no plan reads any more


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was found of one file when its transfer was over."""

    path: bytes
    fault: str | None  # None: it is here, whole
    state: str = "arrived"  # missing, wrong
    verified: bool = False  # its bytes have its checksum


@translated()
def wanted(connection: Connection, day_id: int, what: str, *, limit: int, attempts: int) -> list[dict[str, Any]]:
    """path and size of what is not here, not on its way, and was not tried so often already."""
    values = {"day_id": day_id, "kinds": list(KINDS[what]), "limit": limit, "attempts": attempts}
    return connection.execute(SQL["wanted"], values).fetchall()


@translated()
def left(connection: Connection, day_id: int, what: str, *, attempts: int) -> dict[str, int]:
    """files that could be fetched now, and tries of the unluckiest of them."""
    values = {"day_id": day_id, "kinds": list(KINDS[what]), "attempts": attempts}
    row = connection.execute(SQL["left"], values).fetchone()
    assert row is not None
    return row


@translated()
def intend(
    connection: Connection,
    day_id: int,
    what: str,
    *,
    owner: str,
    submission: UUID,
    limit: int,
    attempts: int,
) -> int | None:
    """Write a transfer of what is wanted, and take these files for it; None when one is under way, or nothing is."""
    with connection.transaction():
        if days.lock(connection, day_id) in (DayState.HELD, DayState.TRANSFER_FAILED):
            return None  # since it was looked at
        files = wanted(connection, day_id, what, limit=limit, attempts=attempts)
        if not files:
            return None
        values = {
            "day_id": day_id,
            "what": what,
            "owner": owner,
            "submission": submission,
            "files": len(files),
            "bytes": sum(file["size"] for file in files),
        }
        row = connection.execute(SQL["intend"], values).fetchone()
        if row is None:
            return None
        paths = [file["path"] for file in files]
        connection.execute(SQL["take"], {"id": row["id"], "day_id": day_id, "paths": paths})
        connection.execute(SQL["tidy_anew"], {"id": row["id"], "day_id": day_id})
        detail: dict[str, Any] = {"transfer": row["id"], "kind": what, "files": len(files), "bytes": values["bytes"]}
        events.add(connection, "transfer.intended", actor=owner, day_id=day_id, **detail)
        return int(row["id"])


@translated()
def live(connection: Connection, transfer_id: int | None = None, *, grace: timedelta = timedelta(0)) -> list[Transfer]:
    """The transfers that are not over, oldest first; or only that one."""
    rows = connection.execute(SQL["live"], {"id": transfer_id, "grace": grace})
    return [Transfer(**row | {"state": TransferState(row["state"])}) for row in rows]


@translated()
def latest(
    connection: Connection,
    *,
    site: str | None = None,
    start: date | None = None,
    stop: date | None = None,
    only_live: bool = False,
    limit: int = 50,
) -> list[dict[str, Any]]:
    """Transfers, newest first."""
    values = {"site": site, "start": start, "stop": stop, "only_live": only_live, "limit": limit}
    return connection.execute(SQL["latest"], values).fetchall()


@translated()
def files_of(connection: Connection, transfer_id: int) -> list[dict[str, Any]]:
    """What this transfer is to bring, and has not been looked at yet."""
    return connection.execute(SQL["files_of"], {"id": transfer_id}).fetchall()


@translated()
def renamed(connection: Connection, transfer: Transfer, submission: UUID) -> bool:
    """Its mover no longer knows the submission, and never took it: it is asked under another. False when another tick
    was quicker."""
    values = {"id": transfer.id, "before": transfer.submission, "submission": submission}
    return connection.execute(SQL["renamed"], values).rowcount == 1


@translated()
def submitted(connection: Connection, transfer_id: int, task: UUID, deadline: datetime) -> bool:
    """The mover has it, as this task."""
    values = {"id": transfer_id, "task": task, "deadline": deadline}
    return connection.execute(SQL["submitted"], values).rowcount == 1


@translated()
def seen(
    connection: Connection,
    transfer: Transfer,
    state: TransferState,
    message: str | None,
    *,
    moved: tuple[int, int] | None = None,
) -> None:
    """What its mover says of it now; `moved`: bytes and files."""
    count, files = moved or (None, None)
    values = {"id": transfer.id, "state": state.value, "message": _clean(message), "bytes": count, "files": files}
    connection.execute(SQL["seen"], values)
    if state != transfer.state:
        detail: dict[str, Any] = {"transfer": transfer.id, "message": _clean(message)}
        events.add(connection, f"transfer.{state}", actor=transfer.owner, day_id=transfer.day_id, **detail)


@translated()
def settle(connection: Connection, transfer: Transfer, outcomes: Sequence[Outcome], *, charge: bool) -> None:
    """Note what was found of these files; `charge`: what did not come was tried."""
    with connection.transaction():
        for outcome in outcomes:
            values = {"id": transfer.id, "day_id": transfer.day_id, "path": outcome.path}
            if outcome.fault is None:
                connection.execute(SQL["arrived"], values | {"verified": outcome.verified})
            else:
                more = {"state": outcome.state, "reason": outcome.fault, "charge": int(charge)}
                connection.execute(SQL["not_arrived"], values | more)


@translated()
def close(
    connection: Connection,
    transfer: Transfer,
    state: TransferState,
    message: str,
    *,
    moved: tuple[int, int] | None = None,
    skipped: int | None = None,
) -> bool:
    """It is over, and each of its files has been looked at. False when another tick said so first."""
    count, files = moved or (None, None)
    values = {"id": transfer.id, "state": state.value, "message": _clean(message), "bytes": count, "files": files}
    with connection.transaction():
        done = connection.execute(SQL["close"], values | {"skipped": skipped}).rowcount == 1
        if done:
            detail: dict[str, Any] = {"transfer": transfer.id, "kind": transfer.what, "message": _clean(message)}
            events.add(connection, f"transfer.{state}", actor=transfer.owner, day_id=transfer.day_id, **detail)
    return done


@translated()
def give_up(connection: Connection, day_id: int, what: str, *, attempts: int) -> None:
    """What is missing is fetched again only when a person says so."""
    connection.execute(SQL["give_up"], {"day_id": day_id, "kinds": list(KINDS[what]), "attempts": attempts})


@translated()
def asked(connection: Connection, transfer_id: int) -> None:
    """It was asked, and gave no answer."""
    connection.execute(SQL["asked"], {"id": transfer_id})


@translated()
def standing(connection: Connection, day_id: int) -> dict[str, int]:
    """How far the day's archives are: listed, arrived, moving, tries."""
    row = connection.execute(SQL["standing"], {"day_id": day_id}).fetchone()
    assert row is not None
    return row


@translated()
def waive(connection: Connection, day: days.Day, *, actor: str, reason: str) -> list[bytes]:
    """Go on without the archives that did not come; their paths."""
    with connection.transaction():
        days.lock(connection, day.id)
        waived = [row["path"] for row in connection.execute(SQL["waive"], {"day_id": day.id})]
        if waived:
            names = [path.decode("utf-8", "backslashreplace") for path in waived[:20]]
            detail: dict[str, Any] = {"count": len(waived), "files": names, "reason": reason}
            events.add(connection, "day.waived", actor=actor, day_id=day.id, **detail)
    return waived


@translated()
def forgive(connection: Connection, day_id: int) -> int:
    """What did not come, or was given up, may be tried as often as if it had never been; how many files that are."""
    return connection.execute(SQL["forgive"], {"day_id": day_id}).rowcount


@translated()
def space(connection: Connection) -> dict[str, int]:
    """What staged files take up, by the ledger: bytes, files; and coming_bytes, coming_files of what is on its way."""
    row = connection.execute(SQL["space"]).fetchone()
    assert row is not None
    return row


@translated()
def trouble(
    connection: Connection,
    site_id: int,
    owner: str,
    *,
    kind: str,
    message: str,
    wait: timedelta,
    longest: timedelta,
) -> None:
    """The site's mover refuses this user; it is left alone for `wait`, twice as long each time."""
    values = {
        "site_id": site_id,
        "owner": owner,
        "kind": kind,
        "message": _clean(message),
        "wait": wait,
        "longest": longest,
    }
    connection.execute(SQL["trouble"], values)


@translated()
def no_trouble(connection: Connection, site_id: int, owner: str) -> bool:
    """The site's mover answers this user; True when it did not before."""
    return connection.execute(SQL["no_trouble"], {"site_id": site_id, "owner": owner}).rowcount == 1


@translated()
def troubles(connection: Connection, owner: str | None = None) -> list[dict[str, Any]]:
    """The sites whose movers refuse somebody, or this user; why, and whether it is time to ask again."""
    return connection.execute(SQL["troubles"], {"owner": owner}).fetchall()


@translated()
def forget_troubles(connection: Connection, source: str, owner: str) -> int:
    """This user mended something: the sites of this kind of source are asked again at once."""
    return connection.execute(SQL["forget_troubles"], {"source": source, "owner": owner}).rowcount


@translated()
def to_tidy(connection: Connection, *, keep: timedelta, limit: int) -> list[dict[str, Any]]:
    """Days that were finished so long ago, whose staged audio nobody has let go yet; `moved`: it was staged at all."""
    return connection.execute(SQL["to_tidy"], {"keep": keep, "limit": limit}).fetchall()


@translated()
def let_go(connection: Connection, day_id: int) -> list[bytes]:
    """Mark the archives of the day that may be removed; their paths, and those that an earlier call marked and nobody
    removed. The day is held meanwhile: a plan that is opened has its archives, or has them fetched."""
    with connection.transaction():
        days.lock(connection, day_id)
        return [row["path"] for row in connection.execute(SQL["let_go"], {"day_id": day_id}).fetchall()]


@translated()
def want_again(connection: Connection, plan_id: int, day_ids: Sequence[int]) -> None:
    """A plan is open: what was let go of these days and it reads is fetched again, as if it had never been tried."""
    connection.execute(SQL["tried_anew"], {"plan_id": plan_id})
    connection.execute(SQL["wanted_again"], {"days": list(day_ids)})


@translated()
def vanished(connection: Connection, day_id: int) -> dict[str, Any]:
    """files that open plans read and the day's source no longer lists, and for how many seconds: gone_for."""
    row = connection.execute(SQL["vanished"], {"day_id": day_id}).fetchone()
    assert row is not None
    return row


@translated()
def remove(
    connection: Connection, day_id: int, paths: Sequence[bytes], removed: Callable[[Sequence[bytes]], Sequence[bytes]]
) -> tuple[int, int]:
    """Have those removed that are marked still; how many `removed` says are gone now, and how many are not. What a plan
    that was opened meanwhile reads of them is fetched."""
    with connection.transaction():
        marked = [row["path"] for row in connection.execute(SQL["marked"], {"day_id": day_id, "paths": list(paths)})]
        gone = removed(marked)
        connection.execute(SQL["gone_now"], {"day_id": day_id, "paths": list(gone)})
    with connection.transaction():  # another, for whoever holds the day may wait for its files
        days.lock(connection, day_id)
        connection.execute(SQL["wanted_again"], {"days": [day_id]})
    return len(gone), len(marked) - len(gone)


@translated()
def tidied(connection: Connection, day_id: int) -> None:
    """Nothing of the day is left to let go, but for what a sample or a plan keeps: that is looked at again."""
    with connection.transaction():
        days.lock(connection, day_id)  # else it is called done over what was just ordered to come again
        connection.execute(SQL["tidied"], {"day_id": day_id})


@translated()
def tidy_later(connection: Connection, day_id: int, wait: timedelta) -> None:
    """Something could not be removed: it is tried again after `wait`, and others have their turn."""
    connection.execute(SQL["tidy_later"], {"day_id": day_id, "wait": wait})


def _clean(message: str | None) -> str | None:
    """A mover's words as the ledger can hold them."""
    if message is None:
        return None
    return message.encode("utf-8", "backslashreplace").decode().replace("\0", "")[:2_000]
