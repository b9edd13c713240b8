"""Named points before and after every change to the world; inert unless a test arms one.

A test arms a point with DAYSCRIBE_FAULT="name[:nth]:action" AND DAYSCRIBE_FAULTS_ARMED=yes; action is one of
kill (SIGKILL), term (SIGTERM), stop (SIGSTOP, a successor will come), raise (RuntimeError), exit0 (leave quietly).
"""

from __future__ import annotations

import os
import signal
from typing import NoReturn

KNOWN: frozenset[str] = frozenset(
    {
        "listing.intx", "days.listed",
        "transfer.intended", "transfer.asking", "transfer.answered", "transfer.submitted",
        "transfer.verifying", "transfer.settled", "transfer.closed", "transfer.opened",
        "move.half", "move.written", "move.renamed", "tidy.marked", "tidy.removed",
        "claim.before", "claim.committed",
        "renew.committed",
        "unpack.opened", "unpack.member", "unpack.ended",
        "decode.sent", "decode.received",
        "engine.sent", "engine.received",
        "publish.opened", "publish.half", "publish.written", "publish.fsynced", "publish.renamed", "publish.dirsynced",
        "record.before", "record.intx", "seal.intx", "settle.intx", "record.committed",
        "fail.intx", "fail.committed",
        "judge.intx", "judge.committed",
        "sample.drawing", "sample.drawn", "sample.half", "sample.copied", "sample.judging", "sample.judged",
        "export.half", "export.renamed", "export.freezing", "export.frozen",
        "deliver.begun", "deliver.linked", "deliver.tar_half", "deliver.tar_renamed", "deliver.remembered",
        "deliver.packed", "deliver.withdrawn", "deliver.intended", "deliver.submitted", "deliver.files_sent",
        "deliver.files_verified", "deliver.manifest_sent", "deliver.closed",
        "migrate.intx", "migrate.committed",
        "demo.archive_half", "demo.archive_renamed",
        "order.intended", "order.asking", "order.answered", "order.submitted", "order.withdrawn", "order.closed",
        "alert.intended", "alert.sent", "alert.said",
    }
)  # fmt: skip
_seen: dict[str, int] = {}


class InjectedFault(RuntimeError):
    """A test asked for this failure."""


def point(name: str) -> None:
    """Pass the named point. `name` must be in KNOWN, so that the sweep meets every one."""
    if os.environ.get("DAYSCRIBE_FAULTS_ARMED") != "yes":
        return
    if name not in KNOWN:
        raise AssertionError(f"unregistered fault point {name!r}: add it to db/faults.py")
    if log := os.environ.get("DAYSCRIBE_FAULT_LOG"):
        with open(log, "a") as out:  # noqa: PTH123 - one append, one write: safe between processes
            out.write(f"{name}\n")
    target, *rest = os.environ.get("DAYSCRIBE_FAULT", "").split(":")
    if target == name and rest:
        *nth, action = rest
        _seen[name] = _seen.get(name, 0) + 1
        if _seen[name] == int(nth[0] if nth else 1):
            _act(name, action)


def _act(name: str, action: str) -> None:
    if action == "raise":
        raise InjectedFault(name)
    if action == "exit0":
        _leave()
    os.kill(os.getpid(), {"kill": signal.SIGKILL, "term": signal.SIGTERM, "stop": signal.SIGSTOP}[action])


def _leave() -> NoReturn:
    os._exit(0)
